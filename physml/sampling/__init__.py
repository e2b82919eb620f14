r"""Samplers of lattice fields, and one driver for all of them.

=====================  ==========================================================================
`Langevin`             stochastic quantisation with a finite step (Euler, Leimkuhler-Matthews)
`MALA`                 Euler's step as a proposal, with an accept step
`HMC`                  hybrid Monte Carlo, leapfrog or minimum-norm
`Metropolis`           local updates on a checkerboard
`CheckerboardGibbs`    each site drawn anew given its neighbours, exactly
`SwendsenWang`         cluster update of the signs; `GlobalFlip`: of all signs at once
`Sequence`             several of these in turn
`sample`               runs chains; `start` makes fields to start from
`equilibration`        compares chains, and hot starts with cold ones
=====================  ==========================================================================

`Langevin` and `HMC` take a `FourierKernel` for Fourier acceleration.
"""

from .chain import Equilibration, EquilibrationWarning, Run, equilibration, sample, start
from .common import FourierKernel, Info, State, noise_like
from .gibbs import CheckerboardGibbs, quartic_normal
from .hmc import HMC, INTEGRATORS, HMCState
from .langevin import MALA, Langevin, LangevinState, MALAState, relax
from .metropolis import GlobalFlip, Metropolis, Sequence, SwendsenWang

__all__ = [
    "HMC",
    "INTEGRATORS",
    "MALA",
    "CheckerboardGibbs",
    "Equilibration",
    "EquilibrationWarning",
    "FourierKernel",
    "GlobalFlip",
    "HMCState",
    "Info",
    "Langevin",
    "LangevinState",
    "MALAState",
    "Metropolis",
    "Run",
    "Sequence",
    "State",
    "SwendsenWang",
    "equilibration",
    "noise_like",
    "quartic_normal",
    "relax",
    "sample",
    "start",
]
