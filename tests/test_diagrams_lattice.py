"""The lattice with a blanket, and the chain of five coins."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
import torch

from physml import diagrams, graphs
from physml.diagrams import coins
from physml.errors import ShapeError

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_the_close_up_shows_the_site_and_rings_its_blanket():
    phi = torch.arange(48.0).reshape(6, 8)
    figure = diagrams.blanket(phi, (0, 7), reach=1)  # at a corner: it wraps around
    left, right, bar = figure.axes
    assert np.array_equal(left.images[0].get_array(), phi)
    (discs,) = right.collections
    values = discs.get_array().reshape(3, 3)
    assert values.tolist() == [[46, 47, 40], [6, 7, 0], [14, 15, 8]]
    ringed = np.array(discs.get_linewidths()).reshape(3, 3) > 1
    assert ringed.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    graph = graphs.lattice_graph(graphs.Lattice((6, 8)))
    assert sorted(values[ringed]) == list(graphs.markov_blanket(graph, 7))
    assert r"$\phi_x$?" in [text.get_text() for text in right.texts]
    assert bar.get_ylabel() == r"$\phi$"
    (frame,) = left.patches
    assert frame.get_bbox().bounds == (5.5, -1.5, 3, 3)


@pytest.mark.parametrize(
    ("phi", "site", "error", "words"),
    [
        (torch.zeros(3, 4, 4), (0, 0), ShapeError, "shape"),
        (torch.zeros(4, 4), (0, 0), ShapeError, "at least 5"),
        (torch.zeros(6, 6), (6, 0), ValueError, "is not on a lattice"),
    ],
)
def test_blanket_refuses_what_it_cannot_draw(phi, site, error, words):
    with pytest.raises(error, match=words):
        diagrams.blanket(phi, site)


def test_the_chain_of_coins_is_markov_locally_and_not_globally():
    p = torch.zeros((2,) * 5, dtype=torch.float64)
    for state in coins._STATES:
        p[tuple(map(int, state))] = 0.25
    chain = nx.path_graph(5)
    assert not graphs.local_violations(p, chain)
    assert graphs.global_violations(p, chain)
    (ax,) = diagrams.coin_chain().axes
    faces = [text.get_text() for text in ax.texts if text.get_text() in ("0", "1")]
    assert "".join(faces) == "".join(coins._STATES)


@pytest.mark.parametrize("draw", [lambda: diagrams.blanket(torch.eye(8), (2, 3)),
                                  diagrams.coin_chain])
def test_diagrams_fit_the_column_and_keep_letters_of_nine_pixels_on_a_phone(draw):
    figure = draw()
    assert figure.get_size_inches()[0] <= 6.4
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes) >= 12
