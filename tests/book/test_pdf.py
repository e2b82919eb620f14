"""The PDF: what a slider, a log and the whole book become. LaTeX runs where it is installed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from background import Done
from bs4 import BeautifulSoup
from conftest import MISSING_FOR_PDF
from visits import CHAPTERS

import build_book
from physml.flipbook import Flipbook
from physml_book.printed import frames, read_slider


def test_faults_of_a_log_are_found_once_and_remarks_are_not() -> None:
    log = """\
LaTeX Warning: Reference `fig:a' on page 3 undefined on input line 20.
LaTeX Warning: Reference `fig:a' on page 3 undefined on input line 20.
LaTeX Warning: Citation `x' on page 1 undefined on input line 2.
LaTeX Warning: Hyper reference `page::doc' on page 118 undefined on input line 98.
LaTeX Warning: Label `b' multiply defined.
Missing character: There is no ☂ ("2602) in font "CMU Serif"!
! Undefined control sequence.
Overfull \\hbox (3.3pt too wide) in paragraph at lines 1--2
LaTeX Warning: There were undefined references.
LaTeX Font Warning: Some font shapes were not available, defaults substituted.
"""
    faults = build_book.log_faults(log)
    assert len(faults) == 6
    assert faults[1].startswith("Citation `x'")
    assert sum("fig:a" in fault for fault in faults) == 1
    assert any("☂" in fault for fault in faults)
    assert build_book.log_faults("Overfull \\hbox (3pt too wide)\nOutput written.") == []


def draw(value: float):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, value], [0, 1])
    ax.set(xlim=(0, 9))
    return figure


@pytest.mark.parametrize(("start", "chosen"), [(0, "037"), (2, "027"), (7, "037")])
def test_a_slider_stands_as_three_frames(start: int, chosen: str) -> None:
    book = Flipbook.draw(
        draw, range(8), name="noise <ratio>", alt=lambda n: f"Frame {n} & more", start=start
    )
    slider = read_slider(f"<p>before</p>{book.html()}")
    assert slider is not None
    assert "".join(frame.label for frame in frames(slider)) == chosen
    assert slider.frames[3].alt == "Frame 3 & more"
    assert slider.sentence() == (
        "On the page a slider moves: noise <ratio>, 8 values from 0 to 7."
    )


def test_few_frames_are_all_shown_and_other_html_is_no_slider() -> None:
    book = Flipbook.draw(draw, [1, 2], name="n", alt="A line.")
    slider = read_slider(book.html())
    assert [frame.label for frame in frames(slider)] == ["1", "2"]
    assert read_slider("<figure><img src='data:image/png;base64,AA==' alt='x'></figure>") is None


@pytest.fixture(scope="module")
def printed(beside: Callable[[str], Done], built: Path, note: Callable[[str], None]) -> Path:
    """The PDF of the book, made after the site; its folder."""
    if MISSING_FOR_PDF:
        missing = ", ".join(MISSING_FOR_PDF)
        pytest.skip(f"needs {missing}: install what `make pdf` names, and poppler-utils")
    made = beside("the PDF")
    assert made.status == 0, made.said
    note(f"The PDF was made in {made.seconds:.0f} s: _build/latex/physml.pdf")
    runs = next((built / ".jupyter_cache").glob("*/physml-runs.json"))
    for path in (runs, built / "html" / "index.html"):
        assert path.stat().st_mtime < made.began, "the PDF executed a chapter, or touched the site"
    return built / "latex"


@pytest.fixture(scope="module")
def text(printed: Path) -> str:
    done = subprocess.run(
        ["pdftotext", "-layout", printed / "physml.pdf", "-"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def test_the_book_is_whole(text: str, root: Path) -> None:
    assert text.count("\f") > 150
    words = " ".join(text.split())
    for found in (
        "Diffusion models of lattice φ",
        "Theorem 1.1 (Hammersley and Clifford)",
        "Fig. 3.1",
        "Exercise 7.1",
        "On the page a slider moves",
    ):
        assert found in words, found
    assert "??" not in text
    _title, toc, body = words.split("Introduction", 2)
    assert "Bibliography" in toc and "Index" in toc
    assert "Fields as graphs" in toc and "Data, figures and exercises" not in toc
    assert "Hammersley and Peter Clifford" in body


def test_the_numbers_are_those_of_the_site(printed: Path, built: Path) -> None:
    """Of equations, and of figures: what LaTeX counts, the site counts too."""
    aux = (printed / "physml.aux").read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"\\newlabel\{equation:([^:}]+):([^}]+)\}\{\{([\d.]+)\}", aux)
    # the site writes its anchors without colons
    equations = {f"{page}:{name.replace(':', '-')}": number for page, name, number in found}
    labels = dict(re.findall(r"\\newlabel\{([^}]+)\}\{\{([\d.]+)\}", aux))
    assert len(equations) > 50
    compared = 0
    for page in sorted((built / "html").glob("*/*.html")):
        name = page.relative_to(built / "html").with_suffix("").as_posix()
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for block in soup.select("div.math[id]"):
            number = block.select_one(".eqno")
            key = f"{name}:{block['id'].removeprefix('equation-')}"
            if number is not None and key in equations:
                assert number.get_text().strip("()#¶ \n") == equations[key], key
                compared += 1
        for figure in soup.select("figure[id]"):
            number = figure.select_one(".caption-number")
            key = f"{name}:{figure['id']}"
            if number is not None and key in labels:
                assert number.get_text().split()[-1] == labels[key], key
                compared += 1
    assert compared > 80


def test_reading_takes_as_long_as_on_the_site(text: str, built: Path) -> None:
    words = " ".join(text.split())
    found = re.findall(r"Reading it takes about (\d+) minutes", words)
    site = []
    for name in CHAPTERS:
        page = (built / "html" / f"{name}.html").read_text(encoding="utf-8")
        site += re.findall(r"Reading it takes about (\d+) minutes", page)
    assert found == site and len(found) == len(CHAPTERS)


def test_nothing_runs_into_the_margin(printed: Path) -> None:
    log = (printed / "physml.log").read_text(encoding="utf-8", errors="replace")
    wide = re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\).*", log)
    assert [points for points in wide if float(points) > 20] == []
