"""Pictures of ideas rather than of results: graphs, layers, networks, ways through a process.

Each function returns a matplotlib figure, as wide as the text, for `physml.plotting.show`.
"""

from __future__ import annotations

from .diffusion import forward_backward

__all__ = ["forward_backward"]
