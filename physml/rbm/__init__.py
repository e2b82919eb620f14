"""The scalar-field restricted Boltzmann machine: a free lattice field that learns its kernel.

`model` holds the machine and its exact results, `training` the ways to train it. After Aarts,
Lucini and Park, "Scalar field restricted Boltzmann machine as an ultraviolet regulator",
Phys. Rev. D 109 (2024) 034521, arXiv:2309.15002.
"""

from __future__ import annotations

from .model import ScalarFieldRBM
from .training import History, Target, train

__all__ = ["History", "ScalarFieldRBM", "Target", "train"]
