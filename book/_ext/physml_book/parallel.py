"""Execute the chapters of a build two at a time, for most of them keep one core busy.

myst-nb executes a notebook when it reads its page, and pages are read one after another. Here all
notebooks that are not in the execution cache are begun before the first page is read, each in a
process of its own, and myst-nb is given what that process gave. All else is as myst-nb does it:
what it keeps in the cache, and how it reports a cell that fails.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from jupyter_cache import get_cache
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.execute import cache as executing
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

__all__ = ["connect", "executed", "has_kernel", "memory"]

_AT_ONCE = 2
# Seconds between two looks at the memory: often at first, so that a short run is seen too.
_SOON, _EVERY, _START = 0.05, 0.5, 5.0


@dataclass
class _Ahead:
    """What was begun in this build: the runs by their code, and the code by its page."""

    pool: ProcessPoolExecutor | None
    runs: dict[tuple[str, ...], Future]
    pages: dict[str, tuple[str, ...]]


_AHEAD = _Ahead(None, {}, {})


def connect(app: Sphinx) -> None:
    """Begin with the notebooks of a build before its pages are read, and end with the build."""
    executing.single_nb_execution = _hand_over
    app.connect("env-before-read-docs", _begin)
    app.connect("build-finished", _end)


def has_kernel(source: str) -> bool:
    """Return whether a page, given by its text, is a notebook."""
    return "\nkernelspec:" in source.split("\n---", 1)[0]


def executed(docname: str) -> bool:
    """Return whether a page was executed in this build, and did not come from the cache."""
    return docname in _AHEAD.pages


def memory(docname: str) -> int | None:
    """Return the most memory that a page's kernel and its children held; None if not measured."""
    return _AHEAD.runs[_AHEAD.pages[docname]].result()[1]


def _begin(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return
    cache = get_cache(config.execution_cache_path)
    for docname in docnames:
        path = Path(env.doc2path(docname))
        text = path.read_text(encoding="utf-8")
        if not has_kernel(text):
            continue
        reader = create_nb_reader(str(path), env.myst_config, config, text)
        notebook = reader.read(text)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            if _AHEAD.pool is None:
                workers = min(_AT_ONCE, os.cpu_count() or 1)
                _AHEAD.pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            run = _AHEAD.pool.submit(
                _execute, notebook, config.execution_timeout, config.execution_allow_errors
            )
            _AHEAD.pages[docname] = _code(notebook)
            _AHEAD.runs[_code(notebook)] = run


def _end(_app: Sphinx, _error: Exception | None) -> None:
    if _AHEAD.pool is not None:
        _AHEAD.pool.shutdown(wait=False, cancel_futures=True)
        _AHEAD.pool = None


def _hand_over(notebook: NotebookNode, cwd: str | None, **options: object) -> ExecutionResult:
    """Do what `single_nb_execution` does, by the run that was begun if there is one."""
    run = _AHEAD.runs.get(_code(notebook))
    if run is None:
        return single_nb_execution(notebook, cwd=cwd, **options)
    result, _ = run.result()
    notebook.metadata.update(result.nb.metadata)
    for cell, ran in zip(notebook.cells, result.nb.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
            cell.metadata.update(ran.metadata)
    return ExecutionResult(notebook, cwd, result.time, result.err, result.exc_string)


def _execute(
    notebook: NotebookNode, timeout: int, allow_errors: bool
) -> tuple[ExecutionResult, int | None]:
    """Execute a notebook in an empty folder; return also the most memory that this held."""
    meter = _Meter()
    with TemporaryDirectory() as folder:
        result = single_nb_execution(
            notebook, cwd=folder, timeout=timeout, allow_errors=allow_errors
        )
    return result, meter.stop()


def _code(notebook: NotebookNode) -> tuple[str, ...]:
    return tuple(cell.source for cell in notebook.cells if cell.cell_type == "code")


class _Meter:
    """Looks at the memory of the processes that this one has started."""

    def __init__(self) -> None:
        self.started, self.most, self.done = time.monotonic(), 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> int | None:
        self.done.set()
        return self.most or None

    def _watch(self) -> None:
        here, resident = psutil.Process(), 0
        while not self.done.wait(_SOON if time.monotonic() - self.started < _START else _EVERY):
            children = here.children(recursive=True)
            if (now := sum(map(_resident, children))) > 1.01 * resident:
                resident, self.most = now, max(self.most, sum(map(_held, children)))


def _resident(process: psutil.Process) -> int:
    """The memory of a process with all that it shares: quick to ask, never less than `_held`."""
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has ended, or is not ours to look at
        return 0


def _held(process: psutil.Process) -> int:
    """The memory of a process; what it shares with others is counted once where that is known.

    To know it takes the kernel some 0.1 s, so it is asked only when the resident memory has grown.
    """
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except psutil.Error:  # it has ended, or is not ours to look at
        return 0
