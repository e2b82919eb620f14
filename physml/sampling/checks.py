r"""Whether the parts of an action that a sampler uses belong to its :math:`S`.

A sampler takes forces, conditionals or bonds from an action, and samples :math:`e^{-S}` only if
they are those of :math:`S`. Each check here compares them with :math:`S` on one smooth field of its
own, when a sampler starts. No random numbers are drawn, so results do not change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..actions import probe_field
from ..errors import has_numbers
from .common import check_small_steps

__all__ = [
    "check_bonds",
    "check_conditionals",
    "check_even",
    "check_force",
    "check_members",
]

#: The least relative differences that count, above the rounding of float32.
_TOLERANCE = 1e-4


#: What samplers ask of an action, and what to do where it is missing.
FORCE = (
    ("force", "kick"),
    "subclass physml.actions.Action, which makes kick from force, or give S alone to "
    "physml.actions.AutogradAction",
)
CONDITIONALS = (
    ("colours", "local_field"),
    "HMC, Langevin and MALA sample any action with a force; conditionals come with a "
    "physml.actions.LocalAction",
)
BONDS = (
    ("bonds", "symmetric"),
    "leave this sampler out, or give the action bonds as those of physml.actions.LocalAction",
)
EVEN = (("symmetric",), "leave this sampler out, or let the action say whether it is symmetric")


def check_members(action: object, names: tuple[str, ...], advice: str, sampler: str) -> None:
    """Raise `ValueError` unless `action` is callable and has all members `names`."""
    missing = [name for name in names if not hasattr(action, name)]
    if not callable(action):
        missing.insert(0, "__call__")
    if missing:
        raise ValueError(f"{sampler} needs an action with {', '.join(names)}, and "
                         f"{type(action).__name__} has no {', '.join(missing)}: {advice}")


@torch.no_grad()
def check_force(action, phi: Tensor, sampler: str) -> None:
    """Raise `ValueError` unless `force` and `kick` are minus the gradient of S.

    An action that torch cannot differentiate is taken at its word.
    """
    probe = _probe(phi)
    if probe is None:
        return
    if not bool(torch.isfinite(action(probe)).all()):
        probe = phi[:1].detach().clone()  # fields may live on an interval: there they are admitted
    with torch.inference_mode(False), torch.enable_grad():
        leaf = probe.clone().requires_grad_()
        total = action(leaf).sum()
        if not total.requires_grad:
            return
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
    probe = leaf.detach()
    want = torch.zeros_like(probe) if gradient is None else -gradient
    moved = torch.zeros_like(probe)
    action.kick(moved, probe)(1.0)
    for name, found in (("force", action.force(probe)), ("kick", moved)):
        off = float((found - want).abs().max())
        if off > _tolerance(probe) * (float(want.abs().max()) + 1e-3):
            raise ValueError(
                f"{sampler}: {name} of {type(action).__name__} is not minus the gradient of its S, "
                f"but off by {off:.3g} where the force is at most {float(want.abs().max()):.3g}. "
                "Override __call__, force and kick together, or give S alone to "
                "physml.actions.AutogradAction"
            )


class _ForceSampler:
    """What HMC, Langevin dynamics and MALA share: they start by comparing the force with S."""

    def init(self, phi: Tensor) -> tuple:
        """Return the state that starts from `phi`.

        Raises
        ------
        ValueError
            If `force` or `kick` of the action is not minus the gradient of its S.
        """
        phi = check_small_steps(phi)
        check_force(self.action, phi, type(self).__name__)
        return self.resume(phi)


@torch.no_grad()
def check_conditionals(
    action, phi: Tensor, colours: list[Tensor], site_action: Callable[[Tensor, Tensor], Tensor],
    sampler: str,
) -> None:
    """Raise `ValueError` unless S changes by the sum of `site_action` when a colour moves at once.

    All sites of a colour move up, by amounts of their own, so neither a wrong field nor two sites
    of one colour that are joined can cancel.
    """
    probe = _probe(phi)
    if probe is None:
        return
    count = torch.stack([c.expand(probe.shape[1:]) for c in colours]).sum(0)
    if bool((count != 1).any()):
        raise ValueError(f"colours of {type(action).__name__} must hold each site once")
    up = probe + 0.3 + 0.2 * torch.cos(probe * 17)
    moved = torch.cat([probe, *(torch.where(c, up, probe) for c in colours)])
    total = action(moved)
    field = action.local_field(probe)
    change = site_action(up, field) - site_action(probe, field)
    for colour, s in zip(colours, total[1:], strict=True):
        parts = torch.where(colour, change, 0)
        want, found = float(parts.sum()), float(s - total[0])
        scale = float(parts.abs().sum()) + 1e-3 * float(s.abs() + total[0].abs())
        if not abs(found - want) <= _tolerance(probe) * scale:
            raise ValueError(
                f"{sampler}: S of {type(action).__name__} changes by {found:.6g} where its local "
                f"parts say {want:.6g}, so exp(-S) would not be sampled. Make them agree (colours, "
                "local_field, and site_action for Metropolis, or quadratic and quartic for Gibbs "
                "sampling), or use HMC, Langevin or MALA, which need a force only"
            )


@torch.no_grad()
def check_bonds(action, phi: Tensor, shift: Callable[[Tensor, tuple], Tensor],
                sampler: str) -> None:
    """Raise `ValueError` unless `bonds` are all that depends on the signs of a field."""
    probe = _probe(phi)
    if probe is None:
        return
    flipped = probe * torch.where(torch.sin(probe * 29 + 1) < 0, -1, 1)
    before, after = action(torch.cat([probe, flipped]))
    want, scale = 0.0, 1e-3 * float(before.abs() + after.abs())
    for offset, w in action.bonds(probe.ndim - 1):
        change = w * (probe * shift(probe, offset) - flipped * shift(flipped, offset))
        want, scale = want + float(change.sum()), scale + float(change.abs().sum())
    if not abs(float(after - before) - want) <= _tolerance(probe) * scale:
        raise ValueError(
            f"{sampler}: S of {type(action).__name__} changes by {float(after - before):.6g} when "
            f"signs change where its bonds say {want:.6g}, so exp(-S) would not be sampled. Let "
            "bonds name all terms that join sites, or leave the cluster update out"
        )


@torch.no_grad()
def check_even(action, phi: Tensor, sampler: str) -> None:
    """Raise `ValueError` unless S is the same for a field and its negative."""
    probe = _probe(phi)
    if probe is None:
        return
    one, other = action(torch.cat([probe, -probe])).tolist()
    if abs(one - other) > _tolerance(probe) * (1e-3 + abs(one) + abs(other)):
        raise ValueError(f"{sampler} needs an action that is even in the field, and S of "
                         f"{type(action).__name__} is {one:.6g} for a field and {other:.6g} for "
                         "its negative")


def _probe(phi: Tensor) -> Tensor | None:
    """Return one field ``(1, *shape)`` like `phi`, or None where no numbers can be read."""
    if not len(phi) or not has_numbers(phi):
        return None
    return probe_field(tuple(phi.shape[1:])).to(phi.dtype).to(phi.device)


def _tolerance(phi: Tensor) -> float:
    return max(_TOLERANCE, 100 * torch.finfo(phi.dtype).eps)
