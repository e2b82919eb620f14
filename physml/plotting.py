"""Figures of one look: a style for the length of a block, colours by role, and a few drawings.

Figures are opaque and white, so that they read as a card on a dark page, carry no title (the book
has captions), and keep their letters legible at half size on a phone. matplotlib is imported when
something is drawn, and its settings are as before after each block.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from physml.errors import ShapeError, check_finite, check_positive_int, check_shape

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["COLOURS", "images", "matrix", "spectrum", "style", "trajectories"]

#: The palette of Okabe and Ito, told apart with any colour vision, by what it stands for.
COLOURS = MappingProxyType(
    {
        "learned": "#0072B2",  # blue
        "exact": "#000000",  # black
        "cutoff": "#D55E00",  # vermilion
        "data": "#009E73",  # bluish green
        "model": "#CC79A7",  # reddish purple
        "control": "#E69F00",  # orange
        "noise": "#56B4E9",  # sky blue
    }
)
_CYCLE = ("learned", "cutoff", "data", "model", "control", "noise", "exact")
_WIDTH = 6.4  # inches; at 110 dots per inch the width of a column of text


@contextlib.contextmanager
def style(**settings: Any) -> Iterator[None]:
    """Draw in the book's style inside a `with` block, or in a function decorated with `style()`.

    The style starts from matplotlib's defaults, so a figure looks the same whatever the reader's
    own settings are; those come back at the end.

    Parameters
    ----------
    **settings
        Further matplotlib settings, with `_` for `.`: `style(figure_dpi=200)`.
    """
    import matplotlib.style
    from cycler import cycler

    base = {
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "axes.labelsize": 12,
        "axes.prop_cycle": cycler(color=[COLOURS[role] for role in _CYCLE]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "figure.facecolor": "white",
        "figure.figsize": (_WIDTH, 3.6),
        "font.size": 12,
        "image.interpolation": "nearest",
        "legend.fontsize": 11,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "savefig.bbox": None,
        "savefig.dpi": "figure",
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
    }
    names = {key.replace(".", "_"): key for key in matplotlib.rcParams}
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise ValueError(f"settings {unknown} are not among matplotlib's rcParams")
    with matplotlib.style.context(["default", base]):
        matplotlib.rcParams.update({names[key]: value for key, value in settings.items()})
        yield


def spectrum(
    ax: Axes,
    levels: Any,
    exact: Any = None,
    cutoff: float | None = None,
    *,
    error: Any = None,
    label: str | None = r"learned $\lambda_\alpha$",
    colour: str = COLOURS["learned"],
    marker: str = "o",
) -> None:
    r"""Draw eigenvalues against the number of their mode, counted from 1.

    Parameters
    ----------
    ax
        Axes to draw in.
    levels
        Eigenvalues $\lambda_\alpha$, shape (n,): markers.
    exact
        What they should be, shape (m,): a dashed line for each.
    cutoff
        The cut-off $\mu^2$: a solid line across.
    error
        Standard errors of `levels`, shape (n,).
    label, colour, marker
        Of the markers, to tell several sets apart.
    """
    levels = _numbers("levels", levels, (None,))
    modes = range(1, len(levels) + 1)
    if exact is not None:
        exact = _numbers("exact", exact, (None,))
        left = [mode - 0.42 for mode in range(1, len(exact) + 1)]
        right = [mode + 0.84 for mode in left]
        black = COLOURS["exact"]
        ax.hlines(exact, left, right, black, "--", lw=1.2, label=r"exact $\kappa_\alpha$", zorder=2)
    _cutoff_line(ax, cutoff)
    if error is not None:
        error = _numbers("error", error, (len(levels),))
        ax.errorbar(modes, levels, error, fmt="none", ecolor=colour, capsize=2, zorder=3)
    ax.plot(modes, levels, marker, color=colour, label=label, zorder=4)
    ax.xaxis.get_major_locator().set_params(integer=True)


def trajectories(
    ax: Axes,
    times: Any,
    values: Any,
    exact: Any = None,
    cutoff: float | None = None,
    *,
    label: str | None = r"learned $\lambda_\alpha$",
) -> None:
    r"""Draw eigenvalues against learning time, one line a mode, dark (first) to light (last).

    Parameters
    ----------
    ax
        Axes to draw in.
    times
        Shape (t,).
    values
        Eigenvalues $\lambda_\alpha$ at these times, shape (t, n).
    exact
        The values they should reach, shape (m,): dashed lines.
    cutoff
        The cut-off $\mu^2$: a solid line.
    label
        What the legend calls the lines; only the first one carries it.
    """
    import matplotlib

    times = _numbers("times", times, (None,))
    values = _numbers("values", values, (len(times), None))
    if exact is not None:
        for i, level in enumerate(_numbers("exact", exact, (None,))):
            name = r"exact $\kappa_\alpha$" if i == 0 else None
            ax.axhline(level, color=COLOURS["exact"], ls="--", lw=0.9, label=name, zorder=1)
    _cutoff_line(ax, cutoff)
    n = values.shape[1]
    shades = matplotlib.colormaps["viridis"]([0.85 * i / max(n - 1, 1) for i in range(n)])
    for i in range(n):
        name = label if i == 0 else None
        ax.plot(times, values[:, i], color=shades[i], lw=1.6, label=name, zorder=3)


def images(
    tensor: Any,
    columns: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    signed: bool | None = None,
) -> Figure:
    """Draw images side by side, all on one scale of greys, or of blue to red if signed.

    Parameters
    ----------
    tensor
        Shape (n, height, width).
    columns
        Images in a row; by default up to ten.
    labels
        A few characters over each image.
    limits
        Values of the two ends of the scale; by default the smallest and the largest of all.
    signed
        Use a scale symmetric about zero, which is white; by default if a value is negative.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.
    """
    import matplotlib.pyplot as plt

    values = _numbers("tensor", tensor, (None, None, None))
    n, height, width = values.shape
    if not values.size:
        raise ShapeError(f"tensor must hold at least one image, not have shape {values.shape}")
    if labels is not None and len(labels) != n:
        raise ShapeError(f"labels must be one for each image: {len(labels)} were given for {n}")
    columns = min(n, 10) if columns is None else check_positive_int("columns", columns)
    rows = math.ceil(n / columns)
    if signed is None:
        signed = bool(values.min() < 0) if limits is None else limits[0] < 0
    if limits is None:
        limits = (-_largest(values), _largest(values)) if signed else (values.min(), values.max())
    cell = _WIDTH / columns
    size = (_WIDTH, rows * (cell * height / width + (0.24 if labels is not None else 0)))
    with style():
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for i, ax in enumerate(axes.flat):
            ax.set_axis_off()
            if i < n:
                scale = "RdBu_r" if signed else "Greys"
                ax.imshow(values[i], cmap=scale, vmin=limits[0], vmax=limits[1])
                if labels is not None:
                    ax.set_title(labels[i], fontsize=10, pad=2)
    return figure


def matrix(ax: Axes, tensor: Any, limit: float | None = None) -> AxesImage:
    """Draw a matrix, blue for negative and red for positive entries, with its scale beside it.

    Parameters
    ----------
    ax
        Axes to draw in.
    tensor
        Shape (n, m).
    limit
        Entry at the ends of the scale, which is symmetric about zero; by default the largest.
    """
    values = _numbers("tensor", tensor, (None, None))
    limit = _largest(values) if limit is None else float(limit)
    picture = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.spines[:].set_visible(True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(picture, ax=ax, shrink=0.8)
    return picture


def _cutoff_line(ax: Axes, cutoff: float | None) -> None:
    if cutoff is not None:
        colour = COLOURS["cutoff"]
        ax.axhline(float(cutoff), color=colour, lw=1.4, label=r"cut-off $\mu^2$", zorder=1)


def _largest(values: np.ndarray) -> float:
    """Return the largest size of an entry, or 1 where all vanish and any scale will do."""
    return float(abs(values).max()) or 1.0


def _numbers(name: str, values: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return `values` as an array in float64 on the CPU, checked."""
    tensor = torch.as_tensor(values).detach().to("cpu", torch.float64)
    return check_finite(name, check_shape(name, tensor, shape)).numpy()
