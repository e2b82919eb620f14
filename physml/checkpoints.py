"""Files that hold the state of a run: plain tensors and text, whole or not at all.

The format is safetensors, which cannot execute anything when it is read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from .errors import CheckpointError

__all__ = ["check_rates", "check_settings", "read", "write"]


def write(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], meta: Mapping[str, str]
) -> None:
    """Write tensors and texts to `path`, in the place of what was there before.

    An interruption leaves the old file, or none, and nothing beside it.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        save_file(plain, part, metadata=dict(meta))
        os.replace(part, path)
    except SafetensorError as error:  # which is how it wraps an error of the system
        raise OSError(f"{os.fspath(path)} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def read(
    path: str | os.PathLike, mend: str = "remove it to start afresh, or give an earlier copy"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors, on the CPU, and texts of a file that `write` made.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated or of another kind; it says `mend`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint={os.fspath(path)!r} cannot be read ({error}): {mend}"
        ) from error


def check_settings(
    path: str | os.PathLike, there: Mapping[str, object], here: Mapping[str, object]
) -> None:
    """Raise `CheckpointError`, naming what differs, unless the settings in a file are ours."""
    other = [name for name in here if there.get(name) != here[name]]
    if other:
        raise CheckpointError(
            f"checkpoint={os.fspath(path)!r} belongs to a run with other settings ("
            + ", ".join(f"{n}={there.get(n)!r} there, {here[n]!r} here" for n in other)
            + "): use another file, or the same settings"
        )


def check_rates(
    path: str | os.PathLike, rates: Sequence[float], schedule: Callable[[int], float]
) -> None:
    """Raise `CheckpointError` unless a schedule gives the step sizes of the updates so far."""
    for step, rate in enumerate(rates):
        if (now := float(schedule(step))) != rate:
            raise CheckpointError(
                f"checkpoint={os.fspath(path)!r} belongs to a run with other step sizes "
                f"(update {step + 1} of {len(rates)} had lr={rate!r} there, {now!r} here): "
                "use another file, or an lr that agrees for the updates already made"
            )
