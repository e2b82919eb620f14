"""Make all that is published, in one folder, and one archive of it to use off line.

    python tools/publish.py [--root FOLDER]

`_build/site` gets the book, the library's wheel, all notebooks (the plain ones, those for students
and those with solutions, both run), the decks, the PDF where LaTeX is, and the archive. `make book`
alone makes the book with its notebooks and the wheel; what is not there its page of downloads names
without a link.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import zipfile
from pathlib import Path

import build_book
import course
import slides

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

from physml_book.downloads import fill, size
from physml_book.notebooks import FILES

__all__ = ["assemble", "main"]

ROOT = Path(__file__).resolve().parents[1]
_SLIDE = Path("_images") / "slide.png"  # as the teaching page names it


def assemble(
    build: Path,
    chapters: list[str],
    target: Path,
    course: Path | None = None,
    pdf: Path | None = None,
) -> list[str]:
    """Put the parts of the site into one folder, and return what is missing.

    Parameters
    ----------
    build
        The folder in which the book and the decks were built.
    chapters
        The names of the chapters, in order.
    target
        The folder to make; what was there is removed.
    course
        The folder with the notebooks of the course; that of `build` if it is not given.
    pdf
        The book as a PDF, if there is one.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(build / "html", target, ignore=shutil.ignore_patterns(".buildinfo*"))
    files = target / FILES
    files.mkdir(exist_ok=True)
    wheel = next(files.glob("physml-*.whl"), None)
    name = "-".join(["physml-book", *(wheel.name.split("-")[1:2] if wheel else ())])
    if (build / "slides").is_dir():
        shutil.copytree(build / "slides", target / "slides")
        if (target / _SLIDE).exists():
            slides.picture(target / "slides", target / _SLIDE)  # of these decks
    for edition in ("student", "solutions"):
        made = (course or build / "course") / edition
        if made.is_dir():
            shutil.copytree(made, target / "course" / edition)
    if pdf is not None:
        shutil.copy2(pdf, files / f"{name}.pdf")
    fill(target, chapters, archive=False)
    archive = files / f"{name}.zip"
    _pack(target, archive, name)
    return fill(target, chapters)


def _pack(folder: Path, archive: Path, name: str) -> None:
    """Write all files of a folder into an archive, under one name."""
    made = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in made:
            packed.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def main(arguments: list[str] | None = None) -> int:
    """Build all parts, put them together, and say what was made and what is missing."""
    parser = argparse.ArgumentParser(description="Make all that is published.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    root = parser.parse_args(arguments).root.resolve()
    build, where = root / "_build", ["--root", str(root)]
    start = time.monotonic()
    for make in (build_book.main, slides.main, course.main):
        if status := make(where):
            return status
    pdf = None
    if all(map(shutil.which, build_book._LATEX)):
        if status := build_book.main([*where, "--pdf"]):
            return status
        pdf = next((build / "latex").glob("*.pdf"))
    target = build / "site"
    missing = assemble(build, slides.chapters(root), target, pdf=pdf)
    for path in sorted((target / FILES).iterdir()):
        print(f"  {path.relative_to(target)}: {size(path.stat().st_size)}")
    if pdf is None:
        print("There is no LaTeX here, so the site has no PDF: `make pdf` says what to install.")
    elif missing:
        print(f"Missing: {', '.join(missing)}.")
    took, index = time.monotonic() - start, target / "index.html"
    print(f"Made the site ({took:.0f} s): open {index.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
