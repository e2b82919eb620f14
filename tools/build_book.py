"""Build the book strictly, from a clean tree: warnings and failing cells are errors.

    python tools/build_book.py [--notebooks] [--root FOLDER]

Only the execution cache is kept between builds, so nothing can look clean because it was not looked
at: a page that Sphinx does not read again cannot warn again. Chapters that did not change come from
the cache, and the build takes seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["build", "main"]

ROOT = Path(__file__).resolve().parents[1]
_STALE = (".doctrees", "html", "jupyter_execute", "notebooks", "solved")
# A kernel's remark on its own transport, at each start; it says nothing about the chapter.
_NOISE = "[IPKernelApp] WARNING | Kernel is running over TCP without encryption."


def build(root: Path = ROOT) -> int:
    """Build the book of `root` into `root/_build`, and return the exit status."""
    for part in _STALE:
        shutil.rmtree(root / "_build" / part, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(root / "book"), "-W", "-n", "--keep-going", "-q"]
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
    parser.add_argument("--notebooks", action="store_true", help="name the notebooks at the end")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    print("Building the book ...", flush=True)
    start = time.monotonic()
    status = build(root)
    took = time.monotonic() - start
    if status:
        print(f"The book was NOT built ({took:.0f} s): mend what is said above, and build again.")
        return status
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
