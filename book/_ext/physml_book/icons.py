"""The icons of the site: a small font with those that its pages use.

The theme brings the whole of Font Awesome twice, as a script of 1.5 MB, which `layout.html` leaves
out, and as web fonts. The style sheet made here lets browsers take some two dozen icons from a font
of a few thousand bytes; the names of the others leave the theme's style sheet.
"""

from __future__ import annotations

import re
from pathlib import Path

from fontTools import subset  # comes with matplotlib
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

__all__ = ["connect"]

FONT, STYLE = "icons.woff", "icons.css"
_FAMILY, _WEIGHT = "Font Awesome 6 Free", 900
_SOURCE = "vendor/fontawesome/webfonts/fa-solid-900.ttf"
# what the theme brings and no page asks for
_UNUSED = ("scripts/fontawesome.js", "scripts/*.map", "scripts/fontawesome*.txt", "styles/*.map")
_NAMES = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')


def connect(app: Sphinx) -> None:
    """Make the font when all pages are written."""
    app.add_css_file(STYLE)
    app.connect("build-finished", _write)


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    if not (static / _SOURCE).exists():  # another theme, as that of slides
        return
    pages = " ".join(p.read_text(encoding="utf-8") for p in Path(app.outdir).rglob("*.html"))
    worn = set(re.findall(r"\bfa-[\w-]+", pages))
    points: set[int] = set()
    for path in static.rglob("*.css"):
        sheet = path.read_text(encoding="utf-8")
        points |= _icons(sheet, worn)
        if (thin := _NAMES.sub(lambda rule: _kept(rule, worn), sheet)) != sheet:
            path.write_text(thin, encoding="utf-8")
    font = TTFont(static / _SOURCE)
    points &= set(font.getBestCmap())
    options = subset.Options(flavor="woff", name_IDs=[], notdef_outline=True, hinting=False)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=points)
    cutter.subset(font)
    subset.save_font(font, static / FONT, options)
    listed = ", ".join(f"U+{point:X}" for point in sorted(points))
    (static / STYLE).write_text(
        f'/* the icons that this site uses, cut out of Font Awesome Free (SIL OFL 1.1) */\n'
        f'@font-face {{\n  font-family: "{_FAMILY}";\n  font-weight: {_WEIGHT};\n'
        f'  font-display: block;\n  src: url("{FONT}") format("woff");\n'
        f"  unicode-range: {listed};\n}}\n",
        encoding="utf-8",
    )
    for name in _UNUSED:
        for path in static.glob(name):
            path.unlink()


def _kept(rule: re.Match[str], worn: set[str]) -> str:
    return rule[0] if worn.intersection(re.findall(r"fa-[\w-]+", rule[0])) else ""


def _icons(sheet: str, worn: set[str]) -> set[int]:
    """The characters of the icons in a style sheet that a page wears, or that have no name."""
    points = set()
    for selector, code in re.findall(r'([^{}]+)\{[^{}]*content:\s*"\\(f[0-9a-f]{3})"', sheet):
        names = set(re.findall(r"\.(fa-[\w-]+)", selector))
        if not names or names & worn:  # of an extension or of admonitions, or on a page
            points.add(int(code, 16))
    return points | {ord(icon) for icon in re.findall(r'--pst-icon-[\w-]+:\s*"(.)"', sheet)}
