"""Build the book strictly, from a clean tree: warnings and failing cells are errors.

    python tools/build_book.py [--notebooks | --pdf] [--root FOLDER]

Only the execution cache is kept between builds, so nothing can look clean because it was not looked
at: a page that Sphinx does not read again cannot warn again. Chapters that did not change come from
the cache, and the build takes seconds. The PDF needs LaTeX, which pip cannot install; sliders stand
in it as the picture they start with.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from wheels import build_wheel

__all__ = ["build", "main"]

ROOT = Path(__file__).resolve().parents[1]
_STALE = (".doctrees", "html", "jupyter_execute", "latex", "notebooks", "solved")
# What turns the book into a PDF, and where Debian and its relatives have it.
_LATEX = ("latexmk", "xelatex")
_NO_LATEX = """\
There is no {missing} here, and the PDF needs it. On Debian or Ubuntu:
  apt-get install latexmk texlive-xetex texlive-latex-extra texlive-fonts-extra fonts-freefont-otf
On macOS: install MacTeX. Nothing was built; `make book` needs none of this."""
# A kernel's remark on its own transport, at each start; it says nothing about the chapter.
_NOISE = "[IPKernelApp] WARNING | Kernel is running over TCP without encryption."


def build(root: Path = ROOT, builder: str = "html") -> int:
    """Build the book of `root` into `root/_build`, and return the exit status.

    Parameters
    ----------
    root
        The folder with _config.yml.
    builder
        Jupyter Book's name for what is made: `html`, or `pdflatex`.
    """
    for part in _STALE:
        shutil.rmtree(root / "_build" / part, ignore_errors=True)
    if builder == "html" and (root / "pyproject.toml").exists():
        try:
            build_wheel(root / "_build" / "files", root)  # the extension puts it into the site
        except RuntimeError as error:
            print(f"The site will have no wheel of the library: {error}", flush=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root / "book"), "--builder", builder]
    # LaTeX's own remarks on boxes and fonts are not errors of the book
    command += ["-W", "-n", "--keep-going", "-q"] if builder == "html" else []
    # a kernel shows its figures inline only if nothing else names matplotlib's backend
    environ = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environ |= {"PHYSML_BOOK_PROGRESS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=root,
        env=environ,
        stdout=subprocess.DEVNULL,  # Jupyter Book's own closing words; main has shorter ones
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stderr:
            if not line.startswith(_NOISE):
                print(line, end="", flush=True)
    return process.returncode


def main(arguments: list[str] | None = None) -> int:
    """Build, and say at the end what was made and where it is."""
    parser = argparse.ArgumentParser(description="Build the book strictly, from a clean tree.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--notebooks", action="store_true", help="name the notebooks at the end")
    what.add_argument("--pdf", action="store_true", help="make one PDF instead of pages")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    missing = [name for name in _LATEX if options.pdf and shutil.which(name) is None]
    if missing:
        print(_NO_LATEX.format(missing=" and no ".join(missing)))
        return 1
    print("Building the book ...", flush=True)
    start = time.monotonic()
    status = build(root, "pdflatex" if options.pdf else "html")
    took = time.monotonic() - start
    if status:
        print(f"The book was NOT built ({took:.0f} s): mend what is said above, and build again.")
        return status
    if options.pdf:
        (made,) = (root / "_build" / "latex").glob("*.pdf")
        print(f"Built the book as a PDF ({took:.0f} s): {made}")
        return 0
    made = sorted((root / "_build" / "notebooks").rglob("*.ipynb"))
    if options.notebooks:
        for path in made:
            print(f"  {path.relative_to(root)}")
        print(f"Wrote {len(made)} notebooks into {root / '_build' / 'notebooks'} ({took:.0f} s).")
    else:
        index = root / "_build" / "html" / "index.html"
        print(f"Built the book ({len(made)} chapters, {took:.0f} s): open {index.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
