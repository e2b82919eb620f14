r"""Learning with :math:`\phi^4`: actions as trainable models, reweighting, neural networks.

=====================  ==========================================================================
`couplings`            the inhomogeneous action as a point in the space of its couplings; targets
                       with longer range and complex ones
`learning`             against a known action (variational free energy), from data (likelihood)
`reweighting`          from the learned action to the target, real or complex
`oracle`               exact answers on small lattices, and :math:`\ln Z` by annealing
`network`, `training`  the bipartite :math:`\phi^4` network, its limits, and how it is trained
=====================  ==========================================================================

After Bachtis, Aarts and Lucini, "Quantum field-theoretic machine learning", Phys. Rev. D 103 (2021)
074510, arXiv:2102.09449. All derivations are in the docstrings.
"""

from __future__ import annotations

from .couplings import (
    BlockGibbs,
    ComplexAction,
    NextNearestPhi4,
    from_vector,
    sufficient_statistics,
    to_vector,
)
from .learning import (
    Fit,
    data_gradient,
    fit_action,
    fit_data,
    free_energy_gradient,
    gaussian_moments,
    natural_direction,
    standard_errors,
)
from .network import Phi4Network, site_log_z
from .oracle import ProductGrid, annealed_log_z, strip_log_z
from .reweighting import Reweighted, ReweightingWarning, reweight
from .training import NetworkHistory, train_network

__all__ = [
    "BlockGibbs",
    "ComplexAction",
    "Fit",
    "NetworkHistory",
    "NextNearestPhi4",
    "Phi4Network",
    "ProductGrid",
    "Reweighted",
    "ReweightingWarning",
    "annealed_log_z",
    "data_gradient",
    "fit_action",
    "fit_data",
    "free_energy_gradient",
    "from_vector",
    "gaussian_moments",
    "natural_direction",
    "reweight",
    "site_log_z",
    "standard_errors",
    "strip_log_z",
    "sufficient_statistics",
    "to_vector",
    "train_network",
]
