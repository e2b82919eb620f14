"""The forward and the backward process of a diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from physml import plotting
from physml.errors import ShapeError, check_finite, check_shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["forward_backward"]


def forward_backward(fields: Any, labels: Sequence[str]) -> Figure:
    r"""Draw a field that drowns in noise, and the two processes: adding noise, and the way back.

    Parameters
    ----------
    fields
        The field with more and more noise, shape (n, height, width), each in units of its standard
        deviation: all are drawn on one scale, from -2.5 to 2.5.
    labels
        What stands over each.

    Returns
    -------
    Figure
        As wide as the text; close it or show it.

    Raises
    ------
    ShapeError
        If `fields` has another shape, or there is not one label for each.
    """
    import matplotlib.pyplot as plt

    values = torch.as_tensor(fields).detach().to("cpu", torch.float64)
    values = check_finite("fields", check_shape("fields", values, (None, None, None)))
    if len(labels) != len(values):
        raise ShapeError(f"labels must be one for each field: {len(labels)} for {len(values)}")
    with plotting.style():
        figure, axes = plt.subplots(1, len(values), figsize=(6.4, 2.35), squeeze=False)
        figure.get_layout_engine().set(w_pad=0.03, wspace=0, rect=(0, 0.14, 1, 0.72))
        for ax, phi, label in zip(axes[0], values, labels, strict=True):
            ax.imshow(phi.numpy(), cmap=plotting.FIELD_MAP, vmin=-2.5, vmax=2.5)
            ax.set_axis_off()
            ax.set_title(label, fontsize=12, pad=3)
        ways = (
            (0.93, 0.03, 0.97, "forward: add noise", "control"),
            (0.06, 0.97, 0.03, r"backward: follow the score $\nabla\ln q_t$", "learned"),
        )
        for height, start, end, words, role in ways:
            colour = plotting.COLOURS[role]
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2}
            axes[0, 0].annotate(
                "", (end, height), (start, height), "figure fraction", "figure fraction",
                arrowprops=arrow, annotation_clip=False,
            )  # fmt: skip
            figure.text(
                0.5, height, words, ha="center", va="center",
                bbox={"fc": "white", "ec": "none", "pad": 4},
            )  # fmt: skip
    return figure
