"""The first page: what it shows first, its film, the map that it shares, and the way to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from visits import CHAPTERS, DESK, PAGES, PHONE

FIRST = PAGES[0]
STRIPS = """() => [...document.querySelectorAll(".physml-film i")]
  .filter(e => e.getClientRects().length)
  .map(e => [getComputedStyle(e).visibility, e.getAnimations().length])"""


def soup(html: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


@pytest.mark.browser
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_first_screen_has_title_sentence_picture_and_doors(visit, screen: dict) -> None:
    page = visit(FIRST, viewport=screen).page

    def place(selector: str) -> tuple[float, float]:
        box = page.locator(selector).first.bounding_box()
        return box["y"], box["y"] + box["height"]

    order = ["article h1", "article section > p", ".physml-film img >> visible=true",
             ".physml-doors .sd-card >> nth=2"]  # fmt: skip
    tops, ends = zip(*map(place, order), strict=True)
    assert list(tops) == sorted(tops)
    assert ends[-1] <= screen["height"]  # all doors can be seen
    assert place("article h2")[0] >= screen["height"]  # and nothing else
    doors = page.locator(".physml-doors a").evaluate_all("a => a.map(e => e.getAttribute('href'))")
    assert doors == [f"{CHAPTERS[0]}.html#chapter-markov-random-fields", "downloads.html",
                     "teaching.html"]  # fmt: skip


@pytest.mark.browser
def test_film_plays_once_and_again_when_asked(visit) -> None:
    page = visit(FIRST).page
    page.wait_for_function("""() => [...document.querySelectorAll(".physml-film i")]
      .every(e => getComputedStyle(e).visibility === "hidden")""")  # it has played
    assert page.evaluate(STRIPS) == [["hidden", 0]] * 3
    page.get_by_role("button", name="Play again").click()
    assert page.evaluate(STRIPS) == [["visible", 1]] * 3


@pytest.mark.browser
def test_film_stands_still_for_who_wants_no_motion(visit) -> None:
    page = visit(FIRST, reduced_motion="reduce", viewport=PHONE).page
    assert page.evaluate(STRIPS) == [["hidden", 0]]  # a phone shows one field
    page.get_by_role("button", name="Play again").click()
    assert page.evaluate(STRIPS) == [["visible", 1]]


def test_pictures_of_the_first_page_have_words_and_little_weight(html: Path) -> None:
    article = soup(html, FIRST).select_one("article")
    assert len(article.select(".physml-chapters .sd-card img")) == len(CHAPTERS)
    assert len(article.select(".physml-film img")) == 3
    assert all(len(img["alt"].split()) > 5 for img in article.select("img"))
    assert len(str(article.select_one(".physml-film"))) < 600_000


def test_map_is_drawn_once_and_shown_twice(html: Path) -> None:
    """One source: the picture on the lecturers' page is that of the first page."""
    alts = [{img["alt"] for img in soup(html, name).select("article img")} for name in
            (FIRST, "teaching")]  # fmt: skip
    (alt,) = alts[0] & alts[1]
    assert "chapter" in alt


def test_last_chapter_leads_to_the_ending(html: Path) -> None:
    link = soup(html, CHAPTERS[-1]).select_one("a.right-next")
    assert link["href"] == "../closing.html"
    assert len(soup(html, "closing").select("article .cell_output table tr")) == 6
