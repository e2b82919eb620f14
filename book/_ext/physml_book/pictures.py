"""Pictures are fetched when a reader comes near them, and have their place before that."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx

__all__ = ["connect"]

_PICTURE = re.compile(r'<img(?=[^>]* src="(?!data:)([^"]+)")(?![^>]* loading=)')


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
        if file is not None and file.suffix in (".png", ".jpg"):
            tag = found.string[found.start() : found.string.index(">", found.start())]
            if " width=" not in tag and " height=" not in tag:
                with Image.open(file) as image:
                    size = ' width="{}" height="{}"'.format(*image.size)
        return f'<img loading="lazy"{size}'

    context["body"] = _PICTURE.sub(picture, context["body"])
