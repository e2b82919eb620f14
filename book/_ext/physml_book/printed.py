"""The book as one PDF: what a printed page shows where a page of the site moves, folds and links.

* a slider stands as up to three of its frames, with a line that says where it moves;
* code that the site folds is left out, and so is the library's reference;
* parts and chapters are numbered as on the site, and its root page becomes the introduction;
* theorems, exercises and solutions are set as in a book (`book/_latex/physml.sty`).

All of it is done to the one document that Sphinx makes of the pages for LaTeX; the pages themselves
and what is built from them do not change.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.latex.nodes import thebibliography
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.i18n import format_date
from sphinx.util.texescape import escape

__all__ = ["Frame", "Slider", "connect", "frames", "read_slider"]

INTRODUCTION = "Introduction"
IN_PRINT = (
    "This is the book in print. Its pages on the web have what moves and what is folded away here: "
    "sliders in place of some of their frames, the code that draws figures and tests results, "
    "each chapter as a notebook to run, and the reference of the library."
)
# The part that is left out: a reference is looked up, not read, and the site has it linked. And a
# page: what can be downloaded from the site.
LEFT_OUT = "The library"
LEFT_OUT_PAGE = "downloads"


def connect(app: Sphinx) -> None:
    """Prepare the document for LaTeX; no other builder is touched."""
    app.connect("config-inited", _configure)
    app.add_post_transform(_Sliders)
    app.connect("doctree-resolved", _arrange, priority=950)


def _configure(app: Sphinx, config: Config) -> None:
    init = Path(app.srcdir).parent / "physml" / "__init__.py"
    version = re.search(r'^__version__ = "(.+)"', init.read_text(encoding="utf-8"), re.MULTILINE)
    day = format_date("%d %B %Y", language="en").lstrip("0")
    edition = f"Edition {version[1]}, made on {day}" if version else f"Made on {day}"
    preamble = config.latex_elements.get("preamble", "")
    line = f"\\renewcommand\\physmledition{{{escape(edition, 'xelatex')}}}\n"
    config.latex_elements["preamble"] = preamble + line
    config.latex_additional_files = [str(Path(app.srcdir) / "_latex" / "physml.sty")]


# --------------------------------------------------------------------------------------- sliders


@dataclass(frozen=True)
class Frame:
    """One picture of a slider: the file as bytes, the slider's value, what it shows."""

    picture: bytes
    label: str
    alt: str


@dataclass(frozen=True)
class Slider:
    """What `physml.flipbook.Flipbook` wrote into a page."""

    name: str
    frames: tuple[Frame, ...]
    start: int
    caption: str

    def sentence(self) -> str:
        """Say where the slider moves."""
        first, last = self.frames[0].label, self.frames[-1].label
        return (
            f"On the page a slider moves: {self.name}, {len(self.frames)} values "
            f"from {first} to {last}."
        )


def read_slider(html: str) -> Slider | None:
    """Return the slider that a piece of HTML holds; None if it holds none."""
    reader = _Reader()
    reader.feed(html)
    if not reader.frames:
        return None
    return Slider(
        " ".join(reader.words["label"].split()),
        tuple(reader.frames),
        reader.start,
        " ".join(reader.words["figcaption"].split()),
    )


def frames(slider: Slider) -> list[Frame]:
    """Choose up to three frames: the first, the last, and between them the one shown first."""
    last = len(slider.frames) - 1
    middle = slider.start if 0 < slider.start < last else last // 2
    return [slider.frames[i] for i in sorted({0, middle, last})]


class _Reader(HTMLParser):
    """Collects the frames and the words of a slider."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.start = 0
        self.words = {"label": "", "figcaption": ""}
        self.inside = False
        self.open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "physml-flipbook" in (found.get("class") or "").split():
            self.inside = True
        if not self.inside:
            return
        if tag == "img" and "data-label" in found:
            picture = base64.b64decode((found["src"] or "").partition("base64,")[2])
            if "hidden" not in found:
                self.start = len(self.frames)
            self.frames.append(Frame(picture, found["data-label"] or "", found.get("alt") or ""))
        elif tag in self.words:
            self.open = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.open:
            self.open = None

    def handle_data(self, data: str) -> None:
        if self.open:
            self.words[self.open] += data


class _Sliders(SphinxPostTransform):
    """Puts frames in the place of each slider, before myst-nb takes the picture it starts with."""

    default_priority = 3
    formats = ("latex",)

    def run(self, **_options: object) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            for html in bundle.findall(nodes.raw):
                if html.get("format") == "html" and (slider := read_slider(html.astext())):
                    bundle.replace_self(self._shown(slider, bundle))
                    break

    def _shown(self, slider: Slider, bundle: nodes.container) -> list[nodes.Node]:
        chosen = frames(slider)
        width, height = Image.open(io.BytesIO(chosen[0].picture)).size
        # beside each other, or below if they would be too small to read
        stacked = width > 1.6 * height and len(chosen) > 1
        share = 0.66 if stacked else min(0.6, 0.97 / len(chosen))
        row = nodes.paragraph()
        for i, frame in enumerate(chosen):
            image = nodes.image(uri=self._write(frame.picture), alt=frame.alt, width="100%")
            image["candidates"] = {"*": image["uri"]}
            label = f"\\physmlframelabel{{{_tex(f'{slider.name}: {frame.label}')}}}"
            between = ("\\par\\medskip " if stacked else "\\hfill ") if i else ""
            row += _raw(f"{between}\\begin{{physmlframe}}{{{share:.3f}}}%\n")
            row += image
            row += _raw(f"{label}\\end{{physmlframe}}")
        figure = _enclosing_figure(bundle)
        said = [nodes.Text(slider.sentence())]
        if figure is not None:
            for caption in figure.findall(nodes.caption):
                caption += [nodes.Text(" "), *said]
            return [row]
        if slider.caption:
            said = [nodes.Text(slider.caption + " "), *said]
        words = nodes.paragraph("", "", _raw("{\\small "), *said, _raw("}"))
        start, end = "\\begin{figure}[htbp]\\centering\n", "\\end{figure}\n"
        return [_raw(start), row, words, _raw(end)]

    def _write(self, picture: bytes) -> str:
        folder = Path(self.app.outdir) / "sliders"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(picture).hexdigest()[:20]}.png"
        Image.open(io.BytesIO(picture)).save(path)  # LaTeX takes PNG, and no WebP
        uri = Path(os.path.relpath(path, self.app.srcdir)).as_posix()
        self.env.images.add_file(self.env.docname, uri)
        return uri


def _enclosing_figure(node: nodes.Node) -> nodes.figure | None:
    while node is not None and not isinstance(node, nodes.figure):
        node = node.parent
    return node


# ------------------------------------------------------------------------------- the one document


def _arrange(app: Sphinx, document: nodes.document, _docname: str) -> None:
    if app.builder.format != "latex":
        return
    _parts(app, document)
    _unlink(app, document)
    _bibliography(document)
    _cards(document)
    _cells(document)
    for docname, node in _with_page(document):
        _result(app, node, docname)


def _parts(app: Sphinx, document: nodes.document) -> None:
    """Give each part its heading, drop what is left out, and make a chapter of the root page."""
    root = app.config.root_doc
    toctrees = list(app.env.get_doctree(root).findall(addnodes.toctree))
    wrappers = [n for n in document.findall(nodes.compound) if "toctree-wrapper" in n["classes"]]
    for toctree, wrapper in zip(toctrees, wrappers, strict=True):
        caption = toctree.get("caption") or ""
        if caption == LEFT_OUT:
            wrapper.parent.remove(wrapper)
            continue
        for page in list(wrapper.findall(addnodes.start_of_file)):
            if page["docname"] == LEFT_OUT_PAGE:
                page.parent.remove(page)
        depth = 3 if toctree.get("numbered") else -1
        wrapper.insert(0, _raw(f"\\physmlpart{{{_tex(caption)}}}{{{depth}}}\n"))

    book = document.next_node(nodes.section)
    if book is None or not wrappers:
        return
    page = nodes.section(docname=root, ids=["introduction"])
    page += nodes.title("", INTRODUCTION)
    first = wrappers[0]
    while first.parent is not book and first.parent is not document:
        first = first.parent
    for child in [c for c in book.children if not isinstance(c, nodes.title) and c is not first]:
        if isinstance(child, nodes.compound) and "toctree-wrapper" in child["classes"]:
            continue
        book.remove(child)
        page += child
    page.insert(_first_section(page), nodes.paragraph("", "", nodes.emphasis("", *_in_print(app))))
    where = 1 if isinstance(book[0], nodes.title) else 0
    book.insert(where, [_raw("\\physmlnopart{-1}\n"), page])


def _first_section(page: nodes.section) -> int:
    found = (i for i, child in enumerate(page.children) if isinstance(child, nodes.section))
    return next(found, len(page.children))


def _in_print(app: Sphinx) -> list[nodes.Node]:
    """Say what the site has besides, and where it is if that is known."""
    site = app.config.html_baseurl
    where = [nodes.Text(" They are at "), nodes.reference("", site, refuri=site), nodes.Text(".")]
    return [nodes.Text(IN_PRINT), *(where if site else [])]


def _unlink(app: Sphinx, document: nodes.document) -> None:
    """Leave words where a link led to what is left out."""
    here = {node["docname"] for node in document.findall(addnodes.start_of_file)}
    here.add(app.config.root_doc)
    for link in list(document.findall(nodes.reference)):
        uri = link.get("refuri", "")
        if uri.startswith("%") and uri[1:].partition("#")[0] not in here:
            link.replace_self(link.children)
    # what Sphinx cannot lead to in this document either: the site's pages that it makes itself
    for link in list(document.findall(addnodes.pending_xref)):
        item = link.parent
        while item is not None and not isinstance(item, nodes.list_item):
            item = item.parent
        if link.get("reftarget") == "modindex" and item is not None:
            item.parent.remove(item)  # the library's modules are in the part that is left out
        elif link.parent is not None:
            link.replace_self(link.children)


def _bibliography(document: nodes.document) -> None:
    """Put the list of what is cited on its page; Sphinx puts it at the end of the document."""
    found = next(iter(document.findall(thebibliography)), None)
    if found is None:
        return
    for page in document.findall(addnodes.start_of_file):
        section = page.next_node(nodes.section)
        if page["docname"] == "bibliography" and section is not None:
            found.parent.remove(found)
            section += found


def _cards(document: nodes.document) -> None:
    """Make plain text of grids and cards: a title, and what stands below it."""
    for node in list(document.findall(nodes.container)):
        classes = node["classes"]
        if "sd-card-title" in classes:
            words = [c.deepcopy() for inner in node.children for c in inner.children]
            node.replace_self(nodes.paragraph("", "", nodes.strong("", "", *words)))
        elif any(name.startswith("sd-") for name in classes):
            for image in list(node.findall(nodes.image)):
                image.parent.remove(image)
            node.replace_self(node.children)
    for node in list(document.findall()):
        if "sd-hide-link-text" in getattr(node, "attributes", {}).get("classes", ()):
            node.parent.remove(node)


def _cells(document: nodes.document) -> None:
    """Leave out folded code, and tell output from code."""
    for cell in list(document.findall(nodes.container)):
        if cell.get("nb_element") != "cell_code":
            continue
        hidden = cell.get("hide_mode", "")
        for part in list(cell.children):
            kind = part.get("nb_element") if isinstance(part, nodes.Element) else None
            if kind == "cell_code_source" and hidden in ("all", "input", "input+output"):
                cell.remove(part)
            elif kind == "cell_code_output":
                part.insert(0, _raw("\\begin{physmloutput}\n"))
                part += _raw("\\end{physmloutput}\n")
                for image in part.findall(nodes.image):
                    # the file says how large it is drawn; pixels of a screen say nothing here
                    if image.get("width", "").endswith("px"):
                        del image["width"]
                    image.attributes.pop("height", None)


def _with_page(document: nodes.document) -> Iterator[tuple[str, nodes.Element]]:
    for page in document.findall(addnodes.start_of_file):
        for node in list(page.findall(nodes.Element)):
            yield page["docname"], node


def _result(app: Sphinx, node: nodes.Element, docname: str) -> None:
    """Set a theorem, a proof, an exercise, a solution or a box, with the number of the site."""
    kind = type(node).__name__
    title = next((child for child in node.children if isinstance(child, nodes.title)), None)
    words = title.children if title is not None else []
    labels = [f"{docname}:{name}" for name in node["ids"]]
    if "realtype" in node.attributes:
        environment = "physmlresult"
        numbers = app.env.toc_fignumbers.get(docname, {}).get(node["countertype"], {})
        number = ".".join(map(str, numbers.get(node["label"], ())))
        head = [nodes.Text(f"{node['realtype'].title()} {number}".strip()), *words]
    elif kind == "proof_node":
        environment, head = "physmlproof", [nodes.Text("Proof.")]
    elif kind in ("exercise_enumerable_node", "exercise_node"):
        environment, head = "physmlexercise", words
        labels = [f"{docname}:{node['label']}", f"exercise:{node['label']}"]
    elif kind == "solution_node":
        environment, head = "physmlsolution", [*words, nodes.Text(".")]
        labels = [f"{docname}:{node['label']}"]
    elif isinstance(node, nodes.Admonition) and title is not None and kind != "proof":
        environment, head = "physmlbox", words
    else:
        return
    body = [child for child in node.children if child is not title]
    # a section inside would be one of the chapter's
    inner = (nodes.section,) if kind != "proof_node" else (nodes.section, nodes.admonition)
    body = [c for n in body for c in (n.children if isinstance(n, inner) else [n])]
    if kind == "proof_node":
        head = _proof(body, head)
    targets = "".join(f"\\label{{\\detokenize{{{label}}}}}" for label in labels)
    # the head runs into the first paragraph
    start = [_raw(f"\\{environment}head{{"), *head, _raw("}")]
    if body and isinstance(body[0], nodes.paragraph):
        body[0].insert(0, start)
    else:
        body.insert(0, nodes.paragraph("", "", *start))
    opening = f"\n\\begin{{{environment}}}"
    node.replace_self(
        [_raw(f"{opening}\\phantomsection{targets}\n"), *body, _raw(f"\n\\end{{{environment}}}\n")]
    )


def _proof(body: list[nodes.Node], head: list[nodes.Node]) -> list[nodes.Node]:
    """Take the word "Proof." from the text, and what is proved to it; put the sign at the end."""
    first = body[0] if body else None
    if isinstance(first, nodes.paragraph) and first.astext().startswith("Proof. "):
        text = first.next_node(nodes.Text)
        text.parent.replace(text, nodes.Text(text.removeprefix("Proof. ")))
        of = first.next_node(nodes.emphasis)
        if of is not None and first.astext().startswith(of.astext()):
            of.parent.remove(of)
            head = [nodes.Text(f"Proof {of.astext()}")]
    if body and isinstance(body[-1], nodes.paragraph):
        body[-1] += _raw("\\physmlqed{}")
    else:
        body.append(nodes.paragraph("", "", _raw("\\physmlqed{}")))
    return head


def _tex(words: str) -> str:
    return escape(words, "xelatex")


def _raw(tex: str) -> nodes.raw:
    return nodes.raw("", tex, format="latex")
