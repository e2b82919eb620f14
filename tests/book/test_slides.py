"""The decks: what a slide says, and each slide in a real browser without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag
from PIL import Image

import slides

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = slides.chapters(ROOT)
STAGE = {"width": 1280, "height": 720}


def article(body: str, before: str = "") -> Tag:
    """A page with one section of this content."""
    page = f"""<article><section id="page"><h1>3. Chapter<a class="headerlink">#</a></h1>{before}
    <section id="one"><h2>3.1. One</h2>{body}</section></section></article>"""
    return BeautifulSoup(page, "html.parser").article


def shown(made: list[slides.Slide]) -> str:
    return "\n".join(item.source for slide in made for item in slide.items)


def notes(made: list[slides.Slide]) -> str:
    return "\n".join(item.note for slide in made for item in slide.items)


def section(body: str) -> list[slides.Slide]:
    """The slides of the one section, without the chapter's own."""
    return [s for s in slides.slides(article(body), Path()) if s.heading == "3.1. One"]


EQUATION = '<div class="math notranslate">\\[a=b\\]</div>'


# ---------------------------------------------------------------- what a slide says


def test_paragraph_gives_its_first_sentence_and_those_that_define() -> None:
    made = section("<p>First.\nSecond.\nThird is a <em>term</em>.</p><p>(By the way.)</p>")
    text = shown(made)
    assert "First." in text
    assert "<em>term</em>" in text
    assert "Second." not in text
    assert "By the way" not in text
    assert "Second." in notes(made)
    assert "By the way" in notes(made)


def test_marked_sentences_are_the_ones_that_are_shown() -> None:
    marked = '<span class="slide">Second \\(x\\).</span>'
    made = section(f"<p>First.\n{marked}\nThird <em>term</em>.</p>")
    assert [item.source for item in made[0].items if item.source] == [
        '<p class="point">Second \\(x\\).</p>'
    ]


def test_clause_stays_with_the_equation_it_leads_to() -> None:
    filler = "".join(f"<p>Sentence {i}.</p>" for i in range(9))
    made = section(f"{filler}<p>We know.\nIt obeys</p>{EQUATION}<p>where a is b.</p>")
    assert len(made) == 2
    sources = [item.source for item in made[1].items]
    assert sources[-3:-1] == ['<p class="point">It obeys</p>', EQUATION]
    assert 'class="point goes-on">where' in sources[-1]


def test_boxes_are_shown_and_proofs_and_folded_parts_are_for_the_notes() -> None:
    made = section(
        '<div class="proof theorem admonition"><p class="admonition-title">Theorem 1</p>'
        '<section id="proof-content"><p>It is so.</p></section></div>'
        '<div class="proof admonition" id="proof"><p>Proof. By hand.</p></div>'
        '<div class="dropdown admonition"><p>A derivation.</p></div>'
    )
    assert "It is so." in shown(made)
    assert "<section" not in shown(made)  # it would be a slide in a slide
    assert "By hand" not in shown(made)
    assert "By hand" in notes(made)
    assert "A derivation" not in shown(made)


def cell(tags: str, code: str, printed: str) -> str:
    output = f'<div class="output stream"><pre>{printed}</pre></div>' if printed else ""
    return (
        f'<div class="cell {tags}"><div class="cell_input"><pre>{code}</pre></div>'
        f'<div class="cell_output">{output}</div></div>'
    )


def test_cells_show_what_they_print_and_marked_ones_their_code() -> None:
    made = section(
        cell("", "print(1)", "one")
        + cell("tag_slide", "print(2)", "two")
        + cell("tag_no-slide", "print(3)", "three")
        + cell("", "print(4)", "\n".join(["four"] * 40))
    )
    text = shown(made)
    assert [word in text for word in ("one", "two", "three", "four")] == [True, True, False, False]
    assert [f"print({i})" in text for i in (1, 2, 3)] == [False, True, False]


def test_cells_show_their_tables() -> None:
    def table(words: list[str]) -> str:
        rows = "".join(f"<tr><td>{word}</td></tr>" for word in words)
        return cell("", "t", "").replace(
            '<div class="cell_output">',
            '<div class="cell_output"><div class="output text_html"><div class="physml-table">'
            f"<table>{rows}</table></div></div>",
        )

    text = shown(section(table(["short", "one"]) + table(["long"] * 40)))
    assert "<td>short</td>" in text
    assert "long" not in text


def test_numbered_slider_is_shown_once() -> None:
    slider = '<figure class="physml-flipbook"><div class="frames"></div></figure>'
    words = '<span class="caption-text">It moves. Then it stops.</span>'
    caption = f"<figcaption><p>{words}</p></figcaption>"
    figure = f'<div class="cell_output"><figure>{slider}{caption}</figure>'
    made = section(cell("", "t", "").replace('<div class="cell_output">', figure))
    assert shown(made).count("physml-flipbook") == 1
    assert "It moves." in shown(made)
    assert "Then it stops." not in shown(made)


def test_drawing_has_the_shape_that_it_says(tmp_path: Path) -> None:
    svg = '<?xml version="1.0"?>\n<svg width="460.8pt" viewBox="0 0 460.8 230.4"></svg>'
    (tmp_path / "a.svg").write_text(svg, encoding="utf-8")
    page = article('<figure><img src="a.svg"></figure>')
    assert 'height="230" src="a.svg" width="461"' in shown(slides.slides(page, tmp_path))


def test_exercises_are_listed_without_their_solutions() -> None:
    made = section(
        '<div class="exercise admonition"><p class="admonition-title">Exercise 1 (Name)</p>'
        '<section><p>Do it.</p></section></div><div class="solution dropdown admonition">'
        "<p>The secret.</p></div>"
    )
    assert "<li>Exercise 1 (Name)</li>" in shown(made)
    assert "secret" not in shown(made) + notes(made)


def test_figure_keeps_the_first_sentence_of_its_caption(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    page = article(
        cell("", "plot()", "").replace(
            '<div class="cell_output">',
            '<div class="cell_output"><figure><img src="a.png"><figcaption><p>'
            '<span class="caption-number">Fig. 1 </span><span class="caption-text">A line of '
            "\\(x\\). Dots: measured.</span></p></figcaption></figure>",
        )
    )
    made = slides.slides(page, tmp_path)
    assert "A line of \\(x\\)." in shown(made)
    assert "Dots" not in shown(made)
    assert "Dots: measured." in notes(made)


def test_long_section_is_spread_over_slides_that_have_room() -> None:
    made = section("".join(f"<p>Sentence {i} about something.</p>" for i in range(60)))
    assert len(made) > 3
    assert all(slide.height <= slides.ROOM for slide in made[:-1])
    assert [f"Sentence {i} " in shown(made) for i in range(60)] == [True] * 60


def test_links_within_the_book_become_words() -> None:
    made = section('<p>See <a href="#one">Fig. 1</a> and <a href="https://a.org/">this</a>.</p>')
    assert 'See Fig. 1 and <a href="https://a.org/">this</a>.' in shown(made)


# ---------------------------------------------------------------- the decks of the book


def test_index_leads_to_every_deck(decks: Path) -> None:
    soup = BeautifulSoup((decks / "index.html").read_text(encoding="utf-8"), "html.parser")
    links = [link["href"] for link in soup.select("a")]
    assert links == [f"{name.replace('/', '-')}.html" for name in CHAPTERS]
    assert all((decks / link).exists() for link in links)


# What is wrong with the slide in view, as it is shown.
FAULTS = """() => {
  const slide = Reveal.getCurrentSlide(), body = slide.querySelector(".body");
  const stage = slide.getBoundingClientRect(), scale = Reveal.getScale(), faults = [];
  const shown = e => e.getClientRects().length;
  for (const e of slide.querySelectorAll("*")) {
    // parts of a formula may be drawn outside their boxes, the formula itself may not
    if (!shown(e) || e.closest("aside, style, mjx-assistive-mml") || /^MJX-(?!CON)/.test(e.tagName))
      continue;
    const box = e.getBoundingClientRect();
    if (box.right > stage.right + 1 || box.bottom > stage.bottom + 1 || box.left < stage.left - 1)
      faults.push(`${e.tagName} ${e.className} is cut off`);
  }
  for (const e of body.querySelectorAll("img"))
    if (shown(e) && !(e.naturalWidth > 0 && e.clientHeight >= 200))
      faults.push(`a picture is ${e.naturalWidth} wide, shown ${e.clientHeight} high`);
  for (const e of body.querySelectorAll("p, li, pre, figcaption"))
    if (shown(e) && e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 16)
      faults.push(`text of ${getComputedStyle(e).fontSize}: ${e.textContent.slice(0, 40)}`);
  // boxes under each other do not overlap
  const boxes = [...body.children].filter(shown).map(e => e.getBoundingClientRect());
  for (let i = 1; i < boxes.length; i++)
    if (boxes[i].top < boxes[i - 1].bottom - 2) faults.push(`part ${i} lies over the one before`);
  if (/\\\\[([]/.test(body.innerText)) faults.push("a formula is not set");
  return faults;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_deck_can_be_shown(chromium, decks: Path, name: str) -> None:
    """Opened as a file: no network, no errors, and nothing cut off on any slide."""
    path = decks / f"{name.replace('/', '-')}.html"
    page = chromium.new_page(viewport=STAGE)
    errors: list[str] = []
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    here = (decks.as_uri() + "/", "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(here) or errors.append(f"asked for {r.url}"))
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        count = page.evaluate("Reveal.getTotalSlides()")
        assert 15 <= count <= 40
        assert page.locator("mjx-container").count() > 10
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        # the window of the notes has no MathJax: formulas stay as TeX
        assert page.locator("aside.notes mjx-container").count() == 0
        faults = {}
        for index in range(count):
            page.evaluate(f"Reveal.slide({index})")
            page.wait_for_function(
                "[...Reveal.getCurrentSlide().querySelectorAll('img')].every(e => e.complete)"
            )
            if found := page.evaluate(FAULTS):
                faults[index + 1] = found
        assert faults == {}
        assert errors == []
    finally:
        page.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("body.lastElementChild.style.marginTop = '800px'", "cut off"),
        ("body.lastElementChild.style.width = '1400px'", "cut off"),
        ("body.lastElementChild.style.fontSize = '9px'", "text of 9px"),
        ("body.lastElementChild.textContent = String.raw`\\(x\\)`", "not set"),
        ("body.append(document.createElement('img'))", "picture"),
        ("body.lastElementChild.style.marginTop = '-40px'", "lies over"),
    ],
)
def test_faults_are_seen(chromium, decks: Path, spoil: str, fault: str) -> None:
    page = chromium.new_page(viewport=STAGE)
    try:
        page.goto((decks / f"{CHAPTERS[0].replace('/', '-')}.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        page.evaluate("Reveal.slide(1)")
        assert page.evaluate(FAULTS) == []
        page.evaluate(f"body => {{ {spoil} }}", page.query_selector("section.present .body"))
        assert fault in " ".join(page.evaluate(FAULTS))
    finally:
        page.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", CHAPTERS)
def test_sliders_work_on_slides(chromium, decks: Path, name: str) -> None:
    """Turning a slider by keyboard changes the picture, and not the slide."""
    page = chromium.new_page(viewport=STAGE)
    try:
        page.goto((decks / f"{name.replace('/', '-')}.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        where = page.evaluate(
            "Reveal.getSlides().findIndex(e => e.querySelector('.physml-flipbook'))"
        )
        assert where >= 0
        page.evaluate(f"Reveal.slide({where})")
        figure = page.locator("section.present figure.physml-flipbook").first
        label = figure.locator("output")
        figure.locator("input").focus()
        page.keyboard.press("Home")
        first = label.inner_text()
        page.keyboard.press("ArrowRight")
        assert label.inner_text() != first
        assert page.evaluate("Reveal.getIndices().h") == where
    finally:
        page.close()


def test_decks_hold_notes_and_no_solution(built: Path, decks: Path) -> None:
    for name in CHAPTERS:
        text = (decks / f"{name.replace('/', '-')}.html").read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "html.parser")
        assert soup.select("aside.notes")
        assert not soup.select(".solution")
        page = BeautifulSoup((built / "html" / f"{name}.html").read_text("utf-8"), "html.parser")
        for solution in page.select(".solution p:not(.admonition-title)"):
            assert solution.get_text() not in soup.get_text()
