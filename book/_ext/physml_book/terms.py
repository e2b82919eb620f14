"""A term shows its glossary entry where it stands.

Each page carries the entries of the terms that it links to, in `<template>` elements, which a
browser does not show; `_static/terms.js` does, on hover, focus and tap. Without a script the link
leads to the glossary, as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

__all__ = ["connect", "linked_terms"]

_LINK = re.compile(
    r'<a class="reference internal" href="[^"#]*#(term-[^"]+)"><span class="[^"]*\bstd-term\b'
)
_ENTRY = '<template class="physml-entry" data-term="{}">{}</template>\n'


def connect(app: Sphinx) -> None:
    """Put the entries into pages while these are written."""
    app.connect("html-page-context", _Entries(), priority=400)  # before MathJax is asked for


def linked_terms(body: str) -> list[str]:
    """Return the anchors of the terms that a page links to, each once, in their order."""
    return list(dict.fromkeys(_LINK.findall(body)))


class _Entries:
    """The entries of all glossaries of the book, rendered once."""

    def __init__(self) -> None:
        self.known: dict[str, str] | None = None

    def __call__(
        self, app: Sphinx, page: str, _template: str, context: dict, _doctree: object
    ) -> None:
        names = linked_terms(context.get("body", ""))
        if not names or app.builder.format != "html":
            return
        if self.known is None:
            self.known = dict(_rendered(app))
        entries = {name: self.known[name] for name in names if name in self.known}
        context["body"] += "".join(_ENTRY.format(escape(n), html) for n, html in entries.items())
        if any('class="math' in html for html in entries.values()):
            app.env.get_domain("math").data["has_equations"][page] = True


def _rendered(app: Sphinx) -> Iterator[tuple[str, str]]:
    """Yield the anchor of each term and its entry as HTML."""
    pages = {docname for docname, _ in app.env.get_domain("std")._terms.values()}
    for docname in sorted(pages):
        document = app.env.get_and_resolve_doctree(docname, app.builder)
        for item in document.findall(nodes.definition_list_item):
            terms = [term for term in item.children if isinstance(term, nodes.term)]
            names = [name for term in terms for name in term["ids"]]
            definition = next(iter(item.findall(nodes.definition)), None)
            if not names or definition is None:
                continue
            words = _words(app, definition)
            for name, term in zip(names, terms, strict=False):
                yield name, f"<p><strong>{escape(term.astext())}</strong></p>\n{words}"


def _words(app: Sphinx, definition: nodes.definition) -> str:
    """Return an entry as HTML, its links turned into words: what is shown takes no focus."""
    copy = definition.deepcopy()
    for link in list(copy.findall(nodes.reference)):
        link.replace_self(link.children)
    for node in list(copy.findall(addnodes.index)):
        node.parent.remove(node)
    return "".join(app.builder.render_partial(child)["fragment"] for child in copy.children)
