"""What takes minutes runs beside the tests that do not need it: in processes, one after another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Background", "Done"]


@dataclass(frozen=True)
class Done:
    """What a process gave: its exit status, all that it said, and how long it took."""

    status: int
    said: str
    seconds: float


class Background:
    """Programs of this Python, run one after another from the project's folder.

    Parameters
    ----------
    root
        The folder to run them in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._steps: dict[str, list[str]] = {}
        self._ended: dict[str, threading.Event] = {}
        self._done: dict[str, Done] = {}
        self._process: subprocess.Popen | None = None
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory()

    def start(self, steps: Iterable[tuple[str, list[str]]]) -> None:
        """Begin with a list of names and command lines, once."""
        self._steps = dict(steps)
        self._ended = {name: threading.Event() for name in self._steps}
        if self._steps:
            threading.Thread(target=self._run, daemon=True).start()

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
        """End the program that runs, with all that it has started, and leave the others out."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
        self._folder.cleanup()

    def _log(self, name: str) -> Path:
        return Path(self._folder.name) / f"{list(self._steps).index(name)}.log"

    def _run(self) -> None:
        for name, command in self._steps.items():
            if self._stopped:
                return
            start, status = time.monotonic(), 1
            with self._log(name).open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=self.root,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                status = self._process.wait()
            if self._stopped:
                return
            said = self._log(name).read_text("utf-8", "replace")
            self._done[name] = Done(status, said, time.monotonic() - start)
            self._ended[name].set()
