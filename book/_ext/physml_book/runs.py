"""What the last execution of each chapter cost: time, memory, device, date.

jupyter-cache remembers how long a chapter took; what it needed is measured here while it runs, and
kept beside the outputs, under the same execution key. So a page that comes from the cache still
says what its own run cost, and the versions of the packages are the same for all of them.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import psutil
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

__all__ = ["Run", "connect", "last_run"]

_FILE = "physml-runs.json"
# Seconds between two looks at the memory: often at first, so that a short run is seen too.
_SOON, _EVERY, _START = 0.05, 0.5, 5.0
# How far a reader's numbers may differ, in one sentence; the status page has the rest.
_DIFFER = (
    "With the same versions, processor and number of threads, your numbers are those of this page; "
    "other versions, other threads or a GPU add numbers in another order, so that what is drawn at "
    "random or trained moves within its errors"
)
_DIFFER_AT = ("status", "how-far-may-your-numbers-differ")


@dataclass(frozen=True)
class Run:
    """One execution of a chapter.

    Attributes
    ----------
    seconds
        Its time.
    day
        The date, as YYYY-MM-DD.
    memory
        The most memory that the kernel and its children held, in bytes; None if that was not
        measured.
    device
        What it ran on; empty if that is not known.
    """

    seconds: float
    day: str
    memory: int | None = None
    device: str = ""

    def time(self) -> str:
        """The time in words."""
        if self.seconds < 90:
            return f"{max(1, round(self.seconds))} s"
        return f"{self.seconds / 60:.1f} min"

    def size(self) -> str:
        """The memory in words, or an empty string."""
        return "" if self.memory is None else f"{self.memory / 1e9:.1f} GB"

    def date(self) -> str:
        """The date in words."""
        day = date.fromisoformat(self.day)
        return f"{day.day} {day:%B %Y}"

    def sentence(self) -> str:
        """The run in one sentence, for the top of its page."""
        memory = self.size() and f"{self.size()} of memory"
        needed = " and ".join(filter(None, (self.time(), memory)))
        where = ", ".join(filter(None, (self.device, self.date())))
        return f"The run that made this page took {needed} ({where})."


def last_run(env: BuildEnvironment, docname: str) -> Run | None:
    """Return the execution from which a page has its outputs; None if it has no code."""
    result = getattr(env, "nb_metadata", {}).get(docname, {}).get("exec_data")
    if not result or result.get("runtime") is None:
        return None
    kept = _read(_path(env.app)).get(docname)
    if kept is not None and kept["seconds"] == result["runtime"]:
        return Run(**kept)
    return Run(result["runtime"], date.fromtimestamp(result["mtime"]).isoformat())


def connect(app: Sphinx) -> None:
    """Measure chapters as they are read, and say at the top of each what it cost."""
    meter = _Meter()
    app.connect("source-read", meter.begin)
    app.connect("doctree-read", meter.end)
    app.connect("doctree-resolved", _say_cost, priority=400)


def _say_cost(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Add the last run to the paragraph "Cost: ...", and below how far other runs may differ."""
    run = last_run(app.env, docname)
    costs = (p for p in doctree.findall(nodes.paragraph) if p.astext().startswith("Cost:"))
    paragraph = next(costs, None)
    if run is None or paragraph is None:
        return
    said = nodes.emphasis("", run.sentence())
    for words, name in ((" Symbols: ", "notation"), ("; words: ", "glossary")):
        if name in app.env.found_docs:
            title = app.env.titles[name].astext().lower()
            uri = app.builder.get_relative_uri(docname, name)
            said += [nodes.Text(words), nodes.reference("", title, refuri=uri, internal=True)]
    if len(said) > 1:
        said += nodes.Text(".")
    paragraph += [nodes.Text(" "), said]
    differ = nodes.emphasis("", _DIFFER)
    if _DIFFER_AT[0] in app.env.found_docs:
        uri = f"{app.builder.get_relative_uri(docname, _DIFFER_AT[0])}#{_DIFFER_AT[1]}"
        link = nodes.reference("", "how far", refuri=uri, internal=True)
        differ += [nodes.Text(": "), link]
    differ += nodes.Text(".")
    where = paragraph.parent.index(paragraph) + 1
    paragraph.parent.insert(where, nodes.paragraph("", "", differ, classes=["physml-differ"]))


class _Meter:
    """Looks at the memory of the processes that this one has started."""

    def __init__(self) -> None:
        self.docname, self.started, self.most = "", 0.0, 0
        self.done = threading.Event()

    def begin(self, _app: Sphinx, docname: str, source: list[str]) -> None:
        self.done.set()  # the page before this one had no end if it failed
        if "\nkernelspec:" not in source[0].split("\n---", 1)[0]:
            return
        self.docname, self.started, self.most = docname, time.time(), 0
        self.done = threading.Event()
        threading.Thread(target=self._watch, args=(self.done,), daemon=True).start()

    def end(self, app: Sphinx, _doctree: nodes.document) -> None:
        self.done.set()
        result = app.env.nb_metadata.get(app.env.docname, {}).get("exec_data")
        if app.env.docname != self.docname or not result or not result["succeeded"]:
            return
        if result["mtime"] < self.started:  # it comes from the cache
            return
        today = date.today().isoformat()
        run = Run(result["runtime"], today, self.most or None, _device())
        path = _path(app)
        kept = _read(path) | {self.docname: asdict(run)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1, sort_keys=True))

    def _watch(self, done: threading.Event) -> None:
        here = psutil.Process()
        while not done.wait(_SOON if time.time() - self.started < _START else _EVERY):
            self.most = max(self.most, sum(map(_held, here.children(recursive=True))))


def _held(process: psutil.Process) -> int:
    """The memory of a process; what it shares with others is counted once where that is known."""
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except psutil.Error:  # it has ended, or is not ours to look at
        return 0


def _device() -> str:
    """The device that the library chooses here."""
    cores = f"{os.cpu_count()} {platform.machine()} cores"
    try:
        from physml import device
    except ImportError:
        return cores
    chosen = device.choose()
    if chosen.type == "cpu":
        return cores
    if chosen.type == "cuda":
        import torch

        return f"{torch.cuda.get_device_name(chosen)}, {cores}"
    return f"{chosen.type.upper()}, {cores}"


def _path(app: Sphinx) -> Path:
    return Path(app.config.nb_execution_cache_path) / _FILE


def _read(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text()) if path.exists() else {}
