r"""Block Gibbs sampling of lattice fields on a checkerboard: the Markov property at work.

A site of the local actions of `physml.actions` has its neighbours as Markov blanket. On a
checkerboard all of them have the other colour, so given one colour the sites of the other are
independent, and are drawn all at once from

.. math:: p(\phi)\propto e^{h\phi-a\phi^2-b\phi^4},\qquad h_x=\sum_{y\sim x}w_{xy}\phi_y+c_x .

Each draw is exact, by rejection. For any number `s`, :math:`b(\phi^2-s)^2\ge0` bounds the quartic
term by a quadratic one,

.. math:: e^{h\phi-a\phi^2-b\phi^4}=e^{bs^2}\,e^{h\phi-(a+2bs)\phi^2}\,e^{-b(\phi^2-s)^2},

so a normal number with precision :math:`2c`, :math:`c=a+2bs`, and mean :math:`h/2c` is a draw once
it is accepted with probability :math:`e^{-b(\phi^2-s)^2}`. Most are accepted where the area under
the bound is least, which is where `s` is the mean of :math:`\phi^2` under the normal distribution:
:math:`c^3-ac^2-bc-bh^2/2=0`, with exactly one positive root (Descartes' rule of signs). An
approximate root costs acceptance, not exactness.

In a deep double well, with minima at :math:`\pm v`, :math:`v^2=-a/2b`, a bound with two humps is
better: there :math:`b(\phi^2-v^2)^2\ge bv^2(|\phi|-v)^2`, for :math:`(|\phi|+v)^2\ge v^2`. The
proposal first chooses the sign of the well, :math:`\pm` with weights :math:`e^{\pm hv}`, then a
normal number of precision :math:`2bv^2` about :math:`\pm v+h/2bv^2`; one of the other sign is
refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..actions import LocalAction
from ..errors import ShapeError, StabilityError, check_finite, check_real
from ..lattice import Lattice
from .checks import CONDITIONALS, check_conditionals, check_members
from .common import Info, State, wide

__all__ = ["CheckerboardGibbs", "quartic_normal"]


def quartic_normal(
    h: Tensor, a: float | Tensor, b: float | Tensor, generator: torch.Generator
) -> tuple[Tensor, float]:
    r"""Return independent draws from :math:`p(\phi)\propto e^{h\phi-a\phi^2-b\phi^4}`.

    Parameters
    ----------
    h
        Any shape; dtype and device of the draws.
    a, b
        Numbers, or tensors that broadcast to the shape of `h`; :math:`b\ge0`, and :math:`a>0`
        where :math:`b=0`.
    generator
        On the device of `h`.

    Returns
    -------
    The draws, shaped as `h`, and the fraction of proposals that were accepted: above 0.57 for
    :math:`a\ge0`, about one half in deep double wells, between them above a fifth, and less only
    where a field with :math:`h^2>3|a|` meets a very deep double well.

    Raises
    ------
    StabilityError
        If some density has no norm.
    ValueError
        If `h` is not finite.
    """
    check_real("h", check_finite("h", h))
    if h.is_floating_point() and h.element_size() < 4:  # draw finely, then round
        draws, share = quartic_normal(h.float(), a, b, generator)
        return draws.to(h.dtype), share
    flat = h.detach().reshape(-1)
    # a number becomes a tensor in the precision of the field, not by way of float32
    a, b = (torch.as_tensor(v, dtype=h.dtype, device=h.device) for v in (a, b))
    a, b = a.expand_as(h).reshape(-1), b.expand_as(h).reshape(-1)
    if bool((b < 0).any()) or bool(((b == 0) & (a <= 0)).any()):
        raise StabilityError("the density needs b > 0, or b = 0 with a > 0, at every site")
    centre, width, s, well = _proposal(flat, a, b)
    up = torch.sigmoid(2 * flat * well) if bool(well.any()) else None
    out = torch.empty_like(flat)
    left, proposals = torch.arange(len(flat), device=flat.device), 0
    while len(left):
        # few sites left: several tries each, of which the first accepted one counts
        tries = max(1, len(flat) // (4 * len(left)))
        shape = (tries, len(left))
        where = {"generator": generator, "dtype": flat.dtype, "device": flat.device}
        phi = torch.randn(shape, **where).mul_(width[left]).add_(centre[left])
        chance = torch.rand(shape, **where).log_()
        if up is not None:
            v = well[left]
            sign = torch.where(torch.rand(shape, **where) < up[left], 1.0, -1.0).to(v)
            phi += sign * v
            chance -= b[left] * (v * (phi.abs() - v)) ** 2
            chance.masked_fill_((sign * phi <= 0) & (v > 0), torch.inf)
        accepted = chance < -b[left] * (phi * phi - s[left]) ** 2
        first = accepted.to(torch.uint8).argmax(0)
        done = accepted.any(0)
        out[left[done]] = phi.gather(0, first[None])[0, done]
        proposals += int(torch.where(done, first + 1, tries).sum())
        left = left[~done]
    return out.reshape(h.shape), len(flat) / max(proposals, 1)


@dataclass(frozen=True)
class CheckerboardGibbs:
    r"""A sampler of :math:`e^{-S}` that draws all even sites given the odd ones, then the reverse.

    Where the action reaches beyond neighbours it has more `colours
    <physml.actions.LocalAction.colours>` than two, and they are drawn in turn. A step is a pure
    function of the state and the generator. The distribution :math:`e^{-S}/Z` is left as it is by
    each part, so by all.

    Parameters
    ----------
    action
        A local action of `physml.actions`, with no other terms of one site than its `quadratic`,
        `quartic` and linear ones.

    Examples
    --------
    >>> from physml.actions import Phi4
    >>> from physml.device import generator
    >>> sampler = CheckerboardGibbs(Phi4(kappa=0.2, lam=0.5))
    >>> state = sampler.init(torch.zeros(3, 4, 4))
    >>> state, info = sampler.step(state, generator(1))
    >>> state.phi.shape
    torch.Size([3, 4, 4])
    """

    action: LocalAction

    cost = 8

    def __post_init__(self) -> None:
        names, advice = CONDITIONALS
        check_members(self.action, (*names, "quadratic", "quartic"), advice, type(self).__name__)

    def init(self, phi: Tensor) -> State:
        """Return the state with fields `phi`, ``(chains, *lattice.shape)``.

        Raises
        ------
        ShapeError
            If the lattice has no checkerboard: each length must be even.
        StabilityError
            If the action has no normalisable weight there.
        ValueError
            If :math:`S` is not made of the action's couplings, local fields and colours.
        """
        if check_real("phi", phi).ndim < 2:
            shape = tuple(phi.shape)
            raise ShapeError(f"phi must have shape (chains, *lattice.shape), not {shape}")
        self.action.check_stable(Lattice(tuple(phi.shape[1:])))
        colours = self._colours(phi)
        check_finite("phi", phi.detach())
        check_conditionals(self.action, phi, colours, self._site_action, type(self).__name__)
        return self.resume(phi)

    def resume(self, phi: Tensor) -> State:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return State(check_finite("phi", phi.detach()))

    def step(self, state: State, generator: torch.Generator) -> tuple[State, Info]:
        """Return the state after one sweep, even sites first; nothing is proposed or refused."""
        shape = tuple(state.phi.shape)
        colours = [mask.reshape(-1).nonzero()[:, 0] for mask in self._colours(state.phi)]
        phi = wide(state.phi).reshape(shape[0], -1).clone()
        a, b = (_on_sites(v, shape[1:]) for v in (self.action.quadratic, self.action.quartic))
        for colour in colours:
            field = self.action.local_field(phi.reshape(shape)).reshape(shape[0], -1)[:, colour]
            ab = (v[colour] if isinstance(v, Tensor) else v for v in (a, b))
            phi[:, colour], _ = quartic_normal(field, *ab, generator)
        return State(phi.reshape(shape).to(state.phi.dtype)), Info()

    def _colours(self, phi: Tensor) -> Iterable[Tensor]:
        return self.action.colours(phi)

    def _site_action(self, phi: Tensor, field: Tensor) -> Tensor:
        """Return the action of the conditional that is drawn, whatever the action itself says."""
        return LocalAction.site_action(self.action, phi, field)


def _on_sites(coupling: float | Tensor, shape: Sequence[int]) -> float | Tensor:
    if isinstance(coupling, Tensor):
        return coupling.detach().expand(shape).reshape(-1)
    return coupling


def _proposal(h: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre and width of the proposals, `s`, and `v` where there are two humps, else 0."""
    c = _precision(h, a, b)
    # two ways to the same s: each is the one without cancellation on its side
    s = torch.where(a > 0, (1 + h * h / (2 * c)) / (2 * c), (c - a) / (2 * b))
    c = torch.where(a > 0, a + 2 * b * s, c)
    deep = (-a > 4 * b.sqrt()) & (h * h < -3 * a)  # a barrier of 4, and no strong field
    s = torch.where(deep, -a / (2 * b), s)
    c = check_finite("the width of the proposals", torch.where(deep, -a / 2, c))
    return h / (2 * c), (2 * c).rsqrt(), s, torch.where(deep, s.sqrt(), 0)


def _precision(h: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the positive root c of c^3 - a c^2 - b c - b h^2 / 2, by Newton's method from above.

    The start is above the root: there c^2 (c - a) >= b c + b h^2 / 2 term by term. The cubic is
    convex from the root on, so the iterates fall to it and never below.
    """
    constant = 0.5 * b * h * h
    c = a.clamp(min=0) + b.sqrt() + constant.pow(1 / 3)
    for _ in range(12):
        c = c - (((c - a) * c - b) * c - constant) / ((3 * c - 2 * a) * c - b)
    return c
