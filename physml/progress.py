"""The progress bar of everything that takes long."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["bar"]


def bar(items: Iterable | None = None, *, total: int, label: str, show: bool, initial: int = 0,
        unit: str = "step"):
    """Return a progress bar (`tqdm`) to be updated by hand, or that runs over `items`.

    Parameters
    ----------
    items
        What to run over, if it is to count by itself.
    total, initial
        How much there is to do, and how much of it was done before.
    label, unit
        Its name, and what it counts.
    show
        Whether to show it at all.
    """
    from tqdm.auto import tqdm

    return tqdm(items, total=total, initial=initial, desc=label, disable=not show, leave=False,
                mininterval=0.5, unit=unit)
