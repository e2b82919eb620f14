"""The two layers of a restricted Boltzmann machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from physml import plotting
from physml.errors import check_positive_int

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["two_layers"]

_RADIUS = 0.27
_HEIGHT = 2.0  # of the hidden row over the visible one, in distances between units


def two_layers(visible: int, hidden: int) -> Figure:
    r"""Draw visible and hidden units as two rows, each unit linked to all of the other row.

    The link between the first units stands out and carries its weight, and the layers are named:
    what *restricted* means is that there is no link within a row.

    Parameters
    ----------
    visible, hidden
        Numbers of units, up to ten or so.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.

    Raises
    ------
    ValueError
        If a number is not a positive integer.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle

    rows = {
        "visible": (check_positive_int("visible", visible), 0.0, "data", r"\phi"),
        "hidden": (check_positive_int("hidden", hidden), _HEIGHT, "learned", "h"),
    }
    widest = max(visible, hidden)
    places = {
        name: [((widest - n) / 2 + i, height) for i in range(n)]
        for name, (n, height, _, _) in rows.items()
    }
    with plotting.style():
        figure, ax = plt.subplots(figsize=(6.4, 2.5))
        for a, (top, above) in enumerate(places["hidden"]):
            for i, (bottom, below) in enumerate(places["visible"]):
                first = a == i == 0
                ax.plot(
                    (bottom, top),
                    (below, above),
                    color=plotting.COLOURS["cutoff"] if first else "0.7",
                    lw=2.5 if first else 1.0,
                    zorder=2 if first else 1,
                )
        left = min(places["hidden"][0][0], places["visible"][0][0])
        middle = (places["hidden"][0][0] + places["visible"][0][0]) / 2
        ax.text(middle - 0.15, _HEIGHT / 2, "$w_{11}$", ha="right", va="center")
        for name, (n, height, role, symbol) in rows.items():
            colour = plotting.COLOURS[role]
            for i, place in enumerate(places[name]):
                ax.add_patch(Circle(place, _RADIUS, color=colour, zorder=3))
                text = f"${symbol}_{{{i + 1}}}$"
                ax.text(*place, text, ha="center", va="center", color="white", zorder=4)
            words = f"{name} layer\n{n} unit" + ("s" if n > 1 else "")
            ax.text(left - 0.6, height, words, ha="right", va="center", color=colour)
        ax.set(xlim=(left - 2.6, left + widest - 0.6), ylim=(-0.35, _HEIGHT + 0.35), aspect="equal")
        ax.set_axis_off()
    return figure
