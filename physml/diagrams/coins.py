"""Five coins in a chain: each is independent of the rest given its neighbours, the ends are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plotting import COLOURS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coin_chain"]

_STATES = ("00000", "00011", "11000", "11111")


def coin_chain() -> Figure:
    r"""Draw two coins `u` and `z`, a copy of each, the smaller of the two between, and all states.

    The states :math:`(u,u,\min(u,z),z,z)` have equal probability. Given each of its neighbours a
    coin is certain or independent of all others: the distribution is locally Markov on the chain.
    But a 0 in the middle, which separates the two sides, leaves three of the four pairs of sides,
    so these are not independent: it is not globally Markov (S. L. Lauritzen, Graphical Models).

    Returns
    -------
    Figure
        As wide as the text; close it or show it.
    """
    import matplotlib.pyplot as plt

    names = ("$u$", "$u$", r"$\min$", "$z$", "$z$")
    words = ("coin", "its\ncopy", "smaller\nof both", "its\ncopy", "coin")
    with style():
        figure, ax = plt.subplots(figsize=(6.4, 3.4))
        ax.plot((0, 4), (0, 0), color="0.6", lw=1.8, zorder=1)
        for i, (name, word) in enumerate(zip(names, words, strict=True)):
            ax.plot(i, 0, "o", ms=31, mfc="white", mec="0.4", mew=1.5, zorder=2)
            ax.text(i, 0, name, ha="center", va="center", zorder=3)
            ax.text(i, 0.6, word, ha="center", va="bottom", linespacing=1)
        for row, state in enumerate(_STATES):
            height = -1.15 - 0.85 * row
            for i, face in enumerate(state):
                colour = COLOURS["cutoff"] if face == "1" else COLOURS["learned"]
                ax.plot(i, height, "o", ms=21, color=colour, zorder=2)
                ax.text(i, height, face, ha="center", va="center_baseline", color="white",
                        zorder=3)
        ax.plot((4.45, 4.55, 4.55, 4.45), (-0.85, -0.85, -3.15, -3.15), color="0.4", lw=1.2)
        ax.text(4.7, -2.0, "0 in the\nmiddle:\nnever 1 at\nboth ends", va="center")
        ax.text(-0.5, -2.42, "four states,\n¼ each", ha="right", va="center")
        ax.set(xlim=(-1.9, 6.1), ylim=(-4.1, 1.6))
        ax.set_axis_off()
    return figure
