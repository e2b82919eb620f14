"""The built site in a real browser, without a network, as a reader has it."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


PAGES = pages()
CHAPTERS = [name for name in PAGES if "/" in name]


@pytest.fixture(scope="module")
def html(built: Path) -> Path:
    return built / "html"


@pytest.fixture(scope="module")
def server(html: Path) -> Iterator[str]:
    """The site at an address of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


class Visit:
    """A page in the browser: what it logged, and what it asked of the network in vain."""

    def __init__(self, browser, address: str, **context: object) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.outside: list[str] = []
        here = address.split("/", 3)[:3]

        def gate(route) -> None:
            url = route.request.url
            if url.startswith(("data:", "blob:")) or url.split("/", 3)[:3] == here:
                route.continue_()
            else:
                self.outside.append(url)
                route.abort()

        self.page.route("**/*", gate)
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address, wait_until="load")
        self.page.evaluate(
            "() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null"
        )


@pytest.fixture
def visit(chromium, html: Path, server: str) -> Iterator[Callable[..., Visit]]:
    """Open a page, from the server or as a file."""
    visits: list[Visit] = []

    def open_page(name: str, as_file: bool = False, **context: object) -> Visit:
        base = html.as_uri() + "/" if as_file else server
        visits.append(Visit(chromium, f"{base}{name}.html", **{"viewport": DESK, **context}))
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("as_file", [False, True], ids=["served", "file"])
@pytest.mark.parametrize("name", PAGES)
def test_page_needs_no_network_and_logs_no_error(visit, name: str, as_file: bool) -> None:
    opened = visit(name, as_file)
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


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_dark_mode_is_dark_and_readable(visit, name: str) -> None:
    """The text of paragraphs has the contrast that WCAG asks for (4.5), in both modes."""
    contrast = """() => {
      const light = rgb => rgb.map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const parse = css => css.match(/[\\d.]+/g).map(Number);
      const behind = e => {
        for (; e; e = e.parentElement) {
          const c = parse(getComputedStyle(e).backgroundColor);
          if (c.length < 4 || c[3] > 0.99) return c.slice(0, 3);
        }
        return [255, 255, 255];
      };
      const ratios = [...document.querySelectorAll("article p, article li, article figcaption")]
        .filter(e => e.getClientRects().length && e.textContent.trim())
        .map(e => {
          const a = light(parse(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e));
          return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 60)];
        });
      return {
        theme: document.documentElement.dataset.theme,
        page: light(behind(document.querySelector("article"))),
        poor: ratios.filter(([ratio]) => ratio < 4.5),
      };
    }"""
    for scheme in ("dark", "light"):
        seen = visit(name, color_scheme=scheme).page.evaluate(contrast)
        assert seen["theme"] == scheme
        assert (seen["page"] < 0.05) == (scheme == "dark")
        assert seen["poor"] == []


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
def test_slider_fits_a_phone(visit, name: str) -> None:
    figures = visit(name, viewport=PHONE).page.locator("figure.physml-flipbook")
    for index in range(figures.count()):
        figure = figures.nth(index)
        slider, image = figure.locator("input[type=range]"), figure.locator("img >> visible=true")
        for part in (slider, image.first):
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"]
        assert slider.bounding_box()["width"] > 100


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
        if image.find_parent("figure") is None
        or not image.find_parent("figure").select("figcaption")
    ]
    assert bare == []


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_site_lead_somewhere(
    soups: dict[str, BeautifulSoup], html: Path, name: str
) -> None:
    here = html / f"{name}.html"
    broken = []
    for link in soups[name].select("a[href]"):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if target.is_dir():
            target /= "index.html"
        if not target.exists():
            broken.append(link["href"])
        elif parts.fragment and target.suffix == ".html":
            text = target.read_text(encoding="utf-8")
            if f'id="{unquote(parts.fragment)}"' not in text:
                broken.append(link["href"])
    assert broken == []


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
    top = soups[name].select_one("article section").get_text()[:600]
    assert re.search(r"(second|minute)s?\b", top)
