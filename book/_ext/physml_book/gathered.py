"""What a page gathers from the whole book, when all pages have been read.

* `{run-table}`: what the last execution of each chapter cost;
* `{theorem-list}`: the definitions, theorems and the like, with links to where they stand;
* `{picture-of} LABEL`: the picture of a figure that a chapter computes, with its description; or
  that with the class LABEL from a cell of the same page tagged `picture-only`, which shows nothing
  where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .notebooks import is_notebook
from .runs import last_run

__all__ = ["connect", "statement"]

LOGGER = logging.getLogger(__name__)

Row = list[list[nodes.Node]]
_ONLY = "tag_picture-only"  # the class of a cell that has this tag


class Placeholder(nodes.General, nodes.Element):
    """Where a table or a picture will stand."""


class Table(SphinxDirective):
    """A directive without arguments; its name says which table it is."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # other pages change it
        place = Placeholder(kind=self.name, label=" ".join(self.arguments))
        self.set_source_info(place)
        return [place]


class Picture(Table):
    """`{picture-of}` with the label of a figure, or the class of a picture on this page."""

    required_arguments = 1


def connect(app: Sphinx) -> None:
    """Add the directives."""
    app.add_node(Placeholder)
    for name in ("run-table", "theorem-list"):
        app.add_directive(name, Table)
    app.add_directive("picture-of", Picture)
    app.connect("doctree-resolved", _fill, priority=400)


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    hidden = [node for node in doctree.findall(nodes.container) if _ONLY in node["classes"]]
    for place in list(doctree.findall(Placeholder)):
        if place["kind"] == "picture-of":
            place.replace_self(_own_picture(hidden, place["label"]) or _picture(app, place))
            continue
        if place["kind"] == "run-table":
            heads = ("chapter", "time", "memory", "run on", "date")
            rows = list(_runs(app, docname))
        else:
            heads, rows = ("result", "name", "chapter"), list(_theorems(app, docname))
        place.replace_self([_table(heads, rows)] if rows else [])
    for node in hidden:
        node.parent.remove(node)


def _own_picture(cells: list[nodes.container], label: str) -> list[nodes.Node]:
    images = (image for cell in cells for image in cell.findall(nodes.image))
    found = next((image for image in images if label in image["classes"]), None)
    return [found.deepcopy()] if found is not None else []


def _picture(app: Sphinx, place: Placeholder) -> list[nodes.Node]:
    docname, anchor, _ = app.env.get_domain("std").labels.get(place["label"], ("", "", ""))
    if docname:
        for figure in app.env.get_doctree(docname).findall(nodes.figure):
            image = next(iter(figure.findall(nodes.image)), None)
            if anchor in figure["ids"] and image is not None:
                return [image.deepcopy()]
    LOGGER.warning("there is no figure %r with a picture", place["label"], location=place)
    return []


def _pages(app: Sphinx) -> Iterator[str]:
    """The pages, in the order of the table of contents."""
    known: set[str] = set()
    waiting = [app.config.root_doc]
    while waiting:
        name = waiting.pop(0)
        if name not in known and name in app.env.found_docs:
            known.add(name)
            waiting[:0] = app.env.toctree_includes.get(name, [])
            yield name


def _runs(app: Sphinx, docname: str) -> Iterator[Row]:
    for name in _pages(app):
        run = last_run(app.env, name)
        if run is not None and is_notebook(app.env, name):
            where = run.device or "not recorded"
            words = (run.time(), run.size() or "not measured", where, run.date())
            yield [[_title(app, docname, name)], *([nodes.Text(word)] for word in words)]


def _theorems(app: Sphinx, docname: str) -> Iterator[Row]:
    for name in _pages(app):
        numbers = app.env.toc_fignumbers.get(name, {})
        for node in app.env.get_doctree(name).findall(lambda node: "realtype" in _attributes(node)):
            anchor = next(iter(node["ids"]), "")
            number = numbers.get(node["countertype"], {}).get(anchor, ())
            if not number:  # a proof, or one that the author left without a number
                continue
            label = f"{node['realtype'].title()} {'.'.join(map(str, number))}"
            link = _link(app, docname, name, anchor, [nodes.Text(label)])
            yield [[link], statement(node), [_title(app, docname, name)]]


def statement(node: nodes.Element) -> list[nodes.Node]:
    """Return what a theorem is called, or else the first sentence of what it says."""
    title = next(iter(node.findall(nodes.title)), nodes.title())
    # the name of a theorem stands in brackets there
    if words := title.astext().strip().removeprefix("(").removesuffix(")"):
        return [nodes.Text(words)]
    said: list[nodes.Node] = []
    for child in getattr(node.next_node(nodes.paragraph), "children", ()):
        if not isinstance(child, nodes.Text):
            said += [child.deepcopy()] if isinstance(child, nodes.math | nodes.emphasis) else []
        elif end := re.search(r"[.?!](?=\s|$)", child):
            return [*said, nodes.Text(child[: end.end()])]
        else:
            said.append(nodes.Text(child))
    return [*said, nodes.Text(" …")] if said else []  # a display follows


def _attributes(node: nodes.Node) -> dict:
    return getattr(node, "attributes", {})


def _title(app: Sphinx, here: str, there: str) -> nodes.Node:
    words = [child.deepcopy() for child in app.env.titles[there].children]
    return _link(app, here, there, "", words)


def _link(app: Sphinx, here: str, there: str, anchor: str, words: list) -> nodes.reference:
    uri = app.builder.get_relative_uri(here, there) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", "", *words, refuri=uri, internal=True)


def _table(heads: tuple[str, ...], rows: list[Row]) -> nodes.table:
    def line(cells: Row) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))

    columns = [nodes.colspec(colwidth=1) for _ in heads]
    head = nodes.thead("", line([[nodes.Text(word)] for word in heads]))
    group = nodes.tgroup("", *columns, head, nodes.tbody("", *map(line, rows)), cols=len(heads))
    return nodes.table("", group, classes=["colwidths-auto"])
