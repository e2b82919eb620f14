r"""The score of a field whose action is known: a free field, and what the interaction adds.

Take any spectrum :math:`P_k`, best :math:`\langle|\phi_k|^2\rangle/V` itself, and split the
gradient of the action, mode by mode, into that of the free field and a *residual force*,

.. math:: \frac{\partial S}{\partial\phi}=\frac\phi P+R(\phi).

In :math:`x=\phi_t/a` with the noise ratio :math:`r=s/a`, the field before the noise has the law
:math:`\propto e^{-S(\phi_0)-(\phi_0-x)^2/2r^2}`. Its Schwinger-Dyson equation, that the gradient
of the exponent averages to zero, gives :math:`\langle\phi_0\rangle_x`, and Tweedie's formula the
score:

.. math::

    a\,s_t=-\frac x{P+r^2}-c\,\langle R(\phi_0)\rangle_x,\qquad c=\frac P{P+r^2}.

This is exact. For :math:`r\to0` it is the gradient of the action, and for :math:`r\to\infty` only
the first term is left. What is to be learned is :math:`N=\langle R\rangle_x`.

**The target.** Regression of :math:`R` on `x` finds `N` (the force as a target: V. De Bortoli et
al., arXiv:2402.08667), that of the noise finds the score too, and so does each mixture of both. For
modes with :math:`\langle\phi_kR_k^*\rangle=0`, which is :math:`\langle\phi S'\rangle=1` if `P` is
the spectrum, the mixture of least variance is

.. math::

    y=\frac{R-\rho\,(\phi_0-D)}{1+\rho v},\qquad \rho=\langle|R_k|^2\rangle,\quad
    v=\frac{Pr^2}{P+r^2},\quad D=c\,x,

with the variance :math:`u^2=\rho/(1+\rho v)`, signal and noise together. (Derivation: the residual
of :math:`\phi_0` given `x` has to lowest order the variance `v`; minimise that of
:math:`\alpha R+\beta(\phi_0-D)` over mixtures with the mean `N`. The variance of `y` is exact,
since :math:`R` and :math:`\phi_0-D` are uncorrelated.) With noise alone as the target it would be
:math:`1/v`, larger by :math:`1+1/\rho v`: the modes that hardly interact, nearly all, have next to
nothing to learn from noise.

In nats, an error :math:`\delta N` costs :math:`cv\,|\delta N_k|^2` for each unit of :math:`\ln r`
(see `training`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..actions import LocalAction
from ..errors import ShapeError, check_finite
from .sde import Process, Time, check_field, over_sites

__all__ = ["Interaction", "ResidualForce"]


@dataclass(frozen=True, eq=False)
class ResidualForce:
    r"""The residual force of an action; made by `measure`, or from a spectrum of your own.

    Attributes
    ----------
    action
        The action, of fields with at least one direction.
    spectrum
        :math:`P_k`, in the order of `torch.fft.fftn`, shape `lattice.shape`, float64 on the CPU.
    variance
        :math:`\rho_k=\langle|R_k|^2\rangle/V`, likewise.
    """

    action: LocalAction
    spectrum: Tensor = field(repr=False)
    variance: Tensor = field(repr=False)

    @classmethod
    def measure(cls, action: LocalAction, phi: Tensor) -> ResidualForce:
        r"""Measure `P` and :math:`\rho` on fields of the action, ``(chains, *shape)``.

        Both are averaged over reflections, and over axes of equal lengths.
        """
        check_finite("phi", check_field(phi))
        if phi.ndim < 2:
            raise ShapeError("phi must have a lattice, (chains, *lattice.shape): a single degree "
                             "of freedom has no modes")
        spectrum = _symmetric(_power(phi))
        residual = cls(action, spectrum, torch.zeros_like(spectrum)).force(phi)
        return cls(action, spectrum, _symmetric(_power(residual)))

    def force(self, phi: Tensor) -> Tensor:
        r"""Return :math:`R(\phi)=\partial S/\partial\phi-\phi/P`, shape as `phi`."""
        check_field(phi, tuple(self.spectrum.shape))
        return -self.action.force(phi) - _filter(phi, 1 / self.spectrum)


@dataclass(frozen=True, eq=False)
class Interaction:
    """The exact split of a score at one noise ratio for each chain.

    Parameters
    ----------
    residual
        The residual force.
    process
        The forward process.
    t
        A time, or one for each chain, ``(chains,)``.

    Attributes
    ----------
    share, spread, scale
        The `c`, `v` and `u` of the module, ``(*shape)`` or ``(chains, *shape)``.
    """

    residual: ResidualForce
    process: Process
    t: Time

    @property
    def share(self) -> Tensor:
        return self._over_noise(self.residual.spectrum)

    @property
    def spread(self) -> Tensor:
        return self._over_noise(self.residual.spectrum * self._noise)

    @property
    def scale(self) -> Tensor:
        rho = self.residual.variance
        return (rho / (1 + rho * self.spread)).sqrt()

    def denoise(self, phi: Tensor) -> Tensor:
        """Return the free field's denoised field `D`, shape as `phi`."""
        return _filter(self._bare(phi), self.share)

    def score(self, phi: Tensor, mean_residual: Tensor) -> Tensor:
        """Return the score at `phi`, given `N` there; without it, 0, the free field's."""
        x = self._bare(phi)
        inverse = self._over_noise(torch.ones_like(self.residual.spectrum))
        pulled = _filter(x, inverse) + _filter(mean_residual, self.share)
        return -pulled / over_sites(self.process.mean_factor(self.t), phi)

    def target(self, start: Tensor, phi: Tensor) -> Tensor:
        """Return `y` for fields `start` of the action that became `phi`, shape as both."""
        if start.shape != phi.shape:
            raise ShapeError(f"start must have the shape of phi, {tuple(phi.shape)}, not "
                             f"{tuple(start.shape)}")
        rho = self.residual.variance
        force, miss = self.residual.force(start), start - self.denoise(phi)
        return _filter(force - _filter(miss, rho), 1 / (1 + rho * self.spread))

    @property
    def _noise(self) -> Tensor:
        """The variance of the noise in `x`, with axes to broadcast over modes."""
        ratio = self.process.ratio(self.t)
        if not isinstance(ratio, Tensor):
            return torch.tensor(ratio**2, dtype=torch.float64)
        return (ratio.cpu().double() ** 2).reshape(-1, *[1] * self.residual.spectrum.ndim)

    def _over_noise(self, values: Tensor) -> Tensor:
        return values / (self.residual.spectrum + self._noise)

    def _bare(self, phi: Tensor) -> Tensor:
        check_field(phi, tuple(self.residual.spectrum.shape))
        return phi / over_sites(self.process.mean_factor(self.t), phi)


def _axes(phi: Tensor) -> tuple[int, ...]:
    return tuple(range(1, phi.ndim))


def _filter(phi: Tensor, gain: Tensor) -> Tensor:
    """Return fields with each mode multiplied by `gain`, real and even in momentum."""
    modes = torch.fft.fftn(phi, dim=_axes(phi)) * gain.to(phi.dtype).to(phi.device)
    return torch.fft.ifftn(modes, dim=_axes(phi)).real


def _power(phi: Tensor) -> Tensor:
    """Return the mean of each mode's square over the volume, float64 on the CPU."""
    modes = torch.fft.fftn(phi, dim=_axes(phi))
    return modes.abs().square().mean(0).cpu().double() / phi[0].numel()


def _symmetric(values: Tensor) -> Tensor:
    """Return the average over reflections, and the transposition of a square."""
    for axis in range(values.ndim):
        values = (values + values.flip(axis).roll(1, axis)) / 2
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        values = (values + values.T) / 2
    return values
