"""A resolved page turned into the cells of a notebook: Markdown that any notebook viewer can read.

A chapter's source is MyST Markdown. Colab and Jupyter show its directives and roles as raw text, so
the published notebook is written from the page after Sphinx has resolved it: equations carry their
numbers, references and citations are words, boxes are quotations with a bold title, solutions are
folded. A node that has no form here is reported as a warning, never dropped in silence.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

__all__ = ["Code", "Page", "Snippet", "Solution", "Stub", "Text", "convert"]

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Text:
    """A piece of Markdown, one block."""

    source: str


@dataclass(frozen=True)
class Code:
    """A code cell, by its position in the chapter.

    Attributes
    ----------
    index
        The cell's index in the chapter's notebook.
    folded
        Whether the reader should see it closed (it is a solution).
    """

    index: int
    folded: bool = False


@dataclass(frozen=True)
class Snippet:
    """Code of an open solution, which the book shows and does not run."""

    source: str


@dataclass(frozen=True)
class Solution:
    """An open solution: what it says, and the label of its exercise."""

    exercise: str
    pieces: tuple[Text | Code | Snippet, ...]


@dataclass(frozen=True)
class Stub:
    """Where a reader works on an exercise: its label, and the parts of its solution."""

    exercise: str
    pieces: tuple[Text | Code | Snippet, ...]


Piece = Text | Code | Snippet | Solution | Stub


@dataclass(frozen=True)
class Page:
    """What the conversion must know of the page besides its nodes.

    Attributes
    ----------
    figure_numbers
        For each kind of numbered thing (figure, theorem, ...), the number of each identifier.
    section_numbers
        The number of each section by its anchor (the page itself has the anchor "").
    link
        Turns the address of another page of the book into one that works in a notebook, or None.
    folder
        Where the addresses of images start.
    open_solutions
        Whether a solution is given as a `Solution`, with code to run, or folded into the text. A
        folded one has a `Stub` before it.
    """

    figure_numbers: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    section_numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    link: Callable[[str], str | None] = lambda _uri: None
    folder: Path = Path()
    open_solutions: bool = False

    def number(self, kind: str, node: nodes.Element) -> str:
        """Return the number of a numbered node, or an empty string."""
        known = self.figure_numbers.get(kind, {})
        found = next((known[name] for name in node.get("ids", ()) if name in known), ())
        return ".".join(map(str, found))


def convert(document: nodes.document, page: Page) -> list[Piece]:
    """Return the pieces of a page, in order."""
    return _Converter(page).blocks(document.children)


# Nodes that show nothing in a notebook.
_SILENT = (
    nodes.comment,
    nodes.docinfo,
    nodes.field_list,
    nodes.meta,
    nodes.pending,
    nodes.substitution_definition,
    nodes.system_message,
    nodes.target,
    addnodes.index,
    addnodes.tabular_col_spec,
    addnodes.toctree,
)
# Nodes that only hold others.
_OPEN = (
    nodes.container,
    nodes.compound,
    nodes.legend,
    nodes.topic,
    addnodes.only,
    addnodes.compact_paragraph,
)


class _Converter:
    """Recursive descent through the page; blocks give pieces, inline nodes give strings."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.depth = 0
        self.solving = False  # inside an open solution

    # ---------------------------------------------------------------- blocks

    def blocks(self, children: Iterable[nodes.Node]) -> list[Piece]:
        return [piece for child in children for piece in self.block(child)]

    def block(self, node: nodes.Node) -> list[Piece]:
        if isinstance(node, _SILENT):
            return []
        kind = type(node).__name__
        method = getattr(self, f"block_{kind}", None)
        if method is not None:
            return method(node)
        if "realtype" in node:
            return self.theorem(node)
        if isinstance(node, nodes.Admonition):
            return self.admonition(node)
        if isinstance(node, _OPEN):
            return self.blocks(node.children)
        if isinstance(node, nodes.TextElement):
            return self.text(self.inline(node))
        LOGGER.warning("a %r cannot be put into the notebook", kind, location=node)
        return []

    def text(self, source: str) -> list[Piece]:
        return [Text(source)] if source.strip() else []

    def block_section(self, node: nodes.section) -> list[Piece]:
        self.depth += 1
        pieces = self.blocks(node.children)
        self.depth -= 1
        return pieces

    def block_title(self, node: nodes.title) -> list[Piece]:
        if not isinstance(node.parent, nodes.section):
            return self.text(f"**{self.inline(node)}**")
        anchors = ["#" + name for name in node.parent["ids"]]
        if self.depth == 1:
            anchors.insert(0, "")
        numbers = self.page.section_numbers
        number = next((numbers[name] for name in anchors if name in numbers), ())
        label = ".".join(map(str, number)) + (". " if len(number) == 1 else " " if number else "")
        return self.text("#" * min(self.depth, 6) + f" {label}{self.inline(node)}")

    def block_subtitle(self, node: nodes.Element) -> list[Piece]:
        return self.text(f"*{self.inline(node)}*")

    def block_rubric(self, node: nodes.rubric) -> list[Piece]:
        return self.text(f"**{self.inline(node)}**")

    def block_transition(self, node: nodes.transition) -> list[Piece]:
        return [Text("---")]

    def block_line_block(self, node: nodes.line_block) -> list[Piece]:
        return self.text("  \n".join(self.inline(line) for line in node.children))

    def block_literal_block(self, node: nodes.literal_block) -> list[Piece]:
        language = node.get("language", "")
        language = language if language not in ("default", "none", "text") else ""
        body = node.astext()
        if self.solving and language == "python":
            return [Snippet(body)]
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
        return [Text(f"{fence}{language}\n{body}\n{fence}")]

    def block_doctest_block(self, node: nodes.doctest_block) -> list[Piece]:
        return [Text(f"```python\n{node.astext()}\n```")]

    def block_math_block(self, node: nodes.math_block) -> list[Piece]:
        return [Text(_display(node.astext(), self.page.number("displaymath", node)))]

    def block_raw(self, node: nodes.raw) -> list[Piece]:
        return self.text(node.astext()) if "html" in node.get("format", "") else []

    def block_image(self, node: nodes.image) -> list[Piece]:
        return self.text(self.inline_image(node))

    def block_figure(self, node: nodes.figure) -> list[Piece]:
        number = self.page.number("figure", node)
        label = f"**Fig. {number}** " if number else ""
        pieces: list[Piece] = []
        for child in node.children:
            if isinstance(child, nodes.caption):
                pieces += self.text(label + self.inline(child))
            else:
                pieces += self.block(child)
        return pieces

    def block_bullet_list(self, node: nodes.bullet_list) -> list[Piece]:
        return self.items(node, lambda _count: "- ")

    def block_enumerated_list(self, node: nodes.enumerated_list) -> list[Piece]:
        start = node.get("start", 1)
        return self.items(node, lambda count: f"{start + count}. ")

    def items(self, node: nodes.Element, mark: Callable[[int], str]) -> list[Piece]:
        items = []
        for count, item in enumerate(node.children):
            lead = mark(count)
            body = self.flat(item.children)
            items.append(lead + body.replace("\n", "\n" + " " * len(lead)))
        loose = any("\n\n" in item for item in items)
        return self.text(_strip_blank("\n\n".join(items) if loose else "\n".join(items)))

    def block_definition_list(self, node: nodes.definition_list) -> list[Piece]:
        pieces: list[Piece] = []
        for item in node.children:
            terms = [self.inline(t) for t in item.findall(nodes.term)]
            bodies = [c for c in item.children if isinstance(c, nodes.definition)]
            pieces += self.text(f"**{', '.join(terms)}**")
            for body in bodies:
                pieces += self.quote(self.blocks(body.children))
        return pieces

    def block_block_quote(self, node: nodes.block_quote) -> list[Piece]:
        return self.quote(self.blocks(node.children))

    def block_attribution(self, node: nodes.attribution) -> list[Piece]:
        return self.text(f"-- {self.inline(node)}")

    def block_table(self, node: nodes.table) -> list[Piece]:
        pieces: list[Piece] = []
        for title in node.findall(nodes.title):
            number = self.page.number("table", node)
            label = f"**Table {number}** " if number else ""
            pieces += self.text(label + self.inline(title))
        rows = [[self.cell(entry) for entry in row.children] for row in node.findall(nodes.row)]
        if not rows:
            return pieces
        if node.next_node(nodes.thead) is None:
            rows.insert(0, [""] * len(rows[0]))
        rows.insert(1, ["---"] * len(rows[0]))
        return [*pieces, Text("\n".join("| " + " | ".join(row) + " |" for row in rows))]

    def cell(self, entry: nodes.Element) -> str:
        return (
            self.flat(entry.children).replace("\n\n", "<br>").replace("\n", " ").replace("|", "\\|")
        )

    def block_footnote(self, node: nodes.footnote) -> list[Piece]:
        label = node.next_node(nodes.label)
        rest = [child for child in node.children if not isinstance(child, nodes.label)]
        return self.text(f"[{label.astext() if label else '*'}] {self.flat(rest)}")

    block_citation = block_footnote

    # ----------------------------------------------------------------- boxes

    def admonition(self, node: nodes.Element) -> list[Piece]:
        title, rest = self.split_title(node)
        title = title or _ADMONITIONS.get(type(node).__name__, type(node).__name__.capitalize())
        return self.box(f"**{title}**", rest, folded="dropdown" in node.get("classes", ()))

    def theorem(self, node: nodes.Element) -> list[Piece]:
        title, rest = self.split_title(node)
        number = self.page.number(node["countertype"], node)
        label = " ".join(part for part in (node["realtype"].title(), number) if part)
        return self.box(f"**{label}** {title}".strip(), rest)

    def block_proof_node(self, node: nodes.Element) -> list[Piece]:
        # Its one child is a box without a title; the text begins with "Proof."
        return self.quote(self.blocks(node.children[0].children))

    def block_exercise_enumerable_node(self, node: nodes.Element) -> list[Piece]:
        title, rest = self.split_title(node)
        number = self.page.number("exercise", node)
        return self.box(f"**Exercise {number}** {title}".strip(), rest)

    def block_exercise_node(self, node: nodes.Element) -> list[Piece]:
        title, rest = self.split_title(node)
        return self.box(f"**{title}**", rest)

    def block_solution_node(self, node: nodes.Element) -> list[Piece]:
        title, rest = self.split_title(node)
        self.solving = True
        pieces = [*self.text(f"**{title}**"), *self.blocks(rest)]
        self.solving = False
        if self.page.open_solutions:
            return [Solution(node["target_label"], tuple(pieces))]
        folded = self.box(f"**{title}**", rest, folded=True)
        label = node.get("target_label")
        return [Stub(label, tuple(pieces)), *folded] if label else folded

    def split_title(self, node: nodes.Element) -> tuple[str, list[nodes.Node]]:
        if node.children and isinstance(node.children[0], nodes.title):
            return self.inline(node.children[0]).strip(), node.children[1:]
        return "", node.children

    def box(self, title: str, rest: Iterable[nodes.Node], folded: bool = False) -> list[Piece]:
        """A titled box: a quotation, or folded; its code cells stay cells of their own."""
        pieces = self.blocks(rest)
        if not folded:
            return self.quote([*self.text(title), *pieces])
        summary = title.replace("**", "")
        if any(isinstance(piece, Code) for piece in pieces):
            # A cell cannot live inside folded text, so the text stays open and the code is closed.
            return [
                Code(piece.index, folded=True) if isinstance(piece, Code) else piece
                for piece in [*self.quote([Text(title)]), *pieces]
            ]
        body = "\n\n".join(piece.source for piece in pieces)
        return [Text(f"<details>\n<summary><b>{summary}</b></summary>\n\n{body}\n\n</details>")]

    def quote(self, pieces: list[Piece]) -> list[Piece]:
        """Put runs of text into quotations, and leave code cells between them."""
        quoted: list[Piece] = []
        run: list[str] = []
        for piece in [*pieces, None]:
            if isinstance(piece, Text):
                run.append(_one_line_math(piece.source))
                continue
            if run:
                lines = "\n\n".join(run).splitlines()
                quoted.append(Text("\n".join(f"> {line}".rstrip() for line in lines)))
                run = []
            if piece is not None:
                quoted.append(piece)
        return quoted

    def flat(self, children: Iterable[nodes.Node]) -> str:
        """Blocks that must be one string: the content of a list item or of a table cell."""
        pieces = self.blocks(children)
        if any(isinstance(piece, Code) for piece in pieces):
            raise ValueError("a code cell cannot stand in a list item or a table cell")
        return "\n\n".join(_one_line_math(piece.source) for piece in pieces)

    # ------------------------------------------------------------ code cells

    def block_container(self, node: nodes.container) -> list[Piece]:
        if node.get("nb_element") != "cell_code":
            return self.blocks(node.children)
        pieces: list[Piece] = [Code(node["cell_index"])]
        for figure in node.findall(nodes.figure):  # outputs are not kept, their captions are
            for caption in figure.findall(nodes.caption):
                number = self.page.number("figure", figure)
                label = f"**Fig. {number}** " if number else ""
                pieces += self.text(label + self.inline(caption))
        return pieces

    # ---------------------------------------------------------------- inline

    def inline(self, node: nodes.Node) -> str:
        return "".join(self.inline_child(child) for child in node.children)

    def inline_child(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return _escape(node.astext())
        if isinstance(node, _SILENT):
            return ""
        method = getattr(self, f"inline_{type(node).__name__}", None)
        return method(node) if method is not None else self.inline(node)

    def inline_emphasis(self, node: nodes.Element) -> str:
        return f"*{self.inline(node)}*"

    inline_title_reference = inline_emphasis

    def inline_strong(self, node: nodes.Element) -> str:
        return f"**{self.inline(node)}**"

    def inline_literal(self, node: nodes.Element) -> str:
        text = node.astext()
        marks = "``" if "`" in text else "`"
        return f"{marks} {text} {marks}" if "`" in text else f"{marks}{text}{marks}"

    def inline_math(self, node: nodes.Element) -> str:
        return f"${' '.join(node.astext().split())}$"

    def inline_math_block(self, node: nodes.Element) -> str:
        return "\n\n" + _display(node.astext(), self.page.number("displaymath", node)) + "\n\n"

    def inline_subscript(self, node: nodes.Element) -> str:
        return f"<sub>{self.inline(node)}</sub>"

    def inline_superscript(self, node: nodes.Element) -> str:
        return f"<sup>{self.inline(node)}</sup>"

    def inline_raw(self, node: nodes.raw) -> str:
        return node.astext() if "html" in node.get("format", "") else ""

    def inline_footnote_reference(self, node: nodes.Element) -> str:
        return f"[{node.astext()}]"

    def inline_image(self, node: nodes.image) -> str:
        uri, alt = node["uri"], node.get("alt", "").replace("\n", " ")
        if "://" not in uri and not uri.startswith("data:"):
            path = self.page.folder / uri
            kind = mimetypes.guess_type(path.name)[0] or "image/png"
            uri = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        return f"![{alt}]({uri})"

    def inline_reference(self, node: nodes.reference) -> str:
        # A bare reference is an element of text: emphasis around the words of a link is noise.
        text = self.inline(node)
        uri = node.get("refuri", "")
        if re.match(r"(https?|mailto|ftp):", uri):
            return f"[{text}]({uri})"
        target = self.page.link(uri) if uri and not uri.startswith("#") else None
        return f"[{text}]({target})" if target else text

    def inline_number_reference(self, node: nodes.Element) -> str:
        return self.inline_reference(node)


_ADMONITIONS = {"seealso": "See also"}


def _escape(text: str) -> str:
    """Escape what Markdown would take for a mark."""
    text = re.sub(r"([\\`*$<])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def _display(tex: str, number: str) -> str:
    """Return a displayed equation, with its number where it has one."""
    tex = re.sub(r"(?<!\\)%.*", "", tex)  # comments would swallow what is joined to their line
    tex = "\n".join(line for line in tex.strip().splitlines() if line.strip())
    tag = rf"\tag{{{number}}}" if number else ""
    environment = re.fullmatch(r"\\begin\{(\w+)(\*?)\}(.*)\\end\{\1\2\}", tex, re.DOTALL)
    if environment and environment[1] in _NUMBERED:
        name, body = environment[1], environment[3].strip()
        return f"$$\n\\begin{{{name}*}}\n{body} {tag}".rstrip() + f"\n\\end{{{name}*}}\n$$"
    if r"\\" in tex and not environment:
        tex = f"\\begin{{split}}\n{tex}\n\\end{{split}}"
    return f"$$\n{tex}\n{tag}".rstrip() + "\n$$"


# amsmath's environments that number themselves; a notebook has no counter, so they get a tag.
_NUMBERED = ("align", "alignat", "eqnarray", "equation", "flalign", "gather", "multline")


def _one_line_math(source: str) -> str:
    """Put displayed equations on one line each, so that quotation marks cannot get into them."""

    def join(match: re.Match[str]) -> str:
        return "$$" + " ".join(match[1].split()) + "$$"

    return re.sub(r"\$\$\n(.*?)\n\$\$", join, source, flags=re.DOTALL)


def _strip_blank(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())
