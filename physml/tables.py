"""Results in columns: a real table where HTML is shown, aligned text where it is not.

`Table` shows what was computed; `compare` shows what was measured beside what is known, says how
far apart they are, and stops the notebook if that is too far.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .errors import ShapeError, check_positive
from .statistics import Estimate

__all__ = ["Table", "compare"]

_NUMBER = re.compile(r"[-+−<≤±]? ?\d[\d.,]*(\(\d[\d.]*\))?(e[-+]\d+)?( ?[%σ])?|–|[-+]?inf|")


@dataclass(frozen=True, repr=False)
class Table:
    """A table with a head, shown as HTML in a notebook or page, and as text elsewhere.

    Parameters
    ----------
    columns
        The entries of each column by its head, all of one length. An `Estimate` is printed with its
        error, a float in four digits (format others yourself), all else by `str`. `_` and `^` set
        what follows lower and higher: `"U_L"`, `"⟨φ^4⟩"`, `"τ_{int}"`. HTML has 3 × 10⁻⁵ for
        `3e-05`.
    caption
        A sentence over the table; most tables on a page need none.

    Raises
    ------
    ShapeError
        If the columns differ in length.
    ValueError
        If there is no column.
    """

    columns: Mapping[str, Sequence[Any]]
    caption: str = ""

    def __post_init__(self) -> None:
        columns = {head: tuple(map(_text, entries)) for head, entries in self.columns.items()}
        if not columns:
            raise ValueError("columns must hold at least one column")
        lengths = {head: len(entries) for head, entries in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(f"columns must all have one length, not {lengths}")
        object.__setattr__(self, "columns", columns)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The entries as they are printed, row by row."""
        return list(zip(*self.columns.values(), strict=True))

    def __repr__(self) -> str:
        lines = [
            [re.sub(r"([_^])\{(.*?)\}", r"\1\2", word) for word in line]
            for line in (self.columns, *self.rows)
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [_is_numeric(entries) for entries in self.columns.values()]
        text = [
            "  ".join(
                word.rjust(width) if to_right else word.ljust(width)
                for word, width, to_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.caption, *text] if self.caption else text)

    def _repr_html_(self) -> str:
        style = [
            ' style="text-align:right"' if _is_numeric(entries) else ' style="text-align:left"'
            for entries in self.columns.values()
        ]
        heads = "".join(
            f'<th scope="col"{how}>{_raised(head)}</th>'
            for head, how in zip(self.columns, style, strict=True)
        )
        body = "\n".join(
            "<tr>"
            + "".join(
                f"<td{how}>{_raised(_typeset(word))}</td>"
                for word, how in zip(row, style, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{_raised(_typeset(self.caption))}</caption>" if self.caption else ""
        return (
            f'<div class="physml-table" style="overflow-x:auto"><table>{caption}\n'
            f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        )


def compare(
    rows: Iterable[tuple[str, Any, Any]],
    *,
    heads: tuple[str, str, str] = ("quantity", "measured", "exact"),
    sigmas: float | None = None,
    within: float | None = None,
    relative: float | None = None,
) -> Table:
    """Return a table of numbers beside what they should be, and how far apart they are.

    The distance is in standard errors where a number has one, and else the difference; what is
    below `within` is given as that bound, for rounding differs between machines.

    Parameters
    ----------
    rows
        For each row what is compared, the number, and what it should be: floats or `Estimate`.
    heads
        The heads of these three columns.
    sigmas
        The distance in standard errors that is allowed, for rows with an error.
    within
        The difference that is allowed, for rows without.
    relative
        The difference allowed as a fraction of what the number should be, for rows without error.

    Raises
    ------
    AssertionError
        If a row is further apart than allowed: it names the row.
    """
    names, here, there, apart = [], [], [], []
    for name, got, expected in rows:
        names.append(name)
        here.append(got)
        there.append(expected)
        apart.append(_apart(name, got, expected, sigmas, within, relative))
    columns = {heads[0]: names, heads[1]: here, heads[2]: there, "apart": apart}
    return Table(columns)


def _apart(
    name: str,
    got: Any,
    expected: Any,
    sigmas: float | None,
    within: float | None,
    relative: float | None,
) -> str:
    known = [x for x in (got, expected) if isinstance(x, Estimate) and x.error > 0]
    if known:
        z = got.z(expected) if isinstance(got, Estimate) else -expected.z(got)
        if sigmas is not None and not abs(z) <= check_positive("sigmas", sigmas):
            raise AssertionError(
                f"{name}: {got} and {expected} are {abs(z):.1f} standard errors apart, "
                f"more than {sigmas:g}"
            )
        return f"{z:+.1f} σ".replace("-", "−")
    difference = float(got) - float(expected)
    if relative is not None:
        share, limit = abs(difference / float(expected)), check_positive("relative", relative)
        if not share <= limit:
            raise AssertionError(
                f"{name}: {_text(got)} differs from {_text(expected)} by {100 * share:.2g} %, "
                f"more than {100 * limit:g} %"
            )
        return f"{100 * difference / float(expected):+.2g} %".replace("-", "−")
    if within is not None:
        if not abs(difference) <= check_positive("within", within):
            raise AssertionError(
                f"{name}: {_text(got)} differs from {_text(expected)} by {abs(difference):.2g}, "
                f"more than {within:g}"
            )
        return f"< {within:.0e}".replace("e-0", "e-")
    return f"{difference:+.2g}".replace("-", "−") if difference else "0"


def _text(entry: Any) -> str:
    if isinstance(entry, Estimate | str | bool | int):
        return str(entry)
    try:
        number = float(entry)
    except (TypeError, ValueError):
        return str(entry)
    return f"{number:.4g}"


def _is_numeric(entries: Iterable[str]) -> bool:
    return all(_NUMBER.fullmatch(entry) for entry in entries)


def _typeset(text: str) -> str:
    """Return a text with powers of ten for 3e-05, and a minus sign for the hyphen of a number."""

    def power(match: re.Match[str]) -> str:
        mantissa, exponent = match[1], int(match[2])
        factor = "" if mantissa == "1" else f"{mantissa} × "
        return f"{factor}10^{{{exponent}}}"

    text = re.sub(r"(?<![\w.])(\d(?:\.\d+)?(?:\(\d+\))?)e([-+]\d+)\b", power, text)
    return re.sub(r"(?<![\w)-])-(?=\d|inf\b)", "−", text)


def _raised(text: str) -> str:
    """Return text as HTML, with what follows `_` and `^` set lower and higher."""

    def level(match: re.Match[str]) -> str:
        tag = "sub" if match[1] == "_" else "sup"
        return f"<{tag}>{match[2] or match[3]}</{tag}>"

    # within a word, so that names with an underscore of their own can be told: they are longer
    return re.sub(r"([_^])(?:\{([^}]*)\}|(\w)(?!\w))", level, escape(text))
