"""What can be taken away: the lists of downloads, and the line that installs the library.

* `{downloads} all` and `{downloads} teaching`: a table of what lies in the folder of the site, with
  sizes. It is filled when the pages have been written (`fill`), for only then the files are there;
  `tools/publish.py` fills it again when it has added slides, course, PDF and archive. What is not
  there is named, and has no link.
* `{install-line}`: the command that installs the wheel of the site.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from .gathered import _pages as pages
from .notebooks import FILES, PUBLISHED, is_notebook, wheel

__all__ = ["ARCHIVE", "connect", "fill", "size"]

ARCHIVE = "the archive"
# What there can be of each chapter: a word for it, a word for all of them, and where it lies.
_KINDS = (
    ("slides", "the slides", "slides/{flat}.html"),
    ("notebook", "the notebooks", PUBLISHED + "/{name}.ipynb"),
    ("for students", "the students' notebooks", "course/student/{name}.ipynb"),
    ("with solutions", "the notebooks with solutions", "course/solutions/{name}.ipynb"),
)
_SHOWN = {"all": (0, 1, 2, 3), "teaching": (0, 2, 3)}
_FILES = (
    (".zip", ARCHIVE, "Everything on this page and the book itself, to use off line: unpack it and "
     "open <code>index.html</code>."),
    (".pdf", "the PDF", "The book as one PDF, for paper and for a reader of documents."),
    (".whl", "the library", "The library <code>physml</code> as a wheel, which pip installs."),
)  # fmt: skip
_PLACE = re.compile(
    r'(<div class="physml-downloads" data-show="(\w+)">)(?:.*?<!-- end of downloads -->)?(</div>)',
    re.DOTALL,
)


class Downloads(SphinxDirective):
    """`{downloads} all`, or `teaching` for what a lecturer takes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (show,) = self.arguments
        if show not in _SHOWN:
            raise self.error(f"downloads are {' or '.join(_SHOWN)}, not {show}")
        place = f'<div class="physml-downloads" data-show="{show}"></div>'
        return [nodes.raw("", place, format="html")]


class InstallLine(SphinxDirective):
    """The command to install the library, from the site where its address is known."""

    def run(self) -> list[nodes.Node]:
        made, site = wheel(self.env.app), self.config.html_baseurl
        if made is None:
            return [_command("pip install PATH/TO/A/COPY/OF/THE/REPOSITORY")]
        address = f"{FILES}/{made.name}"
        if site:
            return [_command(f"pip install {site.rstrip('/')}/{address}")]
        here = "../" * self.env.docname.count("/") + address
        link = nodes.reference("", made.name, refuri=here)
        words = (nodes.Text("Download "), link, nodes.Text(", and where it lies say"))
        return [nodes.paragraph("", "", *words), _command(f"pip install {made.name}")]


def _command(line: str) -> nodes.literal_block:
    return nodes.literal_block(line, line, language="text")


def size(count: int) -> str:
    """Return a number of bytes in words: 45 kB, 1.2 MB."""
    return f"{max(1, round(count / 1e3))} kB" if count < 995_000 else f"{count / 1e6:.1f} MB"


def fill(site: Path, chapters: Sequence[str], archive: bool = True) -> list[str]:
    """List what the site has, on each page that asks for it, and return what it has not.

    Parameters
    ----------
    site
        The folder of the site.
    chapters
        The names of the chapters, in order.
    archive
        Whether to name the archive; it cannot hold itself.
    """
    titles = {name: _title(site / f"{name}.html") for name in chapters}
    lacking = list(dict.fromkeys(_lacking(site, chapters, archive)))
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        if 'class="physml-downloads"' not in text:
            continue

        def table(found: re.Match[str]) -> str:
            inside = "".join(_tables(site, titles, found[2], archive))
            return f"{found[1]}{inside}<!-- end of downloads -->{found[3]}"

        page.write_text(_PLACE.sub(table, text), encoding="utf-8")
    return lacking


def _tables(site: Path, titles: dict[str, str], show: str, archive: bool) -> Iterator[str]:
    if show == "all":
        rows = []
        for path, name, said in _whole(site):
            if archive or name != ARCHIVE:
                rows.append([_link(site, path, path.name), said])
        if rows:
            yield _table(("of the whole book", "what it is"), rows)
    kinds = [_KINDS[i] for i in _SHOWN[show]]
    there = [kind for kind in kinds if any(_path(site, kind, name).exists() for name in titles)]
    if there:
        rows = [
            [title, *(_link(site, _path(site, kind, name), kind[0]) for kind in there)]
            for name, title in titles.items()
        ]
        yield _table(("of each chapter", *(kind[0] for kind in there)), rows)
    words = [word for _, word, _ in kinds if word in _lacking(site, titles, archive)]
    if show == "all":
        words += [w for _, w, _ in _FILES if w in _lacking(site, titles, archive)]
    if words:
        yield (
            f"<p>Not in this build of the book: {', '.join(words)}. "
            "<code>make site</code> makes all of it (a PDF where LaTeX is installed).</p>"
        )


def _whole(site: Path) -> Iterator[tuple[Path, str, str]]:
    for suffix, name, said in _FILES:
        for path in sorted((site / FILES).glob(f"*{suffix}")):
            yield path, name, said


def _lacking(site: Path, chapters: Iterable[str], archive: bool) -> Iterator[str]:
    for kind in _KINDS:
        if not all(_path(site, kind, name).exists() for name in chapters):
            yield kind[1]
    there = {name for _, name, _ in _whole(site)}
    yield from (n for _, n, _ in _FILES if n not in there and (archive or n != ARCHIVE))


def _path(site: Path, kind: tuple[str, str, str], name: str) -> Path:
    return site / kind[2].format(name=name, flat=name.replace("/", "-"))


def _link(site: Path, path: Path, words: str) -> str:
    if not path.exists():
        return ""
    address = html.escape(path.relative_to(site).as_posix())
    kind = "" if path.suffix == ".html" else " download"
    return f'<a href="{address}"{kind}>{words}</a> ({size(path.stat().st_size)})'


def _title(page: Path) -> str:
    """Return the title of a page as it stands there, formulas and number included."""
    # a page may have its title a second time, plain, for printing
    found = re.search(r"<h1>((?:(?!</h1>).)*?)<a class=\"headerlink\"", page.read_text("utf-8"))
    return found[1] if found else page.stem


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th class="head">{word}</th>' for word in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="pst-scrollable-table-container"><table class="table">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def connect(app: Sphinx) -> None:
    """Add the directives, and fill the lists when all files of the site are there."""
    app.add_directive("downloads", Downloads)
    app.add_directive("install-line", InstallLine)
    app.connect("build-finished", _fill, priority=900)


def _fill(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        fill(Path(app.outdir), [name for name in pages(app) if is_notebook(app.env, name)])
