r"""Diffusion models of lattice fields: noise is added to a field, and taken away again.

=============  ================================================================================
`sde`          forward and reverse processes, their exact kernels, time grids; the conventions
`scores`       exact scores: free fields, mixtures, one degree of freedom; Tweedie's formula
=============  ================================================================================
"""

from .scores import (
    GaussianScore,
    MixtureScore,
    Score,
    ZeroDimensionalScore,
    denoiser,
    score_of,
)
from .sde import (
    GRIDS,
    Process,
    Reverse,
    VarianceExploding,
    VariancePreserving,
    over_sites,
    time_grid,
)

__all__ = [
    "GRIDS",
    "GaussianScore",
    "MixtureScore",
    "Process",
    "Reverse",
    "Score",
    "VarianceExploding",
    "VariancePreserving",
    "ZeroDimensionalScore",
    "denoiser",
    "over_sites",
    "score_of",
    "time_grid",
]
