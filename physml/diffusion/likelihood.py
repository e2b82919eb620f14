r"""The density of a diffusion model, along its probability flow.

In :math:`x=\phi/a` and :math:`r=s/a` the flow is :math:`dx/dr=f=-r\,a\,s_t(ax)` (see `samplers`),
and along it :math:`d\ln p/dr=-\nabla\cdot f`, so that with noise up to time 1

.. math::

    \ln q_t(\phi)=\ln q_1(\phi_1)+\int_r^{r_1}\nabla\cdot f\,dr+V\ln\frac{a_1}{a_t},\qquad
    \nabla\cdot f=-r\,a^2\operatorname{tr}\frac{\partial s}{\partial\phi}

(arXiv:2011.13456, eq. 39). It is the density of what the flow generates from the prior :math:`q_1`
and leaves at `end` (``last="none"``), whether the score is the gradient of anything or not. Fixed
grids, by Heun or Runge and Kutta; halving the steps gives the size of their error.

**The trace** costs as many derivatives as there are sites: ``"exact"``. Hutchinson's estimate takes
probes :math:`\epsilon` with :math:`\langle\epsilon\epsilon^T\rangle=1`,
:math:`\operatorname{tr}A=\langle\epsilon^TA\epsilon\rangle`. With :math:`A_s` the symmetric part,
one probe has the variance :math:`2\|A_s\|_F^2` if Gaussian and
:math:`2\sum_{i\ne j}A_{s,ij}^2` if :math:`\pm1` (Rademacher), which is never more. Each field keeps
its probes along the whole flow: drawn anew at each step, the equation itself would be random, and
no step error could be told. Then each probe gives one estimate of the whole integral, and from
several follows an error for each field.

**What the noise does.** An estimate :math:`\hat\ell=\ln q+\eta` is unbiased, but
:math:`\langle e^{\pm\eta}\rangle\approx e^{\operatorname{var}\eta/2}`. A weight
:math:`e^{-S-\hat\ell}` is thus too large by a factor that depends on the field as the variance
does: reweighting, and an accept step with one estimate kept for each field, are those of
:math:`e^{-S}\langle e^{-\eta}\rangle_\phi` (as in pseudo-marginal Monte Carlo), exact only if that
factor is the same for all. In any case the variance of the noise adds to that of :math:`\ln w`: it
costs acceptance and effective sample size. An accept step that estimates the *current* field anew
at each proposal keeps no known law, and lets go of fields that it should hold: none is offered.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..actions import lattice_sum
from ..device import derivatives
from ..errors import check_finite, check_positive_int, check_rows
from ..lattice import Lattice
from .samplers import BLOCK, block_noise, block_streams
from .scores import GaussianScore, Score
from .sde import Process, check_field, site_shape, time_grid

__all__ = ["LogDensity", "log_density", "propose"]

TRACES = ("exact", "hutchinson", "analytic")
PROBES = ("rademacher", "gaussian")
ORDERS = {"heun": 2, "rk4": 4}
_CHUNK = 2**21  # numbers in a batch of derivatives


@dataclass(frozen=True)
class LogDensity:
    r"""Fields and their log densities.

    Attributes
    ----------
    fields
        The fields, ``(chains, *shape)``.
    value
        :math:`\ln q_t(\phi)`, ``(chains,)``, float64 where there is one; None where fields were
        drawn without (`flow` with ``dilution=0``).
    error
        Standard error of each value from the scatter of its probes, ``(chains,)``; None where the
        trace is not estimated, NaN for a single probe.
    step_error
        Estimate of the error that the finite step leaves in each value, ``(chains,)``; None if it
        was not asked for.
    evaluations
        Score evaluations of each chain; derivatives are not counted.
    """

    fields: Tensor = field(repr=False)
    value: Tensor | None = field(repr=False)
    error: Tensor | None = field(repr=False)
    step_error: Tensor | None = field(repr=False)
    evaluations: int

    def to(self, device: torch.device | str) -> LogDensity:
        """Return the same with all tensors on `device`, such as ``"cpu"`` for figures."""
        moved = {k: x.to(device) for k, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)


def log_density(
    score: Score,
    process: Process,
    phi: Tensor,
    *,
    steps: int = 32,
    method: str = "rk4",
    grid: str = "karras",
    end: float = 1e-3,
    trace: str = "exact",
    probes: int = 8,
    probe: str = "rademacher",
    prior: GaussianScore | Callable[[Tensor], Tensor] | None = None,
    step_error: bool = False,
    batch: int = 1024,
    generator: torch.Generator | None = None,
) -> LogDensity:
    r"""Return the log density of fields under the flow of a model, from `end` to time 1.

    Parameters
    ----------
    score, process
        The model. The score must be differentiable, and treat each chain alone.
    phi
        Fields ``(chains, *shape)``, taken as those at the time `end`.
    steps, grid, end
        The grid, as in `time_grid`.
    method
        ``"heun"``, of second order with 2 evaluations a step, or ``"rk4"``, of fourth with 4.
    trace
        ``"exact"`` (as many derivatives as sites), ``"hutchinson"``, or ``"analytic"`` where the
        score has a method ``divergence``, as the exact ones do.
    probes, probe
        Number and kind of the probes, ``"rademacher"`` or ``"gaussian"``.
    prior
        A free field with noise, as for `generate`, or a function from fields to
        :math:`\ln q_1`, ``(chains,)``; by default the noise alone of the process.
    step_error
        Whether to run a second time with half the steps' length: the values are then those of the
        finer run, with the difference divided by :math:`2^p-1` as the error left.
    batch
        Chains at a time, rounded up to full blocks of 64; results do not depend on it.
    generator
        Needed for the probes.
    """
    check_rows("phi", check_finite("phi", check_field(phi)))
    run = _Flow(score, process, steps, method, grid, end, trace, probes, probe, generator)
    return run.go(phi, len(phi), tuple(phi.shape[1:]), backward=False, prior=_prior(prior, process),
                  step_error=step_error, batch=batch)


def propose(
    score: Score,
    process: Process,
    lattice: Lattice | tuple[int, ...],
    chains: int,
    *,
    generator: torch.Generator,
    steps: int = 32,
    method: str = "rk4",
    grid: str = "karras",
    end: float = 1e-3,
    trace: str = "exact",
    probes: int = 8,
    probe: str = "rademacher",
    prior: GaussianScore | None = None,
    step_error: bool = False,
    batch: int = 1024,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LogDensity:
    """Draw fields by the flow, each with its log density, in one run; arguments as `log_density`.

    The flow runs from the prior, noise alone or a free field with noise, to `end`. Both come from
    the same steps, so their error is that of one run and not of there and back.
    """
    shape = site_shape(lattice)
    chains = check_positive_int("chains", chains)
    run = _Flow(score, process, steps, method, grid, end, trace, probes, probe, generator)
    streams = block_streams(chains, generator, device)
    noise = block_noise(streams, shape, dtype, device)[:chains]
    start = process.prior(noise) if prior is None else prior.sample(noise, 1.0)
    return run.go(start, chains, shape, backward=True, prior=_prior(prior, process),
                  step_error=step_error, batch=batch)


def _prior(prior, process: Process) -> Callable[[Tensor], Tensor]:
    if prior is None:
        return process.prior_log_density
    return (lambda phi: prior.log_density(phi, 1.0)) if hasattr(prior, "log_density") else prior


class _Flow:
    """The flow of a model, with the integral of its divergence."""

    def __init__(self, score, process, steps, method, grid, end, trace, probes, probe, generator):
        for name, value, known in (("method", method, ORDERS), ("trace", trace, TRACES),
                                   ("probe", probe, PROBES)):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not known; there are {list(known)}")
        if trace == "hutchinson" and generator is None:
            raise ValueError("trace='hutchinson' draws random probes: pass a generator")
        if trace == "analytic" and not hasattr(score, "divergence"):
            raise ValueError("trace='analytic' needs a score with a method `divergence`: take "
                             "'exact' or 'hutchinson'")
        self.score, self.process, self.method = score, process, method
        self.trace, self.probe, self.generator = trace, probe, generator
        self.count = check_positive_int("probes", probes)
        self.grids = [time_grid(process, n, grid, end=end) for n in (steps, 2 * steps)]

    @torch.no_grad()
    def go(self, phi: Tensor, chains: int, shape: tuple[int, ...], *, backward: bool, prior,
           step_error: bool, batch: int) -> LogDensity:
        streams = (block_streams(chains, self.generator, phi.device)
                   if self.trace == "hutchinson" else [])
        size = -(-check_positive_int("batch", batch) // BLOCK) * BLOCK
        parts = []
        for first in range(0, chains, size):
            some = phi[first : first + size]
            probes = self.draw(streams[first // BLOCK : (first + size) // BLOCK], some)
            runs = [self.run(some, grid, probes, backward, prior)
                    for grid in self.grids[: 1 + step_error]]
            parts.append(self.collect(runs, some, backward))
        joined = [None if p[0] is None else torch.cat(p) for p in zip(*parts, strict=True)]
        stages = {"heun": 2, "rk4": 4}[self.method]
        steps = sum(len(grid) - 1 for grid in self.grids[: 1 + step_error])
        return LogDensity(*joined, evaluations=stages * steps)

    def draw(self, streams: list, phi: Tensor) -> Tensor | None:
        """Return the probes, ``(probes, chains, *shape)``; for the exact trace, none."""
        if self.trace != "hutchinson":
            return None
        rows = [block_noise(streams, tuple(phi.shape[1:]), phi.dtype, phi.device)[: len(phi)]
                for _ in range(self.count)]
        probes = torch.stack(rows)
        return probes if self.probe == "gaussian" else torch.where(probes < 0, -1.0, 1.0).to(phi)

    def run(self, phi: Tensor, grid: list[float], probes: Tensor | None, backward: bool,
            prior) -> tuple[Tensor, Tensor]:
        """Return the fields at the other end, and an estimate for each probe ``(probes, chains)``.
        """
        process = self.process
        times = grid if backward else grid[::-1]
        x, integral = phi / process.mean_factor(times[0]), 0.0
        for start, stop in itertools.pairwise(times):
            r, r_end = process.ratio(start), process.ratio(stop)
            x, growth = self.step(x, r, r_end, probes)
            integral = integral + growth
        moved = process.mean_factor(times[-1]) * x
        noise = phi if backward else moved  # the fields at time 1
        sites = phi[0].numel()
        shift = sites * math.log(process.mean_factor(grid[0]) / process.mean_factor(grid[-1]))
        return moved, prior(noise) + shift + (-integral if backward else integral)

    def step(self, x: Tensor, r: float, stop: float, probes) -> tuple[Tensor, Tensor]:
        """Return `x` at `stop`, and the integral of the divergence from `r` to there."""
        h = stop - r
        one, a = self.slope(x, r, probes)
        if self.method == "heun":
            two, b = self.slope(x + h * one, stop, probes)
            return x + 0.5 * h * (one + two), 0.5 * h * (a + b)
        two, b = self.slope(x + 0.5 * h * one, r + 0.5 * h, probes)
        three, c = self.slope(x + 0.5 * h * two, r + 0.5 * h, probes)
        four, d = self.slope(x + h * three, stop, probes)
        return (x + h / 6 * (one + 2 * two + 2 * three + four),
                h / 6 * (a + 2 * b + 2 * c + d))

    def slope(self, x: Tensor, r: float, probes: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""Return :math:`f`, and its divergence by each probe, ``(probes, chains)``."""
        t = self.process.time_of(r)
        factor = self.process.mean_factor(t)
        phi = factor * x
        if self.trace == "analytic":
            score, trace = self.score(phi, t), self.score.divergence(phi, t)[None]
        else:
            score, trace = _score_and_trace(self.score, phi, t, probes)
        return -r * factor * score, -r * factor**2 * trace

    def collect(self, runs: list, phi: Tensor, backward: bool) -> tuple:
        """Return fields, values, errors of the probes and of the step."""
        moved, estimates = runs[-1]
        value, error, step = estimates.mean(0), None, None
        if self.trace == "hutchinson":
            error = (estimates.std(0) / math.sqrt(self.count) if self.count > 1
                     else torch.full_like(value, math.nan))
        if len(runs) > 1:
            step = (value - runs[0][1].mean(0)).abs() / (2 ** ORDERS[self.method] - 1)
        return moved if backward else phi, value, error, step


def _score_and_trace(score: Score, phi: Tensor, t: float,
                     probes: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""Return the score, and :math:`\epsilon^TA\epsilon` of its Jacobian for each probe.

    Without probes, the exact trace as a sum over unit vectors, ``(1, chains)``.
    """
    with derivatives():
        phi = phi.detach().clone().requires_grad_(True)
        value = score(phi, t)
    sites = phi[0].numel()
    many = max(1, _CHUNK // phi.numel())
    total = []
    for first in range(0, sites if probes is None else len(probes), many):
        if probes is None:
            units = torch.eye(sites, dtype=phi.dtype, device=phi.device)[first : first + many]
            some = units.reshape(-1, 1, *phi.shape[1:]).expand(-1, *phi.shape)
        else:
            some = probes[first : first + many]
        pulled, = torch.autograd.grad(value, phi, some, retain_graph=True, is_grads_batched=True)
        total.append(lattice_sum((pulled * some).flatten(0, 1)).reshape(len(some), -1))
    trace = torch.cat(total)
    return value.detach(), trace.sum(0, keepdim=True) if probes is None else trace
