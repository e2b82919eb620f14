r"""Two divergences, two gradients, one natural step.

*A known action.* For a target :math:`q=e^{-A}/Z_A` the divergence
:math:`\mathrm{KL}(p_\theta\|q)=\mathcal F-(-\ln Z_A)\ge0` bounds the free energy by

.. math:: \mathcal F(\theta)=\langle A-S_\theta\rangle_{p_\theta}-\ln Z_\theta\ge-\ln Z_A,\qquad
          \partial_k\mathcal F=-\operatorname{Cov}_{p_\theta}(A-S_\theta,T_k),

since :math:`\partial_k\ln p_\theta=\langle T_k\rangle-T_k` and the two other terms,
:math:`-\langle\partial_kS\rangle` and :math:`-\partial_k\ln Z`, cancel.

*Data.* The mean of :math:`-\ln p_\theta` over data has the gradient
:math:`\langle T_k\rangle_{\rm data}-\langle T_k\rangle_{p_\theta}`.

*The metric.* Both live in the geometry of :math:`I_{kl}=\operatorname{Cov}(T_k,T_l)`, the Fisher
information, and :math:`\theta\leftarrow\theta-\eta I^{-1}\partial` is the natural gradient (Amari,
Neural Computation 10 (1998) 251). For a known action and :math:`\eta=1` it gives
:math:`\theta=I^{-1}\operatorname{Cov}(T,A)`: the linear regression of `A` on the statistics. If `A`
is in the model's span the residual is zero, and so is the noise of its estimate from any sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..actions import InhomogeneousPhi4
from ..errors import StabilityError, check_finite, check_positive, check_positive_int, check_shape
from ..lattice import Lattice
from ..sampling import CheckerboardGibbs
from .couplings import from_vector, sufficient_statistics, to_vector

__all__ = [
    "Fit",
    "data_gradient",
    "fit_action",
    "fit_data",
    "free_energy_gradient",
    "gaussian_moments",
    "natural_direction",
    "standard_errors",
]

PARTS = ("hopping", "quadratic", "quartic", "source")


def free_energy_gradient(difference: Tensor, statistics: Tensor) -> Tensor:
    r"""Return the estimate of :math:`-\operatorname{Cov}(A-S,T)` from samples of the model.

    Unbiased for independent samples.

    Parameters
    ----------
    difference
        :math:`A-S` of each sample, ``(samples,)``, at least two.
    statistics
        `sufficient_statistics`, ``(samples, couplings)``.
    """
    n = len(check_shape("difference", difference, (None,)))
    check_shape("statistics", statistics, (n, None))
    if n < 2:
        raise ValueError("a covariance needs at least two samples")
    return -(difference - difference.mean()) @ (statistics - statistics.mean(0)) / (n - 1)


def data_gradient(data: Tensor, statistics: Tensor) -> Tensor:
    r"""Return :math:`\langle T\rangle_{\rm data}-\langle T\rangle_{\rm model}`, ``(couplings,)``.

    The gradient of the negative mean log-likelihood.

    Parameters
    ----------
    data
        :math:`\langle T\rangle_{\rm data}`, ``(couplings,)``.
    statistics
        Of samples of the model, ``(samples, couplings)``.
    """
    return check_shape("data", data, (statistics.shape[1],)) - statistics.mean(0)


def natural_direction(gradient: Tensor, statistics: Tensor, damping: float = 0.0) -> Tensor:
    r"""Return :math:`(I+\epsilon\operatorname{diag}I)^{-1}` times the gradient.

    Parameters
    ----------
    gradient
        ``(couplings,)``.
    statistics
        Of more samples than there are couplings, ``(samples, couplings)``; they give `I`.
    damping
        :math:`\epsilon\ge0`: trusts the metric less where it is known badly.

    Raises
    ------
    StabilityError
        If the estimated metric is singular.
    """
    return _solve(_covariance(statistics), gradient, damping)


def standard_errors(statistics: Tensor, n: int) -> Tensor:
    r"""Return the errors of couplings learned from `n` independent data, ``(couplings,)``.

    :math:`\sqrt{(I^{-1})_{kk}/n}`, the Cramer-Rao bound, which maximum likelihood reaches for large
    `n`. :math:`I` comes from samples of the model, ``(samples, couplings)``.
    """
    inverse = torch.linalg.inv(_covariance(statistics))
    return (inverse.diagonal() / check_positive_int("n", n)).sqrt()


def gaussian_moments(mean: Tensor, width: float, source: bool = True) -> Tensor:
    r"""Return :math:`\langle T\rangle` of independent normal sites, ``(couplings,)``.

    Parameters
    ----------
    mean
        ``lattice.shape``: a constant, or an image.
    width
        Their common standard deviation.
    source
        Whether linear terms are among the couplings.

    Notes
    -----
    :math:`\langle\phi_x\phi_y\rangle=m_xm_y`, :math:`\langle\phi^2\rangle=m^2+\sigma^2` and
    :math:`\langle\phi^4\rangle=m^4+6m^2\sigma^2+3\sigma^4`. The couplings that reproduce them
    exactly are :math:`c=m/\sigma^2`, :math:`a=1/2\sigma^2`, :math:`w=b=0`.
    """
    var = check_positive("width", width) ** 2
    check_finite("mean", mean)
    parts = [-mean * mean.roll(-1, mu) for mu in range(mean.ndim)]
    parts += [mean**2 + var, mean**4 + 6 * var * mean**2 + 3 * var**2]
    parts += [-mean] if source else []
    return torch.cat([part.reshape(-1) for part in parts])


@dataclass(frozen=True)
class Fit:
    r"""What learning gave.

    Attributes
    ----------
    action
        The learned action (the average over updates, if that was asked for).
    phi
        The persistent chains at the end, ``(chains, *lattice.shape)``: samples of the last action.
    couplings
        The couplings before each update and at the end, ``(updates + 1, couplings)``.
    gradient_norm
        Of the estimated gradient, ``(updates,)``.
    mean, variance
        Of :math:`A-S_\theta` under the model at each update, where the target is an action;
        the variance is zero exactly if :math:`S_\theta` is `A` up to a constant.
    shortened
        Number of updates that the limits on a step made shorter.
    """

    action: InhomogeneousPhi4
    phi: Tensor = field(repr=False)
    couplings: Tensor = field(repr=False)
    gradient_norm: Tensor = field(repr=False)
    mean: Tensor | None = field(repr=False, default=None)
    variance: Tensor | None = field(repr=False, default=None)
    shortened: int = 0


def fit_action(
    start: InhomogeneousPhi4, target: Callable[[Tensor], Tensor], **options
) -> Fit:
    r"""Minimise :math:`\mathcal F` for the real action `target`, from the couplings of `start`.

    Parameters
    ----------
    start
        Lattice, dtype, device and first couplings; with a `source` linear terms are learned too.
    target
        Takes fields ``(chains, *lattice.shape)`` to real actions ``(chains,)``.
    **options
        * ``steps``, ``lr`` -- number of updates, and their size: a number, or a function of the
          update's index;
        * ``generator`` -- on the device of the couplings;
        * ``method`` -- ``"natural"`` (default) or ``"gradient"``;
        * ``chains=1024``, ``sweeps=1`` -- persistent chains, and Gibbs sweeps between updates;
        * ``burn_in=50`` -- sweeps before the first update; ``phi`` -- chains to start from;
        * ``train`` -- names of the couplings to be learned, all by default;
        * ``damping=0`` -- of the metric, see `natural_direction`;
        * ``max_kl=0.5`` -- natural steps are shortened to this divergence between successive
          models, in nats, so that the chains can follow;
        * ``floor=1e-6`` -- smallest quartic coupling allowed, so that :math:`e^{-S}` keeps its norm
          (0 is for models whose quadratic part alone is positive);
        * ``average_from`` -- return the mean of the couplings from this update on.

    Raises
    ------
    StabilityError
        If an update leaves couplings or fields that are not finite.
    """
    def gradient(theta: Tensor, phi: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        values = target(phi)
        if values.is_complex():
            raise ValueError("target is complex, and no probability: learn its real part, and "
                             "reweight to the whole")
        difference = values.to(theta) - statistics @ theta
        return free_energy_gradient(difference, statistics), difference

    return _learn(start, gradient, **options)


def fit_data(start: InhomogeneousPhi4, data: Tensor, **options) -> Fit:
    r"""Maximise the likelihood of data, from the couplings of `start`.

    Parameters
    ----------
    start
        As for `fit_action`.
    data
        Fields ``(samples, *lattice.shape)``, or their mean statistics ``(couplings,)``, such as
        `gaussian_moments`: they are all that the likelihood depends on.
    **options
        As for `fit_action`.
    """
    check_finite("data", data)
    if data.ndim > 1:
        check_shape("data", data, (None, *start.quadratic.shape))
        data = sufficient_statistics(data, start.source is not None).mean(0)

    def gradient(theta: Tensor, phi: Tensor, statistics: Tensor) -> tuple[Tensor, None]:
        return data_gradient(data.to(theta), statistics), None

    return _learn(start, gradient, **options)


# ---------------------------------------------------------------------------------------------


@torch.no_grad()
def _learn(
    start: InhomogeneousPhi4,
    gradient_of: Callable,
    *,
    steps: int,
    lr: float | Callable[[int], float],
    generator: torch.Generator,
    method: str = "natural",
    chains: int = 1024,
    sweeps: int = 1,
    burn_in: int = 50,
    phi: Tensor | None = None,
    train: Sequence[str] = PARTS,
    damping: float = 0.0,
    max_kl: float = 0.5,
    floor: float = 1e-6,
    average_from: int | None = None,
) -> Fit:
    if method not in ("natural", "gradient"):
        raise ValueError(f"method must be 'natural' or 'gradient', not {method!r}")
    for name, value in (("steps", steps), ("chains", chains), ("sweeps", sweeps)):
        check_positive_int(name, value)
    if damping < 0 or floor < 0:
        raise ValueError("damping and floor must not be negative")
    if average_from is not None and not 0 <= average_from < steps:
        raise ValueError(f"average_from must lie in [0, steps), not {average_from}")
    check_positive("max_kl", max_kl)
    lattice = Lattice(tuple(start.quadratic.shape))
    source, theta = start.source is not None, to_vector(start).detach().clone()
    free = _trained(train, lattice, source).to(theta.device)
    first = lattice.dim * lattice.volume
    quadratic = slice(first, first + lattice.volume)
    quartic = slice(first + lattice.volume, first + 2 * lattice.volume)
    theta[quartic] = theta[quartic].clamp(min=floor)

    if phi is None:
        phi = torch.randn(chains, *lattice.shape, generator=generator, dtype=theta.dtype,
                          device=theta.device)
        phi = _sweep(theta, lattice, source, phi, burn_in, generator)
    path, norms, moments, shortened = [theta.clone()], [], [], 0
    for step in range(steps):
        statistics = sufficient_statistics(phi, source)
        gradient, difference = gradient_of(theta, phi, statistics)
        gradient, eta = gradient[free], check_positive("lr", lr(step) if callable(lr) else lr)
        if method == "natural":
            lower = torch.full_like(theta, -torch.inf)
            b = theta[quartic]
            lower[quartic] = torch.maximum(-0.5 * b, floor - b)  # no more than half of it at once
            a = theta[quadratic]
            lower[quadratic] = torch.where(b == 0, -0.5 * a.clamp(min=0), -torch.inf)
            move = _natural_step(gradient, statistics[:, free], damping, eta, lower[free])
            # KL between neighbours is half the squared length in the metric
            length = 0.5 * float((statistics[:, free] @ move).var())
            shortened += length > max_kl
            theta[free] += move * min(1.0, (max_kl / max(length, 1e-300)) ** 0.5)
        else:
            theta[free] -= eta * gradient
        theta[quartic] = theta[quartic].clamp(min=floor)
        if not bool(torch.isfinite(theta).all()):
            raise StabilityError(f"update {step + 1} left couplings that are not finite: lower lr")
        norms.append(float(gradient.norm()))
        if difference is not None:
            moments.append([float(difference.mean()), float(difference.var())])
        path.append(theta.clone())
        phi = _sweep(theta, lattice, source, phi, sweeps, generator)
    path = torch.stack(path)
    final = theta if average_from is None else path[average_from + 1:].mean(0)
    table = torch.tensor(moments, dtype=torch.float64, device="cpu")
    mean, variance = table.T if moments else (None, None)
    return Fit(from_vector(final, lattice, source), phi, path,
               torch.tensor(norms, dtype=torch.float64, device="cpu"), mean, variance, shortened)


def _sweep(theta: Tensor, lattice: Lattice, source: bool, phi: Tensor, sweeps: int,
           generator: torch.Generator) -> Tensor:
    sampler = CheckerboardGibbs(from_vector(theta, lattice, source))
    state = sampler.init(phi)
    for _ in range(sweeps):
        state, _ = sampler.step(state, generator)
    return state.phi


def _trained(train: Sequence[str], lattice: Lattice, source: bool) -> Tensor:
    unknown = sorted(set(train) - set(PARTS))
    if unknown or not train:
        raise ValueError(f"train must name some of {PARTS}, not {list(train)}")
    counts = {"hopping": lattice.dim, "quadratic": 1, "quartic": 1, "source": int(source)}
    return torch.cat([torch.full((n * lattice.volume,), name in train)
                      for name, n in counts.items()])


def _natural_step(gradient: Tensor, statistics: Tensor, damping: float, eta: float,
                  lower: Tensor) -> Tensor:
    """Return -eta times the natural direction, but not below `lower` in any coupling.

    Where a coupling meets its bound, the others move to the best place that this leaves: to clamp
    it alone would leave a deep double well where its quadratic partner has gone negative already.
    """
    fisher = _covariance(statistics)
    step, bound = torch.zeros_like(gradient), torch.zeros_like(gradient, dtype=torch.bool)
    while True:
        go = ~bound
        pull = eta * gradient[go] + fisher[go][:, bound] @ step[bound]
        step[go] = -_solve(fisher[go][:, go], pull, damping)
        over = go & (step < lower)
        if not bool(over.any()):
            return step
        step[over], bound = lower[over], bound | over


def _solve(fisher: Tensor, right: Tensor, damping: float) -> Tensor:
    """Return (I + damping diag I)^-1 times a vector."""
    scale = fisher.diagonal().sqrt()
    if not bool((scale > 0).all()):
        raise StabilityError("a statistic does not fluctuate at all: use more samples, or do not "
                             "train its coupling")
    # in units of the widths: couplings of links and of fourth powers differ by orders of magnitude
    correlation = fisher / torch.outer(scale, scale)
    correlation.diagonal().add_(damping)
    lower, bad = torch.linalg.cholesky_ex(correlation)
    if int(bad):
        raise StabilityError(
            f"the metric of {len(right)} couplings is singular: take more chains than couplings, "
            "or damping > 0"
        )
    return torch.cholesky_solve((right / scale)[:, None], lower)[:, 0] / scale


def _covariance(statistics: Tensor) -> Tensor:
    centred = check_shape("statistics", statistics, (None, None)) - statistics.mean(0)
    return centred.T @ centred / (len(statistics) - 1)
