from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from physml import diagrams
from physml.errors import ShapeError

matplotlib.use("agg")


def test_fields_share_a_scale_between_two_arrows():
    fields = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    figure = diagrams.forward_backward(fields, ["a", "b", "c"])
    pictures = [ax.images[0] for ax in figure.axes]
    assert [p.get_array().shape for p in pictures] == [(8, 8)] * 3
    assert {p.get_clim() for p in pictures} == {(-2.5, 2.5)}
    words = [text.get_text() for text in figure.texts]
    assert [w.split(":")[0] for w in words] == ["forward", "backward"]
    figure.canvas.draw()
    there, back = figure.axes[0].texts
    assert there.xy[0] > there.xyann[0] and back.xy[0] < back.xyann[0]
    boxes = [ax.get_window_extent() for ax in figure.axes]
    for text in figure.texts:
        assert not any(text.get_window_extent().overlaps(box) for box in boxes)
    plt.close(figure)


def test_bad_input_is_named():
    with pytest.raises(ShapeError, match="fields must have shape"):
        diagrams.forward_backward(torch.zeros(4, 4), ["a"])
    with pytest.raises(ShapeError, match="labels must be one for each field"):
        diagrams.forward_backward(torch.zeros(2, 4, 4), ["a"])
