"""What a reader meets on the pages of chapters: the first screen, code, numbers, figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from visits import CHAPTERS, DESK, PHONE

# pixels of a column of text on a phone of 390, and of the smallest letters in its figures
COLUMN, LETTERS = 350, 9.0


@pytest.fixture(scope="module")
def soups(built: Path) -> dict[str, BeautifulSoup]:
    return {
        name: BeautifulSoup((built / "html" / f"{name}.html").read_text("utf-8"), "html.parser")
        for name in CHAPTERS
    }


# ---------------------------------------------------------------- the first screen


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_first_figure_stands_in_the_first_screen_and_a_half(visit, name: str) -> None:
    page = visit(name, viewport=DESK).page
    top = page.evaluate(
        "() => document.querySelector('article figure').getBoundingClientRect().top + scrollY"
    )
    assert top < 1.5 * DESK["height"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_opens_with_question_figure_goals_and_folded_cost(soups, name: str) -> None:
    article = soups[name].select_one("article")
    order = [
        article.select_one(".physml-question"),
        article.select_one("figure"),
        article.select_one(".physml-goals"),
        article.select_one(".dropdown, details.dropdown"),
    ]
    assert all(order)
    places = [list(article.descendants).index(part) for part in order]
    assert places == sorted(places)
    assert order[0].get_text().strip().endswith("?")
    assert len(order[2].select("li")) == 3
    assert "minutes" in order[2].get_text()
    assert "Cost:" in order[3].get_text()
    assert article.select_one("section > h1") is not None


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_closes_with_what_fails_and_what_is_known(soups, name: str) -> None:
    heads = [h.get_text().strip("#\n ") for h in soups[name].select("article h2")]
    words = [re.sub(r"^[\d.]+\s*", "", head) for head in heads]
    assert words[-3:] == ["Where it fails", "What we now know", "Exercises"]


# ---------------------------------------------------------------- code and what it prints


WIDE = """() => [...document.querySelectorAll("article div.cell")].flatMap(cell =>
  [...cell.querySelectorAll(":scope > .cell_input pre, :scope > .cell_output pre")])
  .filter(e => e.getClientRects().length)
  .filter(e => e.scrollWidth > e.clientWidth + 2 ||
               e.parentElement.scrollWidth > e.parentElement.clientWidth + 2)
  .map(e => e.textContent.trim().slice(0, 100))"""


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_open_code_and_print_outs_fit_the_column(visit, name: str) -> None:
    assert visit(name, viewport=DESK).page.evaluate(WIDE) == []


@pytest.mark.browser
def test_a_long_line_of_code_is_seen(visit) -> None:
    """The test above can fail."""
    page = visit(CHAPTERS[0], viewport=DESK).page
    page.evaluate(
        "() => { document.querySelector('article div.cell > .cell_input pre').append("
        "'x'.repeat(200)) }"
    )
    assert len(page.evaluate(WIDE)) == 1


def open_cells(soup: BeautifulSoup) -> list[str]:
    cells = soup.select("article div.cell > div.cell_input pre")
    return [cell.get_text() for cell in cells]


@pytest.mark.parametrize("name", CHAPTERS)
def test_open_cells_are_short_and_teach(soups, name: str) -> None:
    """Twelve lines or so; tests and drawing are folded."""
    for code in open_cells(soups[name]):
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= 18, code
        assert "assert " not in code, code
        assert "plt." not in code and "plotting.show" not in code, code


def verdicts(soup: BeautifulSoup) -> list[str]:
    """The lines of print-outs that hold no more than True or False."""
    outputs = "\n".join(pre.get_text() for pre in soup.select("article div.cell_output pre"))
    cells = "\n".join(cell.get_text() for cell in soup.select("article div.cell_output td"))
    bare = r"^.*(?:^|[:,=] ?)(?:True|False|yes|no)\s*$"
    return re.findall(bare, f"{outputs}\n{cells}", re.MULTILINE)


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_stand_where_a_verdict_would(soups, name: str) -> None:
    assert verdicts(soups[name]) == []


def test_a_bare_verdict_is_seen() -> None:
    page = "<article><div class=cell_output><pre>tight: True\nx = 1.2\n</pre></div></article>"
    assert verdicts(BeautifulSoup(page, "html.parser")) == ["tight: True"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_folded_code_says_what_it_holds(soups, name: str) -> None:
    lines = [s.get_text(" ", strip=True) for s in soups[name].select("details.hide > summary")]
    assert lines
    assert [line for line in lines if not line.startswith("Code")] == []


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_figure_has_a_number_and_its_slider_too(soups, name: str) -> None:
    article = soups[name].select_one("article")
    figures = [f for f in article.select("figure") if f.find_parent("figure") is None]
    assert figures
    for figure in figures:
        (caption,) = figure.select("figcaption")
        assert caption.select_one(".caption-number") is not None, figure.get("id")
        assert len(caption.get_text().split()) <= 60, caption.get_text()
    assert all(f.find_parent("figure") for f in article.select("figure.physml-flipbook"))


def letters(svg: str) -> tuple[float, float]:
    """Return the width of a drawing and the smallest size of its letters, in points.

    matplotlib draws letters of a size 100; those of formulas are scaled once more within.
    """
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])
    sizes = [100 * float(size) for size in re.findall(r"\) scale\((0\.\d+) -0\.\d+\)", svg)]
    return width, min(sizes, default=12.0)


@pytest.mark.parametrize("name", CHAPTERS)
def test_letters_in_figures_can_be_read_on_a_phone(soups, built: Path, name: str) -> None:
    page = built / "html" / f"{name}.html"
    images = soups[name].select("article .cell_output img")
    for image in (i for i in images if i["src"].endswith(".svg")):
        width, size = letters((page.parent / image["src"]).resolve().read_text("utf-8"))
        shown = min(COLUMN, width * 96 / 72)
        assert size * shown / width >= LETTERS, image["alt"]


def test_small_letters_are_seen() -> None:
    svg = '<svg width="460.8pt"><g transform="translate(1 2) scale(0.12 -0.12)">'
    assert letters(svg + '<g transform="translate(1 2) scale(0.08 -0.08)">') == (460.8, 8.0)


@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_have_their_place_before_they_come(soups, name: str) -> None:
    """Or the page would move under who reads it, and jump past the place a link leads to."""
    images = soups[name].select("article .cell_output img")
    placed = [bool(i.get("width")) or "width:" in i.get("style", "") for i in images]
    assert all(placed)


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_are_sharp_on_a_screen_of_fine_pixels(visit, name: str) -> None:
    page = visit(name, viewport=DESK).page
    blurred = page.evaluate("""async () => {
      const images = [...document.querySelectorAll("article .cell_output img")]
        .filter(i => i.getClientRects().length && !/\\.svg$/.test(i.src));
      images.forEach(i => { i.loading = "eager" });  // or they wait to be seen
      await Promise.all(images.map(i => i.decode()));
      return images.filter(i => i.naturalWidth < 1.95 * i.getBoundingClientRect().width)
        .map(i => i.alt);
    }""")
    assert blurred == []


@pytest.mark.browser
def test_table_of_code_fits_a_phone_or_scrolls_by_itself(visit) -> None:
    for name in CHAPTERS:
        page = visit(name, viewport=PHONE).page
        wide = page.evaluate("""() => [...document.querySelectorAll(".physml-table")]
          .filter(e => e.getBoundingClientRect().right > innerWidth + 1).length""")
        assert wide == 0, name
