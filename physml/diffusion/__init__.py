r"""Diffusion models of lattice fields: noise is added to a field, and taken away again.

=============  ================================================================================
`sde`          forward and reverse processes, their exact kernels, time grids; the conventions
=============  ================================================================================
"""

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
    "Process",
    "Reverse",
    "VarianceExploding",
    "VariancePreserving",
    "over_sites",
    "time_grid",
]
