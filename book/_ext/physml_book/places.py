"""The section that something stands in: {section-of}`fig:nh-panels` is a link to that section.

A plan that names sections by what is in them (a figure, an equation, a theorem) follows when a
section gets another title or another place.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from .notebooks import is_notebook

__all__ = ["connect"]

LOGGER = logging.getLogger(__name__)


class Place(nodes.Inline, nodes.TextElement):
    """Stands for the link until all pages have been read."""


class SectionOf(SphinxRole):
    """The role; its text is the label of a figure, an equation, a theorem or a section."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.env.note_reread()  # other pages have its content
        place = Place(label=self.text)
        self.set_source_info(place)
        return [place], []


def connect(app: Sphinx) -> None:
    """Add the role."""
    app.add_node(Place)
    app.add_role("section-of", SectionOf())
    app.connect("doctree-resolved", _resolve, priority=400)


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    places = list(doctree.findall(Place))
    known = _sections(app) if places else {}
    labels = app.env.get_domain("std").anonlabels
    for place in places:
        label = place["label"]
        found = known.get(label) or known.get(labels.get(label, ("", ""))[:2])
        if found is None:
            LOGGER.warning("there is no section with %r in it", label, location=place)
            place.replace_self(nodes.literal("", label))
            continue
        there, section = found
        anchor = f"#{section['ids'][0]}"
        number = app.env.toc_secnumbers.get(there, {}).get(anchor, ())
        words = [nodes.Text(".".join(map(str, number)) + " ")] if number else []
        words += [child.deepcopy() for child in section.next_node(nodes.title).children]
        uri = app.builder.get_relative_uri(docname, there) + anchor
        place.replace_self(nodes.reference("", "", *words, refuri=uri, internal=True))


def _sections(app: Sphinx) -> dict[object, tuple[str, nodes.section]]:
    """Return the page and the section of each thing that has a label, or an anchor on its page."""
    known: dict[object, tuple[str, nodes.section]] = {}
    for name in app.env.found_docs:
        if not is_notebook(app.env, name):
            continue
        for node in app.env.get_doctree(name).findall(nodes.Element):
            section: nodes.Node | None = node
            while section is not None and not isinstance(section, nodes.section):
                section = section.parent
            if section is None:
                continue
            for anchor in node.get("ids", ()):
                known.setdefault((name, anchor), (name, section))
            if node.get("label"):
                known.setdefault(node["label"], (name, section))
    return known
