r"""Diffusion processes: noise that is added to a field, and the processes that take it away again.

Conventions, for all of `physml.diffusion`. Time runs from 0 (the field) to 1 (noise), and `w` is a
Wiener process with :math:`\langle dw^2\rangle=dt` at each site, so that noise :math:`g\,dw` has the
variance :math:`g^2dt` (a Langevin equation of :math:`e^{-S}` has :math:`2\,d\tau`). Forward,

.. math::

    d\phi=-\tfrac12\beta(t)\,\phi\,dt+g(t)\,dw,\qquad
    \phi_t=a(t)\,\phi_0+s(t)\,z,\quad z\sim N(0,1),

is linear, so that its kernels are Gaussian; the `mean_factor` `a` and the `variance` :math:`s^2`
obey :math:`\dot a=-\frac12\beta a` and :math:`\frac d{dt}s^2=-\beta s^2+g^2`. A mode of variance
:math:`v_0` has :math:`v_t=a^2v_0+s^2`. The *noise ratio* :math:`r=s/a` grows with `t`; in
:math:`x=\phi/a` every process is the same one, :math:`x_r=\phi_0+rz`, run at another speed.

Backward, with :math:`\tau=1-t` and the score :math:`s_t(\phi)=\nabla\ln q_t(\phi)` of the noised
law, every member of the family

.. math::

    d\phi=\big[\tfrac12\beta\,\phi+\tfrac{1+\zeta^2}2\,g^2\,s_t(\phi)\big]d\tau+\zeta g\,dw

has the marginals :math:`q_t`: :math:`\zeta=1` is the reverse process of B. D. O. Anderson (Stoch.
Proc. Appl. 12 (1982) 313), :math:`\zeta=0` the probability-flow equation (arXiv:2011.13456).
Derivation: in the Fokker-Planck equation of :math:`q_t` write
:math:`\Delta q=\nabla\cdot(q\,\nabla\ln q)`, so that any share of the noise may be traded for
drift. In arXiv:2309.17082 the text has noise of variance :math:`2g^2d\tau` with the drift
:math:`g^2s_t`, and a flow without the :math:`\frac12`; its code, and what we have here, is the pair
:math:`\zeta=1,0`, which alone has those marginals. Noise of variance :math:`2g^2d\tau`,
:math:`\zeta^2=2`, would need the drift :math:`\frac32g^2s_t`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..actions import lattice_sum
from ..errors import (
    ShapeError,
    check_positive,
    check_positive_int,
    check_precision,
    check_real,
    has_numbers,
)
from ..lattice import Lattice

__all__ = [
    "GRIDS",
    "Process",
    "Reverse",
    "VarianceExploding",
    "VariancePreserving",
    "over_sites",
    "time_grid",
]

GRIDS = ("uniform", "geometric", "karras")
Time = float | Tensor


class Process:
    r"""The common part of all diffusion processes.

    A subclass gives `decay`, `noise2`, `mean_factor`, `variance` and `time_of`. A time is a number
    in [0, 1], or a tensor of them; what comes back is of the same kind.
    """

    def decay(self, t: Time) -> Time:
        r"""Return :math:`\frac12\beta(t)`, the rate at which the field shrinks."""
        raise NotImplementedError

    def noise2(self, t: Time) -> Time:
        r"""Return :math:`g^2(t)`."""
        raise NotImplementedError

    def mean_factor(self, t: Time) -> Time:
        r"""Return :math:`a(t)` in :math:`\langle\phi_t\rangle=a\,\phi_0`."""
        raise NotImplementedError

    def variance(self, t: Time) -> Time:
        r"""Return :math:`s^2(t)`, the variance of the noise on :math:`a\,\phi_0`."""
        raise NotImplementedError

    def time_of(self, ratio: Time) -> Time:
        """Return the time at which the noise ratio has this value, the inverse of `ratio`."""
        raise NotImplementedError

    def ratio(self, t: Time) -> Time:
        r"""Return the noise ratio :math:`r(t)=s/a`, which grows with time."""
        return _sqrt(self.variance(t)) / self.mean_factor(t)

    def marginal(self, variance: float | Tensor, t: Time) -> float | Tensor:
        r"""Return :math:`a^2v_0+s^2`, the variance at `t` of a mode that has `variance` at 0.

        With `variance` the spectrum :math:`1/K(k)` of a free field (or any tensor): all its modes.
        """
        return self.mean_factor(t) ** 2 * variance + self.variance(t)

    def transition(self, start: Time, end: Time) -> tuple[Time, Time]:
        r"""Return the mean factor and the variance of :math:`p(\phi_{\rm end}|\phi_{\rm start})`.

        :math:`a_{e|s}=a_e/a_s` and :math:`s^2_{e|s}=s_e^2-a_{e|s}^2s_s^2` (derivation: noise of
        the two parts adds up to :math:`s_e^2`).
        """
        if not isinstance(start, Tensor) and not isinstance(end, Tensor) and start > end:
            raise ValueError(f"start={start} lies after end={end}: the process runs forward")
        factor = self.mean_factor(end) / self.mean_factor(start)
        return factor, self.variance(end) - factor**2 * self.variance(start)

    def perturb(self, phi: Tensor, t: Time, noise: Tensor) -> Tensor:
        r"""Return :math:`a\,\phi_0+s\,z`, shape as `phi`, with standard normal `noise`.

        `t` is one time for all chains, or one for each, ``(chains,)``.
        """
        if noise.shape != phi.shape:
            raise ShapeError(f"noise must have the shape of phi, {tuple(phi.shape)}, not "
                             f"{tuple(noise.shape)}")
        factor, scale = self.mean_factor(t), _sqrt(self.variance(t))
        return over_sites(factor, phi) * phi + over_sites(scale, phi) * noise

    @property
    def prior_variance(self) -> float:
        r"""The variance :math:`s^2(1)` of the noise that sampling starts from.

        The law of :math:`\phi_1` is wider by :math:`a^2(1)` times the field's variance: to start
        from noise alone, centred at zero, is the usual approximation.
        """
        return self.variance(1.0)

    def prior(self, noise: Tensor) -> Tensor:
        """Return the fields that sampling starts from, made of standard normal `noise`."""
        return math.sqrt(self.prior_variance) * noise

    def prior_log_density(self, phi: Tensor) -> Tensor:
        r"""Return :math:`\ln N(\phi;0,s^2(1))`, ``(chains,)``, float64 where there is one."""
        variance = self.prior_variance
        sites = phi[0].numel()
        return (-0.5 * lattice_sum(phi * phi) / variance
                - 0.5 * sites * math.log(2 * math.pi * variance))


@dataclass(frozen=True)
class VarianceExploding(Process):
    r"""The driftless process of arXiv:2309.17082: :math:`g(t)=\sigma^t`.

    .. math:: a=1,\qquad s^2(t)=\frac{\sigma^{2t}-1}{2\ln\sigma},

    which solves :math:`\frac d{dt}s^2=\sigma^{2t}`. For :math:`\sigma=25`, :math:`s(1)=9.845`.

    Parameters
    ----------
    sigma
        The base :math:`\sigma>1` of the noise.
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        if not check_positive("sigma", self.sigma) > 1:
            raise ValueError(f"sigma must be larger than 1, not {self.sigma}: the noise sigma^t "
                             "is to grow with time")

    def decay(self, t: Time) -> Time:
        return 0.0 * _time(t)

    def noise2(self, t: Time) -> Time:
        return self.sigma ** (2 * _time(t))

    def mean_factor(self, t: Time) -> Time:
        return 0.0 * _time(t) + 1.0

    def variance(self, t: Time) -> Time:
        log = math.log(self.sigma)
        return _expm1(2 * log * _time(t)) / (2 * log)

    def time_of(self, ratio: Time) -> Time:
        log = math.log(self.sigma)
        return _at_most_1(_log1p(2 * log * _ratio(self, ratio) ** 2) / (2 * log))


@dataclass(frozen=True)
class VariancePreserving(Process):
    r"""The process that keeps unit variance: :math:`g^2=\beta(t)=\beta_0+(\beta_1-\beta_0)\,t`.

    .. math:: a=e^{-u/2},\quad s^2=1-e^{-u},\quad u(t)=\beta_0t+\tfrac12(\beta_1-\beta_0)\,t^2

    (arXiv:2011.13456, eq. 33). The law of :math:`\phi_1` is close to unit noise if :math:`u(1)` is
    large and the field's variance is not.

    Parameters
    ----------
    beta_min, beta_max
        :math:`0<\beta_0\le\beta_1`.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_positive("beta_min", self.beta_min)
        if check_positive("beta_max", self.beta_max) < self.beta_min:
            raise ValueError(f"beta_max={self.beta_max} must not be less than "
                             f"beta_min={self.beta_min}")

    def integral(self, t: Time) -> Time:
        r"""Return :math:`u(t)=\int_0^t\beta`."""
        t = _time(t)
        return (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t) * t

    def decay(self, t: Time) -> Time:
        return 0.5 * self.noise2(t)

    def noise2(self, t: Time) -> Time:
        return self.beta_min + (self.beta_max - self.beta_min) * _time(t)

    def mean_factor(self, t: Time) -> Time:
        return _exp(-0.5 * self.integral(t))

    def variance(self, t: Time) -> Time:
        return -_expm1(-self.integral(t))

    def time_of(self, ratio: Time) -> Time:
        # r^2 = e^u - 1, then the quadratic equation for t in the form that does not cancel
        u = _log1p(_ratio(self, ratio) ** 2)
        root = _sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * u)
        return _at_most_1(2 * u / (self.beta_min + root))


@dataclass(frozen=True)
class Reverse:
    r"""The reverse process of the family at the top of this module.

    Parameters
    ----------
    process
        The forward process.
    zeta
        :math:`\zeta\ge0`: 1 for the stochastic equation of the forward noise, 0 for the flow.
    """

    process: Process
    zeta: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.zeta) and self.zeta >= 0):
            raise ValueError(f"zeta must be a finite number of at least 0, not {self.zeta}")

    def drift(self, phi: Tensor, score: Tensor, t: float) -> Tensor:
        r"""Return the drift in :math:`\tau`, shape as `phi`, given the score there."""
        pull = 0.5 * (1 + self.zeta**2) * self.process.noise2(t)
        return self.process.decay(t) * phi + pull * score

    def noise(self, t: float) -> float:
        r"""Return the amplitude :math:`\zeta g` of the noise."""
        return self.zeta * math.sqrt(self.process.noise2(t))


def time_grid(
    process: Process, steps: int, kind: str = "karras", *, end: float = 1e-3, rho: float = 7.0
) -> list[float]:
    r"""Return the times of a backward run, ``steps + 1`` falling numbers from 1 to `end`.

    ``"uniform"`` is equidistant in time, ``"geometric"`` in the logarithm of the noise ratio
    :math:`r=s/a`, and ``"karras"`` in :math:`r^{1/\rho}` (T. Karras et al., arXiv:2206.00364, eq.
    5), which puts more steps to small noise than the first and fewer than the second.

    Parameters
    ----------
    process
        The process: it says which time has which noise ratio.
    end
        The last time, in (0, 1): below it the score of a field that is sharp on the scale of the
        noise varies too fast for the network, and the noise left is :math:`s(\text{end})`.
    rho
        Karras' exponent; 1 is equidistant in `r`, and large ones are geometric.
    """
    steps = check_positive_int("steps", steps)
    if not 0 < check_positive("end", end) < 1:
        raise ValueError(f"end must lie between 0 and 1, not {end}")
    share = [n / steps for n in range(steps + 1)]
    first, last = process.ratio(1.0), process.ratio(end)
    if kind == "uniform":
        times = [1.0 + (end - 1.0) * x for x in share]
    elif kind == "geometric":
        times = [process.time_of(first * (last / first) ** x) for x in share]
    elif kind == "karras":
        power = 1 / check_positive("rho", rho)
        times = [process.time_of(((1 - x) * first**power + x * last**power) ** rho) for x in share]
    else:
        raise ValueError(f"kind={kind!r} is not known; there are {list(GRIDS)}")
    times[0], times[-1] = 1.0, float(end)  # without the rounding of there and back
    return times


def over_sites(values: Time, phi: Tensor) -> Time:
    """Return a number as it is, and `values` ``(chains,)`` with axes added to broadcast over `phi`.

    The result of a tensor has the type and device of `phi`.
    """
    if not isinstance(values, Tensor):
        return values
    if values.ndim > 1 or (values.ndim and len(values) != len(phi)):
        raise ShapeError(f"t must be a number or one for each of the {len(phi)} chains, not of "
                         f"shape {tuple(values.shape)}")
    return values.to(phi).reshape(-1, *[1] * (phi.ndim - 1))


def check_field(phi: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return `phi`; raise `ShapeError` unless it is a floating point ``(chains, *shape)``.

    Half precision is for networks, and raises `ValueError`.
    """
    check_real("phi", phi)
    want = "*lattice.shape" if shape is None else ", ".join(map(str, shape))
    if not phi.is_floating_point() or phi.ndim < 1 or (
            shape is not None and tuple(phi.shape[1:]) != shape):
        raise ShapeError(f"phi must be a floating point tensor of shape (chains, {want}), not "
                         f"{phi.dtype} {tuple(phi.shape)}")
    return check_precision("phi", phi)


def site_shape(lattice: Lattice | tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a lattice; the empty one is a field without directions."""
    if isinstance(lattice, Lattice):
        return lattice.shape
    return Lattice(lattice).shape if tuple(lattice) else ()


def _time(t: Time) -> Time:
    if isinstance(t, Tensor):
        if has_numbers(t) and t.numel() and not bool(
                ((t >= 0) & (t <= 1)).all()):
            raise ValueError("t must lie in [0, 1], from the field to noise; it holds "
                             f"{float(t.min())} to {float(t.max())}")
        return t
    if not 0 <= t <= 1:
        raise ValueError(f"t must lie in [0, 1], from the field to noise, not be {t}")
    return float(t)


def _ratio(process: Process, ratio: Time) -> Time:
    largest = process.ratio(1.0)
    if isinstance(ratio, Tensor):
        good = not has_numbers(ratio) or bool(
            ((ratio >= 0) & (ratio <= largest * (1 + 1e-5))).all()
        )
    else:
        good, ratio = 0 <= ratio <= largest * (1 + 1e-9), float(ratio)
    if not good:
        raise ValueError(f"ratio={ratio} is reached at no time of {process}: choose one between 0 "
                         f"and {largest:.6g}")
    return ratio


def _at_most_1(t: Time) -> Time:
    return t.clamp(max=1.0) if isinstance(t, Tensor) else min(1.0, t)


def _log1p(x: Time) -> Time:
    return x.log1p() if isinstance(x, Tensor) else math.log1p(x)


def _exp(x: Time) -> Time:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def _expm1(x: Time) -> Time:
    return x.expm1() if isinstance(x, Tensor) else math.expm1(x)


def _sqrt(x: Time) -> Time:
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)
