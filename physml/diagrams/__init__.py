"""Pictures of ideas rather than of results: graphs, layers, networks, ways through a process.

Each function returns a matplotlib figure, as wide as the text, for `physml.plotting.show`.
"""

from __future__ import annotations

from .layers import two_layers
from .network import interaction_model

__all__ = [
    "interaction_model",
    "two_layers",
]
