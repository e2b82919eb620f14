"""Checks of answers to the book's exercises, which say what is wrong and keep the solution secret.

A check takes a reader's number or function and returns a `Result`, which reads as a sentence:
"Correct: ..." or "Not yet: ...". An answer of the wrong kind, or a function that fails, gets a
sentence too, not a traceback.

To write one, decorate a function that raises `NotYet` with the reason, or returns its praise:

>>> @check
... def check_gap(answer):
...     compare_number(answer, 0.25, what="the gap", hint="it closes as the mass goes to zero")
...     return "the gap is the mass squared."
>>> check_gap(0.25)
Correct: the gap is the mass squared.
>>> check_gap(-0.25)
Not yet: the gap has the wrong sign; it closes as the mass goes to zero.
"""

from __future__ import annotations

import copy
import functools
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "NotYet",
    "Result",
    "as_tensor",
    "as_vector",
    "check",
    "checks",
    "compare_function",
    "compare_number",
    "seeded_cases",
]

_CHECKS: dict[str, Callable[..., Result]] = {}


@dataclass(frozen=True)
class Result:
    """What a check found. True if the answer is right; prints as a sentence."""

    correct: bool
    message: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return f"{'Correct' if self.correct else 'Not yet'}: {self.message}"


class NotYet(Exception):
    """Raised inside a check: what keeps the answer from being right, in a reader's words."""


def check(function: Callable[..., str | None]) -> Callable[..., Result]:
    """Turn a function that returns praise or raises `NotYet` into one that returns a `Result`.

    An answer left open, as None or `...`, is answered before the function is called. Errors of the
    check itself are not caught: they are faults of the book, not of the reader.

    Raises
    ------
    ValueError
        If the name does not begin with `check_`, or is taken.
    """
    name = function.__name__
    if not name.startswith("check_"):
        raise ValueError(f"a check must be called check_..., not {name}")
    if name in _CHECKS and _CHECKS[name].__module__ != "__main__":
        raise ValueError(f"there is a check called {name} already")

    @functools.wraps(function)
    def checked(answer: Any = None, *args: Any, **kwargs: Any) -> Result:
        if answer is None or answer is ...:
            return Result(False, "there is no answer yet.")
        try:
            praise = function(answer, *args, **kwargs)
        except NotYet as why:
            return Result(False, _sentence(str(why)))
        return Result(True, _sentence(praise or "well done"))

    _CHECKS[name] = checked
    return checked


def checks() -> tuple[str, ...]:
    """Return the names of all checks, sorted."""
    return tuple(sorted(_CHECKS))


def compare_number(
    answer: Any,
    expected: float,
    *,
    rtol: float = 1e-3,
    atol: float = 0.0,
    what: str = "the answer",
    hint: str | None = None,
) -> None:
    """Raise `NotYet` unless `answer` is the number expected.

    Parameters
    ----------
    answer
        What the reader found: a number, or a tensor or an array of one entry.
    expected
        What it should be.
    rtol, atol
        It is accepted within `atol + rtol * abs(expected)`.
    what
        What it is in physics, such as `"the KL gap"`.
    hint
        What to think of, told when the answer is wrong.
    """
    value = _number(answer, what)
    # compared in double precision, whatever the reader worked in
    near = functools.partial(_near, rtol=rtol, atol=atol)
    if near(value, expected):
        return
    if near(-value, expected):
        found = "has the wrong sign"
    elif expected and near(value / 2, expected):
        found = "is twice what it should be"
    elif expected and near(2 * value, expected):
        found = "is half of what it should be"
    elif expected and value and near(1 / value, expected):
        found = "is upside down: its inverse is right"
    elif abs(value - expected) < 0.05 * abs(expected):
        found = f"is close, but not within {max(rtol, atol / abs(expected)):.1%}"
    else:
        found = f"is not {value:.6g}, which is too {'large' if value > expected else 'small'}"
    raise NotYet(f"{what} {found}" + (f"; {hint}" if hint else ""))


def seeded_cases(
    make: Callable[[torch.Generator], Sequence[Any]], count: int = 5, seed: int = 0
) -> list[tuple[Any, ...]]:
    """Return `count` tuples of arguments, each made from a generator of its own.

    Parameters
    ----------
    make
        Takes a `torch.Generator`, returns the arguments of one case.
    count, seed
        How many, and the seed of the first; the next ones follow.
    """
    return [tuple(make(torch.Generator().manual_seed(seed + i))) for i in range(count)]


def compare_function(
    answer: Any,
    reference: Callable[..., Any],
    cases: Iterable[Sequence[Any]],
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    what: str = "your function",
    describe: Callable[..., str] | None = None,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    hint: str | None = None,
) -> None:
    """Raise `NotYet` unless a reader's function returns what `reference` does, in each case.

    Parameters
    ----------
    answer
        The reader's function. It gets copies of the arguments, and may change them.
    reference
        A function that is right; it returns a number or a tensor.
    cases
        Tuples of arguments, such as those of `seeded_cases`.
    rtol, atol
        Each entry is accepted within `atol + rtol * s`, with `s` the largest entry of the
        reference in size: an entry that is zero up to rounding need not be so to more digits.
    what
        What the function is in physics, such as `"the induced kernel"`.
    describe
        Says in physics terms what a case is, from its arguments, such as
        `"4 sites with mass squared 2"`; by default the cases are counted.
    prepare
        Done to what the reader's function returns before it is compared, such as sorting.
    hint
        What to think of, told when a value is wrong.
    """
    if not callable(answer):
        raise NotYet(f"{what} should be a function, and it is {_kind(answer)}")
    for i, arguments in enumerate(cases, start=1):
        case = f"for {describe(*arguments)}" if describe else f"in case {i}"
        expected = torch.as_tensor(reference(*copy.deepcopy(arguments)))
        try:
            returned = answer(*copy.deepcopy(arguments))
        except Exception as error:
            reason = " ".join(str(error).split())
            raise NotYet(f"{case}, {what} fails with {type(error).__name__}: {reason}") from error
        if returned is None or returned is ...:
            raise NotYet(f"{what} returns nothing yet; is there a `return`?")
        found = as_tensor(returned, f"{case}, {what} returns")
        if prepare is not None:
            found = prepare(found)
        if found.shape != expected.shape:
            raise NotYet(
                f"{case}, {what} returns {_form(found)} where {_form(expected)} is expected"
            )
        found, expected = found.double(), expected.detach().cpu().double()
        if not torch.isfinite(found).all():
            raise NotYet(f"{case}, {what} returns values that are not finite")
        _compare_entries(found, expected, rtol, atol, f"{case}, {what}", hint)


def as_vector(answer: Any) -> Any:
    """Return a function that gives a tuple of numbers as one that gives a tensor."""
    if not callable(answer):
        return answer

    def collected(*arguments: Any) -> Any:
        returned = answer(*arguments)
        if isinstance(returned, tuple | list):
            return torch.stack([torch.as_tensor(r).double() for r in returned])
        return returned

    return collected


def _compare_entries(
    found: torch.Tensor,
    expected: torch.Tensor,
    rtol: float,
    atol: float,
    subject: str,
    hint: str | None,
) -> None:
    if not expected.numel():
        return
    scale = float(expected.abs().max())

    def off(values: torch.Tensor) -> torch.Tensor:
        return (values - expected).abs() > atol + rtol * scale

    wrong = off(found)
    if not wrong.any():
        return
    if not off(-found).any():
        deviation = "has the wrong sign"
    elif not off(found / 2).any():
        deviation = "is twice what it should be"
    elif not off(found * 2).any():
        deviation = "is half of what it should be"
    elif expected.ndim == 2 and expected.shape[0] == expected.shape[1] and not off(found.T).any():
        deviation = "is the transpose of what it should be"
    else:
        share = f"{int(wrong.sum())} of {wrong.numel()} entries" if wrong.ndim else "the value"
        largest = float((found - expected).abs().max())
        size = f"by {largest / scale:.2g} of the largest" if scale else "from zero"
        size = size if wrong.ndim or not scale else f"by {largest / scale:.2g} of what it should be"
        deviation = f"is not right: {share} {'differ' if wrong.ndim else 'differs'} {size}"
    raise NotYet(f"{subject} {deviation}" + (f"; {hint}" if hint else ""))


def _near(value: float, expected: float, rtol: float, atol: float) -> bool:
    return abs(value - expected) <= atol + rtol * abs(expected)


def _number(answer: Any, what: str) -> float:
    tensor = as_tensor(answer, f"{what} should be a number, and it is")
    if tensor.numel() != 1:
        raise NotYet(f"{what} should be one number, and it is {_form(tensor)}")
    value = float(tensor.double())
    if not math.isfinite(value):
        raise NotYet(f"{what} should be finite, and it is {value}")
    return value


def as_tensor(answer: Any, subject: str) -> torch.Tensor:
    """Return a real tensor on the CPU, or raise `NotYet` beginning with `subject`."""
    if isinstance(answer, numbers.Number) and isinstance(answer, complex):
        raise NotYet(f"{subject} complex")
    try:
        tensor = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotYet(f"{subject} {_kind(answer)}") from error
    if tensor.is_complex():
        raise NotYet(f"{subject} complex")
    return tensor


def _kind(answer: Any) -> str:
    if callable(answer):
        return "a function: call it, and pass on what it returns"
    name = {"str": "text", "list": "a list", "tuple": "a tuple", "dict": "a dictionary"}
    return name.get(type(answer).__name__, f"of type {type(answer).__name__}")


def _form(tensor: torch.Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}" if tensor.ndim else "a number"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
