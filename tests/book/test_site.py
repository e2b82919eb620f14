"""The built site in a real browser, without a network, as a reader has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import axe_playwright_python
import nbformat
import pytest
from bs4 import BeautifulSoup
from visits import CHAPTERS, MADE, PAGES, PHONE, Visit

from check_links import Site


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES + MADE)
def test_page_needs_no_server_and_logs_no_error(visit, name: str) -> None:
    """As a file; that it needs no network where it is served is asked below, in the same visit."""
    opened = visit(name, as_file=True)
    opened.page.wait_for_timeout(300)
    assert opened.outside == []
    assert opened.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, name: str) -> None:
    page = visit(name, viewport=PHONE).page
    # An element may be wider than the screen if it, or a box around it, scrolls by itself.
    wide = page.evaluate("""() => {
      const scrolls = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
      const inside = e => { while ((e = e.parentElement)) if (scrolls(e)) return true; };
      return [...document.querySelectorAll("article *")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .filter(e => !scrolls(e) && !inside(e) && !e.closest("mjx-assistive-mml"))
        .map(e => e.tagName + "." + e.className + ": " + e.textContent.trim().slice(0, 60));
    }""")
    assert wide == []
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_keep_their_shape_on_a_phone(visit, name: str) -> None:
    page = visit(name, viewport=PHONE).page
    bent = page.evaluate("""async () => {
      const seen = [...document.querySelectorAll("article .cell_output img")]
        .filter(image => image.getClientRects().length);
      await Promise.all(seen.map(image => (image.loading = "eager", image.decode())));
      const ratio = image => image.clientWidth * image.naturalHeight
        / (image.clientHeight * image.naturalWidth);
      return seen.filter(image => Math.abs(ratio(image) - 1) > 0.03).map(image => image.alt);
    }""")
    assert bent == []


# axe-core, once in each scheme. It does not look into what MathJax draws, which is one picture with
# a text beside it, nor, to save time, into the words of code, whose colours are the same on all
# pages; contrast is all that a dark page has of its own.
DRAWN, CODE = "mjx-container", ".highlight pre"
AXE = """([leave, only]) => axe.run(
  {exclude: leave.map(part => [part])},
  {resultTypes: ["violations"], preload: false, selectors: false, ...only},
).then(found => found.violations
  .filter(v => ["serious", "critical"].includes(v.impact))
  .flatMap(v => v.nodes.map(n => `${v.id}: ${n.failureSummary} ${n.html.slice(0, 200)}`)))"""
LIGHT = """() => {
  for (let e = document.querySelector("article") ?? document.body; e; e = e.parentElement) {
    const [r, g, b, a = 1] = getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number);
    if (a > 0.99) return (r + g + b) / 765;
  }
  return 1;
}"""


@pytest.fixture
def axe(visit) -> Callable[..., Visit]:
    """Open a page with axe-core in it, and without the motion that would blend two colours."""
    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()

    def open_page(name: str) -> Visit:
        opened = visit(name, color_scheme="light", reduced_motion="reduce")
        opened.page.evaluate(script)
        return opened

    return open_page


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES + MADE)
def test_page_is_accessible_in_light_and_dark_and_needs_no_network(axe, name: str) -> None:
    opened = axe(name)
    page = opened.page
    leave = [DRAWN] if name == CHAPTERS[0] else [DRAWN, CODE]
    assert page.evaluate(LIGHT) > 0.9
    assert page.evaluate(AXE, [leave, {}]) == []
    page.evaluate("() => { document.documentElement.dataset.theme = 'dark' }")
    assert page.evaluate(LIGHT) < 0.2
    assert page.evaluate(AXE, [leave, {"runOnly": ["color-contrast"]}]) == []
    assert opened.outside == []
    assert opened.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_page_has_the_scheme_of_the_system(visit, scheme: str) -> None:
    page = visit(PAGES[0], color_scheme=scheme).page
    assert page.evaluate("() => document.documentElement.dataset.theme") == scheme


@pytest.mark.browser
def test_axe_sees_a_poor_contrast_and_a_picture_without_words(axe) -> None:
    """The test above can fail."""
    page = axe(PAGES[0]).page
    page.evaluate("""() => {
      const poor = document.querySelector("article p");
      poor.style.color = "#aaa";
      poor.append(document.createElement("img"));
    }""")
    found = {line.split(":")[0] for line in page.evaluate(AXE, [[], {}])}
    assert {"color-contrast", "image-alt"} <= found


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_every_formula_is_set(visit, name: str) -> None:
    page = visit(name).page
    assert page.locator("mjx-container").count() > 0
    wrong = page.evaluate(
        "() => [...document.querySelectorAll('[data-mjx-error], mjx-merror')]"
        ".map(e => e.textContent)"
    )
    assert wrong == []


SHOWN = """figure => [...figure.querySelectorAll("img")]
  .filter(e => e.getClientRects().length && getComputedStyle(e).visibility !== "hidden")
  .map(e => [e.getAttribute("alt"), e.src.length, e.naturalWidth])"""


@pytest.mark.browser
@pytest.mark.parametrize("as_file", [False, True], ids=["served", "file"])
@pytest.mark.parametrize("name", CHAPTERS)
def test_sliders_work_by_keyboard_and_mouse(visit, name: str, as_file: bool) -> None:
    page = visit(name, as_file).page
    books = page.locator("figure.physml-flipbook")
    assert books.count() > 0
    for index in range(books.count()):
        figure = books.nth(index)
        slider = figure.locator("input[type=range]")
        assert slider.evaluate("e => [...e.labels].some(l => l.textContent.trim())")
        slider.scroll_into_view_if_needed()
        slider.focus()
        page.keyboard.press("Home")
        first = figure.evaluate(SHOWN)
        assert len(first) == 1
        alt, _, width = first[0]
        assert alt
        assert width > 0
        page.keyboard.press("ArrowRight")
        second = figure.evaluate(SHOWN)
        assert len(second) == 1
        assert second != first
        box = slider.bounding_box()
        page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        assert slider.input_value() == slider.get_attribute("max")
        last = figure.evaluate(SHOWN)
        assert len(last) == 1
        assert last != first


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_every_frame_has_its_words_and_moves_nothing(visit, name: str) -> None:
    """Each frame has a description of its own, and the page stays as long as it is."""
    page = visit(name).page
    figures = page.locator("figure.physml-flipbook")
    for index in range(figures.count()):
        frames = figures.nth(index).evaluate("""figure => {
          const slider = figure.querySelector("input[type=range]");
          return [...figure.querySelectorAll("img")].map((image, i) => {
            slider.value = i;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
            const seen = [...figure.querySelectorAll("img")].filter(e => e.getClientRects().length);
            return {alt: image.alt, own: seen.length === 1 && seen[0] === image,
                    told: slider.getAttribute("aria-valuetext") === image.dataset.label,
                    height: document.documentElement.scrollHeight};
          });
        }""")
        assert len({frame["alt"] for frame in frames}) == len(frames)
        assert all(frame["own"] and frame["told"] for frame in frames)
        assert len({frame["height"] for frame in frames}) == 1
    page.emulate_media(media="print")
    for index in range(figures.count()):
        assert len(figures.nth(index).evaluate(SHOWN)) == 1
        assert not figures.nth(index).locator("input[type=range]").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_slider_fits_a_phone_and_a_finger(visit, name: str) -> None:
    page = visit(name, viewport=PHONE, has_touch=True).page
    figures = page.locator("figure.physml-flipbook")
    for index in range(figures.count()):
        figure = figures.nth(index)
        slider, image = figure.locator("input[type=range]"), figure.locator("img >> visible=true")
        for part in (slider, image.first):
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]
        assert slider.bounding_box()["width"] > 100
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        for end, place in (("max", box["x"] + box["width"] - 3), ("min", box["x"] + 3)):
            page.touchscreen.tap(place, box["y"] + box["height"] / 2)
            assert slider.input_value() == slider.get_attribute(end)


# ---------------------------------------------------------------- the files of the site


@pytest.fixture(scope="module")
def soups(html: Path) -> dict[str, BeautifulSoup]:
    return {
        name: BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in PAGES
    }


@pytest.mark.parametrize("name", PAGES)
def test_pictures_say_what_they_show(soups: dict[str, BeautifulSoup], name: str) -> None:
    images = soups[name].select("article img")
    mute = [str(image)[:120] for image in images if len(image.get("alt", "").split()) < 2]
    assert mute == []
    # myst-nb gives a picture without a description the name of its file
    assert not [i["alt"] for i in images if i["alt"].endswith((".png", ".svg"))]


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_have_captions(soups: dict[str, BeautifulSoup], name: str) -> None:
    article = soups[name].select_one("article")
    bare = [
        image["alt"]
        for image in article.select(".cell_output img")
        if not any(figure.select("figcaption") for figure in image.find_parents("figure"))
    ]
    assert bare == []


@pytest.fixture(scope="module")
def site(html: Path) -> Site:
    return Site(html)


@pytest.mark.parametrize("name", [*PAGES, *MADE, "index"])
def test_links_within_the_site_lead_somewhere(site: Site, name: str) -> None:
    assert site.named(name)
    assert site.broken(name) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_download_button_leads_to_the_notebook(
    soups: dict[str, BeautifulSoup], html: Path, name: str
) -> None:
    (link,) = soups[name].select("a.btn-download-notebook-button")
    path = ((html / f"{name}.html").parent / link["href"]).resolve()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    title = soups[name].select_one("article h1")
    assert notebook.cells[0].source.startswith("# ")
    words = re.findall(r"[A-Za-z]{4,}", title.get_text())
    assert all(word in notebook.cells[0].source for word in words)


@pytest.mark.parametrize("name", CHAPTERS)
def test_page_says_what_it_costs(soups: dict[str, BeautifulSoup], name: str) -> None:
    box = soups[name].select_one("article .physml-goals").get_text()
    assert 5 < int(re.search(r"about (\d+) minutes", box)[1]) < 120  # to read
    page = soups[name].select_one("article").get_text()
    assert re.search(r"\bCost: [^.]*\b(seconds|minutes?)\b", page)  # to run
