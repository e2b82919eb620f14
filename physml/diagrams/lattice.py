"""A field on a lattice, one of its sites, and the neighbours that make up its blanket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ShapeError, check_finite, check_positive_int
from ..plotting import FIELD_MAP, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["blanket"]


def blanket(phi: Any, site: Sequence[int], *, reach: int = 2) -> Figure:
    r"""Draw a field with one of its sites, and beside it what surrounds that site, as a graph.

    Left is the field with a frame about the site. Right is what the frame holds: sites as discs in
    the colours of the field, links between nearest neighbours, the four neighbours of the site
    ringed, and at the site itself the question what its field is. Distances wrap around.

    Parameters
    ----------
    phi
        The field, shape (height, width).
    site
        Row and column of the site.
    reach
        How many sites the frame holds on each side of it.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.

    Raises
    ------
    ShapeError
        If `phi` is not two-dimensional, or smaller than the frame.
    ValueError
        If the site is not on the lattice.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    phi = check_finite("phi", torch.as_tensor(phi).detach().to("cpu", torch.float64))
    reach = check_positive_int("reach", reach)
    across = 2 * reach + 1
    if phi.ndim != 2 or min(phi.shape) < across:
        raise ShapeError(f"phi must have shape (height, width), at least {across} each, not "
                         f"{tuple(phi.shape)}")
    row, column = site
    if row not in range(phi.shape[0]) or column not in range(phi.shape[1]):
        raise ValueError(f"site {tuple(site)} is not on a lattice of {tuple(phi.shape)} sites")
    near = phi.roll((reach - row, reach - column), (0, 1))[:across, :across]
    limit = float(phi.abs().quantile(0.99)) or 1.0
    colours = {"cmap": FIELD_MAP, "vmin": -limit, "vmax": limit}
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.1))
        picture = left.imshow(phi.numpy(), **colours)
        corner = (column - reach - 0.5, row - reach - 0.5)
        left.add_patch(Rectangle(corner, across, across, fill=False, lw=2.2))
        left.set_title(f"a field on {phi.shape[0]} × {phi.shape[1]} sites", fontsize=12)
        for k in range(across):
            ends = (-reach - 0.6, reach + 0.6)
            right.plot(ends, (k - reach, k - reach), color="0.7", lw=1.2, zorder=1)
            right.plot((k - reach, k - reach), ends, color="0.7", lw=1.2, zorder=1)
        for ends in (((-1, 1), (0, 0)), ((0, 0), (-1, 1))):
            right.plot(*ends, color="black", lw=3, zorder=2)
        steps = torch.arange(across) - reach
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        joined = (x.abs() + y.abs() == 1).reshape(-1)
        right.scatter(x.reshape(-1), y.reshape(-1), s=330, c=near.reshape(-1), zorder=3,
                      linewidths=[3 if j else 0.8 for j in joined],
                      edgecolors=["black" if j else "0.5" for j in joined], **colours)
        right.plot(0, 0, "o", ms=25, mfc="white", mec="black", mew=1.2, zorder=4)
        right.text(0, 0, r"$\phi_x$?", ha="center", va="center", zorder=5)
        right.set(xlim=(-reach - 0.6, reach + 0.6), ylim=(reach + 0.6, -reach - 0.6),
                  aspect="equal")
        right.set_title("a site and its blanket", fontsize=12)
        for ax in (left, right):
            ax.set_axis_off()
        figure.colorbar(picture, ax=[left, right], label=r"$\phi$", fraction=0.05, pad=0.02,
                        aspect=18)
    return figure
