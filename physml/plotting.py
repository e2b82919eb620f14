"""Figures of one look: a style for the length of a block, colours by role, and a few drawings.

Figures are opaque and white (a dark page turns the ground to its own), carry no title (the book has
captions), and keep letters of 9 pixels on a phone. `show` draws them sharp at any size. matplotlib
is imported when something is drawn, and its settings are as before after each block.
"""

from __future__ import annotations

import base64
import contextlib
import io
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

__all__ = [
    "COLOURS",
    "DENSITY",
    "FIELD_MAP",
    "fields",
    "images",
    "matrix",
    "show",
    "spectrum",
    "style",
    "trajectories",
]

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
#: The colour map of all fields: blue is negative, red positive, and zero has no colour.
FIELD_MAP = "RdBu_r"
#: Pixels drawn for each one on the page, so that pictures are sharp on screens with fine pixels.
DENSITY = 2
_WIDTH = 6.4  # inches; at 96 dots per inch it fits a column of text
# Bytes up to which a drawing is shown as SVG: above, it is a picture with very many marks.
_MOST_SVG = 200_000


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
        "figure.dpi": 96,  # a point of type is then as large as the page's own
        "figure.facecolor": "white",
        "figure.figsize": (_WIDTH, 3.6),
        "font.size": 12,
        "image.interpolation": "nearest",
        "legend.fontsize": 12,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "savefig.bbox": None,
        "savefig.dpi": "figure",
        "xtick.labelsize": 12,
        "ytick.labelsize": 12,
    }
    names = {key.replace(".", "_"): key for key in matplotlib.rcParams}
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise ValueError(f"settings {unknown} are not among matplotlib's rcParams")
    with matplotlib.style.context(["default", base]):
        matplotlib.rcParams.update({names[key]: value for key, value in settings.items()})
        yield


def show(figure: Figure | None = None) -> None:
    """Show a figure in a notebook, sharp at any size, and close it.

    It is given as SVG, and as PNG for what cannot show SVG; a drawing with very many marks, or of
    large pictures, as PNG alone. Both are drawn here, so matplotlib's backend does not matter.
    Where no notebook runs the figure is left to `matplotlib.pyplot.show`.

    Parameters
    ----------
    figure
        The figure; by default matplotlib's current one.
    """
    import matplotlib.pyplot as plt

    figure = plt.gcf() if figure is None else figure
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    if get_ipython is None or get_ipython() is None:
        plt.show()
        return
    data, metadata = _bundle(figure)
    plt.close(figure)
    display(data, metadata=metadata, raw=True)


def _bundle(figure: Figure) -> tuple[dict[str, str], dict[str, dict]]:
    """Return what a notebook shows of a figure, by type, and the size of its PNG on the page."""
    dpi = DENSITY * figure.dpi
    width, height = (round(length * figure.dpi) for length in figure.get_size_inches())
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    figure.set_layout_engine("none")  # everything has its place now: the second drawing keeps it
    with _same_file():
        # `dpi` is that of pictures in the drawing
        figure.savefig(svg, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    data = {"text/plain": f"<Figure, {width} x {height}>"}
    data["image/png"] = base64.b64encode(png.getvalue()).decode()
    if len(svg.getvalue()) <= _MOST_SVG:
        data["image/svg+xml"] = svg.getvalue().decode()
    return data, {"image/png": {"width": width, "height": height}}


def _same_file() -> contextlib.AbstractContextManager:
    """The names within an SVG file are drawn at random but for this."""
    import matplotlib

    return matplotlib.rc_context({"svg.hashsalt": "physml"})


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
    values = _numbers("tensor", tensor, (None, None, None))
    if signed is None:
        signed = bool(values.size and values.min() < 0) if limits is None else limits[0] < 0
    if limits is None and values.size:
        limits = (-_largest(values), _largest(values)) if signed else (values.min(), values.max())
    return _panels(values, columns, labels, limits, FIELD_MAP if signed else "Greys")


def fields(
    tensor: Any,
    columns: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    limit: float | None = None,
    bar: str | None = r"$\phi$",
) -> Figure:
    """Draw configurations of a field side by side, all on one scale, with a bar that gives it.

    Blue is negative, red positive, and zero has no colour, as in all pictures of fields.

    Parameters
    ----------
    tensor
        Shape (n, height, width).
    columns
        Fields in a row; by default up to four.
    labels
        A few words over each field.
    limit
        The value at the ends of the scale, which is symmetric about zero; by default 99 % of all
        sites lie within, so that a few extreme ones do not pale the rest.
    bar
        What the bar says; None for no bar.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.
    """
    values = _numbers("tensor", tensor, (None, None, None))
    if limit is None:
        ends = sorted(abs(values).ravel())
        limit = float(ends[min(len(ends) - 1, int(0.99 * len(ends)))]) or 1.0 if ends else 1.0
    columns = min(len(values), 4) if columns is None else columns
    return _panels(values, columns, labels, (-limit, limit), FIELD_MAP, bar)


def _panels(
    values: np.ndarray,
    columns: int | None,
    labels: Sequence[str] | None,
    limits: tuple[float, float] | None,
    colours: str,
    bar: str | None = None,
) -> Figure:
    """Draw pictures in rows on one scale, without axes, with a bar at the right if it has words."""
    import matplotlib.pyplot as plt

    n, height, width = values.shape
    if not values.size:
        raise ShapeError(f"tensor must hold at least one image, not have shape {values.shape}")
    if labels is not None and len(labels) != n:
        raise ShapeError(f"labels must be one for each image: {len(labels)} were given for {n}")
    columns = min(n, 10) if columns is None else check_positive_int("columns", columns)
    rows = math.ceil(n / columns)
    cell = (_WIDTH - (0.7 if bar else 0)) / columns
    size = (_WIDTH, rows * (cell * height / width + (0.24 if labels is not None else 0)))
    with style():
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for i, ax in enumerate(axes.flat):
            ax.set_axis_off()
            if i < n:
                picture = ax.imshow(values[i], cmap=colours, vmin=limits[0], vmax=limits[1])
                if labels is not None:
                    ax.set_title(labels[i], fontsize=12, pad=3)
        if bar:
            figure.colorbar(picture, ax=axes, label=bar, fraction=0.05, pad=0.02, aspect=18)
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
    picture = ax.imshow(values, cmap=FIELD_MAP, vmin=-limit, vmax=limit)
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
