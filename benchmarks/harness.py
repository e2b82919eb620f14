"""Timed side-by-side comparisons in one process.

The rounds are interleaved: each round runs every candidate once, each time in another order, so
that a slow spell of the machine hits all of them. A ratio is taken within each round, and the
median of those is reported: it is steadier than a ratio of medians. Wall time, garbage collection
off while the clock runs.

>>> compare({"sum": lambda: sum(range(1000)), "len": lambda: len(range(1000))}, work=1000)
... # doctest: +SKIP
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Row", "compare", "machine", "missing", "rerun_without", "table", "versus"]


@dataclass(frozen=True)
class Row:
    """What one candidate took: seconds, the rate in units of work per second, and its ratio.

    `ratio` is this candidate's rate over that of the first one, the median over the rounds.
    """

    name: str
    median: float
    low: float
    high: float
    rate: float
    ratio: float
    seconds: tuple[float, ...]


def compare(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    work: float | Mapping[str, float] = 1.0,
    unit: str = "runs",
    *,
    warmup: int = 1,
    show: bool = True,
) -> list[Row]:
    """Time the candidates in interleaved rounds; return a row for each, in the order given.

    Parameters
    ----------
    candidates
        Functions of no arguments by name. The first is the one that ratios refer to.
    rounds, warmup
        Timed rounds, and untimed ones before them.
    work, unit
        How much one call does (a number for each name where they differ), and in what unit, for
        the rate: ``work=60_000, unit="samples"``.
    show
        Print the table.
    """
    names = list(candidates)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            gc.disable()
            begin = time.perf_counter()
            candidates[name]()
            seconds = time.perf_counter() - begin
            gc.enable()
            if turn >= 0:
                taken[name].append(seconds)
    amount = {name: work[name] if isinstance(work, Mapping) else work for name in names}
    rows = []
    for name in names:
        median = statistics.median(taken[name])
        ratios = [amount[name] / s * base / amount[names[0]]
                  for s, base in zip(taken[name], taken[names[0]], strict=True)]
        rows.append(Row(name, median, min(taken[name]), max(taken[name]), amount[name] / median,
                        statistics.median(ratios), tuple(taken[name])))
    if show:
        print(table(rows, unit))
    return rows


def versus(ours: Row, theirs: Row) -> float:
    """Return how many times as fast as `theirs` `ours` is, for equal work: median over rounds."""
    pairs = zip(ours.seconds, theirs.seconds, strict=True)
    return statistics.median(their / our for our, their in pairs)


def table(rows: list[Row], unit: str = "runs") -> str:
    """Return the rows as text: seconds as median [min-max], the rate, the ratio to the first."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'seconds: median [min-max]':>28}  {unit + '/s':>14}  ratio"]
    for row in rows:
        span = f"{row.median:.4g} [{row.low:.4g}-{row.high:.4g}]"
        lines.append(f"{row.name:{width}}  {span:>28}  {row.rate:>14,.4g}  {row.ratio:5.2f}")
    return "\n".join(lines)


def missing(package: str) -> str | None:
    """Return a line that says a package is not installed, or None if it is."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package}: not installed, skipped (pip install '.[bench]')"
    return None


def machine(*packages: str) -> str:
    """Return a line on the processor and the versions of Python and of the packages."""
    versions = [f"{name} {importlib.metadata.version(name)}"
                for name in packages if missing(name) is None]
    return ", ".join([f"{os.cpu_count()} cores ({_processor()})",
                      f"Python {platform.python_version()}", *versions])


def rerun_without(*variables: str) -> None:
    """Start this program again without some environment variables, if any of them is set.

    For settings that are read when a library is loaded, as OpenBLAS does: they would slow one of
    the candidates and not the others.
    """
    kept = {k: v for k, v in os.environ.items() if k not in variables}
    if len(kept) < len(os.environ):
        os.execve(sys.executable, sys.orig_argv, kept)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
