"""A term shows its glossary entry: by mouse, by keyboard, on a phone, and without a network."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from bs4 import BeautifulSoup
from conftest import TinyBook
from visits import DESK, PAGES, PHONE, Visit

from physml_book.terms import linked_terms

TOC = """\
format: jb-book
root: intro
chapters:
  - file: part/page
  - file: glossary
"""
GLOSSARY = r"""# Words

:::{glossary}
action
  A function $S$; the {term}`score` is minus its gradient.

residual force
residual gradient
  What is left.

score
  $\nabla\ln p$, see [the first page](intro.md).

unused
  Nobody asks for it.
:::
"""
PAGE = r"""# A page

Far from here the {term}`action` and its {term}`score <score>` are known, and again
the {term}`action`.
Nothing {term}`is left <residual gradient>` but a $\phi$.

""" + "\n\n".join(["More text."] * 40)
BOX = "#physml-entry"


@pytest.fixture(scope="module")
def book(tiny: TinyBook) -> Path:
    tiny.write("book/_toc.yml", TOC)
    tiny.write("book/intro.md", "# A book\n\nIt has an {term}`action`.\n")
    tiny.write("book/part/page.md", PAGE)
    tiny.write("book/glossary.md", GLOSSARY)
    tiny.write("book/references.bib", "")
    status, said = tiny.build(PYTHONPATH=str(tiny.root))
    assert status == 0, said
    return tiny.root / "_build" / "html"


@pytest.fixture
def opened(chromium, book: Path):
    visits: list[Visit] = []

    def open_page(name: str = "part/page", **context: object) -> Visit:
        address = (book / f"{name}.html").as_uri()
        visits.append(Visit(chromium, address, **{"viewport": DESK, **context}))
        return visits[-1]

    yield open_page
    for visit in visits:
        assert visit.errors == []
        visit.context.close()


def test_page_has_the_entries_of_its_own_terms_and_no_links_in_them(book: Path) -> None:
    soup = BeautifulSoup((book / "part/page.html").read_text(encoding="utf-8"), "html.parser")
    entries = {e["data-term"]: e for e in soup.select("template.physml-entry")}
    assert list(entries) == ["term-action", "term-score", "term-residual-gradient"]
    assert "A function" in entries["term-action"].get_text()
    assert entries["term-residual-gradient"].get_text().split("\n")[0] == "residual gradient"
    assert not soup.select("template a")
    assert "Nobody asks" not in soup.get_text()


@pytest.mark.browser
def test_mouse_opens_stays_and_leaves(opened) -> None:
    page = opened().page
    link, box = page.locator("a:has(.std-term)").first, page.locator(BOX)
    assert box.count() == 0
    link.hover()
    box.wait_for(state="visible")
    assert "A function" in box.inner_text()
    page.wait_for_function("() => document.querySelector('#physml-entry mjx-container')")
    assert link.get_attribute("aria-describedby") == "physml-entry"
    box.hover()  # what is shown can be pointed at, to read or copy it
    page.wait_for_timeout(500)
    assert box.is_visible()
    page.mouse.move(5, 5)
    box.wait_for(state="hidden")
    assert link.get_attribute("aria-describedby") is None
    link.click()
    page.wait_for_url("**/glossary.html#term-action")


@pytest.mark.browser
def test_keyboard_opens_and_escape_closes(opened) -> None:
    page = opened().page
    link, box = page.locator("a:has(.std-term)").nth(1), page.locator(BOX)
    page.locator("a:has(.std-term)").first.focus()
    page.keyboard.press("Tab")
    assert link.evaluate("e => e === document.activeElement")
    box.wait_for(state="visible")
    assert box.inner_text().startswith("score")
    page.locator(f"{BOX} mjx-container").wait_for()
    page.wait_for_timeout(100)
    assert box.locator("a, button, [tabindex='0']").count() == 0  # no more stops than without
    page.keyboard.press("Escape")
    assert box.is_hidden()
    assert link.evaluate("e => e === document.activeElement")
    page.keyboard.press("Tab")
    box.wait_for(state="visible")
    assert box.inner_text().startswith("action")
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html#term-action")


@pytest.mark.browser
def test_tap_opens_within_the_screen_and_a_second_one_follows(opened) -> None:
    page = opened(viewport=PHONE, has_touch=True, is_mobile=True).page
    links, box = page.locator("a:has(.std-term)"), page.locator(BOX)
    for index in range(links.count()):
        page.keyboard.press("Escape")  # what is open may lie over the next one
        links.nth(index).tap()
        box.wait_for(state="visible")
        place = box.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= PHONE["width"]
        assert place["y"] >= 0
    assert "part/page" in page.url
    page.locator("article p").nth(3).tap()
    assert box.is_hidden()
    links.first.tap()
    links.first.tap()
    page.wait_for_url("**/glossary.html#term-action")


@pytest.mark.browser
def test_link_leads_to_the_glossary_without_a_script(opened) -> None:
    page = opened(java_script_enabled=False).page
    assert page.locator(BOX).count() == 0
    assert not page.locator("template").first.is_visible()
    page.locator("a:has(.std-term)").first.click()
    page.wait_for_url("**/glossary.html#term-action")


@pytest.mark.browser
def test_entry_is_accessible_in_light_and_dark(opened) -> None:
    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    page = opened(reduced_motion="reduce").page
    page.evaluate(script)
    page.locator("a:has(.std-term)").nth(1).hover()
    page.locator(BOX).wait_for(state="visible")
    for theme in ("light", "dark"):
        page.evaluate(f"() => {{ document.documentElement.dataset.theme = '{theme}' }}")
        found = page.evaluate("() => axe.run({include: ['article', '#physml-entry'], "
                              "exclude: ['mjx-container']}, {preload: false})")
        wrong = [(v["id"], n["html"], n["failureSummary"]) for v in found["violations"]
                 for n in v["nodes"]]
        assert wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_every_term_of_the_book_has_its_entry_on_the_page(html: Path, name: str) -> None:
    text = (html / f"{name}.html").read_text(encoding="utf-8")
    entries = BeautifulSoup(text, "html.parser").select("article template.physml-entry")
    assert [entry["data-term"] for entry in entries] == linked_terms(text)
    assert all(len(entry.get_text().split()) > 3 for entry in entries)


@pytest.mark.browser
@pytest.mark.parametrize("as_file", [False, True], ids=["served", "file"])
def test_entries_of_a_chapter_are_shown_with_their_formulas(visit, as_file: bool) -> None:
    name = next(name for name in PAGES if "/" in name)
    opened = visit(name, as_file)
    links = opened.page.locator("a:has(> .std-term)")
    assert links.count() > 5
    for index in range(links.count()):
        links.nth(index).focus()
        opened.page.keyboard.press("Shift")  # focus by keyboard, not by script
        opened.page.wait_for_function("() => !document.querySelector('#physml-entry .math')?."
                                      "textContent.includes('\\\\(')")
    assert opened.errors == []
    assert opened.outside == []
