"""Say which chapter is being executed and how long it took, when `PHYSML_BOOK_PROGRESS` is set."""

from __future__ import annotations

import os
import sys
import threading
import time

from docutils import nodes
from sphinx.application import Sphinx

from .parallel import has_kernel

__all__ = ["connect"]

_EVERY = 15.0  # seconds between signs of life


def connect(app: Sphinx) -> None:
    """Report on chapters as they are read, if progress is wanted."""
    if os.environ.get("PHYSML_BOOK_PROGRESS"):
        progress = _Progress()
        app.connect("source-read", progress.begin)
        app.connect("doctree-read", progress.end)


class _Progress:
    def __init__(self) -> None:
        self.docname = ""
        self.started = 0.0
        self.done = threading.Event()

    def begin(self, _app: Sphinx, docname: str, source: list[str]) -> None:
        self.done.set()  # the page before this one had no end if it failed
        if not has_kernel(source[0]):
            return
        self.docname, self.started, self.done = docname, time.time(), threading.Event()
        threading.Thread(target=self._beat, args=(docname, self.done), daemon=True).start()

    def end(self, app: Sphinx, _doctree: nodes.document) -> None:
        self.done.set()
        docname = app.env.docname
        result = app.env.nb_metadata.get(docname, {}).get("exec_data")
        if docname != self.docname or not result:
            return
        if not result["succeeded"]:
            _say(f"{docname}: FAILED")
        elif result["mtime"] < self.started:
            _say(f"{docname}: unchanged (it took {result['runtime']:.1f} s when it was executed)")
        else:
            _say(f"{docname}: executed in {result['runtime']:.1f} s")

    def _beat(self, docname: str, done: threading.Event) -> None:
        start = time.monotonic()
        if not done.wait(1.0):
            _say(f"{docname}: executing ...")
        while not done.wait(_EVERY):
            _say(f"{docname}: still executing after {time.monotonic() - start:.0f} s ...")


def _say(message: str) -> None:
    print(f"  {message}", file=sys.stderr, flush=True)
