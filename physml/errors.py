"""Errors that name the argument and the mend, and the checks at the door that raise them.

Every public function of `physml` checks its input once, before any work, with the helpers below.
Each error is also a built-in one (`ValueError`, `RuntimeError`), so code that knows nothing of
`physml` can catch it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = [
    "CheckpointError",
    "DataUnavailable",
    "ShapeError",
    "StabilityError",
    "check_finite",
    "check_number",
    "check_positive",
    "check_positive_int",
    "check_precision",
    "check_real",
    "check_rows",
    "check_shape",
    "check_tensor",
]


class ShapeError(ValueError):
    """A tensor has the wrong shape."""


class StabilityError(ValueError):
    """The couplings define no normalisable distribution, or a step would leave those that do."""


class DataUnavailable(RuntimeError):
    """A data set is on no source that was tried."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, truncated, or belongs to another run."""


def check_number(name: str, value: float) -> float:
    """Return `value` as a float; raise `ValueError` unless it is one finite real number.

    Numbers of NumPy and tensors with a single entry are numbers; text is not, whatever it says.
    """
    number = _float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite real number, not {value!r}")
    return number


def check_positive(name: str, value: float) -> float:
    """Return `value` as a float; raise `ValueError` unless it is finite and positive."""
    number = _float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite positive number, not {value}")
    return number


def _float(value: object) -> float:
    """Return a number as a float, NaN for all else."""
    if isinstance(value, (str, bytes, bytearray)):
        return math.nan
    if isinstance(value, torch.Tensor):
        value = value.detach()
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # complex, many entries
        return math.nan


def check_positive_int(name: str, value: int) -> int:
    """Return `value`; raise `ValueError` unless it is an integer of at least 1."""
    try:
        good = not isinstance(value, bool) and int(value) == value and value >= 1
    except (TypeError, ValueError, OverflowError):  # text, NaN, infinity
        good = False
    if not good:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    return int(value)


def has_numbers(tensor: torch.Tensor) -> bool:
    """Return whether there are numbers to look at: meta and fake tensors have a shape alone."""
    return tensor.device.type != "meta" and not isinstance(tensor, torch._subclasses.FakeTensor)


def check_finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor`; raise `ValueError` if it holds a NaN or an infinity.

    Tensors without data (meta and fake tensors) pass: there is nothing to look at.
    """
    check_tensor(name, tensor)
    if not has_numbers(tensor):
        return tensor
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    if tensor.is_floating_point():  # the extremes tell, at a tenth of the cost of counting
        if bool(torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all()):
            return tensor
    bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if bad:
        raise ValueError(
            f"{name} holds {bad} NaN or infinite entries of {tensor.numel()}: "
            "clean it, or look for the step at which it diverged"
        )
    return tensor


def check_shape(name: str, tensor: torch.Tensor, shape: Sequence[int | None]) -> torch.Tensor:
    """Return `tensor`; raise `ShapeError` unless its shape is `shape` (None fits any length)."""
    check_tensor(name, tensor)
    got = tuple(tensor.shape)
    if len(got) != len(shape) or any(s not in (None, g) for g, s in zip(got, shape, strict=True)):
        want = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
        raise ShapeError(f"{name} must have shape {want}, not {got}")
    return tensor


def check_tensor(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return `value`; raise `TypeError` unless it is a tensor.

    A NumPy array has no device and no generator: what it is to become is for the caller to say.
    (`physml.statistics` takes whatever holds numbers.)
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, not {type(value).__name__}: convert it "
                        f"with torch.as_tensor({name})")
    return value


def check_real(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return `value`; raise `TypeError` unless it is a tensor, `ValueError` if it is complex."""
    if check_tensor(name, value).is_complex():
        raise ValueError(f"{name} must be real, not {value.dtype}: a complex field is a pair of "
                         "real ones, `.real` and `.imag`, with an action of both")
    return value


def check_rows(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return `value`; raise `ShapeError` unless it is a tensor with at least one row."""
    if check_tensor(name, value).ndim < 1 or not len(value):
        raise ShapeError(f"{name} of shape {tuple(value.shape)} has no rows: there must be at "
                         "least one")
    return value


def check_precision(name: str, value: torch.Tensor | torch.dtype) -> torch.Tensor | torch.dtype:
    """Return a tensor or a dtype; raise `ValueError` unless it is float32 or float64."""
    dtype = value if isinstance(value, torch.dtype) else check_tensor(name, value).dtype
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be torch.float32 or torch.float64, not {dtype}: what is "
                         "computed here would be lost in the rounding of other types")
    return value
