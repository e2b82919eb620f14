"""MathJax from the site itself: in one file, the parts of it that are used.

MathJax's own file for TeX has its menu as well, which is a third of it and puts each formula into
the order of the Tab key. Its parts can be loaded one by one, but then they come when the page is
long there; one after the other in one file they are what MathJax's own file is.

Formulas that are set when the book is built need no script. It was measured, and is not done. The
first chapter has 382 formulas: as MathJax's own HTML they are 300 kB and 7,300 elements, on each
page anew, where the script is 761 kB once for the whole book, and the build would need a JavaScript
engine. As MathML they are 74 kB, and a font beside them; but Chromium draws no box around a formula
and centres the columns of aligned equations, so that theirs do not line up.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

__all__ = ["connect", "keep_with_punctuation"]

FILE = "formulas.js"
_PARTS = (
    "startup",  # first, for the others announce themselves to it
    "core",
    "input/tex",
    "output/chtml",
    "output/chtml/fonts/tex",
    "a11y/assistive-mml",
)
_SETTINGS = {
    "loader": {"load": []},  # all is there
    # else formulas get the x-height of the text, which in some fonts makes them a quarter larger,
    # and lines with e^{-S} jump
    "chtml": {"matchFontHeight": False, "scale": 1.12},
}


def connect(app: Sphinx) -> None:
    """Copy MathJax into the site, and load it in pages with formulas."""
    app.setup_extension("sphinx-mathjax-offline")
    app.connect("config-inited", _configure)
    app.connect("doctree-resolved", _keep, priority=950)  # when the notebook has been written
    app.connect("build-finished", _write, priority=900)  # when MathJax has been copied


def keep_with_punctuation(doctree: nodes.Element) -> None:
    """Let no line begin with the comma behind a formula, where a browser would break it."""
    for formula in list(doctree.findall(nodes.math)):
        line = formula.parent
        here = line.index(formula)
        after = line[here + 1] if here + 1 < len(line) else None
        sign = re.match(r"[,.;:!?)\]’”]+", after) if isinstance(after, nodes.Text) else None
        if sign:
            whole = nodes.inline("", "", classes=["physml-unbroken"])
            # by place, for two texts are equal if they say the same
            line[here : here + 2] = [whole, nodes.Text(after[sign.end() :])]
            whole += [formula, nodes.Text(sign[0])]


def _keep(app: Sphinx, doctree: nodes.document, _docname: str) -> None:
    if app.builder.format == "html":
        keep_with_punctuation(doctree)


def _configure(_app: Sphinx, config: Config) -> None:
    config.mathjax_path = f"mathjax/{FILE}"
    config.mathjax3_config = {**_SETTINGS, **(config.mathjax3_config or {})}


def _write(app: Sphinx, error: Exception | None) -> None:
    folder = Path(app.outdir) / "_static" / "mathjax"
    if error is None and folder.is_dir():
        parts = [(folder / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS]
        (folder / FILE).write_text(";\n".join(parts), encoding="utf-8")
