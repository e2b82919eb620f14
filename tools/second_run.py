"""Run each published notebook a second time, and compare its outputs with those in the book.

    python tools/second_run.py [--root FOLDER] [PAGE ...]

The reference is the published notebook with the outputs of the book's own execution. The second
run is made by nbval, in Colab's pinned environment, with `physml` from its wheel, from an empty
folder outside the project: it shows that the outputs are reproducible, and that the notebook works
where a reader opens it. nbval compares nothing in a cell that was never run, so a reference with
such a cell is refused here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

from colab import KERNEL, ROOT, Colab

__all__ = ["NotComparable", "Outcome", "compare", "first_run", "reference", "run"]

# Pictures depend on fonts and on the version of matplotlib: their presence is compared, not their
# bytes, and their size but for its last digit. (nbval itself leaves out PNG and JPEG that are
# outputs; these are images inside HTML, and drawings.)
_SANITISE = r"""[pictures in HTML]
regex: data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+
replace: PICTURE

[drawings]
regex: (?s)<\?xml.*</svg>\s*
replace: DRAWING

[the last digit of their size]
regex: (width|height)="([0-9]+)[0-9]"
replace: \1="\2x"
"""
_NOT_COMPARED = "nbval-ignore-output"


class NotComparable(ValueError):
    """A reference notebook holds nothing that a second run could be compared with."""


@dataclass(frozen=True)
class Outcome:
    """What a second run gave.

    Attributes
    ----------
    passed
        Whether every cell ran, and every output agrees.
    cells
        The number of code cells that were run.
    seconds
        How long it took.
    report
        What pytest said.
    """

    passed: bool
    cells: int
    seconds: float
    report: str


def reference(
    published: nbformat.NotebookNode, executed: nbformat.NotebookNode
) -> nbformat.NotebookNode:
    """Return the published notebook with the outputs of the executed one.

    Raises
    ------
    NotComparable
        If the code cells of the two differ, or a cell has not been executed.
    """
    published = nbformat.from_dict(published)
    sources = iter([cell for cell in executed.cells if cell.cell_type == "code"])
    for cell in (cell for cell in published.cells if cell.cell_type == "code"):
        tags = cell.metadata.setdefault("tags", [])
        if "install" in tags:  # where physml is installed it does nothing and says nothing
            cell.execution_count = 1
            continue
        if "exercise" in cell.metadata:  # a stub: it must run, and the book has no output of it
            tags.append(_NOT_COMPARED)
            continue
        source = next(sources, None)
        if source is None or source.source != cell.source:
            raise NotComparable(f"this cell is not the one that was executed:\n{cell.source}")
        if "skip-execution" in source.metadata.get("tags", []):
            tags.append(_NOT_COMPARED)
            continue
        cell.outputs = source.outputs
        cell.execution_count = source.execution_count
    if next(sources, None) is not None:
        raise NotComparable("the published notebook lacks cells that were executed")
    refuse_unrun(published)
    return published


def refuse_unrun(notebook: nbformat.NotebookNode) -> None:
    """Raise `NotComparable` if a cell whose output is to be compared was never run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    compared = [c for c in cells if _NOT_COMPARED not in c.metadata.get("tags", [])]
    unrun = [cell for cell in compared if cell.source.strip() and cell.execution_count is None]
    if unrun:
        raise NotComparable(f"a cell of the reference was never run:\n{unrun[0].source}")
    if not compared:
        raise NotComparable("the reference has no cell to compare")


def first_run(build: Path, docname: str) -> nbformat.NotebookNode:
    """Return the notebook with all that the book's execution of a page gave.

    It comes from the execution cache: in the copy that myst-nb leaves in `jupyter_execute`, the
    values that are put into the prose have been taken out of the outputs.
    """
    left = nbformat.read(build / "jupyter_execute" / f"{docname}.ipynb", as_version=4)
    (folder,) = (build / ".jupyter_cache").iterdir()
    return get_cache(folder).merge_match_into_notebook(left)[1]


def compare(notebook: nbformat.NotebookNode, kernel: str, jupyter: Path | None = None) -> Outcome:
    """Run a reference notebook again in an empty folder, and compare all outputs.

    Parameters
    ----------
    notebook
        The notebook, with outputs.
    kernel
        The name of the kernel to run it in.
    jupyter
        The folder under which Jupyter finds this kernel, if it is not one of its usual ones.
    """
    refuse_unrun(notebook)
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MPLBACKEND")}
    environ |= {"TQDM_DISABLE": "1", "PYTEST_ADDOPTS": ""}
    if jupyter is not None:
        environ["JUPYTER_PATH"] = str(jupyter)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "notebook"
        folder.mkdir()
        nbformat.write(notebook, folder / "chapter.ipynb")
        (Path(scratch) / "sanitise.cfg").write_text(_SANITISE)
        command = [sys.executable, "-m", "pytest", "--nbval", "chapter.ipynb", "-q", "--tb=short"]
        command += [f"--nbval-kernel-name={kernel}", "--nbval-sanitize-with=../sanitise.cfg"]
        command += ["-p", "no:cacheprovider", "--rootdir=.", "--color=no"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    ran = sum(int(count) for count in re.findall(r"(\d+) (?:passed|failed|error)", done.stdout))
    return Outcome(done.returncode == 0, ran, time.monotonic() - start, done.stdout)


def run(docname: str, colab: Colab, root: Path = ROOT) -> Outcome:
    """Run a page's published notebook again, unless the very same run has passed before.

    What was passed is remembered by the hash of the notebook, its outputs, the library's wheel and
    the pinned packages, under `_build/second_run`; `make clean` forgets it.
    """
    build = root / "_build"
    published = nbformat.read(build / "notebooks" / f"{docname}.ipynb", as_version=4)
    notebook = reference(published, first_run(build, docname))
    seen = hashlib.sha256(nbformat.writes(notebook).encode())
    for stamp in ("installed", "library"):
        seen.update((colab.folder / stamp).read_bytes())
    record = build / "second_run" / f"{docname.replace('/', '-')}-{seen.hexdigest()[:16]}"
    if record.exists():
        cells = int(record.read_text())
        return Outcome(True, cells, 0.0, "the very same run has passed before")
    outcome = compare(notebook, KERNEL, colab.jupyter)
    if outcome.passed:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(str(outcome.cells))
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the published notebooks again: all, or those of some pages."""
    parser = argparse.ArgumentParser(description="Run each published notebook a second time.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    parser.add_argument("pages", nargs="*", help="such as fields/markov_random_fields")
    asked = parser.parse_args(arguments)
    root = asked.root.resolve()
    colab = Colab(root)
    colab.make()
    folder, failed = root / "_build" / "notebooks", 0
    found = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.ipynb"))
    for docname in asked.pages or sorted(name.as_posix() for name in found):
        outcome = run(docname, colab, root)
        if not outcome.passed:
            print(outcome.report)
        failed += not outcome.passed
        word = "agrees" if outcome.passed else "DIFFERS"
        how = f"{outcome.seconds:.0f} s" if outcome.seconds else outcome.report
        print(f"{docname}: {word} ({outcome.cells} cells, {how})", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
