"""Write each chapter as a student's notebook and as one with solutions, and run both.

    python tools/course.py [--root FOLDER] [--write-only] [--to FOLDER]

Both come from the same page of the book (`_build/solved`, written by `make book`). The solution is
the source: what a student starts from is the solution's own call of a check, with the answer taken
out (`stub`), so the two cannot drift apart. A picture that a solution draws is shown to the student
as the one to expect.

Both are then run from top to bottom: with the stubs every check must say "Not yet", and with the
solutions "Correct". What has been run is kept under `_build/course/runs`, by the hash of its code
and the book's execution key, and is not run again. With `--write-only` nothing is run: there are no
outputs, and no pictures to expect.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

from physml_book.stubs import IMPORT, bound, checks, stub

__all__ = [
    "NotACourse",
    "checks",
    "leaks",
    "main",
    "pictures",
    "refuse",
    "run",
    "solutions",
    "stub",
    "student",
]

ROOT = Path(__file__).resolve().parents[1]
_TAG = "solution"
_AT_ONCE = 2  # chapters that are run at one time
_NO_DATA = "DataUnavailable"  # the one error that is no fault of the notebook
# Lines of code this short are in every notebook, and tell nothing.
_TELLING = 12
# Nor do these: the arguments of a function, and a check of a name or before what it checks.
_PLAIN = re.compile(r"def \w+\([\w, ]*\):|print\(exercises\.check_\w+\((?:[A-Za-z_]\w*\)\))?")


class NotACourse(ValueError):
    """A notebook of the course is not what it must be."""


# ----------------------------------------------------------------------- the student's notebook


def student(
    solved: NotebookNode, expected: Mapping[str, Sequence[str]] | None = None
) -> NotebookNode:
    """Return a chapter with a stub in the place of each solution.

    Parameters
    ----------
    solved
        The chapter with its solutions, whose cells have the tag `solution`.
    expected
        The pictures (PNG, in base64) to expect, by the label of the exercise.

    Raises
    ------
    NotACourse
        If a stub takes a name that the chapter uses for something else, or a solution is in it.
    """
    cells = []
    for label, group in groupby(_with_import(solved).cells, key=_place):
        if label is None:
            cells += group
        else:
            code = "\n\n".join(cell.source for cell in group if cell.cell_type == "code")
            cells.append(new_code_cell(stub(code), metadata={"exercise": label}))
            for count, picture in enumerate((expected or {}).get(label, ())):
                name = f"expected-{count}.png"
                text = f"The figure to expect:\n\n![The figure to expect](attachment:{name})"
                attached = {name: {"image/png": picture}}
                cells.append(new_markdown_cell(text, attachments=attached))
    made = _notebook(solved, cells)
    own = bound(cell.source for cell in solved.cells if _place(cell) is None)
    for cell in made.cells:
        if "exercise" in cell.metadata and (taken := bound([cell.source]) & own):
            raise NotACourse(f"the chapter has a {taken.pop()} already, a name that a stub needs")
    if found := leaks(made, solved):
        raise NotACourse(f"the student's notebook has a part of a solution in it:\n{found[0]}")
    return made


def solutions(solved: NotebookNode) -> NotebookNode:
    """Return the chapter with its solutions, ready to run."""
    return _notebook(solved, _with_import(solved).cells)


def leaks(notebook: NotebookNode, solved: NotebookNode) -> list[str]:
    """Return the lines of solutions that a notebook holds, but for those the chapter has itself."""

    def lines(cells: list[NotebookNode]) -> list[str]:
        text = (line.strip() for cell in cells for line in cell.source.splitlines())
        return [line for line in text if len(line) >= _TELLING]

    own = set(lines([cell for cell in solved.cells if _place(cell) is None]))
    secret = [line for line in lines([c for c in solved.cells if _place(c)]) if line not in own]
    inside = "\n".join(_strings(notebook))
    return [line for line in secret if line in inside and not _PLAIN.fullmatch(line)]


def _place(cell: NotebookNode) -> str | None:
    """Return the exercise whose solution a cell belongs to."""
    return cell.metadata["exercise"] if _TAG in cell.metadata.get("tags", []) else None


def _with_import(solved: NotebookNode) -> NotebookNode:
    """Return the notebook with `exercises` imported before the first solution."""
    cells = list(solved.cells)
    if "exercises" not in bound(c.source for c in cells if c.cell_type == "code"):
        first = next((i for i, cell in enumerate(cells) if _place(cell)), len(cells))
        cells.insert(first, new_code_cell(IMPORT))
    return _notebook(solved, cells)


def _notebook(like: NotebookNode, cells: Sequence[NotebookNode]) -> NotebookNode:
    cells = [nbformat.from_dict(cell) for cell in cells]
    for count, cell in enumerate(cells):
        cell.id = f"cell-{count}"  # not random: the same page gives the same file
    return nbformat.v4.new_notebook(cells=cells, metadata=like.metadata)


def _strings(value: object) -> Iterator[str]:
    """Yield all text in a notebook, wherever it is."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


# ---------------------------------------------------------------------------- from top to bottom


def run(notebook: NotebookNode, kept: Path, key: str = "") -> tuple[NotebookNode, float]:
    """Run a notebook from top to bottom in an empty folder; return it with outputs, and seconds.

    Parameters
    ----------
    notebook
        The notebook; it must not fail.
    kept
        The folder where runs are kept: the very same code is not run again, and takes no time.
    key
        What else the outputs depend on, such as the version of the library.
    """
    ran = nbformat.from_dict(notebook)
    code = [cell for cell in ran.cells if cell.cell_type == "code"]
    text = "\0".join([key, *(cell.source for cell in code)])
    record = kept / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.ipynb"
    if record.exists():
        before = [c for c in nbformat.read(record, 4).cells if c.cell_type == "code"]
        for cell, old in zip(code, before, strict=True):
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
        record.touch()  # in use
        return ran, 0.0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            ran,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            allow_error_names=[_NO_DATA],
        )
        # what cells write to stderr comes with their outputs; this is the kernel's own
        client.execute(env=_environ(), stderr=subprocess.DEVNULL)
    ran.metadata = notebook.metadata
    for cell in code:
        cell.metadata.pop("execution", None)  # the times of day
    kept.mkdir(parents=True, exist_ok=True)
    nbformat.write(ran, record)
    return ran, time.monotonic() - start


def refuse(ran: NotebookNode, verdict: str) -> None:
    """Raise `NotACourse` unless each check in the notebook gives this verdict.

    The cells looked at are those of an exercise; one with checks must print the verdict for each.
    No cell may have failed, except a solution without checks for want of a data set.
    """
    for cell in (cell for cell in ran.cells if cell.cell_type == "code"):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and (_place(cell) is None or checks(cell.source)):
            raise NotACourse(f"this cell lacks its data:\n{cell.source}")
        if "exercise" not in cell.metadata:
            continue
        wanted = len(checks(cell.source))
        said = "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")
        given = {word: said.count(f"{word}: ") for word in ("Correct", "Not yet")}
        if given[verdict] != wanted or sum(given.values()) != wanted:
            label = cell.metadata["exercise"]
            raise NotACourse(f"the checks of {label} should say {verdict!r}, and say:\n{said}")


def pictures(ran: NotebookNode) -> dict[str, list[str]]:
    """Return the pictures that solutions draw, by the label of the exercise."""
    found: dict[str, list[str]] = {}
    for cell in ran.cells:
        label = _place(cell)
        for output in cell.get("outputs", ()) if label else ():
            if "image/png" in output.get("data", {}):
                found.setdefault(label, []).append(output.data["image/png"].strip())
    return found


def _environ() -> dict[str, str]:
    environ = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    return environ | {"TQDM_DISABLE": "1"}


def main(arguments: list[str] | None = None) -> int:
    """Write and run the course of the book that was built."""
    parser = argparse.ArgumentParser(description="Write the student's and the solved notebooks.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    parser.add_argument("--to", type=Path, help="where to write; _build/course if it is not said")
    parser.add_argument("--write-only", action="store_true", help="do not run them")
    options = parser.parse_args(arguments)
    build = options.root.resolve() / "_build"
    course = options.to or build / "course"
    sources = sorted((build / "solved").rglob("*.ipynb"))
    if not sources:
        print("There is no book yet: run 'make book' first.")
        return 1
    started = time.time()
    for edition in ("student", "solutions"):
        shutil.rmtree(course / edition, ignore_errors=True)

    def make(path: Path) -> bool:
        """Write both notebooks of a chapter, and return whether it went well."""
        name = path.relative_to(build / "solved")
        solved = nbformat.read(path, as_version=4)
        try:
            if options.write_only:
                full, stubs, took = solutions(solved), student(solved), ""
            else:
                full, stubs, took = _run_both(solved, course / "runs", build)
        except Exception as error:
            print(f"  {name.with_suffix('')}: FAILED\n{type(error).__name__}: {error}", flush=True)
            return False
        count = sum("exercise" in cell.metadata for cell in stubs.cells)
        print(f"  {name.with_suffix('')}: {count} exercises{took}", flush=True)
        for edition, notebook in (("solutions", full), ("student", stubs)):
            target = course / edition / name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, target)
        return True

    print("Making the course ..." if options.write_only else "Running the course ...", flush=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each waits for a kernel that keeps a core busy
        if not all(list(pool.map(make, sources))):
            return 1
    if not options.write_only:
        for record in (course / "runs").iterdir():
            if record.stat().st_mtime < started - 1:  # of chapters as they were
                record.unlink()
    print(f"Wrote {len(sources)} chapters into {course / 'student'} and {course / 'solutions'}.")
    return 0


def _run_both(
    solved: NotebookNode, kept: Path, build: Path
) -> tuple[NotebookNode, NotebookNode, str]:
    """Return the solutions and the student's notebook of a chapter, run and judged, and times."""
    (cache,) = (build / ".jupyter_cache").iterdir()  # its name is the execution key
    full, first = run(solutions(solved), kept, cache.name)
    refuse(full, "Correct")
    stubs = student(solved, pictures(full))
    tried, second = run(stubs, kept, cache.name)
    refuse(tried, "Not yet")
    return full, stubs, f" (solutions {first:.0f} s, stubs {second:.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
