"""Who made the book, how to cite it, and what to do about an error in it.

* `{citation} bibtex` and `{citation} authors`: from CITATION.cff, the one source of both;
* the foot of each page: how to report an error, and where authors, licences and downloads are.
"""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["authors", "bibtex", "connect"]

# Pages that the foot leads to, where the book has them.
_ERRATA, _REPORT = "errata", "how-to-report-an-error"
_PAGES = (("about", "Authors, citation, licences"), ("downloads", "Downloads"))


def authors(citation: dict) -> list[str]:
    """Return the names of the authors in a CITATION.cff, as BibTeX has them.

    A person is "Family, Given"; a group stands in braces, which keep it whole.
    """
    names = []
    for author in citation["authors"]:
        if "family-names" in author:
            parts = (author["family-names"], author.get("given-names", ""))
            names.append(", ".join(filter(None, parts)))
        else:
            names.append(f"{{{author['name']}}}")
    return names


def bibtex(citation: dict, year: str, url: str = "") -> str:
    """Return a CITATION.cff as an entry of BibTeX.

    Parameters
    ----------
    citation
        What the file says.
    year
        The year, where the file has no date of a release.
    url
        The address, where the file has none.
    """
    fields = {
        "author": " and ".join(authors(citation)),
        "title": citation["title"],
        "version": str(citation["version"]),
        "year": str(citation.get("date-released", year))[:4],
        "doi": citation.get("doi", ""),
        "url": citation.get("url") or citation.get("repository-code") or url,
    }
    lines = [f"  {name:7} = {{{value}}}" for name, value in fields.items() if value]
    return "@software{physml,\n" + ",\n".join(lines) + "\n}"


class Citation(SphinxDirective):
    """`{citation} bibtex` or `{citation} authors`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir).parent / "CITATION.cff"
        self.env.note_dependency(str(path))
        citation = yaml.safe_load(path.read_text(encoding="utf-8"))
        if self.arguments == ["authors"]:
            names = [name.strip("{}") for name in authors(citation)]
            return [nodes.paragraph("", ", ".join(names))]
        address = self.config.physml_address
        url = self.config.html_baseurl or (address.url if address else "")
        entry = bibtex(citation, self.config.copyright[:4], url)
        return [nodes.literal_block(entry, entry, language="bibtex")]


def connect(app: Sphinx) -> None:
    """Add the directive and the foot of the pages."""
    app.add_directive("citation", Citation)
    app.connect("html-page-context", _foot)


def _foot(
    app: Sphinx, pagename: str, _template: str, context: dict, _doctree: nodes.document | None
) -> None:
    """Say at the foot of a page how to report an error in it, and where to read on."""
    if app.env is None or app.builder.format != "html":
        return

    def link(target: str, words: str) -> str:
        return f'<a href="{html.escape(target)}">{words}</a>'

    parts, known = [], app.env.found_docs
    address = app.config.physml_address
    if address is not None:
        title = quote(f"An error on the page {pagename}")
        report = link(f"{address.url}/issues/new?title={title}", "Report it")
        parts.append(f"Found an error? {report}.")
    elif _ERRATA in known:
        # on its own page the path is a bare "#"
        target = f"{context['pathto'](_ERRATA).removesuffix('#')}#{_REPORT}"
        parts.append(f"Found an error? {link(target, 'How to report it')}.")
    if _ERRATA in known:
        parts.append(link(context["pathto"](_ERRATA), "Errata"))
    parts += [link(context["pathto"](name), words) for name, words in _PAGES if name in known]
    if parts:
        context["theme_extra_footer"] = f'<p class="physml-foot">{" · ".join(parts)}</p>'
