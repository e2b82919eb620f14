"""What samplers share: the record of a step, random numbers in memory order, Fourier kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ShapeError, check_positive, check_precision, check_real
from ..lattice import Lattice

__all__ = ["FourierKernel", "Info", "State", "noise_like", "uniform"]


class Info(NamedTuple):
    r"""What a step tells of itself, each ``(chains,)`` or None where the sampler has no such thing.

    Attributes
    ----------
    acceptance
        Accepted share of the proposals, 0 to 1.
    delta_h
        :math:`\Delta H` of the proposal, so that :math:`\langle e^{-\Delta H}\rangle=1` in
        equilibrium.
    """

    acceptance: Tensor | None = None
    delta_h: Tensor | None = None


class State(NamedTuple):
    """The state of a sampler that remembers nothing but its fields ``(chains, *shape)``."""

    phi: Tensor


def noise_like(phi: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers, shape and memory layout as `phi`."""
    out = torch.empty_like(phi)
    # in the order of memory: drawing through strides is ten times slower
    out.as_strided((out.numel(),), (1,)).normal_(generator=generator)
    return out


def wide(phi: Tensor) -> Tensor:
    """Return real fields in float32 at least, for all that decides about them.

    On the grid of half precision uniform numbers have another mean than 1/2, and differences of
    actions a few digits.
    """
    return phi.float() if check_real("phi", phi).element_size() < 4 else phi


def check_small_steps(phi: Tensor) -> Tensor:
    """Return fields, detached, that small steps can move; raise `ValueError` for others."""
    return check_precision("phi", check_real("phi", phi)).detach()


def uniform(chains: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform numbers in [0, 1), ``(chains,)``, in the type of `like`, float32 at least."""
    dtype = like.dtype if like.element_size() >= 4 else torch.float32
    return torch.rand(chains, dtype=dtype, device=like.device, generator=generator)


def accepted(
    delta_h: Tensor, phi: Tensor, adjusted: bool, generator: torch.Generator
) -> Tensor:
    r"""Return which chains take their proposal, ``(chains,)``.

    A trajectory that diverged has an infinite or undefined `delta_h` and is rejected. Without the
    accept step all are taken that raise the energy by less than 1 a site (or 30): a field that
    relaxes does so, one that runs away does not.
    """
    draw = uniform(len(delta_h), delta_h, generator)
    return draw < torch.exp(-delta_h) if adjusted else delta_h < max(30, phi[0].numel())


def per_chain(values: Tensor, phi: Tensor) -> Tensor:
    """Return `values` ``(chains,)`` with axes of length 1 added, to broadcast against `phi`."""
    return values.reshape(-1, *[1] * (phi.ndim - 1))


@dataclass(frozen=True)
class FourierKernel:
    r"""The kernel :math:`M(k)=z(\hat p^2+m^2)` of Fourier acceleration.

    As the mass of HMC momenta, :math:`H=\frac12\pi M^{-1}\pi+S`, or as the inverse of the metric
    of a Langevin equation, it lets all modes of a field with about this kernel move at the same
    speed (G. G. Batrouni et al., Phys. Rev. D 32 (1985) 2736).

    Parameters
    ----------
    lattice
        The lattice of the fields.
    mass2
        :math:`m^2>0`: the inverse squared correlation length, roughly.
    scale
        `z`, the coefficient of the kinetic term: :math:`2\kappa` for `Phi4`.
    """

    lattice: Lattice
    mass2: float
    scale: float = 1.0
    _powers: dict = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive("mass2", self.mass2)
        check_positive("scale", self.scale)

    def apply(self, phi: Tensor, power: float = 1.0) -> Tensor:
        """Return the field with each mode multiplied by :math:`M(k)` to the `power`."""
        check_precision("phi", phi)
        if tuple(phi.shape[1:]) != self.lattice.shape:
            raise ShapeError(f"phi must have shape (chains, {self.lattice.shape}), not "
                             f"{tuple(phi.shape)}")
        key = (power, phi.dtype, phi.device)
        if key not in self._powers:
            half = self.lattice.shape[-1] // 2 + 1  # a real field needs half of the last momenta
            kernel = self.scale * self.lattice.free_spectrum(self.mass2)[..., :half]
            self._powers[key] = (kernel**power).to(phi.dtype).to(phi.device)
        axes = tuple(range(1, phi.ndim))
        modes = torch.fft.rfftn(phi, dim=axes).mul_(self._powers[key])
        return torch.fft.irfftn(modes, s=self.lattice.shape, dim=axes)
