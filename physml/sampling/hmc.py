r"""Hybrid Monte Carlo: molecular dynamics with an accept step.

Momenta :math:`\pi` are drawn from :math:`e^{-\frac12\pi M^{-1}\pi}`, the pair
:math:`(\phi,\pi)` is moved along Hamilton's equations of
:math:`H=\frac12\pi M^{-1}\pi+S[\phi]` by a reversible, area-preserving integrator, and the end is
accepted with the probability :math:`\min(1,e^{-\Delta H})` (S. Duane et al., Phys. Lett. B 195
(1987) 216). In equilibrium :math:`\langle e^{-\Delta H}\rangle=1` for any step size.

A free mode of frequency :math:`\omega` turns by :math:`\omega` times the length of the trajectory;
where that is near a multiple of :math:`\pi` it comes back to where it was, and forgets nothing
(P. B. Mackenzie, Phys. Lett. B 226 (1989) 369). Draw the lengths at random there, with `spread`.
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
from .common import FourierKernel, Info, accepted, noise_like, per_chain, uniform

__all__ = ["HMC", "INTEGRATORS", "HMCState"]

#: Coefficients of drifts and kicks in turn, in units of the step. Both are of second order; the
#: second has about a tenth of the error of the first in :math:`H` at twice the forces (I. P.
#: Omelyan, I. M. Mryglod and R. Folk, Comput. Phys. Commun. 151 (2003) 272, eq. 31).
INTEGRATORS = {
    "leapfrog": (0.5, 1.0, 0.5),
    "minimum-norm": (0.1931833275037836, 0.5, 1 - 2 * 0.1931833275037836, 0.5,
                     0.1931833275037836),
}


class HMCState(NamedTuple):
    """Fields ``(chains, *shape)`` and their actions ``(chains,)``."""

    phi: Tensor
    action: Tensor


@dataclass(frozen=True)
class HMC(_ForceSampler):
    r"""Hybrid Monte Carlo.

    Parameters
    ----------
    action
        The action to sample: any `physml.actions.Action`.
    step_size
        The largest step; the trajectory is cut into :math:`\lceil` `length` / `step_size`
        :math:`\rceil` equal ones.
    length
        Length of a trajectory in molecular-dynamics time.
    integrator
        ``"leapfrog"`` or ``"minimum-norm"``.
    kernel
        The mass `M` of the momenta, for Fourier acceleration; 1 by default.
    spread
        Lengths are drawn anew for each trajectory, uniform within this fraction of `length`.
    adjusted
        Whether there is an accept step. Without one every trajectory that does not run away is
        taken, and the law is off by the square of the step.
    """

    action: Action
    step_size: float = 0.1
    length: float = 1.0
    integrator: str = "leapfrog"
    kernel: FourierKernel | None = None
    spread: float = 0.0
    adjusted: bool = True

    def __post_init__(self) -> None:
        check_members(self.action, *FORCE, "HMC")
        check_positive("step_size", self.step_size)
        check_positive("length", self.length)
        if not 0 <= self.spread < 1:
            raise ValueError(f"spread must be at least 0 and less than 1, not {self.spread}")
        if self.integrator not in INTEGRATORS:
            raise ValueError(
                f"integrator={self.integrator!r} is not known; there are {sorted(INTEGRATORS)}"
            )

    @property
    def steps(self) -> int:
        """Number of integration steps in a trajectory."""
        return max(1, math.ceil(self.length / self.step_size - 1e-9))

    @property
    def cost(self) -> int:
        """Number of force evaluations in a step of the chain."""
        return self.steps * (len(INTEGRATORS[self.integrator]) // 2)

    def with_step_size(self, step_size: float) -> HMC:
        """Return the same sampler with another `step_size`, at most `length`."""
        return replace(self, step_size=min(step_size, self.length))

    def unadjusted(self) -> HMC:
        r"""Return the same sampler without its accept step, to bring fields near equilibrium.

        Far from there :math:`\Delta H` is of the order of the volume, and all would be rejected.
        """
        return replace(self, adjusted=False)

    def resume(self, phi: Tensor) -> HMCState:
        """Return the state that goes on from `phi`, to which another sampler moved the fields."""
        return HMCState(phi, self.action(phi))

    def step(self, state: HMCState, generator: torch.Generator) -> tuple[HMCState, Info]:
        """Draw momenta, run one trajectory, accept or keep each chain."""
        noise = noise_like(state.phi, generator)
        momentum = noise if self.kernel is None else self.kernel.apply(noise, 0.5)
        kinetic = 0.5 * lattice_sum(noise * noise)
        phi, momentum = self._drawn(noise, generator).integrate(state.phi, momentum)
        action = self.action(phi)
        delta_h = action - state.action + self.kinetic(momentum) - kinetic
        accept = accepted(delta_h, phi, self.adjusted, generator)
        phi = torch.where(per_chain(accept, phi), phi, state.phi)
        action = torch.where(accept, action, state.action)
        return HMCState(phi, action), Info(accept.to(action.dtype), delta_h)

    def _drawn(self, like: Tensor, generator: torch.Generator) -> HMC:
        if not self.spread:
            return self
        shift = 2 * float(uniform(1, like, generator)) - 1
        return replace(self, length=self.length * (1 + self.spread * shift))

    def kinetic(self, momentum: Tensor) -> Tensor:
        r"""Return :math:`\frac12\pi M^{-1}\pi`, shape ``(chains,)``."""
        velocity = momentum if self.kernel is None else self.kernel.apply(momentum, -1.0)
        return 0.5 * lattice_sum(momentum * velocity)

    def integrate(self, phi: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """Return field and momentum at the end of a trajectory; the arguments stay as they are."""
        phi, momentum = phi.clone(), momentum.clone()
        coefficients = INTEGRATORS[self.integrator]
        step = self.length / self.steps
        add_force = self.action.kick(momentum, phi)
        self._drift_(phi, momentum, step * coefficients[0])
        for left in reversed(range(self.steps)):
            for kick, drift in zip(coefficients[1::2], coefficients[2::2], strict=True):
                add_force(step * kick)
                # the last drift of a step and the first of the next are one
                closing = drift is coefficients[-1] and left
                self._drift_(phi, momentum, step * drift * (2 if closing else 1))
        return phi, momentum

    def _drift_(self, phi: Tensor, momentum: Tensor, time: float) -> None:
        if self.kernel is None:
            phi.add_(momentum, alpha=time)
        else:
            phi.add_(self.kernel.apply(momentum, -1.0), alpha=time)
