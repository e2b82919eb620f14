r"""Langevin dynamics in fictitious time: stochastic quantisation on a lattice.

.. math::

    d\phi=-\frac{\partial S}{\partial\phi}\,d\tau+\sqrt{2\alpha}\,dw ,\qquad
    P\to e^{-S/\alpha},

with :math:`\alpha=1` for :math:`e^{-S}` (G. Parisi and Y. Wu, Sci. Sin. 24 (1981) 483). A finite
step :math:`\epsilon` gives a stationary law that is off by a power of :math:`\epsilon`; an accept
step removes the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..actions import Action, lattice_sum
from ..errors import check_positive
from .checks import FORCE, _ForceSampler, check_members
from .common import FourierKernel, Info, accepted, noise_like, per_chain

__all__ = ["MALA", "SCHEMES", "Langevin", "LangevinState", "MALAState", "relax"]

SCHEMES = ("euler", "leimkuhler-matthews")


class LangevinState(NamedTuple):
    """Fields and the noise that the next step goes on with, both ``(chains, *shape)``."""

    phi: Tensor
    noise: Tensor


class MALAState(NamedTuple):
    """Fields ``(chains, *shape)``, their actions ``(chains,)`` and forces."""

    phi: Tensor
    action: Tensor
    force: Tensor


@dataclass(frozen=True)
class Langevin(_ForceSampler):
    r"""Langevin dynamics with a finite step and no accept step.

    ``"euler"`` (Euler-Maruyama), :math:`\phi'=\phi+\epsilon F+\sqrt{2\alpha\epsilon}\,\xi_n`, has
    errors of order :math:`\epsilon` in its averages;
    ``"leimkuhler-matthews"``,
    :math:`\phi'=\phi+\epsilon F+\sqrt{\alpha\epsilon/2}\,(\xi_n+\xi_{n+1})`, of order
    :math:`\epsilon^2`, and none for Gaussians (B. Leimkuhler and C. Matthews, Appl. Math. Res.
    Express (2013) 34). Both need one force a step.

    Parameters
    ----------
    action
        The action to sample: any `physml.actions.Action`.
    step_size
        The step :math:`\epsilon` of fictitious time.
    scheme
        ``"euler"`` or ``"leimkuhler-matthews"``.
    alpha
        Strength :math:`\alpha` of the noise: the dynamics samples :math:`e^{-S/\alpha}`.
    kernel
        `M`, for Fourier acceleration: drift and noise become :math:`M^{-1}F` and
        :math:`M^{-1/2}\xi`, which leaves the stationary law as it is.
    """

    action: Action
    step_size: float
    scheme: str = "euler"
    alpha: float = 1.0
    kernel: FourierKernel | None = None

    def __post_init__(self) -> None:
        check_members(self.action, *FORCE, "Langevin")
        check_positive("step_size", self.step_size)
        check_positive("alpha", self.alpha)
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme={self.scheme!r} is not known; there are {list(SCHEMES)}")

    cost = 1

    @property
    def remembers(self) -> bool:
        """Whether the next step needs the noise of this one (see `Sequence`)."""
        return self.scheme == "leimkuhler-matthews"

    def resume(self, phi: Tensor) -> LangevinState:
        """Return the state that goes on from `phi`, with no noise carried along."""
        return LangevinState(phi, torch.zeros_like(phi))

    def step(self, state: LangevinState, generator: torch.Generator) -> tuple[LangevinState, Info]:
        """Make one step of fictitious time."""
        phi, noise = state
        fresh = noise_like(phi, generator)
        if self.kernel is not None:
            fresh = self.kernel.apply(fresh, -0.5)
        if self.kernel is None:
            moved = phi.clone()
            self.action.kick(moved, phi)(self.step_size)
        else:
            drift = self.kernel.apply(self.action.force(phi), -1.0)
            moved = phi.add(drift, alpha=self.step_size)
        if self.scheme == "euler":
            moved.add_(fresh, alpha=math.sqrt(2 * self.alpha * self.step_size))
            return LangevinState(moved, noise), Info()
        amplitude = math.sqrt(0.5 * self.alpha * self.step_size)
        moved.add_(noise, alpha=amplitude).add_(fresh, alpha=amplitude)
        return LangevinState(moved, fresh), Info()


@dataclass(frozen=True)
class MALA(_ForceSampler):
    r"""The Metropolis-adjusted Langevin algorithm: Euler's step as a proposal, made exact.

    A step from :math:`\phi` to :math:`\phi'=\phi+\epsilon F+\sqrt{2\epsilon}\,\xi` is accepted
    with the probability :math:`\min(1,e^{-\Delta H})`,

    .. math::

        \Delta H=S'-S+\tfrac1{4\epsilon}\big(|\phi-\phi'-\epsilon F'|^2
        -|\phi'-\phi-\epsilon F|^2\big)

    (P. J. Rossky, J. D. Doll and H. L. Friedman, J. Chem. Phys. 69 (1978) 4628). It is HMC with
    one leapfrog step of length :math:`\sqrt{2\epsilon}`.

    Parameters
    ----------
    action
        The action to sample: any `physml.actions.Action`.
    step_size
        The step :math:`\epsilon` of fictitious time.
    adjusted
        Whether there is an accept step; without one it is Euler's scheme.
    """

    action: Action
    step_size: float
    adjusted: bool = True

    def __post_init__(self) -> None:
        check_members(self.action, *FORCE, "MALA")
        check_positive("step_size", self.step_size)

    cost = 1

    def with_step_size(self, step_size: float) -> MALA:
        """Return the same sampler with another `step_size`."""
        return replace(self, step_size=step_size)

    def unadjusted(self) -> MALA:
        """Return the same sampler without its accept step, to bring fields near equilibrium."""
        return replace(self, adjusted=False)

    def resume(self, phi: Tensor) -> MALAState:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return MALAState(phi, self.action(phi), self.action.force(phi))

    def step(self, state: MALAState, generator: torch.Generator) -> tuple[MALAState, Info]:
        """Propose one step of fictitious time, and accept or keep each chain."""
        eps = self.step_size
        noise = noise_like(state.phi, generator)
        phi = state.phi.add(state.force, alpha=eps).add_(noise, alpha=math.sqrt(2 * eps))
        action, force = self.action(phi), self.action.force(phi)
        # the way back would need this noise: phi - phi' - eps F' in units of sqrt(2 eps)
        back = noise.add(state.force + force, alpha=math.sqrt(0.5 * eps))
        delta_h = action - state.action + 0.5 * (lattice_sum(back**2) - lattice_sum(noise**2))
        accept = accepted(delta_h, phi, self.adjusted, generator)
        mask = per_chain(accept, phi)
        new = MALAState(torch.where(mask, phi, state.phi),
                        torch.where(accept, action, state.action),
                        torch.where(mask, force, state.force))
        return new, Info(accept.to(action.dtype), delta_h)


def relax(sampler: Langevin, phi: Tensor, steps: int, generator: torch.Generator,
          every: int = 1) -> Tensor:
    """Return the fields at every `every`-th step, start included, ``(times, chains, *shape)``."""
    state, out = sampler.init(phi), [phi]
    for n in range(1, steps + 1):
        state, _ = sampler.step(state, generator)
        if n % every == 0:
            out.append(state.phi)
    return torch.stack(out)


