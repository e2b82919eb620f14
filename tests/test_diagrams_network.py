from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt

from physml import diagrams, diffusion

matplotlib.use("agg")


def test_the_network_is_drawn_with_the_sizes_that_it_has():
    """Channels and patches are those of the chapter's network, for 32 by 32 sites."""
    import torch

    network = diffusion.UNet((16, 32), 1, 32, inputs=2, generator=torch.Generator())
    figure = diagrams.interaction_model()
    words = [text.get_text() for text in figure.axes[0].texts]
    for level, blocks in enumerate(network.down):
        channels = blocks[0].convolutions[0].out_channels
        size = 32 // 2 ** (level + 1)
        assert f"{size} × {size} patches\n{channels} channels" in words
    figure.canvas.draw()
    widths = [t.get_window_extent().x1 for t in figure.axes[0].texts]
    assert max(widths) <= figure.bbox.width, "no word leaves the picture"
    plt.close(figure)
