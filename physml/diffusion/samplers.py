r"""Samplers: from noise back to a field, along the reverse processes of `sde`.

A sampler makes steps from a time to an earlier one. By name, with score evaluations a step (`ev.`)
and the order of its error in the step (of averages, for those with noise):

=======================  ==  ==  ================================================================
``euler-maruyama``       1   1   the reverse process with :math:`\zeta=1`, in `t`
``predictor-corrector``  2   1   the same, with a Langevin step of the law at hand after each
``euler-flow``           1   1   the flow, :math:`\zeta=0`, in `t`
``heun``                 2   2   the flow in `r`; with `churn`, each step renews some noise
``rk4``                  4   4   the flow in `r`, Runge and Kutta's
``dpm``                  1   2   the flow, exponential and with two steps' memory
=======================  ==  ==  ================================================================

In :math:`x=\phi/a` and the noise ratio :math:`r=s/a` the flow of every process is
:math:`dx/dr=-r\,\nabla_x\ln q=(x-D)/r`, with the denoiser `D` (T. Karras et al., arXiv:2206.00364,
eq. 3), so `heun`, `rk4` and `dpm` know of a process only its grid.

**Noise** is drawn in blocks of 64 chains, each from a stream of its own: what a chain does depends
on the seed and its place, not on how many others there are. (A network may round differently in
another batch.)

**The end.** A run stops at a small time, with noise of variance :math:`s^2` left. What is done then
is `last`: ``"none"``; ``"denoise"``, Tweedie's mean of the field, which lacks the fluctuation
around it and is too narrow by about :math:`s^2` where it was too wide by as much; ``"flow"``, half
of that way,

.. math:: \phi_0=\frac{\phi+\frac12s^2\,s_t(\phi)}a,

a step of the flow in :math:`r^2` (:math:`dx/dr^2=-\frac12\nabla\ln q`), right up to
:math:`O(s^4)`; or ``"drift"``, one more Euler step of :math:`\zeta=1` at the last time and as long
as the one before, without noise, as in the published code of arXiv:2309.17082.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..actions import lattice_sum
from ..errors import ShapeError, StabilityError, check_finite, check_positive, check_positive_int
from ..lattice import Lattice
from ..progress import bar as progress_bar
from .scores import GaussianScore, Score
from .sde import Process, Reverse, check_field, site_shape, time_grid

__all__ = [
    "DPM",
    "LAST",
    "RK4",
    "SAMPLERS",
    "EulerMaruyama",
    "Generated",
    "Heun",
    "PredictorCorrector",
    "generate",
    "integrate",
]

LAST = ("none", "drift", "denoise", "flow")
BLOCK = 64  # chains that share a random stream
Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class EulerMaruyama:
    r"""Euler's step of the reverse process: :math:`\phi'=\phi+h\,\text{drift}+\zeta g\sqrt h\,z`.

    For a free field each mode follows a recursion in closed form: with :math:`a=1,\zeta=1`,
    :math:`v'=(1-g^2h/v_t)^2v+g^2h`.

    Parameters
    ----------
    zeta
        1 for the reverse process of the forward noise, 0 for the flow; see `Reverse`.
    """

    zeta: float = 1.0

    def step(self, score: Score, process: Process, phi: Tensor, t: float, end: float,
             draw: Draw, memory: tuple) -> tuple[Tensor, tuple]:
        """Step from `t` to `end`; `draw` gives standard normal noise of the shape of `phi`."""
        reverse, h = Reverse(process, self.zeta), t - end
        moved = phi + h * reverse.drift(phi, score(phi, t), t)
        if self.zeta:
            moved = moved + math.sqrt(h) * reverse.noise(t) * draw()
        return moved, memory


@dataclass(frozen=True)
class PredictorCorrector:
    r"""Euler-Maruyama, and Langevin steps of the law at the time reached (arXiv:2011.13456).

    A corrector step is :math:`\phi'=\phi+\delta\,s_t(\phi)+\sqrt{2\delta}\,z`, which keeps
    :math:`q_t` up to an error that grows with :math:`\delta`. On a free field its stationary
    variance is too large by the factor :math:`1/(1-\delta/2v_t)`.

    With ``"schedule"`` the steps are :math:`\delta=\frac12c\,g^2h`, a fixed share of the
    predictor's noise: then everything converges as :math:`h\to0`, to the reverse process with
    :math:`\zeta^2=1+c`. With ``"snr"``, as published, :math:`\delta=2(\rho|z|/|s_t|)^2` with
    norms over all chains: the steps do not shrink with `h`, so that some bias stays, and a chain
    depends on its batch.

    Parameters
    ----------
    rule
        ``"schedule"`` or ``"snr"``.
    strength
        `c`, or the signal-to-noise ratio :math:`\rho` (0.16 in the published code).
    corrections
        Langevin steps after each step of the predictor.
    """

    rule: str = "schedule"
    strength: float = 0.5
    corrections: int = 1

    def __post_init__(self) -> None:
        if self.rule not in ("schedule", "snr"):
            raise ValueError(f"rule={self.rule!r} is not known: choose 'schedule' or 'snr'")
        check_positive("strength", self.strength)
        check_positive_int("corrections", self.corrections)

    def step(self, score: Score, process: Process, phi: Tensor, t: float, end: float,
             draw: Draw, memory: tuple) -> tuple[Tensor, tuple]:
        """Step from `t` to `end`; `draw` gives standard normal noise of the shape of `phi`."""
        phi, memory = EulerMaruyama().step(score, process, phi, t, end, draw, memory)
        for _ in range(self.corrections):
            force, noise = score(phi, end), draw()
            if self.rule == "schedule":
                delta = 0.5 * self.strength * process.noise2(end) * (t - end) / self.corrections
            else:
                ratio = lattice_sum(noise**2).mean() / lattice_sum(force**2).mean()
                delta = (2 * self.strength**2 * ratio).to(phi.dtype)
            phi = phi + delta * force + (2 * delta) ** 0.5 * noise
        return phi, memory


@dataclass(frozen=True)
class Heun:
    r"""Heun's step of the flow in :math:`r`: Euler's, and back with the mean of both slopes.

    With `churn`, a step first raises the noise ratio by fresh noise, and then goes the longer way
    down (arXiv:2206.00364, algorithm 2): a stochastic sampler with the same marginals. Here the
    raise is a multiple of the step, so that the sampler stays of second order.

    Parameters
    ----------
    churn
        Rise of `r` in units of the step that follows, at least 0; never above that of time 1.
    """

    churn: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.churn) and self.churn >= 0):
            raise ValueError(f"churn must be a finite number of at least 0, not {self.churn}")

    def step(self, score: Score, process: Process, phi: Tensor, t: float, end: float,
             draw: Draw, memory: tuple) -> tuple[Tensor, tuple]:
        """Step from `t` to `end`; `draw` gives standard normal noise of the shape of `phi`."""
        x, r, stop = phi / process.mean_factor(t), process.ratio(t), process.ratio(end)
        if self.churn:
            raised = min(r + self.churn * (r - stop), process.ratio(1.0))
            x, r = x + math.sqrt(raised**2 - r**2) * draw(), raised
        first = _slope(score, process, x, r)
        second = _slope(score, process, x + (stop - r) * first, stop)
        return process.mean_factor(end) * (x + 0.5 * (stop - r) * (first + second)), memory


@dataclass(frozen=True)
class RK4:
    """The classical Runge-Kutta step of the flow in `r`, of fourth order."""

    def step(self, score: Score, process: Process, phi: Tensor, t: float, end: float,
             draw: Draw, memory: tuple) -> tuple[Tensor, tuple]:
        """Step from `t` to `end`; nothing is drawn."""
        x, r, stop = phi / process.mean_factor(t), process.ratio(t), process.ratio(end)
        h = stop - r
        one = _slope(score, process, x, r)
        two = _slope(score, process, x + 0.5 * h * one, r + 0.5 * h)
        three = _slope(score, process, x + 0.5 * h * two, r + 0.5 * h)
        four = _slope(score, process, x + h * three, stop)
        return process.mean_factor(end) * (x + h / 6 * (one + 2 * two + 2 * three + four)), memory


@dataclass(frozen=True)
class DPM:
    r"""An exponential step of the flow, DPM-Solver++(2M) of arXiv:2211.01095.

    For a constant denoiser the flow is exactly solved by
    :math:`x'=\frac{r'}rx+(1-\frac{r'}r)D`; for `D` we take the line through its last two values,
    in :math:`\ln r`. The first step is of first order (that of DDIM), with no loss of order.
    """

    def step(self, score: Score, process: Process, phi: Tensor, t: float, end: float,
             draw: Draw, memory: tuple) -> tuple[Tensor, tuple]:
        """Step from `t` to `end`; `memory` holds the last denoised field and :math:`\\ln r`."""
        factor, r, stop = process.mean_factor(t), process.ratio(t), process.ratio(end)
        x = phi / factor
        denoised = (phi + process.variance(t) * score(phi, t)) / factor
        guess = denoised
        if memory:
            before, log_r = memory
            share = 0.5 * math.log(r / stop) / (log_r - math.log(r))
            guess = denoised + share * (denoised - before)
        moved = stop / r * x + (1 - stop / r) * guess
        return process.mean_factor(end) * moved, (denoised, math.log(r))


SAMPLERS = {
    "euler-maruyama": EulerMaruyama(),
    "predictor-corrector": PredictorCorrector(),
    "euler-flow": EulerMaruyama(0.0),
    "heun": Heun(),
    "rk4": RK4(),
    "dpm": DPM(),
}


@dataclass(frozen=True)
class Generated:
    """What `generate` gives.

    Attributes
    ----------
    fields
        ``(chains, *shape)``.
    evaluations
        Score evaluations of each chain.
    times
        The grid, falling from 1.
    film, film_times
        Fields on the way, ``(frames, chains, *shape)``, and their times; None and empty without.
    """

    fields: Tensor = field(repr=False)
    evaluations: int
    times: tuple[float, ...] = field(repr=False)
    film: Tensor | None = field(repr=False, default=None)
    film_times: tuple[float, ...] = ()


def integrate(
    score: Score,
    process: Process,
    phi: Tensor,
    times: Sequence[float],
    sampler: object,
    draw: Draw,
    *,
    last: str = "none",
    watch: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Return the fields at the end of a grid of falling times, shape as `phi`.

    The part of `generate` that makes no random numbers and no choices: noise comes from `draw`,
    and `watch` is called with the number of each time and the fields there.
    """
    memory = ()
    for n, (t, end) in enumerate(itertools.pairwise(times)):
        if watch is not None:
            watch(n, phi)
        phi, memory = sampler.step(score, process, phi, t, end, draw, memory)
    if watch is not None:
        watch(len(times) - 1, phi)
    end = times[-1]
    if last == "none":
        return phi
    if last == "drift":
        return phi + (times[-2] - end) * Reverse(process).drift(phi, score(phi, end), end)
    share = 1.0 if last == "denoise" else 0.5
    return (phi + share * process.variance(end) * score(phi, end)) / process.mean_factor(end)


@torch.no_grad()
def generate(
    score: Score,
    process: Process,
    lattice: Lattice | tuple[int, ...],
    chains: int,
    *,
    steps: int = 32,
    sampler: str | object = "heun",
    grid: str = "karras",
    end: float = 1e-3,
    times: Sequence[float] | None = None,
    last: str = "flow",
    start: Tensor | None = None,
    prior: GaussianScore | None = None,
    film: Sequence[float] = (),
    batch: int = 1024,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
    label: str = "generating",
) -> Generated:
    """Draw fields from a diffusion model.

    Parameters
    ----------
    score
        The score, exact or learned: ``score(phi, t)``.
    process
        The process it belongs to.
    lattice
        The lattice of the fields, or its shape; ``()`` for a single degree of freedom.
    chains
        Number of fields; all are independent.
    steps, grid, end
        The grid, as in `time_grid`; or give falling `times` of your own.
    sampler
        A name in `SAMPLERS`, or a sampler with other parameters.
    last
        What is done at the end: ``"none"``, ``"drift"``, ``"denoise"`` or ``"flow"`` (see the
        module). Without ``"none"`` it costs one more evaluation.
    start
        Fields to start from, ``(chains, *shape)``.
    prior
        A free field with about the spectrum of the data, of which noised fields are the start; by
        default the start is noise alone. See `GaussianScore.sample` for when that is too narrow.
    film
        Times at which to keep fields: for each, those at the first grid time not after it.
    batch
        Chains at a time, rounded up to full blocks of 64; results do not depend on it.
    generator
        Seeds the streams of the blocks.

    Raises
    ------
    StabilityError
        If a field ends up infinite or undefined.
    """
    shape = site_shape(lattice)
    chains = check_positive_int("chains", chains)
    if isinstance(sampler, str):
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler={sampler!r} is not known; there are {list(SAMPLERS)}")
        sampler = SAMPLERS[sampler]
    if last not in LAST:
        raise ValueError(f"last={last!r} is not known; there are {list(LAST)}")
    times = time_grid(process, steps, grid, end=end) if times is None else check_times(times)
    if start is not None:
        if prior is not None:
            raise ValueError("start and prior are both given: choose one")
        check_finite("start", check_field(start, shape))
        if len(start) != chains:
            raise ShapeError(f"start holds {len(start)} fields for {chains} chains")
        dtype, device = start.dtype, start.device
    frames = _frames(times, film)
    count = _Counted(score)
    streams = block_streams(chains, generator, device)
    size = -(-check_positive_int("batch", batch) // BLOCK)
    fields = torch.empty(chains, *shape, dtype=dtype, device=device)
    kept = fields.new_empty(len(frames), *fields.shape) if frames else None
    batches = range(0, len(streams), size)
    with progress_bar(total=len(batches) * (len(times) - 1), label=label, show=progress) as bar:
        for first in batches:
            part = slice(first * BLOCK, min((first + size) * BLOCK, chains))
            width = part.stop - part.start

            def draw(some=streams[first : first + size], width=width) -> Tensor:
                return block_noise(some, shape, dtype, device)[:width]

            def watch(n: int, phi: Tensor, part=part) -> None:
                bar.update(min(n, 1))
                for i in (i for i, frame in enumerate(frames) if frame == n):
                    kept[i, part] = phi

            phi = start[part] if start is not None else (
                process.prior(draw()) if prior is None else prior.sample(draw(), times[0]))
            count.calls = 0
            fields[part] = integrate(count, process, phi, times, sampler, draw, last=last,
                                     watch=watch)
    lost = int((~torch.isfinite(fields)).reshape(chains, -1).any(1).sum())
    if lost:
        raise StabilityError(f"{lost} of {chains} fields are not finite at the end: take more "
                             "steps, or look at what the score gives for large fields")
    return Generated(fields, count.calls, tuple(times), kept, tuple(times[n] for n in frames))


def check_times(times: Sequence[float]) -> list[float]:
    """Return `times`; raise `ValueError` unless they fall, from at most 1 to above 0."""
    times = [float(t) for t in times]
    falls = all(a > b for a, b in itertools.pairwise(times))
    if len(times) < 2 or not falls or not times[0] <= 1 or not times[-1] > 0:
        raise ValueError("times must be at least two numbers that fall, in (0, 1]: see time_grid")
    return times


def _slope(score: Score, process: Process, x: Tensor, r: float) -> Tensor:
    """Return dx/dr of the flow."""
    t = process.time_of(r)
    factor = process.mean_factor(t)
    return -r * factor * score(factor * x, t)


def block_noise(streams: list, shape: tuple[int, ...], dtype: torch.dtype,
                device: torch.device | str) -> Tensor:
    """Return standard normal noise for whole blocks, ``(blocks * 64, *shape)``."""
    return torch.cat([torch.empty(BLOCK, *shape, dtype=dtype, device=device)
                      .normal_(generator=stream) for stream in streams])


def block_streams(chains: int, generator: torch.Generator, device: torch.device | str) -> list:
    """Return a generator for each block of chains."""
    return [torch.Generator(device=device).manual_seed(
        int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        for _ in range(-(-chains // BLOCK))]


def _frames(times: Sequence[float], film: Sequence[float]) -> list[int]:
    for t in film:
        if not 0 <= t <= 1:
            raise ValueError(f"film must hold times in [0, 1], not {t}")
    return [next((n for n, t in enumerate(times) if t <= want + 1e-12), len(times) - 1)
            for want in film]


class _Counted:
    """A score that counts its calls."""

    def __init__(self, score: Score) -> None:
        self.score, self.calls = score, 0

    def __call__(self, phi: Tensor, t: float) -> Tensor:
        self.calls += 1
        return self.score(phi, t)
