r"""One driver for all samplers: burn-in, thinning, tuning, processes, checkpoint and resume.

A sampler is a frozen dataclass with ``init(phi) -> state`` and the pure
``step(state, generator) -> (state, info)``; if it has a ``with_step_size`` its step can be tuned,
and an ``unadjusted`` variant begins the burn-in. Its ``action`` says what lives on a site; without
one, say what to measure.

Chains are cut into blocks that fit into a core's cache, and each block runs alone with a random
stream of its own, so the results depend on the seed, and not on how many processes share the work.
They are processes, not threads: an operation of torch on a block takes some microseconds, less than
it takes to hand over Python's lock.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoints, files, statistics
from .. import progress as progress_bar
from ..actions import Action
from ..errors import (
    ShapeError,
    StabilityError,
    check_finite,
    check_positive,
    check_positive_int,
    check_real,
    check_rows,
)
from ..lattice import Lattice
from ..observables import measure

__all__ = ["EquilibrationWarning", "Run", "equilibration", "sample", "start"]

# Sites in a block: float32 arrays of this length fit into a core's cache, and no power of two keeps
# them from competing for the same places there.
_BLOCK_SITES = 3 * 2**15
# Sites times force evaluations between two looks at all blocks: some tenths of a second.
_ROUND = 3e8
_TUNE_EVERY = 5  # steps between two changes of the step size
_RELAXING = 0.95  # where fewer moves are taken without an accept step, some chains run away


class EquilibrationWarning(UserWarning):
    """Chains disagree: they are not all in equilibrium, and errors mean little."""


def start(
    action: Action,
    lattice: Lattice,
    chains: int,
    kind: str = "mixed",
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return fields to start chains from, ``(chains, *components, *lattice.shape)``.

    Parameters
    ----------
    action
        Checked for stability on the lattice; it says what lives on a site (`components`, ``()``
        for a scalar field), and may know the size of an ordered field.
    kind
        ``"hot"``: independent normal numbers; ``"cold"``: uniform, at the minimum of the action
        with random signs, or at 0.5 if that minimum is at zero; ``"mixed"``: hot and cold in turn,
        so that chains which forgot where they came from can be told from those which did not.
    generator
        Where the random numbers come from; on the same device.

    Raises
    ------
    ValueError
        If the action does not say what lives on a site.
    StabilityError
        If it knows that exp(-S) has no norm on the lattice.
    """
    action.check_stable(lattice)
    components = getattr(action, "components", None)
    if components is None:
        raise ValueError(f"{type(action).__name__} does not say what lives on a site: set its "
                         "components, () for a scalar field, or make the first fields yourself")
    shape = (check_positive_int("chains", chains), *components, *lattice.shape)
    if dtype.is_floating_point and dtype.itemsize < 4:  # drawn finely, then rounded
        return start(action, lattice, chains, kind, generator=generator, device=device).to(dtype)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be a real floating point type, not {dtype}")
    where = {"dtype": dtype, "device": device}
    hot = torch.empty(shape, **where).normal_(generator=generator)
    if kind == "hot":
        return hot
    if kind not in ("cold", "mixed"):
        raise ValueError(f"kind={kind!r} is not known: choose 'hot', 'cold' or 'mixed'")
    vacuum = action.vacuum(lattice.dim) if hasattr(action, "vacuum") else 0.0
    sign = 1 - 2 * torch.rand(chains, generator=generator, **where).round()
    cold = ((vacuum or 0.5) * sign).reshape(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
    if kind == "mixed":
        cold[::2] = hot[::2]
    return cold


@dataclass(frozen=True, repr=False)
class Run:
    r"""What a run gave.

    Attributes
    ----------
    sampler
        As it was after tuning.
    phi
        The last fields, ``(chains, *shape)``.
    series
        Measurements by name, each ``(chains, measurements)``, float64. For samplers with an accept
        step they include ``acceptance``, ``delta_h`` and ``exp_minus_delta_h``, averaged over the
        steps between two measurements.
    fields
        The fields at each measurement, ``(chains, measurements, *shape)``, if they were kept.
    steps
        Steps of each chain, burn-in included.
    seconds
        Wall time, of all parts if the run was interrupted.
    """

    sampler: object
    phi: Tensor
    series: dict[str, Tensor]
    fields: Tensor | None
    steps: int
    seconds: float

    def mean(self, name: str, **options) -> statistics.MeanEstimate:
        """Return the mean of a series with its error, as `physml.statistics.mean`."""
        return statistics.mean(self.series[name], **options)

    @property
    def acceptance(self) -> float:
        """The accepted share of all proposals."""
        return float(self.series["acceptance"].mean())

    @property
    def exp_minus_delta_h(self) -> statistics.MeanEstimate:
        r""":math:`\langle e^{-\Delta H}\rangle`, which is 1 in equilibrium."""
        return statistics.mean(self.series["exp_minus_delta_h"])

    def to(self, device: torch.device | str) -> Run:
        """Return the run with all its tensors on `device`, such as ``"cpu"`` for figures."""
        series = {name: x.to(device) for name, x in self.series.items()}
        fields = None if self.fields is None else self.fields.to(device)
        return replace(self, phi=self.phi.to(device), series=series, fields=fields)

    def rhat(self, name: str) -> float:
        r"""Return split-:math:`\hat R` of a series: 1 if all chains tell the same."""
        return statistics.split_rhat(self.series[name])

    def __repr__(self) -> str:
        chains, n = next(iter(self.series.values())).shape
        return f"Run({chains} chains, {n} measurements each, {self.sampler})"


@dataclass
class _Block:
    """Some of the chains: where they stand in the whole, their state and their random stream."""

    chains: slice
    state: tuple
    stream: Tensor


@dataclass
class _Progress:
    """How far a run is: what a checkpoint holds besides the tensors."""

    burnt: int = 0
    measured: int = 0
    seconds: float = 0.0
    step_size: float = 0.0
    tuned: int = 0
    shortened: int = 0  # when the step was last halved, for chains that ran away

    def dumps(self) -> str:
        return json.dumps(vars(self))


def sample(
    sampler,
    phi: Tensor,
    measurements: int,
    *,
    generator: torch.Generator,
    burn_in: int = 0,
    thin: int = 1,
    tune: float | None = None,
    observe: Callable[[Tensor], dict[str, Tensor]] | None = None,
    keep_fields: bool = False,
    processes: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 30.0,
    progress: bool = True,
    label: str = "sampling",
) -> Run:
    r"""Run chains of a sampler, and measure.

    Parameters
    ----------
    sampler
        A sampler of this package, or any object like them (see the module).
    phi
        Fields to start from, ``(chains, *components, *lattice.shape)``; see `start`.
    measurements
        Number of measurements on each chain.
    generator
        Seeds the streams of the blocks; it is moved on by a few numbers, whatever the length.
    burn_in
        Steps before the first measurement, not recorded. In their first quarter there is no accept
        step: far from equilibrium it would refuse every move of a large lattice.
    thin
        Steps from one measurement to the next.
    tune
        Acceptance to aim at in burn-in, by changing the step size (Robbins-Monro on its logarithm,
        all chains together). It begins when there is an accept step; before, a step with which
        chains run away is halved, and they get another quarter of burn-in to relax, up to its half.
        In the last quarter the step size is frozen, at the mean of the logarithms before.
    observe
        Returns named numbers ``(chains,)`` of fields ``(chains, *shape)``; by default those of
        `physml.observables.measure`, or ``phi`` and ``phi2`` of a field without directions. The
        default is for scalar fields: the sampler's action must say so with ``components = ()``.
    keep_fields
        Whether to return all measured fields.
    processes
        How many processes share the work on a CPU; by default one for each core. Results do not
        depend on it. Where the system cannot fork, or the run is short, it is one.
    checkpoint
        A file that holds the run: written every `checkpoint_every` seconds and at the end, whole
        or not at all. If it exists the run goes on from there, to the same bits as without a stop.
        All else must be given as the first time, `observe` too; see `physml.checkpoints.identity`
        for how runs are told apart.
    progress, label
        Whether to show a progress bar, and its name.

    Raises
    ------
    ValueError
        If there is no `observe`, and the sampler's action does not say that the field is a scalar.
    StabilityError
        If a chain ends in a field that is not finite.
    CheckpointError
        If the checkpoint cannot be read, or belongs to another run.

    Warns
    -----
    EquilibrationWarning
        If a chain accepted nothing at all while others did: it hangs where its step is unstable.
    """
    if check_real("phi", phi).ndim < 1 or not phi.is_floating_point():
        raise ShapeError("phi must be a floating point tensor of shape (chains, *lattice.shape)")
    phi = check_rows("phi", check_finite("phi", phi)).detach()
    measurements = check_positive_int("measurements", measurements)
    thin = check_positive_int("thin", thin)
    if isinstance(burn_in, bool) or int(burn_in) != burn_in or burn_in < 0:
        raise ValueError(f"burn_in must be an integer of at least 0, not {burn_in!r}")
    if tune is not None:
        if not 0 < check_positive("tune", tune) < 1:
            raise ValueError(f"tune must be an acceptance between 0 and 1, not {tune}")
        if not hasattr(sampler, "with_step_size"):
            raise ValueError(f"tune needs a sampler with a step size and an accept step: {sampler}")
        if burn_in < 20 * _TUNE_EVERY:
            raise ValueError(f"tune needs burn_in of at least {20 * _TUNE_EVERY} steps, "
                             f"not {burn_in}")
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    observe = observe or _scalar_observe(sampler, phi)
    path = None if checkpoint is None else files.located(checkpoint)
    # before the generator is moved on
    identity = None if path is None else checkpoints.identity(
        sampler=sampler, phi=phi, device=phi.device.type, measurements=measurements,
        burn_in=burn_in, thin=thin, tune=tune, observe=observe, keep_fields=keep_fields,
        generator=generator, blocks=len(_parts(phi)))
    run = _Runner(sampler, phi, measurements, burn_in, thin, tune, observe, keep_fields, generator,
                  identity)
    if path is not None and path.exists():
        run.load(path)
    run.go(check_positive_int("processes", processes), path, checkpoint_every, progress, label)
    return run.result()


class _Runner:
    """All that changes while a run goes on."""

    def __init__(self, sampler, phi, measurements, burn_in, thin, tune, observe, keep_fields,
                 generator, identity):
        self.sampler, self.observe, self.tune = sampler, observe, tune
        self.measurements, self.burn_in, self.thin = measurements, burn_in, thin
        self.at = _Progress(step_size=getattr(sampler, "step_size", 0.0))
        self.log_steps: list[float] = []
        self.start = phi
        self.identity = identity
        self.pace = 1  # steps of a round that takes some tenths of a second on this machine
        with _one_thread(phi.device):
            self.blocks = [self.block(part, phi, generator) for part in _parts(phi)]
        self.series: dict[str, Tensor] = {}
        self.fields = None
        if keep_fields:
            self.fields = phi.new_empty(len(phi), measurements, *phi.shape[1:])

    @torch.no_grad()
    def block(self, part: slice, phi: Tensor, generator: torch.Generator) -> _Block:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        stream = torch.Generator(device=phi.device).manual_seed(seed).get_state()
        # chains innermost in memory: neighbours are then far apart, and each pass is one long one
        fields = phi[part].movedim(0, -1).contiguous().movedim(-1, 0)
        return _Block(part, self.sampler.init(fields), stream)

    def go(self, processes: int, path: Path | None, every: float, show: bool, label: str) -> None:
        total = self.burn_in + self.measurements * self.thin
        done = self.at.burnt + self.at.measured * self.thin
        work = (total - done) * self.start.numel() * max(1, getattr(self.sampler, "cost", 1))
        if self.start.device.type != "cpu" or work < _ROUND:
            processes = 1
        saved = begin = time.monotonic()
        before = self.at.seconds
        bar = progress_bar.bar(total=total, initial=done, label=label, show=show)
        pool = _pool(min(processes, len(self.blocks)), self.sampler, self.observe,
                     self.start.device)
        with bar, pool as run:
            while self.at.measured < self.measurements:
                since = time.monotonic()
                bar.update(self.round(run))
                self.keep_pace(time.monotonic() - since)
                self.at.seconds = before + time.monotonic() - begin
                if path is not None and time.monotonic() - saved > every:
                    self.save(path)
                    saved = time.monotonic()
        self.check()
        if path is not None:
            self.save(path)

    def round(self, run: Callable) -> int:
        """Advance all blocks by some steps, and return their number."""
        if self.at.burnt < self.burn_in:
            far = self.at.burnt < self.relaxed
            left = (self.relaxed if far else self.burn_in) - self.at.burnt
            n = min(left, _TUNE_EVERY if self.tune else self.chunk(1))
            jobs = [(block, self.at.step_size, far, 0, n, False) for block in self.blocks]
            shares = []
            for i, (block, _, _, share) in enumerate(run(jobs)):
                self.blocks[i] = block
                shares.append(share * _count(block.chains))
            self.at.burnt += n
            if self.tune:
                share = sum(shares) / len(self.start)
                self.shorten(share) if far else self.adapt(share)
            return n
        first, n = self.at.measured, min(self.measurements - self.at.measured,
                                         self.chunk(self.thin))
        keep = self.fields is not None
        jobs = [(block, self.at.step_size, False, n, self.thin, keep) for block in self.blocks]
        for i, (block, series, fields, _) in enumerate(run(jobs)):
            self.blocks[i] = block
            for name, values in series.items():
                if name not in self.series:
                    self.series[name] = values.new_zeros(len(self.start), self.measurements)
                self.series[name][block.chains, first : first + n] = values
            if keep:
                self.fields[block.chains, first : first + n] = fields
        self.at.measured += n
        return n * self.thin

    def chunk(self, steps: int) -> int:
        """Return how many times `steps` make a round; results do not depend on it."""
        work = self.start.numel() * steps * max(1, getattr(self.sampler, "cost", 1))
        return max(1, min(int(_ROUND / work), self.pace // steps))

    def keep_pace(self, seconds: float) -> None:
        """Make the next round longer or shorter, so that a checkpoint comes when it is due."""
        if seconds < 0.25:
            self.pace *= 2
        elif seconds > 1.0:
            self.pace = max(1, self.pace // 2)

    def shorten(self, share: float) -> None:
        """Halve a step with which chains run away instead of relaxing, and give them more time.

        Forces are large far from equilibrium. A chain that is left there would have its own, tiny
        step accepted, and tuning would end at that one.
        """
        unadjusted = getattr(self.sampler, "unadjusted", lambda: self.sampler)()
        if share < _RELAXING and unadjusted is not self.sampler:
            self.sampler = self.sampler.with_step_size(0.5 * self.at.step_size)
            self.at.step_size = self.sampler.step_size
            self.at.shortened = self.at.burnt

    @property
    def relaxed(self) -> int:
        """The step of burn-in from which there is an accept step, and tuning begins."""
        return min(self.at.shortened + self.burn_in // 4, self.burn_in // 2)

    def adapt(self, acceptance: float) -> None:
        """Change the step size after a round of burn-in."""
        if math.isnan(acceptance):
            raise ValueError(f"tune needs a sampler with an accept step: {self.sampler}")
        if self.at.burnt > 0.75 * self.burn_in:
            if self.log_steps:  # freeze, at the mean of the later half
                late = self.log_steps[len(self.log_steps) // 2:]
                self.at.step_size = math.exp(sum(late) / len(late))
                self.log_steps = []
        else:
            # a step that was halved may be far too short: changes become smaller only as they turn
            far = self.at.shortened and len(self.log_steps) > 1 and (
                (acceptance > self.tune) == (self.log_steps[-1] > self.log_steps[-2]))
            self.at.tuned += not far
            self.at.step_size *= math.exp(3 * (acceptance - self.tune) / self.at.tuned**0.6)
            self.log_steps.append(math.log(self.at.step_size))
        self.sampler = self.sampler.with_step_size(self.at.step_size)
        self.at.step_size = self.sampler.step_size  # it may have a largest one

    def check(self) -> None:
        if not all(bool(torch.isfinite(block.state[0]).all()) for block in self.blocks):
            raise StabilityError(
                f"the fields of {self.sampler} are not finite after "
                f"{self.burn_in + self.at.measured * self.thin} steps: lower step_size"
            )
        if "acceptance" in self.series:
            share = self.series["acceptance"].mean(1)
            stuck = int((share == 0).sum())
            usual = float(share.sum()) / max(1, len(share) - stuck) or 1.0
            if stuck and usual * self.measurements * self.thin > 50:
                warnings.warn(f"{stuck} of {len(share)} chains accepted nothing: they hang where "
                              "the step is unstable; lower step_size or start closer to "
                              "equilibrium", EquilibrationWarning, stacklevel=4)

    def result(self) -> Run:
        phi = torch.cat([b.state[0] for b in self.blocks]).contiguous()
        return Run(self.sampler, phi, self.series, self.fields,
                   self.burn_in + self.measurements * self.thin, self.at.seconds)

    # --- checkpoints ------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the run to `path` as one safetensors file, whole or not at all."""
        tensors = {f"series.{k}": v for k, v in self.series.items()}
        for i, block in enumerate(self.blocks):
            tensors |= _taken_apart(block.state, f"block.{i}")
            tensors[f"stream.{i}"] = block.stream
        if self.fields is not None:
            tensors["fields"] = self.fields
        meta = {"identity": json.dumps(self.identity), "progress": self.at.dumps(),
                "log_steps": json.dumps(self.log_steps), "names": json.dumps(list(self.series))}
        checkpoints.write(path, tensors, meta)

    def load(self, path: Path) -> None:
        """Go on from the file that `save` wrote."""
        tensors, meta = checkpoints.read(path)
        checkpoints.check_settings(path, json.loads(meta.get("identity", "{}")), self.identity)
        self.at = _Progress(**json.loads(meta["progress"]))
        self.log_steps = json.loads(meta["log_steps"])
        if self.tune and self.at.burnt:
            self.sampler = self.sampler.with_step_size(self.at.step_size)
        for i, block in enumerate(self.blocks):
            block.state = _put_together(block.state, f"block.{i}", tensors,
                                         self.start.device)
            block.stream = tensors[f"stream.{i}"]
        self.series = {name: tensors[f"series.{name}"].to(self.start.device)
                       for name in json.loads(meta["names"])}
        if self.fields is not None:
            self.fields.copy_(tensors["fields"])


def _taken_apart(state, name: str) -> dict[str, Tensor]:
    """Return the tensors of a state, which may hold other states, under names of their own."""
    if isinstance(state, Tensor):
        return {name: state}
    if isinstance(state, tuple):
        parts = [_taken_apart(part, f"{name}.{k}") for k, part in enumerate(state)]
        return {k: v for part in parts for k, v in part.items()}
    if state is None:
        return {}
    raise TypeError(f"the state of a sampler holds a {type(state).__name__}, which a checkpoint "
                    "cannot keep: make it of tensors, tuples and None")


def _put_together(example, name: str, tensors: dict[str, Tensor], device: torch.device):
    """Return the state that `_taken_apart` took apart, given one at the start of a run."""
    if isinstance(example, tuple):
        parts = [_put_together(part, f"{name}.{k}", tensors, device)
                 for k, part in enumerate(example)]
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    return tensors[name].to(device) if name in tensors else None


# --- blocks, here or in another process -------------------------------------------------------


@torch.no_grad()
def _advance(sampler, observe, block: _Block, measurements: int, thin: int, keep: bool) -> tuple:
    """Return the block after `measurements` times `thin` steps, what was measured, and acceptance.

    With no measurements it makes `thin` steps.
    """
    generator = torch.Generator(device=block.state[0].device)
    generator.set_state(block.stream)
    state, rows, fields, shares = block.state, [], [], []
    for _ in range(max(1, measurements)):
        totals = {}
        for _ in range(thin):
            state, info = sampler.step(state, generator)
            for name, value in _diagnostics(info).items():
                totals[name] = totals.get(name, 0) + value / thin
        shares.append(totals.get("acceptance"))
        if measurements:
            found = observe(state[0].contiguous())
            clash = set(found) & {"acceptance", "delta_h", "exp_minus_delta_h"}
            if clash:
                raise ValueError(f"observe must not use the names {sorted(clash)}")
            rows.append(found | totals)
            if keep:
                fields.append(state[0].clone())
    series = {name: torch.stack([_wide(row[name]) for row in rows], 1) for name in
              (rows[0] if rows else ())}
    share = math.nan if None in shares else float(torch.stack(shares).mean())
    moved = _Block(block.chains, state, generator.get_state())
    return moved, series, torch.stack(fields, 1) if fields else None, share


def _scalar_observe(sampler, phi: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return what is measured by default, if it is known that the field is a scalar."""
    components = getattr(getattr(sampler, "action", None), "components", None)
    if phi.ndim > 1 and components != ():
        raise ValueError(
            f"the action of {type(sampler).__name__} does not say that a field {tuple(phi.shape)} "
            "is a scalar on a lattice, so nothing is measured by default: give observe, or set "
            "components = () on the action of a scalar field"
        )
    return _observe


def _observe(phi: Tensor) -> dict[str, Tensor]:
    if phi.ndim == 1:
        return {"phi": phi, "phi2": phi * phi}
    return measure(phi, Lattice(tuple(phi.shape[1:])))._asdict()


def _wide(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()


def _diagnostics(info) -> dict[str, Tensor]:
    out = {}
    if info.acceptance is not None:
        out["acceptance"] = info.acceptance
    if info.delta_h is not None:
        out["delta_h"] = info.delta_h
        out["exp_minus_delta_h"] = torch.exp(-info.delta_h)
    return out


@contextlib.contextmanager
def _pool(processes: int, sampler, observe, device) -> Iterator[Callable]:
    """Yield a function that advances blocks, in forked processes if there is more than one."""

    def here(jobs: list) -> Iterator[tuple]:
        for block, step_size, far, *rest in jobs:
            yield _advance(_stepped(sampler, step_size, far), observe, block, *rest)

    # macOS can fork, but its own libraries do not survive it
    if processes < 2 or sys.platform != "linux":
        with _one_thread(device):
            yield here
        return
    with warnings.catch_warnings():
        # Python warns of forks beside threads; the children use none, and only torch on one core
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"),
                                   initializer=_inherit, initargs=(sampler, observe))

        def there(jobs: list) -> Iterable[tuple]:
            packed = [(_pack(block), *rest) for block, *rest in jobs]
            return map(_unpack, pool.map(_work, packed))

        with pool:
            yield there


_INHERITED: tuple = ()


def _inherit(sampler, observe) -> None:
    """Take over what cannot be sent to a process, at its start."""
    global _INHERITED
    _INHERITED = (sampler, observe)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its children
    torch.set_num_threads(1)


def _work(job: tuple) -> tuple:
    block, step_size, far, *rest = job
    sampler, observe = _INHERITED
    return _pack(_advance(_stepped(sampler, step_size, far), observe, _unpack(block), *rest))


def _stepped(sampler, step_size: float, far: bool):
    """Return the sampler as it is at this point of the run."""
    if hasattr(sampler, "with_step_size") and sampler.step_size != step_size:
        sampler = sampler.with_step_size(step_size)
    return sampler.unadjusted() if far and hasattr(sampler, "unadjusted") else sampler


def _pack(item):
    """Replace tensors by numpy arrays of their memory: torch's own way needs a file for each."""
    if isinstance(item, Tensor):
        flat = item.as_strided((item.numel(),), (1,)).numpy()
        return _Memory(flat, tuple(item.shape), item.stride())
    return _rebuild(item, _pack)


def _unpack(item):
    if isinstance(item, _Memory):
        return torch.from_numpy(item.flat).as_strided(item.shape, item.stride)
    return _rebuild(item, _unpack)


def _rebuild(item, each: Callable):
    if isinstance(item, dict):
        return {k: each(v) for k, v in item.items()}
    if isinstance(item, _Block):
        return _Block(item.chains, each(item.state), each(item.stream))
    if hasattr(item, "_fields"):
        return type(item)(*map(each, item))
    return tuple(map(each, item)) if isinstance(item, tuple) else item


@dataclass
class _Memory:
    flat: object
    shape: tuple
    stride: tuple


@contextlib.contextmanager
def _one_thread(device) -> Iterator[None]:
    """Let torch use one thread of the CPU, as in the processes, so that sums agree bit by bit."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _parts(phi: Tensor) -> list[slice]:
    """Cut the chains into blocks: at least two on a CPU, so that two cores share a small run."""
    chains, sites = len(phi), phi[0].numel()
    if phi.device.type != "cpu":
        return [slice(0, chains)]
    blocks = max(math.ceil(chains * sites / _BLOCK_SITES), min(2, chains // 4))
    size = math.ceil(chains / max(1, min(blocks, chains)))
    return [slice(i, min(i + size, chains)) for i in range(0, chains, size)]


def _count(chains: slice) -> int:
    return chains.stop - chains.start


@dataclass(frozen=True)
class Equilibration:
    r"""How well chains agree.

    Attributes
    ----------
    rhat
        Split-:math:`\hat R` of each series.
    z
        Mean over the chains that started hot minus that over those that started cold, in standard
        errors, for each series; empty for fewer than four chains, which give no such error.
    """

    rhat: dict[str, float] = field(default_factory=dict)
    z: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        r"""Whether all :math:`\hat R<1.05` and all :math:`|z|<4`."""
        return all(r < 1.05 for r in self.rhat.values()) and all(
            abs(z) < 4 for z in self.z.values())


def equilibration(series: dict[str, Tensor], *, mixed: bool = True,
                  warn: bool = True) -> Equilibration:
    r"""Compare chains, and those from hot with those from cold starts.

    Chains are independent, so the mean of each is one draw; if both kinds of start have been
    forgotten, the averages of the two groups differ by their statistical errors.

    Parameters
    ----------
    series
        Measurements by name, ``(chains, measurements)``. In a broken phase take even observables:
        the sign of the field is not expected to be forgotten.
    mixed
        Whether even-numbered chains started hot and odd ones cold, as `start` makes them.
    warn
        Whether to warn.

    Warns
    -----
    EquilibrationWarning
        If a :math:`\hat R` is 1.05 or more or a :math:`|z|` 4 or more.
    """
    found = Equilibration()
    for name, values in series.items():
        found.rhat[name] = statistics.split_rhat(values)
        if mixed and len(values) >= 4:
            hot, cold = values[::2].mean(1), values[1::2].mean(1)
            error = math.sqrt(float(hot.var() / len(hot) + cold.var() / len(cold)))
            found.z[name] = float(hot.mean() - cold.mean()) / error if error else 0.0
    if warn and not found.reached:
        bad = [f"{n}: R-hat {r:.3f}" + (f", hot - cold {found.z[n]:+.1f} sigma" if found.z else "")
               for n, r in found.rhat.items()]
        warnings.warn("chains disagree (" + "; ".join(bad) + "): burn in for longer, or add a "
                      "move that changes what is frozen, such as SwendsenWang",
                      EquilibrationWarning, stacklevel=2)
    return found
