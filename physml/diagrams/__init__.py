"""Pictures of ideas rather than of results: graphs, layers, networks, ways through a process.

Each function returns a matplotlib figure, as wide as the text, for `physml.plotting.show`.
"""

from __future__ import annotations

from .coins import coin_chain
from .diffusion import forward_backward
from .lattice import blanket
from .layers import two_layers
from .network import interaction_model

__all__ = [
    "blanket",
    "coin_chain",
    "forward_backward",
    "interaction_model",
    "two_layers",
]
