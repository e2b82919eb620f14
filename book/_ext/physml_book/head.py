"""What a page says of itself: to browsers, to search engines, and to those who link to it.

A description (the top matter's `html_meta`, or else the page's first words), a title and a picture
for links to it (its own first one, or else that of the first chapter), and one viewport. Addresses
are absolute where the site's is known (see `address`).
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from urllib.parse import urljoin

import nbformat
from docutils import nodes
from markupsafe import Markup
from sphinx.application import Sphinx

from .finding import sentences
from .notebooks import executed
from .plain import words

__all__ = ["connect", "description"]

LONG = 200  # characters of a description: what is shown of it elsewhere


def connect(app: Sphinx) -> None:
    """Add to the head of each page."""
    app.connect("html-page-context", _fill_head, priority=900)


def description(doctree: nodes.document) -> str:
    """Return the first sentences of a page's running text."""
    for section in doctree.findall(nodes.section):
        for paragraph in section.children:
            if isinstance(paragraph, nodes.paragraph):
                said = list(sentences(paragraph))
                text = said[0] if said else ""
                for sentence in said[1:]:
                    if len(text) + len(sentence) > LONG:
                        break
                    text += " " + sentence
                if len(text) > 40:  # a line that names something is no description
                    return text if len(text) <= LONG else text[: LONG - 2].rsplit(" ", 1)[0] + " …"
    return ""


def _fill_head(
    app: Sphinx, pagename: str, _template: str, context: dict, doctree: nodes.document | None
) -> None:
    given = context.get("metatags", "")
    # docutils' own: a second viewport, and its name
    lines = re.sub(r'<meta [^>]*name="(?:viewport|generator)"[^>]*>', "", given).strip()
    if doctree is not None:
        found = re.search(r'<meta content="([^"]*)"[^>]* name="description"', lines)
        about = found[1] if found else escape(description(doctree))
        if about and not found:
            lines += f'\n<meta name="description" content="{about}" />'
        title = next(iter(doctree.findall(nodes.title)), None)
        name = words(title) if title is not None else app.config.html_title
        own = {
            "og:title": escape(name),
            "og:site_name": escape(app.config.html_title),
            "og:type": "article" if "/" in pagename else "website",
            "og:description": about,
            "og:image": _picture(app, context, pagename),
            "og:url": urljoin(_base(app), f"{pagename}.html") if _base(app) else "",
        }
        lines += "".join(
            f'\n<meta property="{name}" content="{content}" />'
            for name, content in own.items()
            if content
        )
    context["metatags"] = Markup("\n" + lines)


def _base(app: Sphinx) -> str:
    return app.config.html_baseurl.rstrip("/") + "/" if app.config.html_baseurl else ""


def _picture(app: Sphinx, context: dict, page: str) -> str:
    """Write a page's first picture, or else a chapter's, as PNG: what shows links takes no SVG."""
    for name in (page, *app.env.toctree_includes.get(app.config.root_doc, ())):
        if (found := _first_png(executed(app, name))) is not None:
            path = f"{app.builder.imagedir}/first-of-{name.replace('/', '-')}.png"
            file = Path(app.outdir, path)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(found)
            return urljoin(_base(app), path) if _base(app) else context["pathto"](path, 1)
    return ""


def _first_png(notebook: Path) -> bytes | None:
    if not notebook.exists():
        return None
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/png"])
    return None
