"""How long each section of a chapter takes in a lecture, counted on the page itself.

The directive `{lecture-minutes} CHAPTER` gives a table of the chapter's sections. The minutes are
an estimate that is the same for all: what is read aloud, shown and discussed, at the paces below,
and rounded up to five. Counted with every build, they cannot drift from the text. A chapter that
the book does not have (yet) gives a line that says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["LectureMinutes", "minutes", "reading_minutes", "sections"]

# Words a minute at the board, and minutes for a displayed equation, a picture, and a cell.
_WORDS, _EQUATION, _PICTURE, _CELL = 110, 1.0, 2.0, 0.75
_EXERCISE = 15
# The same for a reader at a desk: words a minute, and minutes.
_READ_WORDS, _READ_EQUATION, _READ_PICTURE, _READ_CELL = 200, 0.5, 1.0, 0.5


class _Pending(nodes.General, nodes.Element):
    """Stands for the table until all pages have been read."""


class LectureMinutes(SphinxDirective):
    """A table of the minutes for each section of a chapter."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # its content comes from another page
        return [_Pending(chapter=self.arguments[0])]


def sections(document: nodes.document) -> list[nodes.section]:
    """Return the sections below the title of a page."""
    page = document.next_node(nodes.section)
    return [child for child in page.children if isinstance(child, nodes.section)] if page else []


def minutes(section: nodes.section) -> int:
    """Return how long a section takes: exercises to solve, or text to present."""
    if exercises := _exercises(section):
        return _EXERCISE * exercises
    words, equations, pictures, cells = _count(section)
    time = words / _WORDS + equations * _EQUATION + pictures * _PICTURE + cells * _CELL
    return 5 * math.ceil(time / 5)


def reading_minutes(document: nodes.document) -> int:
    """Return how long a page takes to read, without its exercises and what is folded away."""
    time = 0.0
    for section in sections(document):
        if not _exercises(section):
            words, equations, pictures, cells = _count(section)
            time += words / _READ_WORDS + equations * _READ_EQUATION
            time += pictures * _READ_PICTURE + cells * _READ_CELL
    return max(5, 5 * round(time / 5))


def _count(section: nodes.section) -> tuple[int, int, int, int]:
    """Count the words, equations, pictures and open cells of a section."""
    words = equations = pictures = cells = 0
    for node in _presented(section):
        if isinstance(node, nodes.Text):
            words += len(node.split())
        elif isinstance(node, nodes.math_block):
            equations += 1
        elif isinstance(node, nodes.image):
            pictures += 1
        elif node.get("nb_element") == "cell_code" and "hide_mode" not in node:
            cells += 1
    return words, equations, pictures, cells


def _exercises(section: nodes.section) -> int:
    return sum("exercise" in n.get("classes", ()) for n in section.findall(nodes.Admonition))


def _presented(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield what is said and shown: no code, and nothing that is folded away."""
    for child in node.children:
        if isinstance(child, nodes.Element) and child.get("nb_element") == "mime_bundle":
            yield from itertools.islice(child.findall(nodes.image), 1)  # one output in all formats
            continue
        if isinstance(child, nodes.Element) and "dropdown" in child.get("classes", ()):
            continue
        if isinstance(child, nodes.literal_block | nodes.comment | nodes.raw | nodes.math):
            continue
        yield child
        yield from _presented(child)


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for pending in list(doctree.findall(_Pending)):
        chapter = pending["chapter"]
        if chapter not in app.env.found_docs:
            words = "This chapter is not in this edition of the book yet."
            pending.replace_self(nodes.paragraph("", "", nodes.emphasis("", words)))
            continue
        page = app.builder.get_relative_uri(docname, chapter)
        pending.replace_self(_table(sections(app.env.get_doctree(chapter)), page))


def _table(listed: list[nodes.section], page: str) -> nodes.table:
    body = nodes.tbody()
    lecture = 0
    for section in listed:
        title = [child.deepcopy() for child in section.next_node(nodes.title).children]
        link = nodes.reference("", "", *title, internal=True, refuri=f"{page}#{section['ids'][0]}")
        body += _row(link, nodes.Text(str(minutes(section))))
        lecture += 0 if _exercises(section) else minutes(section)
    body += _row(nodes.strong("", "without exercises"), nodes.strong("", str(lecture)))
    head = nodes.thead("", _row(nodes.Text("section"), nodes.Text("minutes")))
    columns = [nodes.colspec(colwidth=width) for width in (80, 20)]
    return nodes.table("", nodes.tgroup("", *columns, head, body, cols=2))


def _row(*cells: nodes.Node) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def connect(app: Sphinx) -> None:
    """Add the directive."""
    app.add_node(_Pending)
    app.add_directive("lecture-minutes", LectureMinutes)
    app.connect("doctree-resolved", _resolve, priority=800)  # before pages become notebooks
