"""Names of the library in a chapter's code lead to their reference.

The names are those that the page imports from the library; the first time one stands in a cell, it
is linked. (sphinx-codeautolink does more, but cannot read the pages that MyST and sphinx-proof
make.) A long name in the text may be broken at its dots and underscores, and nowhere else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from docutils import nodes
from sphinx.application import Sphinx

from .reference import PACKAGE

__all__ = ["breakable", "connect", "imported", "link_names"]

_BLOCK = re.compile(r'<div class="highlight-(?:ipython3|python)\b.*?</pre>', re.DOTALL)
# A name and its attributes, as Pygments sets them: not an attribute itself, and not an argument's
# name in a call.
_DOT = r'<span class="o">\.</span>'
_CHAIN = re.compile(
    rf'(?<!\.</span>)<span class="n">\w+</span>(?:{_DOT}<span class="n">\w+</span>)*'
    r'(?!<span class="o">=</span>)'
)
_PLAIN = re.compile(r'(?<=<span class="pre">)[^<]+(?=</span>)')
_WORD = re.compile(r'<span class="n">(\w+)</span>')


def imported(sources: Iterable[str]) -> dict[str, str]:
    """Return what each name means that is imported from the library, by its full name."""
    names: dict[str, str] = {}
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a magic command, or a piece of code that is discussed
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.Import):
                names |= {a.asname or a.name: a.name for a in node.names if a.name == PACKAGE}
    return names


def link_names(html: str, names: dict[str, str], address: Callable[[str], str | None]) -> str:
    """Return a page with links on the names in its code.

    Parameters
    ----------
    html
        The page, with code as Pygments sets it.
    names
        The full name of each name that is imported.
    address
        Where the reference of a full name is; None if it has none.
    """

    def block(found: re.Match[str]) -> str:
        seen: set[str] = set()

        def chain(match: re.Match[str]) -> str:
            words = _WORD.findall(match[0])
            if words[0] not in names:
                return match[0]
            ends = [m.end() for m in _WORD.finditer(match[0])]
            for length in range(len(words), 0, -1):
                full = ".".join([names[words[0]], *words[1:length]])
                target = address(full)
                if target is None:
                    continue
                if full in seen:
                    return match[0]
                seen.add(full)
                head, tail = match[0][: ends[length - 1]], match[0][ends[length - 1] :]
                # out of the Tab key's way: there are dozens on a page, and the reference lists them
                link = f'<a tabindex="-1" class="physml-code" href="{target}">'
                return f"{link}{head}</a>{tail}"
            return match[0]

        return _CHAIN.sub(chain, found[0])

    return _BLOCK.sub(block, html)


def breakable(html: str) -> str:
    """Return a page whose inline code may be broken where its names have joints."""
    return _PLAIN.sub(lambda found: re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", found[0]), html)


def connect(app: Sphinx) -> None:
    """Link the names while pages are written."""
    app.connect("html-page-context", _link_page)


def _link_page(
    app: Sphinx, pagename: str, _template: str, context: dict, doctree: nodes.document | None
) -> None:
    if doctree is None or "body" not in context:
        return
    context["body"] = breakable(context["body"])
    blocks = doctree.findall(nodes.literal_block)
    names = imported(node.astext() for node in blocks)
    if not names:
        return
    objects = app.env.get_domain("py").objects

    def address(name: str) -> str | None:
        entry = objects.get(name)
        if entry is None or entry.objtype == "module":
            return None
        return f"{app.builder.get_relative_uri(pagename, entry.docname)}#{entry.node_id}"

    context["body"] = link_names(context["body"], names, address)
