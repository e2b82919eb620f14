"""What a chapter opens with, and the lines under which its code is folded.

* `{goals}` in a chapter: what the reader can do afterwards, how long it takes to read, and (option
  `skip`) what may be left out. `{goals-of} CHAPTER` on another page gives the same list, so that
  the goals have one source.
* A folded cell says what it holds: its first comment, or the number of the figure that it draws.
"""

from __future__ import annotations

import re
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .minutes import reading_minutes

__all__ = ["connect"]

LOGGER = logging.getLogger(__name__)


class GoalsBox(nodes.Admonition, nodes.Element):
    """The box of a chapter: title, list of goals, and the line on time."""


class GoalsOf(nodes.General, nodes.Element):
    """Stands for the goals of a chapter until all pages have been read."""


class Goals(SphinxDirective):
    """`{goals}` with a list, and `:skip:` with what may be skipped."""

    has_content = True
    option_spec: ClassVar = {"skip": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        title = nodes.title("", "After this chapter you can")
        box = GoalsBox("", title, *self.parse_content_to_nodes(), classes=["physml-goals"])
        box["docname"] = self.env.docname
        if not any(isinstance(child, nodes.bullet_list) for child in box.children):
            raise self.error("the goals of a chapter must be a list")
        line = nodes.paragraph("", classes=["physml-reading"])
        if "skip" in self.options:
            line += self.parse_inline(self.options["skip"])[0]
        box += line
        self.set_source_info(box)
        return [box]


class GoalsElsewhere(SphinxDirective):
    """`{goals-of} CHAPTER`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # another page has its content
        place = GoalsOf(chapter=self.arguments[0])
        self.set_source_info(place)
        return [place]


class FoldedCells(SphinxPostTransform):
    """Say over a folded cell what it holds; before MyST-NB makes the fold."""

    default_priority = 150
    formats = ("html",)

    def run(self, **_kwargs: object) -> None:
        numbers = self.env.toc_fignumbers.get(self.env.docname, {}).get("figure", {})
        for cell in self.document.findall(nodes.container):
            if cell.get("nb_element") != "cell_code" or "hide_mode" not in cell:
                continue
            held = _held(cell, numbers)
            if held:
                cell["prompt_show"] = cell["prompt_hide"] = held


def _held(cell: nodes.container, numbers: dict[str, tuple[int, ...]]) -> str:
    """What a cell holds, in a few words; an empty string if that is not known."""
    code = next(iter(cell.findall(nodes.literal_block)), None)
    comment = re.match(r"\s*# ?(.+)", code.astext()) if code is not None else None
    if comment:
        words = comment[1].strip().rstrip(".:")
        return f"Code: {words[0].lower() if words[1:2].islower() else words[0]}{words[1:]}"
    for figure in cell.findall(nodes.figure):
        number = next((numbers[name] for name in figure["ids"] if name in numbers), None)
        if number:
            return f"Code of Fig. {'.'.join(map(str, number))}"
    return ""


def connect(app: Sphinx) -> None:
    """Add the directives and the lines over folded cells."""
    app.add_node(
        GoalsBox,
        html=(
            lambda self, node: self.visit_admonition(node),
            lambda self, node: self.depart_admonition(node),
        ),
        latex=(
            lambda self, node: self.visit_admonition(node),
            lambda self, node: self.depart_admonition(node),
        ),
    )
    app.add_node(GoalsOf)
    app.add_directive("goals", Goals)
    app.add_directive("goals-of", GoalsElsewhere)
    app.add_post_transform(FoldedCells)
    app.connect("doctree-resolved", _fill, priority=300)


def _fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for box in doctree.findall(GoalsBox):
        line = box.children[-1]
        page = app.env.get_doctree(box["docname"])  # a PDF is one document of all pages
        time = f"Reading it takes about {reading_minutes(page)} minutes"
        ends = ". " if line.children else "."
        line.insert(0, nodes.Text(f"{time}, without the exercises{ends}"))
    for place in list(doctree.findall(GoalsOf)):
        place.replace_self(_goals(app, place))


def _goals(app: Sphinx, place: GoalsOf) -> list[nodes.Node]:
    chapter = place["chapter"]
    if chapter in app.env.found_docs:
        for box in app.env.get_doctree(chapter).findall(GoalsBox):
            return [c.deepcopy() for c in box.children if isinstance(c, nodes.bullet_list)]
    LOGGER.warning("there are no goals of a chapter %r", chapter, location=place)
    return []
