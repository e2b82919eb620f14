"""What takes minutes runs beside the tests that do not need it, in processes of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Background", "Done"]


@dataclass(frozen=True)
class Done:
    """What a process gave: its exit status, all that it said, how long it took, when it began."""

    status: int
    said: str
    seconds: float
    began: float


class Background:
    """Programs of this Python, run from the project's folder beside the tests.

    Parameters
    ----------
    root
        The folder to run them in.
    at_once
        How many run at one time.
    """

    def __init__(self, root: Path, at_once: int = 2) -> None:
        self.root, self.at_once = root, at_once
        self._names: list[str] = []
        self._ended: dict[str, threading.Event] = {}
        self._done: dict[str, Done] = {}
        self._processes: list[subprocess.Popen] = []
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory()

    def start(self, stages: Iterable[Sequence[tuple[str, list[str]]]]) -> None:
        """Begin, once: with names and command lines in stages, each begun when the last is done."""
        stages = [list(stage) for stage in stages]
        self._names = [name for stage in stages for name, _ in stage]
        self._ended = {name: threading.Event() for name in self._names}
        threading.Thread(target=self._run_all, args=(stages,), daemon=True).start()

    def wait(self, name: str, say: Callable[[str], None] = lambda _: None) -> Done:
        """Return what a program gave when it has ended; meanwhile pass on what it says."""
        ended, told = self._ended[name], 0
        while True:
            last = ended.wait(0.5)
            said = self._log(name).read_text("utf-8", "replace") if self._log(name).exists() else ""
            lines = said[told:].rpartition("\n")[0]
            if lines and not (last and not told):  # nobody waits for what has ended before
                say(lines)
                told += len(lines) + 1
            if last:
                return self._done[name]

    def stop(self) -> None:
        """End the programs that run, with all that they have started, and leave the others out."""
        self._stopped = True
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
        self._folder.cleanup()

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{self._names.index(name)}.log"

    def _run_all(self, stages: list[list[tuple[str, list[str]]]]) -> None:
        for stage in stages:
            with ThreadPoolExecutor(self.at_once) as pool:
                list(pool.map(lambda step: self._run(*step), stage))

    def _run(self, name: str, command: list[str]) -> None:
        if self._stopped:
            return
        start, began = time.monotonic(), time.time()
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes.append(process)
            status = process.wait()
        if self._stopped:
            return
        said = self._log(name).read_text("utf-8", "replace")
        self._done[name] = Done(status, said, time.monotonic() - start, began)
        self._ended[name].set()
