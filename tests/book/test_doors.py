"""The ways into the site: menus, search, the Tab key, paper, and what a page weighs."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup
from PIL import Image
from visits import CHAPTERS, DESK, MADE, PAGES, PHONE, TABLET, Visit

from physml_book.finding import British, british
from physml_book.plain import plain

FEW = [PAGES[0], CHAPTERS[0], CHAPTERS[-1]]

# ---------------------------------------------------------------------------------------- menus

SEEN = """side => {
  const part = document.querySelector(`.bd-sidebar-${side}`);
  const box = part.getBoundingClientRect(), style = getComputedStyle(part);
  return style.visibility === "visible" && box.width > 0 && box.left >= 0 && box.left < innerWidth;
}"""


# when all that moves has come to its end
AT_REST = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  await frame(), await frame();
  const ends = document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime));
  await Promise.allSettled(ends.map(a => a.finished));
  await frame();
}"""


def press(visit: Visit, how: str, button) -> None:
    if how == "touch":
        button.tap()
    elif how == "mouse":
        button.click()
    else:
        button.focus()
        visit.page.keyboard.press("Enter")
    visit.page.evaluate(AT_REST)


WAYS = [(name, "mouse") for name in (*PAGES, *MADE)]
WAYS += [(name, how) for name in FEW for how in ("touch", "keyboard")]


@pytest.mark.browser
@pytest.mark.parametrize(("name", "how"), WAYS)
def test_menu_buttons_open_their_menus(visit, name: str, how: str) -> None:
    opened = visit(name, viewport=PHONE, has_touch=True, reduced_motion="reduce")
    page = opened.page
    for size in (PHONE, TABLET):
        page.set_viewport_size(size)
        for side in ("primary", "secondary"):
            button = page.locator(f".{side}-toggle")
            if side == "secondary" and not button.count():
                continue  # a page without sections
            assert button.count() == 1
            assert button.get_attribute("aria-label")
            assert button.get_attribute("aria-expanded") == "false"
            press(opened, how, button)
            dialog = page.locator(f"#pst-{side}-sidebar-modal")
            assert dialog.evaluate("e => e.open")
            assert page.evaluate(SEEN, side)
            assert dialog.locator("a[href]").count() > 0
            assert button.get_attribute("aria-expanded") == "true"
            page.keyboard.press("Escape")
            assert not dialog.evaluate("e => e.open")
            if how == "keyboard":
                assert button.evaluate("e => e === document.activeElement")
    assert opened.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("how", ["mouse", "keyboard"])
@pytest.mark.parametrize("name", [*FEW, "search"])
def test_button_hides_and_shows_the_contents_on_a_wide_screen(visit, name: str, how: str) -> None:
    opened = visit(name, viewport=DESK, reduced_motion="reduce")
    button = opened.page.locator(".primary-toggle")
    for shown in (False, True):
        assert button.get_attribute("aria-expanded") == str(not shown).lower()
        press(opened, how, button)
        assert opened.page.evaluate(SEEN, "primary") == shown
    assert opened.page.evaluate("() => Object.keys(localStorage).sort()") == ["mode", "theme"]


@pytest.mark.browser
def test_a_place_that_is_chosen_on_a_phone_is_shown(visit) -> None:
    page = visit(CHAPTERS[0], viewport=PHONE, has_touch=True).page
    page.locator(".secondary-toggle").tap()
    link = page.locator("#pst-secondary-sidebar-modal a[href^='#']").nth(3)
    target = link.get_attribute("href")
    link.tap()
    page.wait_for_timeout(300)
    assert not page.locator("#pst-secondary-sidebar-modal").evaluate("e => e.open")
    assert -5 < page.locator(f"[id='{target[1:]}']").evaluate("e => e.getBoundingClientRect().top")


@pytest.mark.browser
def test_search_opens_by_touch_and_no_hint_covers_it(visit) -> None:
    page = visit(CHAPTERS[0], viewport=PHONE, has_touch=True, is_mobile=True).page
    page.locator(".secondary-toggle").tap()
    page.wait_for_timeout(800)  # a hint comes after half a second
    page.keyboard.press("Escape")
    page.locator(".article-header-buttons .search-button").tap()
    assert page.locator("#pst-search-dialog").evaluate("e => e.open")


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_list_of_pages_arrives_with_title_and_here_in_view(visit, name: str) -> None:
    page = visit(name).page
    page.wait_for_timeout(100)
    top, here = page.evaluate("""() => {
      const box = document.querySelector("#pst-primary-sidebar");
      const here = [...box.querySelectorAll(".current > a")].pop();
      return [box.scrollTop, here ? here.getBoundingClientRect().bottom : 0];
    }""")
    assert here <= DESK["height"]
    assert top == 0 or here + top > DESK["height"]  # the last ones are further down than a screen


# --------------------------------------------------------------------------------------- search

CHAPTER = {
    "Hammersley": "1.",
    "MRF": "1.",
    "graphical model": "1.",
    "Gibbs sampling": "1.",
    "φ⁴": "2.",
    "phi4": "2.",
    "sign problem": "2.",
    "natural gradient": "2.",
    "regularization": "3.",
    "renormalization": "3.",
    "renormalisation": "3.",
    "Boltzmann machine": "3.",
    "RBM": "3.",
    "singular value decomposition": "3.",
    "random matrix": "4.",
    "quantization": "5.",
    "stochastic quantization": "5.",
    "stochastic quantisation": "5.",
    "Langevin": "5.",
    "HMC": "5.",
    "Hamiltonian Monte Carlo": "5.",
    "phase transition": "5.",
    "κ": "5.",
    "kappa": "5.",
    "thermalization": "5.",
    "Fokker-Planck": "5.",
    "score": "6.",
    "score matching": "6.",
    "DDPM": "6.",
    "diffusion model": "6.",
    "Tweedie": "6.",
}
FOUND = """() => [...document.querySelectorAll("#search-results li")].map(e => ({
  title: e.querySelector("a").textContent,
  excerpt: e.querySelector(".context")?.textContent ?? "",
  href: e.querySelector("a").href}))"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("quantization", "quantisation"),
        ("renormalized", "renormalised"),
        ("optimizer", "optimiser"),
        ("behavior", "behaviour"),
        ("neighbors", "neighbours"),
        ("center", "centre"),
        ("modeling", "modelling"),
        ("analyze", "analyse"),
    ],
)
def test_spellings_are_one_word(one: str, other: str) -> None:
    stem = British({}).stem
    assert stem(one) == stem(other)
    assert british("a size, a horizon") == "a size, a horizon"


@pytest.mark.parametrize(
    ("tex", "characters"),
    [
        (r"\phi^4", "φ⁴"),
        (r"e^{-S}", "e^(−S)"),
        (r"\langle\phi_i\rangle", "⟨φᵢ⟩"),
        (r"\frac{a+b}{2}", "(a+b)/2"),
        (r"\tau_{\rm int}", "τᵢₙₜ"),
        (r"\hat p^2", "p̂²"),
        (r"\mathrm{KL}(p\Vert q)\ge0", "KL(p‖q) ≥ 0"),
        (r"\Delta H", "ΔH"),
    ],
)
def test_formulas_in_plain_characters(tex: str, characters: str) -> None:
    assert plain(tex) == characters


@pytest.fixture
def search(visit) -> Callable[[str], list[dict]]:
    """What is found for a word, on one page for all words."""
    opened: list[Visit] = []

    def find(word: str) -> list[dict]:
        if not opened:
            opened.append(visit("search"))
        page = opened[0].page
        page.goto(page.url.partition("?")[0] + f"?q={quote(word)}")
        page.wait_for_function("() => /found|match/.test(Search.status.textContent)")
        assert opened[0].errors == []
        return page.evaluate(FOUND)

    return find


@pytest.mark.browser
def test_search_leads_to_the_chapter(search, html: Path) -> None:
    astray, anchors = {}, set()
    for word, chapter in CHAPTER.items():
        found = search(word)
        titles = [each["title"] for each in found]
        if not titles or not titles[0].startswith(chapter):
            astray[word] = titles[:2]
        assert len(set(titles)) == len(titles)
        assert not [title for title in titles if "\\" in title]
        anchors |= {each["href"] for each in found[:5]}
    assert astray == {}
    for address in anchors:
        page, _, anchor = address.partition("#")
        text = (html / page.split("/", 3)[3]).read_text(encoding="utf-8")
        assert not anchor or f'id="{anchor}"' in text


@pytest.mark.browser
def test_excerpts_are_sentences_of_the_page(search, html: Path) -> None:
    for word in ("Hammersley", "score", "phase transition", "HMC", "quantization"):
        for each in search(word)[:5]:
            excerpt = each["excerpt"]
            assert len(excerpt.split()) > 3, each
            assert not re.search(r"\\|\.ipynb|\.pdf|Contents", excerpt)
            # its words stand so, one after the other, in the article
            page = each["href"].partition("#")[0].split("/", 3)[3]
            soup = BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser")
            article = " ".join(re.findall(r"[a-z]{3,}", soup.select_one("article").text.lower()))
            for run in re.findall(r"(?:[A-Za-z]{3,} ){3,}", excerpt):
                assert " ".join(re.findall(r"[a-z]{3,}", run.lower())) in article


@pytest.mark.browser
def test_search_works_without_a_server(visit) -> None:
    opened = visit("search", as_file=True, query="?q=score%20matching")
    opened.page.wait_for_function("() => /found/.test(Search.status.textContent)")
    found = opened.page.evaluate(FOUND)
    assert found[0]["title"].startswith("6.")
    assert found[0]["excerpt"]
    assert opened.errors == []


# ------------------------------------------------------------------------------------- equations

DISPLAYS = """() => {
  document.querySelectorAll("article details").forEach(d => d.open = true);
  return [...document.querySelectorAll("article div.math")].map(box => {
    const outer = box.querySelector("mjx-container"), inner = outer?.querySelector("mjx-math");
    if (!inner) return null;
    const number = box.querySelector(".eqno");
    const seen = Math.min(inner.getBoundingClientRect().right, outer.getBoundingClientRect().right);
    return {
      name: (number?.textContent ?? "") + outer.textContent.slice(0, 40),
      over: outer.scrollWidth - outer.clientWidth,
      spills: box.scrollWidth - box.clientWidth,
      under: number ? seen - number.getBoundingClientRect().left : 0,
      off: box.getBoundingClientRect().right - innerWidth,
      cue: box.matches(".physml-more-right") && getComputedStyle(box, "::before").content === '"›"'
        && getComputedStyle(box, "::before").visibility === "visible",
      stop: outer.tabIndex,
    };
  }).filter(found => found);
}"""


def displays(visit: Visit) -> list[dict]:
    visit.page.evaluate(DISPLAYS)  # opens what is folded
    visit.page.wait_for_timeout(300)
    return visit.page.evaluate(DISPLAYS)


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_equations_fit_a_wide_screen(visit, name: str) -> None:
    found = displays(visit(name, viewport=DESK))
    assert [e for e in found if max(e["over"], e["spills"], e["under"], e["off"]) > 1] == []
    assert [e for e in found if e["stop"] >= 0] == []


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_equations_wider_than_a_phone_say_so(visit, name: str) -> None:
    found = displays(visit(name, viewport=PHONE))
    assert [e for e in found if max(e["spills"], e["under"], e["off"]) > 1] == []
    silent = [e for e in found if (e["over"] > 1) != e["cue"]]
    assert silent == []
    assert [e for e in found if (e["over"] > 1) != (e["stop"] == 0)] == []


@pytest.mark.browser
def test_equation_scrolls_to_its_end_by_keyboard(visit) -> None:
    page = visit(CHAPTERS[0], viewport={"width": 240, "height": 700}).page
    page.wait_for_selector(".physml-goes-on")
    box = page.locator(".physml-goes-on").first
    box.locator("mjx-container").focus()
    for _ in range(100):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert "physml-more-left" in box.get_attribute("class")
    assert "physml-more-right" not in box.get_attribute("class")


@pytest.mark.browser
def test_formulas_in_a_line_do_not_move_it(visit) -> None:
    """Lines with formulas are as far apart as those without, and the letters of one size."""
    page = visit(CHAPTERS[0]).page
    size, text = page.evaluate("""() => {
      const formula = document.querySelector("article p mjx-container");
      return [formula, formula.closest("p")].map(e => parseFloat(getComputedStyle(e).fontSize));
    }""")
    assert 1 <= size / text < 1.15
    gaps = page.evaluate("""() => [...document.querySelectorAll("article section > p")]
      .filter(p => p.querySelector("mjx-container"))
      .map(p => {
        const lines = p.getBoundingClientRect().height / parseFloat(getComputedStyle(p).lineHeight);
        return lines - Math.round(lines);
      })""")
    assert sum(abs(gap) < 0.1 for gap in gaps) > 0.9 * len(gaps)


@pytest.mark.browser
def test_table_wider_than_a_phone_says_so(visit) -> None:
    page = visit("notation", viewport=PHONE).page
    page.wait_for_timeout(100)
    tables = page.locator(".pst-scrollable-table-container").evaluate_all("""tables => tables
      .map(e => [e.scrollWidth > e.clientWidth + 1, getComputedStyle(e).maskImage !== "none"])""")
    assert tables
    assert all(over == faded for over, faded in tables)


# ----------------------------------------------------------------------------------- the Tab key

STOPS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex]")]
  .filter(e => e.tabIndex >= 0 && e.checkVisibility({visibilityProperty: true}))
  .map(e => e.tagName.toLowerCase() + "." + e.className)"""


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_tab_key_stops_where_there_is_something_to_do(visit, name: str) -> None:
    page = visit(name).page
    stops = page.evaluate(STOPS)
    assert [stop for stop in stops if stop.startswith("mjx")] == []
    assert [stop for stop in stops if "physml-code" in stop] == []
    assert [stop for stop in stops if "headerlink" in stop] == []
    if name in CHAPTERS:
        assert len(stops) < 250
    assert any("primary-toggle" in stop for stop in stops)
    assert any("search-button" in stop for stop in stops)


# ----------------------------------------------------------------------------------------- paper


@pytest.fixture(scope="module")
def paper(chromium, server: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict]:
    """Save a page in dark mode as a PDF; its text, and its first pages as pictures."""
    if not (shutil.which("pdftotext") and shutil.which("pdftoppm")):
        pytest.skip("needs poppler-utils")
    known: dict[str, dict] = {}

    def save(name: str) -> dict:
        if name not in known:
            folder = tmp_path_factory.mktemp("paper")
            opened = Visit(chromium, f"{server}{name}.html", color_scheme="dark", viewport=DESK)
            page = opened.page
            assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
            page.pdf(path=folder / "page.pdf", format="A4", print_background=True)
            code = page.evaluate(
                "() => [...document.querySelectorAll('div.cell_input pre')].map(e => e.textContent)"
            )
            heads = page.evaluate(
                "() => [...document.querySelectorAll('article :is(h2, h3)')].map(e => e.innerText)"
            )
            after = page.evaluate("() => document.documentElement.dataset.theme")
            folded = page.locator("article details:not([open])").count()
            opened.context.close()
            run = output_of(["pdftotext", "-layout", "page.pdf", "-"], folder)
            output_of(["pdftoppm", "-r", "40", "-png", "page.pdf", "page"], folder)
            pictures = [Image.open(p).convert("L") for p in sorted(folder.glob("page*.png"))]
            known[name] = {
                "text": run, "code": code, "heads": heads, "after": after, "folded": folded,
                "pictures": pictures,
            }  # fmt: skip
        return known[name]

    return save


def output_of(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.browser
@pytest.mark.parametrize("name", [CHAPTERS[1], CHAPTERS[3]])
def test_page_is_printed_whole_and_light(paper, name: str) -> None:
    made = paper(name)
    text = squeezed(made["text"])
    for code in made["code"]:
        lines = [squeezed(line) for line in code.splitlines() if squeezed(line)]
        lost = [line for line in lines if line not in text]
        assert lost == []
    # nothing twice: a line that is long enough to be one of its kind
    everything = squeezed("".join(made["code"]))
    for line in {squeezed(line) for code in made["code"] for line in code.splitlines()}:
        if len(line) > 50 and everything.count(line) == 1:
            assert text.count(line) == 1, line
    for head in made["heads"]:
        words = [word for word in re.findall(r"[A-Za-z]{4,}", head)]
        assert all(word in made["text"] for word in words), head
    assert "\\(" not in made["text"]
    assert "Click to show" not in made["text"]
    assert made["after"] == "dark"
    assert made["folded"] > 0  # folded again on the screen
    assert len(made["pictures"]) > 5
    for picture in made["pictures"]:
        shades = picture.histogram()
        assert sum(shades[240:]) > 0.5 * sum(shades)  # the ground is white
        assert sum(shades[:100]) < 0.3 * sum(shades)
    assert any(sum(picture.histogram()[:80]) for picture in made["pictures"])  # and the text dark


@pytest.mark.browser
def test_printed_figures_keep_their_captions(visit) -> None:
    page = visit(CHAPTERS[3]).page
    page.emulate_media(media="print")
    styles = page.evaluate(
        "() => [...document.querySelectorAll('article figure')]"
        ".map(e => getComputedStyle(e).breakInside)"
    )
    assert set(styles) == {"avoid"}
    assert page.locator(".bd-sidebar-primary").is_hidden()
    assert page.locator(".bd-header-article").is_hidden()


# ---------------------------------------------------------------------------------------- weight


@pytest.fixture
def weigh(chromium, server: str) -> Callable[[str], dict[str, int]]:
    """A first visit: the bytes of each file that is asked for."""

    def visit(name: str) -> dict[str, int]:
        context = chromium.new_context(viewport=DESK)
        page, got = context.new_page(), []
        page.on("response", lambda response: got.append(response))
        page.goto(f"{server}{name}.html", wait_until="networkidle")
        assert [r.url for r in got if r.status >= 400] == []
        sizes = {r.url.split("/", 3)[3]: len(r.body()) for r in got if r.url.startswith("http")}
        context.close()
        return sizes

    return visit


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_first_visit_is_light(weigh, name: str) -> None:
    sizes = weigh(name)
    heavy = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert sum(sizes.values()) < 2_500_000, heavy
    assert not [url for url in sizes if re.search(r"fontawesome|fa-\w+-\d+|searchindex", url)]


ICONS = """() => {
  const found = [];
  for (const e of document.querySelectorAll("[class*='fa-'], .admonition-title, summary"))
    for (const part of ["::before", "::after"]) {
      const style = getComputedStyle(e, part);
      const sign = style.content.match(/^"([\\ue000-\\uf8ff])"$/);
      if (sign) found.push([sign[1], style.fontFamily, style.fontWeight, e.className]);
    }
  return found;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("name", [*FEW, "glossary", "search"])
def test_every_icon_is_in_the_font(visit, html: Path, name: str) -> None:
    from fontTools.ttLib import TTFont

    page = visit(name).page
    page.evaluate("() => document.fonts.ready")
    icons = page.evaluate(ICONS)
    have = TTFont(html / "_static" / "icons.woff").getBestCmap()
    assert [each for each in icons if ord(each[0]) not in have] == []
    assert {weight for _, _, weight, _ in icons} == {"900"}
    assert all("Font Awesome 6 Free" in family for _, family, _, _ in icons)
    worn = " ".join(each[3] for each in icons)
    assert all(f"fa-{icon}" in worn for icon in ("bars", "magnifying-glass", "sun", "moon"))
    # and they are drawn, not boxes for what is missing: what is drawn differs from icon to icon
    buttons = page.locator(".article-header-buttons :is(button, a):visible")
    drawn = [buttons.nth(i).screenshot() for i in range(buttons.count())]
    assert len(set(drawn)) == len(drawn)
    for picture in drawn:
        low, high = Image.open(io.BytesIO(picture)).convert("L").getextrema()
        assert high - low > 80


# ------------------------------------------------------------------------------------ the head


@pytest.mark.parametrize("name", [*PAGES, *MADE])
def test_page_says_what_it_is(html: Path, name: str) -> None:
    soup = BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    head = soup.head
    assert len(head.select("meta[name=viewport]")) == 1
    assert "\\" not in head.title.text
    icon = head.select_one("link[rel=icon]")["href"]
    assert (html / name).parent.joinpath(icon).resolve().is_file()
    if name in MADE:
        return
    (about,) = (each["content"] for each in head.select("meta[name=description]"))
    assert 40 < len(about) <= 200
    assert "\\" not in about
    title = head.select_one("meta[property='og:title']")["content"]
    assert title and "\\" not in title
    image = head.select_one("meta[property='og:image']")["content"]
    assert image.endswith((".png", ".jpg"))  # what shows a link shows no drawing
    file = (html / name).parent.joinpath(image).resolve()
    assert file.read_bytes()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")


@pytest.mark.browser
def test_copy_buttons_are_seen_where_nothing_hovers(visit) -> None:
    page = visit(CHAPTERS[0], viewport=PHONE, has_touch=True, is_mobile=True).page
    assert page.evaluate("() => matchMedia('(hover: none)').matches")
    shown = page.evaluate(
        "() => [...document.querySelectorAll('button.copybtn')]"
        ".map(e => getComputedStyle(e).opacity)"
    )
    assert set(shown) == {"1"}


# ------------------------------------------------------------------------------------ dark mode


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS[:1])
def test_pictures_stand_on_the_ground_of_a_dark_page(visit, name: str) -> None:
    page = visit(name, color_scheme="dark").page
    styles = page.evaluate("""() => [...document.querySelectorAll(".bd-content .cell_output img")]
      .map(e => { const s = getComputedStyle(e);
        return [s.filter, s.padding, s.borderTopWidth, s.backgroundColor].join(" "); })""")
    slabs = page.evaluate("""() => [...document.querySelectorAll(".cell_output .text_html")]
      .map(e => getComputedStyle(e).backgroundColor)""")
    assert set(slabs) <= {"rgba(0, 0, 0, 0)"}
    assert set(styles) == {"invert(0.93) hue-rotate(180deg) 0px 0px rgba(0, 0, 0, 0)"}
    first = page.locator(".cell_output img").first
    page.emulate_media(media="print", color_scheme="dark")
    assert first.evaluate("e => getComputedStyle(e).filter") == "none"
    page.emulate_media(media="screen", color_scheme="dark")
    first.evaluate("e => e.classList.add('physml-keep')")
    assert first.evaluate("e => getComputedStyle(e).filter") == "none"


# --------------------------------------------------------------------------------- names in code


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_names_in_tables_break_only_at_their_joints(visit, size: dict) -> None:
    page = visit("notation", viewport=size).page
    broken = page.evaluate("""() => [...document.querySelectorAll("td code .pre")].flatMap(e =>
      [...e.childNodes].filter(n => n.nodeType === 3).filter(n => {
        const range = document.createRange();
        range.selectNodeContents(n);
        return range.getClientRects().length > 1;
      }).map(n => n.textContent))""")
    assert [word for word in broken if not re.search(r"[\s(,*]", word)] == []
