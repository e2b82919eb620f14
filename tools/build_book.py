"""Build the book strictly, from a clean tree: warnings and failing cells are errors.

    python tools/build_book.py [--notebooks | --pdf] [--root FOLDER]

Only the execution cache is kept between builds, so nothing can look clean because it was not looked
at: a page that Sphinx does not read again cannot warn again. Chapters that did not change come from
the cache, and the build takes seconds. The PDF needs LaTeX, which pip cannot install. It is made
beside the site, from the pages that were read for it if they are there, and neither build touches
what the other one made. LaTeX ends well with references that lead nowhere and with symbols that its
fonts do not have; here both are errors.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from wheels import build_wheel

__all__ = ["build", "log_faults", "main"]

ROOT = Path(__file__).resolve().parents[1]
# What a build removes first, under _build.
_STALE = {
    "html": (".doctrees", "html", "jupyter_execute", "notebooks", "solved"),
    "pdflatex": ("latex",),
}
# What turns the book into a PDF, and where Debian and its relatives have it.
_LATEX = ("latexmk", "xelatex", "xindy")
_PACKAGES = "latexmk texlive-xetex texlive-latex-extra lmodern xindy fonts-cmu fonts-dejavu"
_NO_LATEX = f"""\
There is no {{missing}} here, and the PDF needs it. On Debian or Ubuntu:
  apt-get install --no-install-recommends \\
    {_PACKAGES}
On macOS: install MacTeX and the fonts DejaVu. Nothing was built; `make book` needs none of this."""
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
    for part in _STALE[builder]:
        shutil.rmtree(root / "_build" / part, ignore_errors=True)
    if builder == "html" and (root / "pyproject.toml").exists():
        try:
            build_wheel(root / "_build" / "files", root)  # the extension puts it into the site
        except RuntimeError as error:
            print(f"The site will have no wheel of the library: {error}", flush=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    # it would run LaTeX such that it waits for answers, and say nothing of what went wrong
    command += ["build", str(root / "book"), "--builder", builder.removeprefix("pdf")]
    # what a page says only on the site is no error of the printed book
    command += ["-W", "-n", "--keep-going", "-q"] if builder == "html" else ["-q"]
    # a kernel shows its figures inline only if nothing else names matplotlib's backend
    environ = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environ |= {"PHYSML_BOOK_PROGRESS": "1", "PYTHONUNBUFFERED": "1"}
    environ.setdefault("OMP_WAIT_POLICY", "passive")  # no thread spins on a busy machine
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
    if process.returncode or builder == "html":
        return process.returncode
    return _typeset(root / "_build" / "latex")


def _typeset(folder: Path) -> int:
    """Run LaTeX until nothing changes any more, and return 1 if something is wrong with the PDF."""
    print("  LaTeX is running ...", flush=True)
    options = {"LATEXOPTS": "-interaction=nonstopmode", "LATEXMKOPTS": "-silent"}
    done = subprocess.run(
        ["make", "all-pdf"],
        cwd=folder,
        env=os.environ | options | {"max_print_line": "1000"},  # or the log breaks names in two
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    logs = sorted(folder.glob("*.log"))
    faults = [fault for log in logs for fault in log_faults(log.read_text("utf-8", "replace"))]
    for fault in faults:
        print(f"  LaTeX: {fault}")
    if done.returncode and not faults:
        print(done.stdout[-2000:])
    if done.returncode or faults:
        print(f"The whole log: {', '.join(map(str, logs)) or 'there is none'}")
    return 1 if faults else done.returncode


def log_faults(log: str) -> list[str]:
    """Return what is wrong with a PDF by the log of LaTeX: each fault once, in a line.

    Faults are errors, references and citations that lead nowhere, labels that stand twice, floats
    that were lost, and symbols that the font does not have.

    Parameters
    ----------
    log
        The log file of the last run, not broken into short lines (`max_print_line`).
    """
    found = re.findall(
        r"^! .+|^Missing character: .+"
        r"|^LaTeX Warning: (?:Reference|Citation|Hyper reference) .+ undefined.*"
        r"|^LaTeX Warning: Label .+ multiply defined.*"
        r"|^LaTeX Warning: Float\(s\) lost.*",
        log,
        re.MULTILINE,
    )
    return list(dict.fromkeys(line.removeprefix("LaTeX Warning: ") for line in found))


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
