"""Make a deck of slides of each chapter, from the built book.

    python tools/slides.py [--root FOLDER] [--picture FILE]

A deck is the chapter's page with the explanations left to the lecturer. Each heading begins a
slide. On it are the displayed equations, boxes (definitions, theorems), figures and sliders,
tables, lists, and what cells print; the full text, proofs and derivations go to the speaker's notes
(key S). Of the text a slide shows

* the sentences that the chapter marks as `[...]{.slide}`, and of a paragraph without marks the
  first one and those that define a term (in emphasis), but nothing in parentheses;
* the clause that leads to an equation.

A cell with the tag `slide` shows its code too, one with `no-slide` is left out.

The decks need nothing but their own folder, `_build/slides`: reveal.js comes from the package
sphinx-revealjs, MathJax from the book's site. nbconvert makes slides too, but of whole cells: our
text between two cells is three slides long. A builder of sphinx-revealjs would put a whole section
on a slide.

With `--picture` a slide of the decks that are there is drawn into a PNG, by Chromium or Chrome, as
the teaching page shows it.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, NavigableString, Tag
from PIL import Image

__all__ = ["ROOM", "Item", "Slide", "chapters", "deck", "main", "picture", "slides"]

ROOT = Path(__file__).resolve().parents[1]

# Sizes in pixels on the stage, from slides.css; a browser has the last word (slides.js).
ROOM = 560
_LINE, _GAP = 39, 16
_COLUMNS = 80
_PICTURE, _CAPTION = 300, 60
_SLACK = 70  # how much more may be on a slide, if that saves one with a line or two
_LONG = 1  # lines of an item of a list, beyond which a slide shows its first sentence
_PRINTED = 14  # lines of what a cell prints that a slide can show
_SMALL, _CODE_COLUMNS = 0.76, 80  # the size of code, and how many columns fit
# The slide that the teaching page shows: a deck, and words that its heading has.
_SHOWN = ("data-mnist_spectra", "Removing hidden units")
_BROWSERS = ("chromium", "google-chrome")


@dataclass(frozen=True)
class Item:
    """One thing on a slide.

    Attributes
    ----------
    source
        Its HTML; empty if it is for the notes alone.
    height
        Its height in pixels, estimated.
    note
        What the lecturer says about it, HTML with formulas in TeX.
    leads
        Whether it must not be the last on its slide, for it leads to the next item.
    """

    source: str = ""
    height: float = 0
    note: str = ""
    leads: bool = False


@dataclass
class Slide:
    """A slide: its heading, the heading above that, and what is on it."""

    heading: str
    above: str = ""
    items: list[Item] = field(default_factory=list)

    @property
    def height(self) -> float:
        """The height of what is on it, in pixels, estimated."""
        shown = [item.height for item in self.items if item.source]
        return sum(shown) + _GAP * max(len(shown) - 1, 0)


def chapters(root: Path) -> list[str]:
    """Return the chapters in the order of the book: the pages of its numbered parts."""
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if part.get("numbered")]
    return [chapter["file"] for part in parts for chapter in part["chapters"]]


def slides(article: Tag, folder: Path) -> list[Slide]:
    """Return the slides of a chapter.

    Parameters
    ----------
    article
        The `article` of the chapter's page.
    folder
        Where the addresses of its images start, to know their shapes.
    """
    article = _cleaned(article)
    for image in article.select("img"):
        if not image.has_attr("width") and "://" not in image["src"]:
            image["width"], image["height"] = _size(folder / image["src"])
    chapter = article.select_one("section")
    title = _inner(chapter.find("h1"))
    sections = chapter.find_all("section", recursive=False)
    plan = [_inner(section.find("h2")) for section in sections]
    contents = "".join(f"<li>{heading}</li>" for heading in plan)
    made = _fill(Slide(title), list(_items(chapter)))
    made.append(Slide("Plan", title, [Item(f'<ul class="columns">{contents}</ul>', ROOM)]))
    for section in sections:
        made += _section(section, "")
    return [slide for slide in made if any(item.source for item in slide.items)]


def _section(section: Tag, above: str) -> list[Slide]:
    heading = _inner(section.find(re.compile("h[2-6]"), recursive=False))
    if section.select_one(":scope > .exercise"):
        titles = [_inner(e.select_one(".admonition-title")) for e in section.select(".exercise")]
        listed = "".join(f"<li>{title}</li>" for title in titles)
        return [Slide(heading, above, [Item(f'<ul>{listed}</ul>', ROOM)])]
    made = _fill(Slide(heading, above), list(_items(section)))
    for inner in section.find_all("section", recursive=False):
        if "exercise" not in (inner.get("class") or ()):
            made += _section(inner, heading)
    return made


def _fill(first: Slide, items: list[Item]) -> list[Slide]:
    """Put items on as few slides as they need, in order, and share them evenly between these."""
    made = _pack(first, items, ROOM)
    for room in range(ROOM // 2, ROOM, 20):
        even = _pack(first, items, room)
        if len(even) == len(made):
            return even
    return made


def _pack(first: Slide, items: list[Item], room: float) -> list[Slide]:
    made = [Slide(first.heading, first.above)]
    last = next((item for item in reversed(items) if item.source), None)
    waiting: list[Item] = []  # clauses that lead to what comes next
    for item in items:
        waiting.append(item)
        if item.leads:
            continue
        height = sum(i.height + _GAP for i in waiting if i.source)
        slack = _SLACK if item is last and height <= 2 * _LINE + _GAP else 0
        if made[-1].height and made[-1].height + height > room + slack:
            made.append(Slide(first.heading, first.above))
        made[-1].items += waiting
        waiting = []
    made[-1].items += waiting
    return made


# ------------------------------------------------------------------------- from page to items


def _items(section: Tag) -> Iterator[Item]:
    """Yield what a section, without the sections in it, has for slides."""
    own = [child for child in section.children if isinstance(child, Tag)]
    own = [c for c in own if c.name not in ("section", "span") and not re.match("h[1-6]", c.name)]
    for child, after in pairwise([*own, None]):
        classes = set(child.get("class") or ())
        if child.name == "p":
            yield from _paragraph(child, after)
        elif "math" in classes:
            rows = 1 + child.get_text().count(r"\\")
            yield Item(str(child), 40 + 52 * rows)
        elif "cell" in classes:
            yield from _cell(child, classes)
        elif child.name in ("ul", "ol"):
            yield from _list(child)
        elif classes & {"dropdown", "solution", "physml-goals"} or _is_proof(child):
            yield Item(note=_note(child))
        elif "admonition" in classes:
            yield Item(str(child), 40 + _text_height(child))
        elif child.name == "table" or child.find("table"):
            rows = len(child.find_all("tr"))
            yield Item(str(child.find("table") or child), rows * _LINE)
        elif child.name == "figure":
            yield from _figure(child)
        elif child.name == "pre" or child.find("pre"):
            yield _listing(child)


def _paragraph(paragraph: Tag, after: Tag | None) -> Iterator[Item]:
    said = _sentences(paragraph)
    if not said or _is_remark(paragraph):
        return
    marked = [_inner(span) for span in paragraph.select("span.slide")]
    terms = [s for i, s in enumerate(said) if i == 0 or re.search("<(em|strong)>", s)]
    shown = [(s, False) for s in marked or terms if not s.startswith("(")]
    ended = re.search(r"[.?!]\)?$", _plain(said[-1]))
    leads = after is not None and after.name != "p" and not ended
    if leads:
        lead = said[-1]
        if shown and _plain(shown[-1][0]) == _plain(lead):
            shown.pop()
        shown.append((lead, True))
    note = _note(paragraph)
    for source, leading in shown:
        goes_on = " goes-on" if _plain(source)[:1].islower() else ""
        text = f'<p class="point{goes_on}">{source}</p>'
        yield Item(text, _lines(source) * _LINE, note, leading)
        note = ""
    if note:
        yield Item(note=note)


def _list(items: Tag) -> Iterator[Item]:
    """Yield a list, one item at a time, so that a long one can go on on the next slide."""
    start = int(items.get("start", 1))
    for count, item in enumerate(items.find_all("li", recursive=False), start=start):
        first = item.find("p")
        said = _sentences(first) if first and len(item.find_all("p")) == 1 else []
        shown, note = str(item), ""
        if len(said) > 1 and _lines(shown) > _LONG:  # its first sentence has to do
            shown, note = f"<li>{said[0]}</li>", _note(item)
        attribute = f' start="{count}"' if items.name == "ol" else ""
        text = f"<{items.name}{attribute}>{shown}</{items.name}>"
        yield Item(text, _text_height(BeautifulSoup(shown, "html.parser")), note)


def _cell(cell: Tag, classes: set[str]) -> Iterator[Item]:
    if "tag_no-slide" in classes:
        return
    folded = cell.select_one(":scope > details.hide") is not None and "tag_slide" not in classes
    output = cell.select_one(":scope > .cell_output, :scope > details .cell_output")
    printed = output.select_one(".output.stream, .output.text_plain") if output else None
    said = printed.get_text().strip("\n").count("\n") + 1 if printed else 0
    shown = 0 < said <= _PRINTED
    if "tag_slide" in classes and (code := cell.select_one(".cell_input")):
        yield _listing(code, leads=shown)
    if shown and not folded:
        yield _listing(printed)
    # what folded code tests is for readers; what it draws is shown
    for table in output.select(".physml-table table") if output and not folded else ():
        rows = len(table.find_all("tr"))
        if rows <= _PRINTED:
            yield Item(str(table), rows * _LINE)
    for figure in output.select("figure") if output else ():
        if figure.find_parent("figure") is None:  # a slider is a figure within a numbered one
            yield from _figure(figure)


def _listing(element: Tag, leads: bool = False) -> Item:
    """Return code, or what it prints, in a size at which its lines fit."""
    lines = element.get_text().strip("\n").split("\n")
    size = _SMALL * min(1, _CODE_COLUMNS / max(map(len, lines)))
    for pre in element.find_all("pre"):
        pre["style"] = f"font-size: {size:.2f}em"
    return Item(str(element), 24 + 40 * size * len(lines), leads=leads)


def _figure(figure: Tag) -> Iterator[Item]:
    caption = figure.find("figcaption")
    note = ""
    if caption:
        note = _note(caption)
        text = caption.select_one(".caption-text") or caption
        first = _first_sentence(text)
        text.clear()
        text.append(BeautifulSoup(first, "html.parser"))
    # a picture may be made smaller, and a tall one is too small soon
    image = figure.find("img")
    shape = int(image.get("height") or 1) / int(image.get("width") or 2) if image else 0.5
    picture = _PICTURE * max(1, shape / 0.42)
    yield Item(str(figure), min(picture + _CAPTION, ROOM), note)


def _size(picture: Path) -> tuple[int, int]:
    """Return width and height of a picture: of a drawing in its own units."""
    if picture.suffix == ".svg":
        box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', picture.read_text("utf-8"))
        return round(float(box[1])), round(float(box[2]))
    with Image.open(picture) as opened:
        return opened.size


def _sentences(paragraph: Tag) -> list[str]:
    """Return the sentences as HTML; the book's source has one on a line."""
    said = [""]
    for node in paragraph.contents:
        if isinstance(node, NavigableString):
            here, *following = html.escape(str(node), quote=False).split("\n")
            said[-1] += here
            said += following
        else:
            said[-1] += str(node)
    return [sentence.strip() for sentence in said if sentence.strip()]


def _first_sentence(element: Tag) -> str:
    """Return the first sentence of a text that may have several on a line."""
    text = ""
    for node in element.contents:
        if isinstance(node, NavigableString):
            found = re.match(r"(.*?[.?])(\s+[A-Z].*)?$", str(node), re.DOTALL)
            if found and found[2]:
                return text + html.escape(found[1], quote=False)
            text += html.escape(str(node), quote=False)
        else:
            text += str(node)
    return text.strip()


def _cleaned(article: Tag) -> Tag:
    """Return a copy without what belongs to the page: anchors, links within it, hidden labels."""
    copy = BeautifulSoup(str(article), "html.parser").find("article")
    for gone in copy.select("a.headerlink, summary, script, template, button.copybtn"):
        gone.decompose()
    for link in copy.select("a[href]"):
        if not link["href"].startswith("http"):
            link.unwrap()
    for element in copy.find_all(id=True):
        del element["id"]
    for content in copy.select(".admonition > section"):
        content.name = "div"  # in a deck a section is a slide
    copy.smooth()
    return copy


def _is_remark(paragraph: Tag) -> bool:
    """Whether all of a paragraph is in emphasis, as what a chapter costs."""
    first = paragraph.find("em")
    return first is not None and _plain(str(first)) == _plain(str(paragraph))


def _is_proof(element: Tag) -> bool:
    return (element.get("class") or []) == ["proof", "admonition"]


def _inner(element: Tag) -> str:
    return element.decode_contents().strip()


def _note(element: Tag) -> str:
    return f"<div>{_inner(element)}</div>"


def _plain(source: str) -> str:
    return BeautifulSoup(source, "html.parser").get_text().strip()


def _lines(source: str) -> int:
    """Estimate how many lines a text takes; a formula is about half as long as its TeX."""
    text = re.sub(r"\\\(.*?\\\)", lambda tex: "x" * (len(tex[0]) // 2), _plain(source), flags=re.S)
    return 1 + len(text) // _COLUMNS


def _text_height(element: Tag) -> float:
    """Estimate the height of a box with paragraphs, lists and equations."""
    blocks = element.find_all(["p", "li"]) or [element]
    blocks = [block for block in blocks if block.find(["p", "li"]) is None]
    height = sum(_lines(str(block)) * (_LINE + 6) for block in blocks)
    return height + sum(92 for _ in element.select("div.math"))


# ------------------------------------------------------------------------------ from items to files


def deck(title: str, book: str, author: str, made: list[Slide]) -> str:
    """Return the page of a deck, whose files lie beside it in `reveal`, `mathjax` and `_images`."""
    sections = [
        '<section class="title"><div class="body">'
        f"<h1>{title}</h1><p>{html.escape(book)}</p><p>{html.escape(author)}</p></div></section>"
    ]
    for slide in made:
        above = f'<span class="above">{slide.above}</span>' if slide.above else ""
        body = "\n".join(item.source for item in slide.items)
        notes = "\n".join(item.note for item in slide.items if item.note)
        # notes are read in a window of their own, without MathJax: as TeX
        aside = f'<aside class="notes mathjax_ignore">{notes}</aside>' if notes else ""
        sections.append(
            f"<section><h2>{above}{slide.heading}</h2>\n"
            f'<div class="body">{body}</div>{aside}</section>'
        )
    return _PAGE.format(title=html.escape(_plain(title)), slides="\n".join(sections))


_PAGE = """\
<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="reveal/reset.css">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="pygments.css">
<link rel="stylesheet" href="slides.css">
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script src="reveal/notes.js"></script>
<script src="slides.js"></script>
<script src="mathjax/tex-chtml.js" async></script>
</body>
</html>
"""

_INDEX = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Slides: {book}</title></head>
<body style="font: 1.1rem/1.6 system-ui, sans-serif; max-width: 45rem; margin: 3rem auto">
<h1>{book}</h1>
<p>One deck a chapter. Arrow keys turn the slides, S opens the speaker's notes, F fills the screen,
and <code>?print-pdf</code> at the end of a deck's address makes it ready to print.</p>
<ul>
{decks}
</ul>
</body>
</html>
"""


def _copy_machinery(html_folder: Path, target: Path) -> None:
    spec = find_spec("sphinx_revealjs")
    if spec is None:
        raise ModuleNotFoundError("reveal.js is missing: install sphinx-revealjs, as 'make' does")
    reveal = Path(spec.origin).parent / "_static" / "revealjs"
    (target / "reveal").mkdir(parents=True)
    for name in ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js"):
        shutil.copy2(reveal / name, target / "reveal")
    shutil.copy2(reveal / "LICENSE", target / "reveal")
    shutil.copytree(html_folder / "_static" / "mathjax", target / "mathjax")
    shutil.copy2(html_folder / "_static" / "pygments.css", target)
    for name in ("slides.css", "slides.js"):
        shutil.copy2(Path(__file__).with_name(name), target)


def picture(decks: Path, target: Path) -> bool:
    """Draw the slide that the teaching page shows, and return whether a browser was there to do it.

    It is the first slide with a figure under its heading, or with any.

    Parameters
    ----------
    decks
        The folder of the decks.
    target
        The PNG to write.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    deck = decks / f"{_SHOWN[0]}.html"
    if browser is None or not deck.exists():
        return False
    soup = BeautifulSoup(deck.read_text(encoding="utf-8"), "html.parser")
    found = soup.select(".slides > section")
    drawn = [n for n, slide in enumerate(found) if slide.find("figure")]
    right = [n for n in drawn if _SHOWN[1] in found[n].find("h2").get_text()] or drawn or [0]
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "slide.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--window-size=1280,720", "--virtual-time-budget=20000"]
        command += [f"--user-data-dir={scratch}/profile", f"--screenshot={shot}"]
        address = f"{deck.as_uri()}#/{right[0]}"
        subprocess.run([*command, address], capture_output=True, check=True, timeout=120)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(64).save(target, optimize=True)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Make the decks of the book that was built."""
    parser = argparse.ArgumentParser(description="Make a deck of slides of each chapter.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    parser.add_argument("--picture", type=Path, help="draw a slide of the decks that are there")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    if options.picture:
        if not picture(root / "_build" / "slides", options.picture):
            print("There are no decks yet, or no Chromium to draw one.")
            return 1
        print(f"Drew {options.picture}")
        return 0
    built, target = root / "_build" / "html", root / "_build" / "slides"
    if not (built / "index.html").exists():
        print("There is no book yet: run 'make book' first.")
        return 1
    shutil.rmtree(target, ignore_errors=True)
    _copy_machinery(built, target)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    lines = []
    for name in chapters(root):
        page = built / f"{name}.html"
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        made = slides(soup.select_one("article"), page.parent)
        title = made[0].heading
        text = deck(title, config["title"], config["author"], made)
        # pictures lie beside the decks
        text = re.sub(r'src="(?:\.\./)*_images/([^"]+)"', r'src="_images/\1"', text)
        for image in set(re.findall(r'src="_images/([^"]+)"', text)):
            (target / "_images").mkdir(exist_ok=True)
            shutil.copy2(built / "_images" / image, target / "_images")
        file = f"{name.replace('/', '-')}.html"
        (target / file).write_text(text, encoding="utf-8")
        lines.append(f'<li><a href="{file}">{_plain(title)}</a>, {len(made) + 1} slides</li>')
        print(f"  {file}: {len(made) + 1} slides")
    index = _INDEX.format(book=html.escape(config["title"]), decks="\n".join(lines))
    (target / "index.html").write_text(index, encoding="utf-8")
    print(f"Made {len(lines)} decks: open {(target / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
