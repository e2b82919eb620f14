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

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import checkpoints
from ..actions import InhomogeneousPhi4
from ..errors import StabilityError, check_finite, check_positive, check_positive_int, check_shape
from ..lattice import Lattice
from ..sampling import CheckerboardGibbs
from ..training import Training
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
        * ``average_from`` -- return the mean of the couplings from this update on;
        * ``seconds`` -- stop after this much time even if ``steps`` are not done;
        * ``progress=False`` -- whether to show a progress bar;
        * ``checkpoint``, ``checkpoint_every=100`` -- a ``.safetensors`` file, written whole every
          so many updates and at the end. If it is there, the run goes on from it, to the same bits
          as without a stop; all else must be given as the first time (see
          `physml.checkpoints.identity`), and ``lr`` may differ for updates still to come.

    Raises
    ------
    StabilityError
        If an update leaves couplings or fields that are not finite.
    CheckpointError
        If the checkpoint cannot be read, or belongs to another run.
    """
    def gradient(theta: Tensor, phi: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        values = target(phi)
        if values.is_complex():
            raise ValueError("target is complex, and no probability: learn its real part, and "
                             "reweight to the whole")
        difference = values.to(theta) - statistics @ theta
        return free_energy_gradient(difference, statistics), difference

    return _learn(start, gradient, target, **options)


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

    return _learn(start, gradient, data, **options)


# ---------------------------------------------------------------------------------------------


@torch.no_grad()
def _learn(
    start: InhomogeneousPhi4,
    gradient_of: Callable,
    target: Callable | Tensor,
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
    seconds: float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
) -> Fit:
    if method not in ("natural", "gradient"):
        raise ValueError(f"method must be 'natural' or 'gradient', not {method!r}")
    for name, value in (("steps", steps), ("chains", chains), ("sweeps", sweeps),
                        ("checkpoint_every", checkpoint_every)):
        check_positive_int(name, value)
    if damping < 0 or floor < 0:
        raise ValueError("damping and floor must not be negative")
    if average_from is not None and not 0 <= average_from < steps:
        raise ValueError(f"average_from must lie in [0, steps), not {average_from}")
    check_positive("max_kl", max_kl)
    lattice = Lattice(tuple(start.quadratic.shape))
    source, theta = start.source is not None, to_vector(start).detach().clone()
    free = _trained(train, lattice, source).to(theta.device)
    options = {"method": method, "sweeps": sweeps, "damping": damping, "max_kl": max_kl,
               "floor": floor}
    identity = None if checkpoint is None else checkpoints.identity(
        first=theta, lattice=lattice.shape, source=source, free=free, target=target, phi=phi,
        chains=chains, burn_in=burn_in, average_from=average_from, device=theta.device.type,
        generator=generator, **options)
    run = _Run(theta, lattice, source, free, gradient_of, options, generator)
    run.start(phi, chains, burn_in)
    run.train(steps, lr=lr, record_every=1, seconds=seconds, progress_bar=progress,
           checkpoint=checkpoint, checkpoint_every=checkpoint_every, identity=identity)
    return run.fit(average_from)


class _Run(Training):
    """The state of a fit."""

    label = "phi^4 action"

    def __init__(self, theta: Tensor, lattice: Lattice, source: bool, free: Tensor,
                 gradient_of: Callable, options: dict, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.theta, self.lattice, self.source, self.free = theta, lattice, source, free
        self.gradient_of, self.options = gradient_of, options
        first = lattice.dim * lattice.volume
        self.quadratic = slice(first, first + lattice.volume)
        self.quartic = slice(first + lattice.volume, first + 2 * lattice.volume)
        self.clamp()
        self.path: list[Tensor] = [theta.clone()]
        self.norms: list[float] = []
        self.moments: list[list[float]] = []
        self.shortened = 0

    def start(self, phi: Tensor | None, chains: int, burn_in: int) -> None:
        """Make the chains, unless they are given."""
        if phi is None:
            phi = torch.randn(chains, *self.lattice.shape, generator=self.generator,
                              dtype=self.theta.dtype, device=self.theta.device)
            phi = self.sweep(phi, burn_in)
        self.phi = phi

    def sweep(self, phi: Tensor, sweeps: int) -> Tensor:
        return _sweep(self.theta, self.lattice, self.source, phi, sweeps, self.generator)

    def clamp(self) -> None:
        self.theta[self.quartic] = self.theta[self.quartic].clamp(min=self.options["floor"])

    def update(self, rate: float) -> None:
        """Change the couplings by one step of size `rate`, and let the chains follow."""
        theta, free = self.theta, self.free
        statistics = sufficient_statistics(self.phi, self.source)
        gradient, difference = self.gradient_of(theta, self.phi, statistics)
        gradient = gradient[free]
        if self.options["method"] == "natural":
            move = _natural_step(gradient, statistics[:, free], self.options["damping"], rate,
                                 self.lowest()[free])
            # KL between neighbours is half the squared length in the metric
            length = 0.5 * float((statistics[:, free] @ move).var())
            most = self.options["max_kl"]
            self.shortened += length > most
            theta[free] += move * min(1.0, (most / max(length, 1e-300)) ** 0.5)
        else:
            theta[free] -= rate * gradient
        self.clamp()
        self.step += 1
        if not bool(torch.isfinite(theta).all()):
            raise StabilityError(f"update {self.step} left couplings that are not finite: lower lr")
        self.norms.append(float(gradient.norm()))
        if difference is not None:
            self.moments.append([float(difference.mean()), float(difference.var())])
        self.phi = self.sweep(self.phi, self.options["sweeps"])

    def lowest(self) -> Tensor:
        """Return how far each coupling may go down at once."""
        lower = torch.full_like(self.theta, -torch.inf)
        b, a = self.theta[self.quartic], self.theta[self.quadratic]
        lower[self.quartic] = torch.maximum(-0.5 * b, self.options["floor"] - b)  # half at most
        lower[self.quadratic] = torch.where(b == 0, -0.5 * a.clamp(min=0), -torch.inf)
        return lower

    def record(self) -> None:
        self.path.append(self.theta.clone())

    def fit(self, average_from: int | None) -> Fit:
        """Return what there is after the last update."""
        path = torch.stack(self.path)
        late = self.step if average_from is None else average_from
        final = self.theta if late >= self.step else path[late + 1:].mean(0)
        moments = torch.tensor(self.moments, dtype=torch.float64, device="cpu")
        mean, variance = moments.T if self.moments else (None, None)
        return Fit(from_vector(final, self.lattice, self.source), self.phi, path,
                   torch.tensor(self.norms, dtype=torch.float64, device="cpu"), mean, variance,
                   self.shortened)

    # --- stop and go on ---------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        return ({"theta": self.theta, "phi": self.phi, "path": torch.stack(self.path)},
                {"norms": self.norms, "moments": self.moments, "shortened": int(self.shortened)})

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        self.theta.copy_(tensors["theta"])
        self.phi = tensors["phi"].to(self.theta.device)
        self.path = list(tensors["path"].to(self.theta.device))
        self.norms, self.moments = facts["norms"], facts["moments"]
        self.shortened = facts["shortened"]


def _sweep(theta: Tensor, lattice: Lattice, source: bool, phi: Tensor, sweeps: int,
           generator: torch.Generator) -> Tensor:
    sampler = CheckerboardGibbs(from_vector(theta, lattice, source))
    state = sampler.resume(phi)  # the form of the action is always the same: no need to check it
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
