"""The index is for concepts: the checks of exercises stand together under one word in it.

There are some forty functions `check_…`; each under its own name would bury what begins with C.
"""

from __future__ import annotations

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

__all__ = ["GATHERED", "GatherChecks", "connect"]

GATHERED = "exercises, checks of"


class GatherChecks(SphinxTransform):
    """Change index entries before they are collected, so that the PDF's index has them too."""

    default_priority = 840  # Sphinx collects at 850

    def apply(self, **_options: object) -> None:
        """Put each `check_NAME() (in module …)` below `GATHERED`, without its module."""
        for node in self.document.findall(addnodes.index):
            node["entries"] = [_gathered(*entry) for entry in node["entries"]]


def _gathered(kind: str, words: str, target: str, main: str, key: str | None) -> tuple:
    if kind == "single" and words.startswith("check_"):
        words = f"{GATHERED}; {words.split(' (', 1)[0]}"
    return kind, words, target, main, key


def connect(app: Sphinx) -> None:
    """Add the transform."""
    app.add_transform(GatherChecks)
