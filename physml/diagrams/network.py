"""The network of a diffusion model, and what stands around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from physml import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["interaction_model"]


def interaction_model() -> Figure:
    r"""Draw how `physml.diffusion.InteractionModel` makes a score of a noised field.

    From the top down: the noised field, the two forms in which the network is given it, the U-Net
    with its finer and its coarser lattice, the mean residual gradient, and the score.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.
    """
    import matplotlib.pyplot as plt

    with plotting.style():
        figure, ax = plt.subplots(figsize=(6.4, 5.2))
        ax.set(xlim=(0, 10), ylim=(0, 9.2))
        ax.set_axis_off()
        _box(ax, 5, 8.6, 3.4, r"noised field $x$", "control")
        _box(ax, 1.6, 6.9, 2.6, r"$x/\sqrt{P+r^2}$", "noise")
        _box(ax, 5, 6.9, 2.6, "$D=c\\,x$", "noise")
        _arrow(ax, (4.2, 8.2), (2.1, 7.35))
        _arrow(ax, (5, 8.2), (5, 7.35))
        # the network: a U from the finer lattice down to the coarser one and back
        ax.add_patch(plt.Rectangle((0.1, 2.75), 6.5, 3.15, fill=False, ec="0.6", ls="--"))
        ax.text(0.25, 2.9, "U-Net", ha="left", va="bottom", color="0.35")
        _box(ax, 1.6, 5.1, 2.6, "16 × 16 patches\n16 channels", "learned")
        _box(ax, 5.1, 5.1, 2.6, "16 × 16 patches\n16 channels", "learned")
        _box(ax, 3.35, 3.45, 2.6, "8 × 8 patches\n32 channels", "learned")
        for start, end in (
            ((1.6, 6.45), (1.6, 5.6)),
            ((4.4, 6.45), (2.2, 5.6)),
            ((1.9, 4.55), (2.7, 3.95)),
            ((4.0, 3.95), (4.8, 4.55)),
            ((2.95, 5.1), (3.75, 5.1)),
        ):
            _arrow(ax, start, end)
        ax.text(3.35, 5.15, "+", ha="center", va="bottom", color="0.35")
        _box(ax, 5.1, 1.95, 2.6, r"$\langle R\rangle_x$", "learned")
        _arrow(ax, (5.6, 4.55), (5.6, 2.4))
        _box(ax, 8.4, 5.1, 2.9, "free field\n" r"$-x/(P+r^2)$", "data")
        _arrow(ax, (6.2, 8.2), (8.2, 5.65))
        _box(ax, 8.4, 0.6, 2.9, r"score $s(x)$", "control")
        _arrow(ax, (8.4, 4.5), (8.4, 1.05))
        _arrow(ax, (5.9, 1.5), (7.2, 0.9))
        ax.text(6.3, 0.75, r"$\times(-c)$", ha="right", va="center")
    return figure


def _box(ax: Axes, x: float, y: float, width: float, words: str, role: str) -> None:
    """Write words into a rounded box that is tinted with the colour of its role."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    height = 0.55 + 0.5 * words.count("\n")
    colour = plotting.COLOURS[role]
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.12",
            fc=to_rgba(colour, 0.18), ec=colour,
        )
    )  # fmt: skip
    ax.text(x, y, words, ha="center", va="center", linespacing=1.3)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.35", "lw": 1.4})
