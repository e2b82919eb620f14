"""Each chapter as a notebook to run: written while the site is built, and linked from its page.

Beside it a second one is written, with the solutions open and their code in cells: the source of
the course (`tools/course.py`), which is not part of the site.

The cells come from the resolved page (see `markdown`), the code from the notebook that was executed
for the book, without its outputs. Writing them in the HTML build means that one build makes both,
from the same pages with the same numbers. The general converters do not fit: nbconvert and jupytext
leave directives as raw text, and sphinx-tojupyter needs a second build and a compute cluster's
packages, and loses captions and tags.
"""

from __future__ import annotations

import functools
import posixpath
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import nbformat
from docutils import nodes
from pybtex.plugin import find_plugin
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from .address import Address
from .markdown import Code, Page, Piece, Snippet, Solution, Stub, Text, convert
from .stubs import bound, start

__all__ = [
    "EXECUTED",
    "FILES",
    "PUBLISHED",
    "REQUIRED",
    "SOLVED",
    "assemble",
    "executed",
    "install_cell",
    "published",
    "wheel",
]

LOGGER = logging.getLogger(__name__)

# Folders under the build folder: what myst-nb executed, what is published, what the course is
# made from.
EXECUTED = "jupyter_execute"
PUBLISHED = "notebooks"
SOLVED = "solved"

# Tags by which the book hides code; in a notebook the cell is there, and closed.
_CLOSED = {"hide-input", "hide-cell", "remove-input", "remove_input", "remove-cell", "remove_cell"}
# The book does not run these cells (they need a reader); a notebook does.
_ONLY_IN_BOOK = {"skip-execution"}

_METADATA = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# Folder of the site, and of the build, with the library's wheel.
FILES = "files"
# What `physml` imports, by pyproject.toml: where one of these is missing, it is not installed.
REQUIRED = (
    "ipywidgets", "matplotlib", "networkx", "numpy", "PIL", "safetensors", "torch", "tqdm",
)  # fmt: skip

_INSTALL = """\
# Install physml where it is missing, as on Colab. What is already installed stays as it is.
import importlib.util
import subprocess
import sys
from pathlib import Path

wheel = "{wheel}"
needed = {needed}
found = [importlib.util.find_spec(name) for name in needed.split()]
if not all(spec and spec.origin for spec in found):  # a mere folder of that name has no origin
    folders = [Path.cwd(), *Path.cwd().parents]
    sources = [w for f in folders for w in (*f.glob(wheel), *f.glob("{files}/" + wheel))]
{known}    if not sources:
        folders.append(Path("physml").resolve())
        copies = [f for f in folders if (f / "physml/__init__.py").exists()]
        copies = [f for f in copies if (f / "pyproject.toml").exists()]
        raise ModuleNotFoundError(
            f"This notebook needs the package physml. Put {{wheel}}, which the book's page of "
            "downloads has, beside this notebook and run this cell again; or install a copy of "
            f"the repository: pip install {{copies[0] if copies else 'PATH/TO/THE/COPY'}}"
        )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", str(sources[0])]
    subprocess.run(pip, check=True)
    sys.modules.pop("physml", None)
    importlib.invalidate_caches()"""


def published(app: Sphinx, docname: str) -> Path:
    """Return where the published notebook of a page is written."""
    return Path(app.outdir).parent / PUBLISHED / f"{docname}.ipynb"


def executed(app: Sphinx, docname: str) -> Path:
    """Return where myst-nb wrote the executed notebook of a page."""
    return Path(app.outdir).parent / EXECUTED / f"{docname}.ipynb"


def _solved(app: Sphinx, docname: str) -> Path:
    return Path(app.outdir).parent / SOLVED / f"{docname}.ipynb"


def is_notebook(env: BuildEnvironment, docname: str) -> bool:
    """Whether a page is published as a notebook.

    It is if it has a kernel, unless its top matter says `notebook: false`.
    """
    top = env.metadata.get(docname, {})
    return "kernelspec" in top and str(top.get("notebook", "")).lower() != "false"


def wheel(app: Sphinx) -> Path | None:
    """Return the library's wheel, which `tools/build_book.py` made; None if there is none."""
    return next((Path(app.outdir).parent / FILES).glob("physml-*.whl"), None)


def install_cell(address: Address | None = None, wheel: str = "", site: str = "") -> str:
    """Return the code that makes `physml` importable, or says plainly how to.

    A wheel that lies with the notebook comes first, as in the book's archive, where there may be no
    network; then the wheel of the site, then the repository. A copy of the repository that is not
    installed is no reason to do nothing, also where Python would find the folder: its imports fail.

    Parameters
    ----------
    address
        Where the repository is, if that is known.
    wheel
        The file name of the wheel, if there is one.
    site
        Where the site is, if that is known.
    """
    known = ""
    if wheel and site:
        known = f'    sources.append("{site.rstrip("/")}/{FILES}/{wheel}")\n'
    elif address is not None:
        known = f'    sources.append("{address.requirement}")\n'
    needed = f'"physml {" ".join(REQUIRED)}"'
    return _INSTALL.format(
        needed=needed, files=FILES, wheel=wheel or "physml-*.whl", known=known
    )


def assemble(
    pieces: Iterable[Piece],
    source: nbformat.NotebookNode,
    docname: str,
    address: Address | None = None,
    badge: bool = True,
    install: str | None = None,
) -> nbformat.NotebookNode:
    """Return the notebook of a page.

    Parameters
    ----------
    pieces
        The page, in order. Code cells that it hides altogether are put back in their place.
    source
        The chapter's own notebook: the source and the tags of each code cell.
    docname
        The page's name, for the Colab button.
    address
        Where the repository is, if that is known.
    badge
        Whether to put a Colab button under the title, which leads to the published notebook.
    install
        The first cell's code; `install_cell` of the address if it is not given.

    Returns
    -------
    nbformat.NotebookNode
        A notebook without outputs: title, Colab button, install cell, and then the page. The cells
        of an open solution have the tag `solution`, and the label of their exercise; the cell to
        start an exercise from has its label.
    """
    install = install_cell(address) if install is None else install
    cells: list[nbformat.NotebookNode] = []
    text: list[str] = []

    def flush() -> None:
        if text:
            cells.append(nbformat.v4.new_markdown_cell("\n\n".join(text)))
            text.clear()

    waiting = [i for i, cell in enumerate(source.cells) if cell.cell_type == "code"]
    begun = False

    def place(piece: Piece) -> None:
        nonlocal begun
        if isinstance(piece, Text):
            if piece.source.startswith("#"):  # a heading opens a cell
                flush()
            text.append(piece.source)
            if not begun and piece.source.startswith("# "):
                begun = True
                if address is not None and badge:
                    picture = "https://colab.research.google.com/assets/colab-badge.svg"
                    text.append(f"[![Open in Colab]({picture})]({address.colab(docname)})")
                flush()
                cells.append(_install(install))
            return
        flush()
        if isinstance(piece, Solution):
            first = len(cells)
            for part in piece.pieces:
                place(part)
            flush()
            for cell in cells[first:]:
                cell.metadata.setdefault("tags", []).append("solution")
                cell.metadata["exercise"] = piece.exercise
            return
        if isinstance(piece, Stub):
            code = "\n\n".join(
                part.source if isinstance(part, Snippet) else source.cells[part.index].source
                for part in piece.pieces
                if isinstance(part, Snippet | Code)
            )
            metadata = {"exercise": piece.exercise}
            cells.append(nbformat.v4.new_code_cell(start(code), metadata=metadata))
            return
        if isinstance(piece, Snippet):
            cells.append(nbformat.v4.new_code_cell(piece.source))
            return
        while waiting and waiting[0] < piece.index:  # a cell that the page removes
            cells.append(_code(source.cells[waiting.pop(0)], folded=True))
        if waiting and waiting[0] == piece.index:
            cells.append(_code(source.cells[waiting.pop(0)], folded=piece.folded))

    for piece in pieces:
        place(piece)
    flush()
    cells += [_code(source.cells[i], folded=True) for i in waiting]
    if not begun:
        cells.insert(0, _install(install))
    for count, cell in enumerate(cells):
        cell.id = f"cell-{count}"  # not random: the same page gives the same file
    return nbformat.v4.new_notebook(cells=cells, metadata=_metadata(cells))


def _metadata(cells: Iterable[nbformat.NotebookNode]) -> dict:
    """Return the notebook's metadata: only a page that has use for a GPU asks Colab for one."""
    if not any("device.choose(" in c.source for c in cells if c.cell_type == "code"):
        return _METADATA
    colab = _METADATA["colab"] | {"gpuType": "T4"}
    return _METADATA | {"accelerator": "GPU", "colab": colab}


def _install(code: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(code, metadata={"tags": ["install"]})


def _code(cell: nbformat.NotebookNode, folded: bool) -> nbformat.NotebookNode:
    tags = [tag for tag in cell.metadata.get("tags", []) if tag not in _ONLY_IN_BOOK]
    metadata: dict = {"tags": tags} if tags else {}
    if folded or _CLOSED.intersection(tags):
        metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    return nbformat.v4.new_code_cell(cell.source, metadata=metadata)


# ------------------------------------------------------------------- within the build of the site


def write_notebook(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the published notebook of a page (handler of `doctree-resolved`)."""
    env = app.builder.env
    if app.builder.format != "html" or not is_notebook(env, docname):
        return
    source = nbformat.read(executed(app, docname), as_version=4)
    for path, solved in ((published(app, docname), False), (_solved(app, docname), True)):
        cited: dict[str, str] = {}
        page = Page(
            figure_numbers=env.toc_fignumbers.get(docname, {}),
            section_numbers=env.toc_secnumbers.get(docname, {}),
            link=functools.partial(_link, app, docname, cited),
            folder=Path(app.srcdir),
            open_solutions=solved,
        )
        pieces = convert(doctree, page)
        if cited:
            pieces += [Text("## References"), *(Text(entry) for entry in cited.values())]
        address = app.config.physml_address
        name = made.name if (made := wheel(app)) else ""
        install = install_cell(address, name, app.config.html_baseurl)
        notebook = assemble(pieces, source, docname, address, not solved, install)
        _warn_of_taken_names(notebook, docname)
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)


def _warn_of_taken_names(notebook: nbformat.NotebookNode, docname: str) -> None:
    """A stub must not take a name that the chapter uses for something else."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stubs = [c for c in code if "exercise" in c.metadata and "solution" not in _tags(c)]
    own = bound(cell.source for cell in code if "exercise" not in cell.metadata)
    for cell in stubs:
        if taken := bound([cell.source]) & own - {"exercises"}:
            message = "the chapter has a %s already, a name that the stub of %s needs"
            LOGGER.warning(message, taken.pop(), cell.metadata["exercise"], location=docname)


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def missing_notebooks(app: Sphinx, env: BuildEnvironment, *_changes: object) -> list[str]:
    """Name the pages to read again because their notebook is gone (`env-get-outdated`)."""
    return [
        docname
        for docname in env.found_docs
        if is_notebook(env, docname)
        and not all(path(app, docname).exists() for path in (published, _solved, executed))
    ]


def copy_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Put notebooks and wheel into the site, and drop what is out of date (`build-finished`)."""
    if error is not None or app.builder.format != "html":
        return
    build = Path(app.outdir).parent
    names = [name for name in app.env.found_docs if is_notebook(app.env, name)]
    known = {path(app, name) for name in names for path in (published, _solved)}
    for path in (*(build / PUBLISHED).rglob("*.ipynb"), *(build / SOLVED).rglob("*.ipynb")):
        if path not in known:
            path.unlink()
    folder = build / PUBLISHED
    shutil.rmtree(Path(app.outdir) / PUBLISHED, ignore_errors=True)
    if folder.is_dir():
        shutil.copytree(folder, Path(app.outdir) / PUBLISHED)
    if (made := wheel(app)) is not None:
        (Path(app.outdir) / FILES).mkdir(exist_ok=True)
        shutil.copy2(made, Path(app.outdir) / FILES)


def page_buttons(
    app: Sphinx, pagename: str, _template: str, context: dict, _doctree: nodes.document | None
) -> None:
    """Let the page's buttons lead to its notebook (`html-page-context`, after the theme)."""
    buttons = context.get("header_buttons")
    if buttons is None or app.env is None:
        return
    notebook = is_notebook(app.env, pagename)
    for group in buttons:
        if group.get("label") != "download-buttons":
            continue
        # The theme offers the page's source, which is no notebook and is not in the site.
        group["buttons"] = [b for b in group["buttons"] if b["label"] == "download-pdf-button"]
        if notebook:
            link = {
                "type": "link",
                "url": context["pathto"](f"{PUBLISHED}/{pagename}.ipynb", 1),
                "text": ".ipynb",
                "icon": "fas fa-code",
                "tooltip": "Download this page as a notebook",
                "label": "download-notebook-button",
            }
            group["buttons"].insert(0, link)
    address = app.config.physml_address
    if notebook and address is not None:
        colab = {
            "type": "link",
            "url": address.colab(pagename),
            "text": "Colab",
            "icon": "_static/images/logo_colab.png",
            "tooltip": "Open this page as a notebook in Colab",
            "label": "launch-colab-button",
        }
        group = {
            "type": "group",
            "buttons": [colab],
            "tooltip": "Run this page",
            "icon": "fas fa-rocket",
            "label": "launch-buttons",
        }
        buttons.insert(0, group)


def _link(app: Sphinx, docname: str, cited: dict[str, str], uri: str) -> str | None:
    """Turn a link to a page of the book into one that works in a notebook.

    A citation is noted in `cited` and needs no link, for its entry is printed in the notebook.
    """
    parts = urlsplit(uri)
    here = app.builder.get_target_uri(docname)
    target = urljoin(here, parts.path)
    for citation in app.env.get_domain("cite").citations if _has_citations(app) else ():
        if citation.citation_id == parts.fragment:
            backend = find_plugin("pybtex.backends", "markdown")()
            entry = citation.formatted_entry.text.render(backend).replace("\\.", ".")
            cited.setdefault(citation.citation_id, entry)
            return None
    if app.config.html_baseurl:
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        return urljoin(app.config.html_baseurl.rstrip("/") + "/", target) + anchor
    name = target.removesuffix(".html")
    if name in app.env.found_docs and is_notebook(app.env, name):
        return posixpath.relpath(f"{name}.ipynb", posixpath.dirname(docname) or ".")
    return None


def _has_citations(app: Sphinx) -> bool:
    return "cite" in app.env.domaindata
