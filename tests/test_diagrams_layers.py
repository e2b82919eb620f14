from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Circle

from physml import diagrams

matplotlib.use("agg")


@pytest.fixture
def ax():
    figure = diagrams.two_layers(5, 3)
    figure.canvas.draw()
    yield figure.axes[0]
    plt.close(figure)


def test_each_unit_is_drawn_once_and_linked_to_the_other_layer_alone(ax):
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    heights = [circle.center[1] for circle in circles]
    assert sorted(map(heights.count, set(heights))) == [3, 5]
    assert len(ax.lines) == 3 * 5
    for line in ax.lines:
        assert sorted(line.get_ydata()) == sorted(set(heights))


def test_units_and_layers_are_named(ax):
    words = {text.get_text() for text in ax.texts}
    assert {r"$\phi_{5}$", "$h_{3}$", "$w_{11}$"} <= words
    assert {"visible layer\n5 units", "hidden layer\n3 units"} <= words


def test_nothing_overlaps_or_leaves_the_picture(ax):
    renderer = ax.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    width, height = ax.figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_numbers_of_units_are_checked():
    with pytest.raises(ValueError, match="hidden"):
        diagrams.two_layers(4, 0)
