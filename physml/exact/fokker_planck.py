r"""Fokker-Planck spectra of field theories with one degree of freedom.

Conventions. The Langevin equation :math:`d\phi=-S'dt+\sqrt2\,dW` moves the density by
:math:`\partial_tP=(P'+S'P)'`. With :math:`P=e^{-S/2}\psi` this is
:math:`\partial_t\psi=-H\psi` with

.. math:: H=L^\dagger L=-\frac{d^2}{d\phi^2}+\frac{S'^2}4-\frac{S''}2,\qquad
          L=\frac{d}{d\phi}+\frac{S'}2,

(G. Parisi and Y.-S. Wu, Sci. Sin. 24 (1981) 483; P. Damgaard and H. Hueffel, Phys. Rep. 152
(1987) 227). So :math:`E_n\ge0`, and :math:`\psi_0\propto e^{-S/2}` has :math:`E_0=0`. We keep the
functions :math:`f_n=\psi_n/\psi_0`, the eigenfunctions of the generator
:math:`f\mapsto f''-S'f'`: they are orthonormal under the equilibrium average,
:math:`\langle f_nf_m\rangle=\delta_{nm}`, and :math:`f_0=1`. An observable started at
:math:`\phi_0` relaxes as :math:`\langle O\rangle(t)=\sum_n\langle Of_n\rangle f_n(\phi_0)
e^{-E_nt}`.

Two discretisations that share nothing but the action give the same numbers. In both,
:math:`E_n` is the square of a singular value of `L`, so that even the tiny gap of a deep double
well keeps all its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..device import as_double
from ..errors import check_positive, check_positive_int
from .langevin import _derivatives
from .zero_dim import Action, Quadrature, _evaluate, _panels, _support

__all__ = ["FokkerPlanck", "fokker_planck_spectrum"]

Observable = Callable[[torch.Tensor], torch.Tensor]
Start = float | torch.Tensor | Quadrature

_DEEP = 40.0  # beyond this in S - min S, f_n = psi_n / psi_0 has lost its digits


@dataclass(frozen=True)
class FokkerPlanck:
    r"""The spectrum of a Fokker-Planck operator; made by `fokker_planck_spectrum`.

    It can be pickled if its action can: an action of `physml.actions`, or a function that is
    defined at the top of a module.

    Parameters
    ----------
    energies
        :math:`E_0=0<E_1<\ldots`, ``(modes,)``, in inverse Langevin time.
    x, weight
        Nodes and their equilibrium probabilities, both ``(nodes,)``.
    psi
        :math:`\sqrt wf_n`, ``(modes, nodes)``, orthonormal as vectors: on the uniform grid the
        eigenfunctions of `H` themselves, up to a constant.
    """

    energies: torch.Tensor = field(repr=False)
    x: torch.Tensor = field(repr=False)
    weight: torch.Tensor = field(repr=False)
    psi: torch.Tensor = field(repr=False)
    _extend: Observable = field(repr=False, compare=False)
    _density: Observable = field(repr=False, compare=False)

    @property
    def gap(self) -> float:
        """The lowest positive energy: the slowest rate of relaxation."""
        return float(self.energies[1])

    def modes(self, phi: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`f_n(\phi)` at points of shape ``(points,)``: ``(modes, points)``.

        Each mode is positive at the right end, where :math:`e^{-S}` is :math:`e^{-30}` of its
        maximum.

        Raises
        ------
        ValueError
            If a point lies so deep in the tail (below :math:`e^{-40}` of the maximum of
            :math:`e^{-S}`) that nothing is known of the modes there.
        """
        phi = as_double(phi).cpu().reshape(-1)
        if not bool(self._inside(phi).all()):
            raise ValueError(
                f"phi reaches to {float(phi.min()):.3g} ... {float(phi.max()):.3g}, where the "
                "equilibrium density is below exp(-40) of its maximum and the modes are unknown"
            )
        return self._extend(phi)

    def coefficients(self, f: Observable) -> torch.Tensor:
        r"""Return :math:`\langle Of_n\rangle` of an observable `f`, ``(modes,)``."""
        return self.psi @ (self.weight.sqrt() * f(self.x))

    def relaxation(self, f: Observable, start: Start, times: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`\langle O\rangle(t)=\sum_n\langle Of_n\rangle\,
        \langle f_n\rangle_{\rm start}\,e^{-E_nt}`, the shape of `times`.

        Parameters
        ----------
        f
            The observable, entry by entry.
        start
            A point, a tensor of points to average over, or the `Quadrature` of an initial
            density.
        times
            Langevin times. At times below about ``1 / energies[-1]`` the sum has not converged.
        """
        amplitude = self.coefficients(f) * self._overlap(start)
        return self._decay(times) @ amplitude

    def density(self, phi: torch.Tensor, start: Start, times: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`P(\phi,t)=\frac{e^{-S}}Z\sum_nf_n(\phi)\langle f_n\rangle_{\rm start}
        e^{-E_nt}`, ``(*times.shape, points)``.

        `start` and `times` are as in `relaxation`; a point is a :math:`\delta`-function, and no
        finite sum is one.
        """
        phi = as_double(phi).cpu().reshape(-1)
        inside = self._inside(phi)
        there = torch.where(inside, phi, self.x[self.weight.argmax()])
        series = self._decay(times) @ (self._overlap(start)[:, None] * self._extend(there))
        return torch.where(inside, series * self._density(phi), torch.zeros_like(phi))

    def autocorrelation(
        self, f: Observable, times: torch.Tensor, *, normalised: bool = True
    ) -> torch.Tensor:
        r"""Return the stationary :math:`\langle O(t)O(0)\rangle-\langle O\rangle^2
        =\sum_{n\ge1}\langle Of_n\rangle^2e^{-E_nt}`, the shape of `times`.

        Divided by its value at zero unless ``normalised=False``.
        """
        power = self._power(f)
        return self._decay(times)[..., 1:] @ (power / power.sum() if normalised else power)

    def tau_int(self, f: Observable, interval: float | None = None) -> float:
        r"""Return the integrated autocorrelation time of an observable at equilibrium.

        Parameters
        ----------
        f
            The observable, entry by entry.
        interval
            The Langevin time :math:`\delta` between measurements: then the result is
            :math:`\frac12+\sum_{k\ge1}\rho(k\delta)=\frac12\sum_nw_n\coth(E_n\delta/2)`, in units
            of :math:`\delta`, with the weights :math:`w_n\propto\langle Of_n\rangle^2`. Without
            it, :math:`\int_0^\infty dt\,\rho(t)=\sum_nw_n/E_n`, in Langevin time.
        """
        power = self._power(f)
        share = power / power.sum()
        if interval is None:
            return float((share / self.energies[1:]).sum())
        half = 0.5 * check_positive("interval", interval) * self.energies[1:]
        return float((share / torch.tanh(half)).sum() / 2)

    def _power(self, f: Observable) -> torch.Tensor:
        power = self.coefficients(f)[1:].square()
        if not float(power.sum()) > 1e-28 * float((self.weight * f(self.x).square()).sum()):
            raise ValueError("f does not fluctuate: a constant has no autocorrelation")
        return power

    def _decay(self, times: torch.Tensor) -> torch.Tensor:
        times = as_double(times).cpu()
        return torch.exp(-self.energies * times[..., None])

    def _inside(self, phi: torch.Tensor) -> torch.Tensor:
        highest = self._density(self.x).max()
        return self._density(phi) > math.exp(-_DEEP) * highest

    def _overlap(self, start: Start) -> torch.Tensor:
        if not isinstance(start, Quadrature):
            return self.modes(as_double(start).cpu()).mean(-1)
        inside = self._inside(start.x)
        lost = float(start.weight[~inside].sum())
        if lost > 1e-12:
            raise ValueError(
                f"start has the probability {lost:.2g} where the equilibrium density is below "
                "exp(-40) of its maximum and the modes are unknown: start with a narrower one"
            )
        return self._extend(start.x[inside]) @ start.weight[inside]


def fokker_planck_spectrum(
    action: Action, modes: int = 40, *, method: str = "grid", size: int | None = None
) -> FokkerPlanck:
    r"""Diagonalise the Fokker-Planck operator of an action of one degree of freedom.

    Parameters
    ----------
    action
        :math:`S(\phi)`, entry by entry in torch operations: it is differentiated automatically.
        It must grow at least quadratically for the accuracy stated.
    modes
        How many of the lowest modes to keep.
    method
        * ``"grid"``: `L` on a uniform grid where :math:`e^{-S}` is above :math:`e^{-100}` of its
          maximum, with the derivative of the sinc interpolant through all points,
          :math:`D_{ij}=(-1)^{i-j}/(h(i-j))`: the error falls exponentially with the number of
          points (F. Stenger, SIAM Rev. 23 (1981) 165);
        * ``"polynomials"``: the form :math:`\langle f'g'\rangle`, whose eigenvalues under
          :math:`\langle fg\rangle` are :math:`E_n`, in the polynomials that are orthonormal under
          :math:`e^{-S}` (built by Arnoldi's recursion on Gauss-Legendre nodes). By the Rayleigh-
          Ritz principle its energies lie above the true ones; for a Gaussian it is exact.
    size
        Points of the grid, or number of polynomials; by default 10 and 3 times `modes`, and at
        least 400 and 120. Compare two sizes, or the two methods, to see the error.

    Returns
    -------
    A `FokkerPlanck`: energies, eigenfunctions, relaxation and autocorrelation.
    """
    modes = check_positive_int("modes", modes)
    if method not in ("grid", "polynomials"):
        raise ValueError(f'method must be "grid" or "polynomials", not {method!r}')
    if size is None:
        size = max(10 * modes, 400) if method == "grid" else max(3 * modes, 120)
    size = check_positive_int("size", size)
    if not 2 <= modes <= size:
        raise ValueError(f"modes={modes} must lie between 2 and size={size}")
    solve = _grid if method == "grid" else _polynomials
    return solve(action, modes, size)


def _grid(action: Action, modes: int, points: int) -> FokkerPlanck:
    low, high = _support(lambda x: _evaluate(action, x), 100.0)
    x = torch.linspace(low, high, points, dtype=torch.float64, device="cpu")
    h = (high - low) / (points - 1)
    value, slope, _ = _derivatives(action, x)
    log_z = float((-value).logsumexp(0)) + math.log(h)
    weight = torch.softmax(-value, 0)

    number = torch.arange(points, dtype=torch.float64, device="cpu")
    apart = number[:, None] - number
    derivative = (1 - 2 * (apart % 2)) / (h * torch.where(apart == 0, 1.0, apart))
    derivative.fill_diagonal_(0)
    _, singular, right = torch.linalg.svd(derivative + torch.diag(slope / 2))
    psi = right.flip(0)[:modes]

    density = _Density(action, log_z)
    extend = _Sinc(psi, x, h, density)
    return _oriented(singular.flip(0)[:modes].square(), x, weight, psi, extend, density)


def _polynomials(action: Action, modes: int, size: int) -> FokkerPlanck:
    # phi^(2 size) moves the mass outwards: to S of about 2 size for a Gaussian
    low, high = _support(lambda x: _evaluate(action, x), 100.0 + 3 * size)
    x, width = _panels(torch.linspace(low, high, 129, dtype=torch.float64, device="cpu"))
    log_weight = width.log() - _evaluate(action, x)
    log_z = float(log_weight.logsumexp(0))
    weight = torch.softmax(log_weight, 0)

    # x p_k = sum_j c_jk p_j, with all j: a short recursion would lose the orthogonality
    basis, slope = x.new_zeros(2, size, len(x))  # both times sqrt(weight)
    basis[0] = weight.sqrt()
    recursion = x.new_zeros(size, size)
    for k in range(size - 1):
        new = x * basis[k]
        for _ in range(2):  # once more for the digits the first pass has lost
            part = basis[: k + 1] @ new
            new = new - part @ basis[: k + 1]
            recursion[: k + 1, k] += part
        recursion[k + 1, k] = norm = new.norm()
        basis[k + 1] = new / norm
        slope[k + 1] = basis[k] + x * slope[k] - recursion[: k + 1, k] @ slope[: k + 1]
        slope[k + 1] /= norm
    # p_0' = 0: the zero mode is exact, and the others live in the rest
    _, singular, right = torch.linalg.svd(slope[1:].T, full_matrices=False)
    mix = x.new_zeros(modes, size)
    mix[0, 0] = 1
    mix[1:, 1:] = right.flip(0)[: modes - 1]
    energies = torch.cat([x.new_zeros(1), singular.flip(0)[: modes - 1].square()])

    extend, density = _Arnoldi(recursion, mix), _Density(action, log_z)
    return _oriented(energies, x, weight, mix @ basis, extend, density)


def _oriented(
    energies: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    psi: torch.Tensor,
    extend: Observable,
    density: Observable,
) -> FokkerPlanck:
    """Return the result with all modes positive at the right end."""
    end = (weight.log() > weight.max().log() - 30).nonzero()[-1]
    sign = torch.where(extend(x[end]) < 0, -1.0, 1.0)
    return FokkerPlanck(energies, x, weight, sign * psi, _Signed(sign, extend), density)


# functions of a result are classes: what is made within a function cannot be pickled


@dataclass(frozen=True, eq=False)
class _Density:
    action: Action
    log_z: float

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        return torch.exp(-_evaluate(self.action, phi) - self.log_z)


@dataclass(frozen=True, eq=False)
class _Sinc:
    """The sinc interpolant of psi_n, over psi_0."""

    psi: torch.Tensor
    x: torch.Tensor
    h: float
    density: _Density

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        waves = torch.sinc((phi - self.x[:, None]) / self.h)
        return self.psi @ waves / (self.density(phi) * self.h).sqrt()


@dataclass(frozen=True, eq=False)
class _Arnoldi:
    """Mixtures of the polynomials of a recursion."""

    recursion: torch.Tensor
    mix: torch.Tensor

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        size = len(self.recursion)
        value = phi.new_zeros(size, len(phi))
        value[0] = 1
        for k in range(size - 1):
            new = phi * value[k] - self.recursion[: k + 1, k] @ value[: k + 1]
            value[k + 1] = new / self.recursion[k + 1, k]
        return self.mix @ value


@dataclass(frozen=True, eq=False)
class _Signed:
    sign: torch.Tensor
    extend: Observable

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        return self.sign * self.extend(phi)
