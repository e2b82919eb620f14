"""Pictures are fetched when a reader comes near them, and have their place before that."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx

__all__ = ["connect"]

_PICTURE = re.compile(r'<img(?=[^>]* src="(?!data:)([^"]+)")(?![^>]* loading=)')

_DRAWING = re.compile(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"')


def connect(app: Sphinx) -> None:
    """Mark the pictures of each page, when it has been written."""
    app.connect("html-page-context", _mark, priority=700)


def _mark(app: Sphinx, _page: str, _template: str, context: dict, doctree: object) -> None:
    if doctree is None or "body" not in context:
        return
    files = {name: Path(app.srcdir) / path for path, name in app.builder.images.items()}

    def picture(found: re.Match[str]) -> str:
        size = ""
        file = files.get(posixpath.basename(found[1]))
        tag = found.string[found.start() : found.string.index(">", found.start())]
        if file is not None and " width=" not in tag and " height=" not in tag:
            size = _size(file)
        return f'<img loading="lazy"{size}'

    context["body"] = _PICTURE.sub(picture, context["body"])


def _size(file: Path) -> str:
    """Return the attributes with the size of a picture, if it has one."""
    if file.suffix in (".png", ".jpg"):
        with Image.open(file) as image:
            width, height = image.size
    elif file.suffix == ".svg" and (found := _DRAWING.search(file.read_text("utf-8"))):
        width, height = (round(float(length) * 4 / 3) for length in found.groups())  # from points
    else:
        return ""
    return f' width="{width}" height="{height}"'
