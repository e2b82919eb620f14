r"""Exact scores of noised laws: the reference for everything that is learned.

A *score* is a callable ``score(phi, t)`` that takes fields ``(chains, *shape)`` and a time, one
number or ``(chains,)``, to :math:`\nabla\ln q_t(\phi)`, shape as `phi`. The laws here know more:
``log_density(phi, t)``, the :math:`\ln q_t` that the score is the gradient of, and
``divergence(phi, t)``, its trace :math:`\nabla\cdot s_t=\operatorname{tr}\nabla\nabla\ln q_t`, both
``(chains,)`` in float64 where there is one. Scores compute in the type and on the device of `phi`.

Tweedie's formula ties the score to the best guess of the field before the noise,

.. math:: D(\phi,t)=\langle\phi_0\rangle_{\phi_t=\phi}=\frac{\phi+s^2\,s_t(\phi)}{a}

(H. Robbins, Proc. Third Berkeley Symp. (1956) 157): see `denoiser` and `score_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import exact
from ..actions import lattice_sum
from ..device import as_double
from ..errors import ShapeError, StabilityError, check_finite, check_shape, has_numbers
from ..lattice import Lattice
from .sde import Process, Time, check_field, over_sites, site_shape

__all__ = [
    "GaussianScore",
    "MixtureScore",
    "Score",
    "ZeroDimensionalScore",
    "denoiser",
    "score_of",
]

Score = Callable[[Tensor, Time], Tensor]


def denoiser(score: Score, process: Process) -> Score:
    r"""Return the denoiser :math:`D=(\phi+s^2s_t)/a` of a score, called like it."""
    def denoise(phi: Tensor, t: Time) -> Tensor:
        variance, factor = process.variance(t), process.mean_factor(t)
        return (phi + over_sites(variance, phi) * score(phi, t)) / over_sites(factor, phi)
    return denoise


def score_of(denoise: Score, process: Process) -> Score:
    r"""Return the score :math:`s_t=(aD-\phi)/s^2` of a denoiser, called like it; for `t` > 0."""
    def score(phi: Tensor, t: Time) -> Tensor:
        variance, factor = process.variance(t), process.mean_factor(t)
        return (over_sites(factor, phi) * denoise(phi, t) - phi) / over_sites(variance, phi)
    return score


@dataclass(frozen=True, eq=False)
class GaussianScore:
    r"""A free field with noise on it, :math:`s_t=-(a^2K^{-1}+s^2)^{-1}\phi`, mode by mode.

    Made by `of_spectrum` or `of_matrix`. The running kernel :math:`K_t=K/(a^2+s^2K)` is cut off at
    :math:`1/s^2`.

    Parameters
    ----------
    process
        The forward process.
    variance
        :math:`1/K` of each mode, float64; in momentum space of the lattice's shape.
    basis
        The modes as columns, ``(volume, volume)``, or None for plane waves.
    shape
        The lattice's shape.
    """

    process: Process
    variance: Tensor = field(repr=False)
    basis: Tensor | None = field(repr=False)
    shape: tuple[int, ...]

    @classmethod
    def of_spectrum(cls, kernel: Tensor, process: Process) -> GaussianScore:
        r"""Return the score of a kernel that is diagonal in momentum space.

        `kernel` holds :math:`K(k)=K(-k)>0` in the order of `torch.fft.fftn`, shape `lattice.shape`:
        `Lattice.free_spectrum`, `exact.hopping_spectrum`, or the inverse of a measured spectrum.
        A tensor of shape ``()`` is a single degree of freedom.
        """
        kernel = _positive("kernel", kernel)
        shape = site_shape(tuple(kernel.shape))
        axes = tuple(range(kernel.ndim))
        mirrored = kernel.flip(axes).roll([1] * len(axes), axes) if axes else kernel
        if has_numbers(kernel) and bool(((kernel - mirrored).abs() > 1e-5 * kernel.max()).any()):
            raise ValueError("kernel differs at k and -k, so it is not that of a real field: give "
                             "it in the order of torch.fft.fftn, or average the two")
        return cls(process, 1 / kernel, None, shape)

    @classmethod
    def of_matrix(cls, kernel: Tensor, process: Process,
                  lattice: Lattice | tuple[int, ...]) -> GaussianScore:
        """Return the score of a dense, symmetric kernel ``(volume, volume)``."""
        shape = site_shape(lattice)
        volume = math.prod(shape)
        kernel = check_finite("kernel", check_shape("kernel", kernel, (volume, volume)))
        kernel = kernel.detach().cpu().double()
        skew = (kernel - kernel.T).abs()
        if has_numbers(kernel) and bool((skew > 1e-6 * kernel.abs().max()).any()):
            raise ValueError("kernel is not symmetric: an action has no antisymmetric part")
        value, basis = torch.linalg.eigh(kernel)
        return cls(process, 1 / _positive("kernel", value), basis, shape)

    def __call__(self, phi: Tensor, t: Time) -> Tensor:
        """Return the score, shape as `phi`."""
        check_field(phi, self.shape)
        axes = tuple(range(1, phi.ndim))
        if self.basis is not None:
            basis = _like(self.basis, phi)
            modes = -(phi.flatten(1) @ basis) / self._marginal(self.variance, phi.flatten(1), t)
            return (modes @ basis.T).reshape(phi.shape)
        if not axes:
            return -phi / self._marginal(self.variance, phi, t)
        half = self.variance[..., : self.shape[-1] // 2 + 1]  # a real field needs no more
        modes = torch.fft.rfftn(phi, dim=axes) / -self._marginal(half, phi, t)
        return torch.fft.irfftn(modes, s=self.shape, dim=axes)

    def sample(self, noise: Tensor, t: float) -> Tensor:
        r"""Return fields of the noised law made of standard normal `noise`, ``(chains, *shape)``.

        At `t` = 1 it is the start of a model whose field has about this spectrum: noise alone is
        too narrow for modes whose variance is not small beside :math:`s^2(1)`, and the flow hands
        the whole of that on (a mode ends with :math:`s^2v/(v+s^2)` instead of `v`, for `a` = 1).
        """
        check_field(noise, self.shape)
        axes = tuple(range(1, noise.ndim))
        if self.basis is not None:
            width = self._marginal(self.variance, noise.flatten(1), t).sqrt()
            return ((noise.flatten(1) * width) @ _like(self.basis, noise).T).reshape(noise.shape)
        if not axes:
            return self._marginal(self.variance, noise, t).sqrt() * noise
        half = self.variance[..., : self.shape[-1] // 2 + 1]
        modes = torch.fft.rfftn(noise, dim=axes) * self._marginal(half, noise, t).sqrt()
        return torch.fft.irfftn(modes, s=self.shape, dim=axes)

    def log_density(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return :math:`\ln q_t=-\frac12\phi K_t\phi+\frac12\ln\det K_t-\frac V2\ln2\pi`."""
        check_finite("phi", check_field(phi, self.shape))
        marginal = self._marginal(self.variance, _modes(phi, self.variance), t)
        log_det = lattice_sum(marginal.log().reshape(-1, max(1, self.variance.numel())))
        sites = self.variance.numel()
        return 0.5 * (lattice_sum(phi * self(phi, t)) - log_det - sites * math.log(2 * math.pi))

    def divergence(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return :math:`-\operatorname{tr}K_t`, the same for all fields, ``(chains,)``."""
        check_field(phi, self.shape)
        marginal = self._marginal(self.variance, _modes(phi, self.variance), t)
        return -lattice_sum((1 / marginal).reshape(-1, self.variance.numel())).expand(len(phi))

    def _marginal(self, variance: Tensor, modes: Tensor, t: Time) -> Tensor:
        # for one time computed in float64 and then moved, for many on the device
        if not isinstance(t, Tensor):
            return _like(self.process.marginal(variance, t), modes)
        factor = over_sites(self.process.mean_factor(t), modes)
        return factor**2 * _like(variance, modes) + over_sites(self.process.variance(t), modes)


@dataclass(frozen=True, eq=False)
class MixtureScore:
    r"""A mixture of Gaussians, :math:`\sum_cw_cN(m_c,v_c)`, with noise on it.

    With :math:`v_{c,t}=a^2v_c+s^2` and the posterior probability :math:`p_c(\phi)` of a component,
    :math:`s_t=-\sum_cp_c\,(\phi-a\,m_c)/v_{c,t}`.

    Parameters
    ----------
    process
        The forward process.
    weights
        :math:`w_c>0`, ``(components,)``; they are normalised.
    means
        :math:`m_c`, ``(components, *shape)``.
    variances
        :math:`v_c>0` of each site, ``(components,)`` or ``(components, *shape)``.
    """

    process: Process
    weights: Tensor
    means: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        weights = _positive("weights", self.weights)
        check_shape("weights", weights, (None,))
        means = check_finite("means", self.means.detach().cpu().double())
        if means.ndim < 1 or len(means) != len(weights):
            raise ShapeError(f"means must have shape ({len(weights)}, *shape) to go with weights, "
                             f"not {tuple(means.shape)}")
        variances = _positive("variances", self.variances)
        if variances.shape not in (weights.shape, means.shape):
            raise ShapeError(f"variances must have shape ({len(weights)},) or that of means, "
                             f"{tuple(means.shape)}, not {tuple(variances.shape)}")
        if variances.ndim < means.ndim:
            variances = variances.reshape(-1, *[1] * (means.ndim - 1)).expand(means.shape)
        object.__setattr__(self, "weights", weights / weights.sum())
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "variances", variances)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lattice's shape."""
        return tuple(self.means.shape[1:])

    def __call__(self, phi: Tensor, t: Time) -> Tensor:
        """Return the score, shape as `phi`."""
        log_joint, pull, _ = self._components(phi, t)
        share = torch.softmax(log_joint, 1).to(phi.dtype)
        return (share.reshape(*share.shape, *[1] * (phi.ndim - 1)) * pull).sum(1)

    def log_density(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return :math:`\ln q_t(\phi)`, ``(chains,)``."""
        return torch.logsumexp(self._components(check_finite("phi", phi), t)[0], 1)

    def divergence(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return :math:`\nabla\cdot s_t=\sum_cp_c(|g_c|^2-\operatorname{tr}v_{c,t}^{-1})-|s_t|^2`.

        Here :math:`g_c` is the score of a component alone.
        """
        log_joint, pull, marginal = self._components(phi, t)
        share = torch.softmax(log_joint, 1)
        wide = (len(phi), len(self.weights), -1)
        local = (pull**2 - 1 / marginal).reshape(wide).sum(2, dtype=share.dtype)
        return (share * local).sum(1) - lattice_sum(self(phi, t) ** 2)

    def _components(self, phi: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return joint log densities ``(chains, components)``, and scores and variances of each."""
        check_field(phi, self.shape)
        one = phi[:, None]
        factor = over_sites(self.process.mean_factor(t), one)
        noise = over_sites(self.process.variance(t), one)
        marginal = (factor**2 * _like(self.variances, phi) + noise).expand(
            len(phi), *self.means.shape)
        pull = -(one - factor * _like(self.means, phi)) / marginal
        density = -0.5 * (pull**2 * marginal + (2 * math.pi * marginal).log())
        density = lattice_sum(density.flatten(0, 1)).reshape(density.shape[:2])
        return density + _like(self.weights, density).log(), pull, marginal


@dataclass(frozen=True, eq=False)
class ZeroDimensionalScore:
    r"""A field of one degree of freedom with noise on it, by quadrature; fields ``(chains,)``.

    With :math:`\langle\cdot\rangle` the average over :math:`\phi_0` at given :math:`\phi`, of the
    weight :math:`e^{-S(\phi_0)}N(\phi;a\phi_0,s^2)`,

    .. math:: s_t=\frac{\langle a\phi_0-\phi\rangle}{s^2},\qquad
              s_t'=\frac{\operatorname{var}(a\phi_0)}{s^4}-\frac1{s^2}.

    For one time and many chains the score is tabulated, from these two by cubic Hermite
    interpolation on 1025 points, and the tables are kept. For :math:`\phi^4` in a single and in a
    double well its error is below 1e-7 of the largest score, in float64 and where :math:`q_t` is
    above :math:`e^{-30}` of its maximum; that of its derivative, the divergence, below 1e-5.
    `log_density`, and both at a time for each chain, are integrated directly, to 1e-12. Noise below
    1e-4 of a panel of the quadrature (4e-5 for :math:`\phi^4`) is taken as just that.

    Parameters
    ----------
    process
        The forward process.
    action
        :math:`S(\phi)`, entry by entry: `ZeroDimensionalPhi4`, or any function.
    """

    process: Process
    action: Callable[[Tensor], Tensor]
    _tables: dict = field(default_factory=dict, repr=False, compare=False)
    _law: exact.Quadrature = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_law", exact.quadrature(self.action, panels=_PANELS,
                                                            depth=200.0))

    shape = ()

    def __call__(self, phi: Tensor, t: Time) -> Tensor:
        """Return the score, shape ``(chains,)``."""
        return self._score(phi, t)[0]

    def log_density(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return :math:`\ln q_t(\phi)`, ``(chains,)``; it is normalised."""
        check_finite("phi", check_field(phi, self.shape))
        wide = phi.dtype if phi.device.type == "mps" else torch.float64
        return self._integrate(phi.detach().cpu().double(), t)[0].to(wide).to(phi.device)

    def divergence(self, phi: Tensor, t: Time) -> Tensor:
        r"""Return the derivative :math:`s_t'`, ``(chains,)``."""
        return lattice_sum(self._score(phi, t)[1])

    def _score(self, phi: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        check_field(phi, self.shape)
        if isinstance(t, Tensor) and t.ndim:
            _, score, slope = self._integrate(phi.detach().cpu().double(), t.detach().cpu())
            return _like(score, phi), _like(slope, phi)
        low, step, table = self._table(float(t))
        place = (phi - low) / step
        cell = place.detach().long().clamp(0, table.shape[1] - 2)
        x = place - cell
        # outside the table the score goes on straight, as that of the noise does
        inside = x.clamp(0, 1)
        f0, m0, f1, m1 = _like(table, phi)[:, cell]
        rise = f1 - f0
        value = f0 + inside * (m0 + inside * (3 * rise - 2 * m0 - m1
                                              + inside * (m0 + m1 - 2 * rise)))
        slope = m0 + inside * (6 * rise - 4 * m0 - 2 * m1 + 3 * inside * (m0 + m1 - 2 * rise))
        return value + (x - inside) * slope.detach(), slope / step

    def _table(self, t: float) -> tuple[float, float, Tensor]:
        """Return the first point, the distance, and score and slope at both ends of each cell."""
        if t not in self._tables:
            # well inside of the nodes, or what is beyond them would be missed at the ends
            x = self._law.x[self._law.weight > 1e-40 * self._law.weight.max()]
            factor, reach = self.process.mean_factor(t), 8 * math.sqrt(self.process.variance(t))
            low, high = factor * float(x[0]) - reach, factor * float(x[-1]) + reach
            points = torch.linspace(low, high, _POINTS, dtype=torch.float64, device="cpu")
            _, score, slope = self._integrate(points, t)
            step = (high - low) / (_POINTS - 1)
            if len(self._tables) >= 1024:
                self._tables.pop(next(iter(self._tables)))
            ends = [score[:-1], step * slope[:-1], score[1:], step * slope[1:]]
            self._tables[t] = low, step, torch.stack(ends)
        return self._tables[t]

    def _integrate(self, phi: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log density, the score and its slope at `phi` ``(n,)``, float64 on the CPU."""
        # the fields came here, so the times must come too
        t = t.cpu() if isinstance(t, Tensor) else t
        times = as_double(t).expand(phi.shape)
        if times.requires_grad:
            raise ValueError("t must not require a gradient: the integrals are not differentiable")
        factor = self.process.mean_factor(times)
        panel = float(self._law.x[-1] - self._law.x[0]) / _PANELS
        ratio = (self.process.variance(times).sqrt() / factor).clamp(min=1e-4 * panel)
        out = torch.empty(3, *phi.shape, dtype=torch.float64, device="cpu")
        # wide noise: at the nodes that resolve the action; narrow noise: at nodes that resolve it
        for wide, part in ((True, self._wide), (False, self._narrow)):
            which = ((ratio > panel / 3) == wide).nonzero()[:, 0]
            for some in which.split(128):  # what fits into a core's cache
                if len(some):
                    centre = (phi[some] / factor[some])[:, None]
                    out[:, some] = part(centre, ratio[some][:, None])
        log_density, mean, variance = out  # of the field x = phi/a, mean and variance in units of r
        log_density = log_density - factor.log()
        return (log_density, mean / (ratio * factor),
                (variance - 1) / (ratio * factor) ** 2)

    def _wide(self, x: Tensor, r: Tensor) -> Tensor:
        distance = (self._law.x - x) / r
        exponent = self._law.weight.log() - 0.5 * distance**2
        return self._moments(exponent, distance, (r * math.sqrt(2 * math.pi)).log()[:, 0])

    def _narrow(self, x: Tensor, r: Tensor) -> Tensor:
        # exact for smooth integrands
        distance = torch.linspace(-12, 12, 385, dtype=torch.float64, device="cpu")
        there = x + r * distance
        exponent = -self.action(there.reshape(-1)).reshape(there.shape) - 0.5 * distance**2
        norm = self._law.log_z + 0.5 * math.log(2 * math.pi) - math.log(24 / 384)
        return self._moments(exponent, distance.expand_as(there), norm)

    @staticmethod
    def _moments(exponent: Tensor, distance: Tensor, norm: float | Tensor) -> Tensor:
        weight = torch.softmax(exponent, 1)
        mean = (weight * distance).sum(1)
        variance = (weight * (distance - mean[:, None]) ** 2).sum(1)
        return torch.stack([exponent.logsumexp(1) - norm, mean, variance])


_PANELS = 64
_POINTS = 1025


def _positive(name: str, values: Tensor) -> Tensor:
    """Return `values` in float64 on the CPU; raise `StabilityError` unless all are positive."""
    check_finite(name, values)
    values = values.detach().cpu().double()
    if values.numel() == 0:
        raise ShapeError(f"{name} is empty")
    if has_numbers(values) and not bool((values > 0).all()):
        raise StabilityError(f"{name} has the entry {float(values.min()):.4g}: all must be "
                             "positive, or there is no law to take the score of")
    return values




def _like(values: Tensor, phi: Tensor) -> Tensor:
    """Return `values` in the type of `phi` and on its device: in this order, for Apple's GPUs."""
    return values.to(phi.dtype).to(phi.device)


def _modes(phi: Tensor, variance: Tensor) -> Tensor:
    """Return an empty tensor ``(chains, *modes)`` of the type and device of `phi`."""
    return phi.new_empty((len(phi), *variance.shape))
