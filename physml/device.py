"""Where the numbers live: one place that picks a device and seeds a generator.

The order is CUDA, then Apple's MPS, then the CPU. Nothing else in `physml` chooses a device: each
function works where its tensors are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

__all__ = ["as_double", "choose", "derivatives", "describe", "generator"]


def choose(prefer: str | torch.device | None = None, *, double: bool = False) -> torch.device:
    """Return the device to work on.

    Parameters
    ----------
    prefer
        A device to insist on, such as ``"cpu"`` or ``"cuda:1"``. By default the first of CUDA,
        MPS and CPU that this machine has.
    double
        Whether the work needs float64, which MPS does not know: it is then passed over.

    Raises
    ------
    ValueError
        If the preferred device is not there, with what is, or if it lacks float64.
    """
    have = _available()
    if double:
        have = [name for name in have if name != "mps"]
        if prefer is not None and str(prefer).startswith("mps"):
            raise ValueError("prefer='mps' has no float64: leave `double` out, or take another "
                             f"of {have}")
    if prefer is None:
        return torch.device(have[0])
    try:
        device = torch.device(prefer)
    except RuntimeError as error:
        raise ValueError(f"prefer={prefer!r} names no device; try one of {have}") from error
    there = device.type in have
    if there and device.type == "cuda" and device.index is not None:
        there = device.index < torch.cuda.device_count()
    if not there:
        raise ValueError(
            f"prefer={prefer!r} is not available here; this machine has {have}: "
            "leave `prefer` out to take the first of them"
        )
    return device


def describe(device: torch.device | str | None = None) -> str:
    """Return a sentence that says which device is used and why.

    >>> describe("cpu")  # doctest: +SKIP
    'Running on the CPU (2 threads); no GPU was asked for.'
    """
    chosen = choose(device)
    if chosen.type == "cuda":
        return f"Running on the GPU {torch.cuda.get_device_name(chosen)}."
    if chosen.type == "mps":
        return "Running on the Apple GPU (MPS); float64 is not available there."
    why = "no GPU was found" if _available() == ["cpu"] else "no GPU was asked for"
    return f"Running on the CPU ({torch.get_num_threads()} threads); {why}."


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device`, seeded with `seed`: the only source of randomness here.

    The stream of a seed is the same on every CPU, and another one on a GPU.
    """
    return torch.Generator(device=torch.device(device)).manual_seed(int(seed))


def as_double(values: torch.Tensor | float | Sequence[float]) -> torch.Tensor:
    """Return numbers as a float64 tensor: a tensor where it is, all else on the CPU.

    That is where exact results are computed, whatever `torch.set_default_device` says.
    """
    where = values.device if isinstance(values, torch.Tensor) else "cpu"
    return torch.as_tensor(values, dtype=torch.float64, device=where)


@contextlib.contextmanager
def derivatives() -> Iterator[None]:
    """Let torch differentiate here, whatever mode the caller is in.

    Tensors that were made in `torch.inference_mode` must be cloned within before they can require
    gradients.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _available() -> list[str]:
    have = ["cuda"] if torch.cuda.is_available() else []
    have += ["mps"] if torch.backends.mps.is_available() else []
    return [*have, "cpu"]
