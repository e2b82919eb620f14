"""What the last execution of each chapter cost: time, memory, device, date.

jupyter-cache remembers how long a chapter took; what it needed is measured here while it runs, and
kept beside the outputs, under the same execution key. So a page that comes from the cache still
says what its own run cost, and the versions of the packages are the same for all of them.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from . import parallel

__all__ = ["Run", "connect", "last_run"]

_FILE = "physml-runs.json"
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
    """Keep what each execution costs, and say it at the top of its page."""
    app.connect("doctree-read", _keep)
    app.connect("doctree-resolved", _say_cost, priority=400)


def _keep(app: Sphinx, _doctree: nodes.document) -> None:
    """Keep what the run cost from which a page has its outputs, if it was made in this build."""
    docname = app.env.docname
    result = app.env.nb_metadata.get(docname, {}).get("exec_data")
    if not result or not result["succeeded"] or not parallel.executed(docname):
        return
    run = Run(result["runtime"], date.today().isoformat(), parallel.memory(docname), _device())
    path = _path(app)
    kept = _read(path) | {docname: asdict(run)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, sort_keys=True))


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
