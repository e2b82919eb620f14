from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest
import torch

from physml.errors import ShapeError
from physml.statistics import Estimate
from physml.tables import Table, compare


class Cells(HTMLParser):
    """The text of each cell, row by row, and the attributes of the heads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.heads: list[dict] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            if tag == "th":
                self.heads.append(dict(attrs))

    def handle_data(self, data):
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_text_is_aligned_and_html_has_the_same_entries():
    table = Table({"κ": [0.21, 0.27], "⟨φ^2⟩": [Estimate(0.7623, 0.003), Estimate(1.2, 0.1)],
                   "phase": ["symmetric", "near"]})  # fmt: skip
    assert repr(table).splitlines() == [
        "   κ     ⟨φ^2⟩  phase",
        "0.21  0.762(3)  symmetric",
        "0.27  1.20(10)  near",
    ]
    cells = Cells(table._repr_html_())
    assert cells.rows == [["κ", "⟨φ2⟩", "phase"], ["0.21", "0.762(3)", "symmetric"],
                          ["0.27", "1.20(10)", "near"]]  # fmt: skip
    assert all(head["scope"] == "col" for head in cells.heads)
    assert "⟨φ<sup>2</sup>⟩" in table._repr_html_()
    assert [head["style"] for head in cells.heads] == ["text-align:right"] * 2 + ["text-align:left"]


@pytest.mark.parametrize(
    ("head", "html"),
    [
        ("U_L", "U<sub>L</sub>"),
        ("τ_{int}", "τ<sub>int</sub>"),
        ("check_this", "check_this"),
        ("a < b", "a &lt; b"),
    ],
)
def test_heads_are_set(head, html):
    assert f">{html}</th>" in Table({head: [1]})._repr_html_()


@pytest.mark.parametrize(
    ("entry", "html"),
    [
        ("< 1e-12", "&lt; 10<sup>−12</sup>"),
        (-1.234e-7, "−1.234 × 10<sup>−7</sup>"),
        ("1.2(3)e+05", "1.2(3) × 10<sup>5</sup>"),
        (-0.5, "−0.5"),
        ("Gaussian-2", "Gaussian-2"),
        ("2-3", "2-3"),
        ("(a)-1", "(a)-1"),
    ],
)
def test_numbers_are_typeset_in_html_alone(entry, html):
    table = Table({"a": [entry]}, f"so {entry}")
    assert f">{html}</td>" in table._repr_html_()
    assert f"<caption>so {html}</caption>" in table._repr_html_()
    assert "×" not in repr(table) and "−" not in repr(table)


def test_marks_of_levels_are_for_html():
    table = Table({"τ_{int}": ["e^{−2}", "χ_2"]})
    assert repr(table).splitlines() == ["τ_int", "e^−2", "χ_2"]
    assert "e<sup>−2</sup>" in table._repr_html_()


def test_entries_are_printed_in_few_digits():
    table = Table({"a": [math.pi, torch.tensor(2.0), 12, None, "x"]})
    assert [row[0] for row in table.rows] == ["3.142", "2", "12", "None", "x"]


def test_bad_tables_are_refused():
    with pytest.raises(ShapeError, match="one length"):
        Table({"a": [1, 2], "b": [1]})
    with pytest.raises(ValueError, match="at least one column"):
        Table({})


def test_distance_is_in_errors_where_there_are_some():
    table = compare(
        [("a", Estimate(1.0, 0.1), 1.2), ("b", 1.0, Estimate(1.2, 0.1)), ("c", 0.5, 0.25)]
    )
    assert [row[-1] for row in table.rows] == ["−2.0 σ", "−2.0 σ", "+0.25"]
    assert list(table.columns) == ["quantity", "measured", "exact", "apart"]


def test_rounding_is_given_as_a_bound():
    table = compare([("a", 1 + 1e-15, 1.0)], within=1e-12)
    assert table.rows[0][-1] == "< 1e-12"
    assert compare([("a", 1.01, 1.0)], relative=0.02).rows[0][-1] == "+1 %"


@pytest.mark.parametrize(
    ("row", "limits", "message"),
    [
        (("a", Estimate(1.0, 0.1), 1.5), {"sigmas": 4}, "a: .* 5.0 standard errors apart"),
        (("b", 1.1, 1.0), {"within": 0.01}, "b: 1.1 differs from 1 by 0.1, more than 0.01"),
        (("c", 1.1, 1.0), {"relative": 0.05}, "c: .* by 10 %, more than 5 %"),
        (("d", math.nan, 1.0), {"within": 1.0}, "d: nan"),
    ],
)
def test_what_is_too_far_apart_stops(row, limits, message):
    with pytest.raises(AssertionError, match=message):
        compare([("fine", row[2], row[2]), row], **limits)
