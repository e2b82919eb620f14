"""One loop for all trainings: records, stop by steps or seconds, progress, checkpoint and resume.

A method of training subclasses `Training` and says what an update is, what is recorded and what its
state is; the rest is here, so that stopping and going on gives the records and the bits of a
training without a stop everywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoints, files, progress
from .errors import CheckpointError, check_positive

__all__ = ["Records", "Training", "identity"]


def identity(start: Mapping[str, Tensor], generator: torch.Generator | None,
             **parts: object) -> dict[str, object]:
    """Return what tells a training from others, as `checkpoints.identity` and for `Training.train`.

    Parameters
    ----------
    start
        What is trained, as it is before the first update. Within `parts` its tensors count with
        type and shape only.
    generator
        The stream, before anything was drawn.
    **parts
        All else that results depend on.
    """
    return checkpoints.identity(apart=start.values(), **parts) | _beginning(start, generator)


def _beginning(start: Mapping[str, Tensor], generator: torch.Generator | None) -> dict:
    plain = {name: tensor.detach() for name, tensor in start.items()}  # no parameters, only bytes
    return checkpoints.identity(start=plain, generator=generator)


class Records:
    """What a training recorded: a subclass is a dataclass of lists, printed as its last entries."""

    def __repr__(self) -> str:
        entries = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        number = len(entries["steps"])
        last = [f"{name}={_brief(values[-1])}" for name, values in entries.items() if len(values)]
        said = "".join(f", {entry}" for entry in last)
        return f"{type(self).__name__}({number} records{', the last' if last else ''}{said})"


def _brief(entry: object) -> str:
    if isinstance(entry, Tensor) and entry.numel() > 1:
        return f"tensor of shape {tuple(entry.shape)}"
    return f"{float(entry):.6g}"


class Training:
    """A training that goes on.

    Attributes
    ----------
    step, seconds
        Updates made, and the wall time that they took, of all parts if there was a stop.
    rates
        The step size of each update.
    generator
        The stream of random numbers, or None if there are none.
    """

    label = "training"
    writes = True  # whether this process writes checkpoints

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator
        self.step, self.seconds, self.rates = 0, 0.0, []

    # --- what a method brings ---------------------------------------------------------------------

    def begin(self) -> None:
        """Record what there is before the first update."""

    def update(self, rate: float) -> None:
        """Make one update of size `rate`, and count it in `step`."""
        raise NotImplementedError

    def record(self) -> None:
        """Append to the history, or to the part of it that ends with the present update."""
        raise NotImplementedError

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return all that changes, as tensors and as what JSON holds, but what this class has."""
        raise NotImplementedError

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Take over a state."""
        raise NotImplementedError

    def result(self) -> dict[str, Tensor]:
        """Return what is trained as it would be left if the training ended now."""
        return {}

    def shown(self) -> dict[str, str]:
        """Return what the progress bar says beside the number of updates."""
        return {}

    # --- the loop ---------------------------------------------------------------------------------

    def train(
        self,
        steps: int,
        *,
        lr: float | Callable[[int], float],
        record_every: int,
        seconds: float | None = None,
        progress_bar: bool = True,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_every: int = 1000,
        identity: dict[str, object] | None = None,
    ) -> None:
        """Train until `steps` updates are made, or for `seconds` from now on.

        The last update is always recorded; but a record out of turn is not in the checkpoint,
        because a training without that stop would not have it.

        Parameters
        ----------
        identity
            What `identity` said. What is trained and the generator may instead be as the
            checkpoint's training left them.

        Raises
        ------
        CheckpointError
            If there is a checkpoint that cannot be read, belongs to another training, or has made
            more than `steps` updates.
        """
        schedule = lr if callable(lr) else lambda step: lr
        path = None if checkpoint is None else files.located(checkpoint)
        recorded = 0
        if path is not None and identity is None:
            raise ValueError("checkpoint needs an identity: what the results depend on")
        if path is not None and path.exists():
            recorded = self._load(path, identity, schedule, steps)
        else:
            self.begin()
        start, before = time.perf_counter(), self.seconds
        with progress.bar(total=steps, initial=self.step, label=self.label,
                          show=progress_bar) as bar:
            while self.step < steps:
                rate = check_positive("lr", schedule(self.step))
                self.update(rate)
                self.rates.append(rate)
                bar.update()
                self.seconds = before + time.perf_counter() - start
                out_of_time = seconds is not None and self.seconds - before > seconds
                if self.step % record_every == 0:
                    self.record()
                    recorded = self.step
                    bar.set_postfix(self.shown(), refresh=False)
                last = self.step == steps or out_of_time
                if path is not None and self.writes and (self.step % checkpoint_every == 0 or last):
                    self._save(path, identity, recorded)
                if out_of_time:
                    break
        if recorded != self.step:
            self.record()

    # --- checkpoints ------------------------------------------------------------------------------

    def _save(self, path: Path, identity: dict[str, object], recorded: int) -> None:
        tensors, facts = self.state()
        tensors = tensors | {"rates": torch.tensor(self.rates, dtype=torch.float64, device="cpu")}
        if self.generator is not None:
            tensors["generator"] = self.generator.get_state()
        left = _beginning(self.result(), self.generator)
        checkpoints.write(path, tensors, {
            "identity": json.dumps(identity), "left": json.dumps(left),
            "state": json.dumps(facts | {"seconds": self.seconds, "recorded": recorded})})

    def _load(self, path: Path, identity: dict[str, object], schedule: Callable[[int], float],
              steps: int) -> int:
        """Take over the state in the file, if it is that of this training; return the last record.
        """
        tensors, meta = checkpoints.read(path)
        if not {"identity", "left", "state"} <= set(meta):
            raise CheckpointError(f"checkpoint={os.fspath(path)!r} holds no training of this "
                                  "version of physml: use another file, or remove it")
        there, here, left = json.loads(meta["identity"]), identity, json.loads(meta["left"])
        begins = {name for name in {**there, **here}
                  if name.partition(".")[0] in ("start", "generator")}
        if all(name in left and left[name] == here.get(name) for name in begins):
            there, here = ({name: value for name, value in side.items() if name not in begins}
                           for side in (there, here))
        checkpoints.check_settings(path, there, here)
        rates = tensors.pop("rates").tolist()
        checkpoints.check_rates(path, rates, schedule)
        if len(rates) > steps:
            raise CheckpointError(f"checkpoint={os.fspath(path)!r} has made {len(rates)} updates, "
                                  f"more than steps={steps}: ask for as many, or use another file")
        facts = json.loads(meta["state"])
        self.rates, self.step, self.seconds = rates, len(rates), facts.pop("seconds")
        recorded = facts.pop("recorded")
        if self.generator is not None:
            self.generator.set_state(tensors.pop("generator"))
        self.restore(tensors, facts)
        return recorded
