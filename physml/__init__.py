"""`physml`: where quantum field theory and machine learning meet, in PyTorch.

The modules, from the ground up; each imports only from those before it:

* `errors`, `device`, `files`, `progress`, `checkpoints`, `training`, `lattice` -- checks, where
  numbers live, which run is which, the loop of all trainings, sites;
* `actions`, `graphs`, `exact` -- actions and forces, Markov random fields, what is known exactly;
* `statistics`, `tables`, `reweighting`, `observables`, `spectra` -- errors with autocorrelation,
  results in columns, weights from one ensemble to another, observables of fields, spectra of data;
* `sampling`, `ensembles` -- Langevin, HMC, Metropolis, Gibbs, clusters; configurations;
* `phi4_learning`, `rbm` -- phi^4 actions and networks that learn, the scalar-field restricted
  Boltzmann machine;
* `diffusion`, `pretrained` -- diffusion models: processes, exact scores, samplers, likelihoods;
  models that are trained already;
* `datasets`, `plotting`, `flipbook`, `diagrams`, `exercises` -- data, figures, checks of answers.

What one types most is here by name: ``physml.Lattice``, ``physml.Phi4``, ``physml.HMC``,
``physml.sample``. Modules are loaded when they are first used, so that importing `physml` costs
little more than importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for readers of the code that are programs: editors and type checkers
    from .actions import AutogradAction as AutogradAction
    from .actions import FreeField as FreeField
    from .actions import InhomogeneousPhi4 as InhomogeneousPhi4
    from .actions import Phi4 as Phi4
    from .device import generator as generator
    from .diffusion import InteractionModel as InteractionModel
    from .diffusion import UNet as UNet
    from .diffusion import VarianceExploding as VarianceExploding
    from .diffusion import VariancePreserving as VariancePreserving
    from .ensembles import phi4_ensemble as phi4_ensemble
    from .lattice import Lattice as Lattice
    from .phi4_learning import Phi4Network as Phi4Network
    from .rbm import ScalarFieldRBM as ScalarFieldRBM
    from .sampling import HMC as HMC
    from .sampling import MALA as MALA
    from .sampling import CheckerboardGibbs as CheckerboardGibbs
    from .sampling import GlobalFlip as GlobalFlip
    from .sampling import Langevin as Langevin
    from .sampling import Metropolis as Metropolis
    from .sampling import Sequence as Sequence
    from .sampling import SwendsenWang as SwendsenWang
    from .sampling import sample as sample
    from .sampling import start as start
    from .statistics import Estimate as Estimate

__version__ = "0.2.0"

# from the ground up: each imports only from those before it
_MODULES = (
    "errors",
    "device",
    "files",
    "progress",
    "checkpoints",
    "training",
    "lattice",
    "actions",
    "graphs",
    "exact",
    "statistics",
    "tables",
    "reweighting",
    "observables",
    "spectra",
    "sampling",
    "ensembles",
    "phi4_learning",
    "rbm",
    "diffusion",
    "pretrained",
    "datasets",
    "plotting",
    "flipbook",
    "diagrams",
    "exercises",
)

# what one types most, by the module that has it
_NAMES = {
    "AutogradAction": "actions",
    "CheckerboardGibbs": "sampling",
    "Estimate": "statistics",
    "FreeField": "actions",
    "GlobalFlip": "sampling",
    "HMC": "sampling",
    "InhomogeneousPhi4": "actions",
    "InteractionModel": "diffusion",
    "Langevin": "sampling",
    "Lattice": "lattice",
    "MALA": "sampling",
    "Metropolis": "sampling",
    "Phi4": "actions",
    "Phi4Network": "phi4_learning",
    "ScalarFieldRBM": "rbm",
    "Sequence": "sampling",
    "SwendsenWang": "sampling",
    "UNet": "diffusion",
    "VarianceExploding": "diffusion",
    "VariancePreserving": "diffusion",
    "generator": "device",
    "phi4_ensemble": "ensembles",
    "sample": "sampling",
    "start": "sampling",
}

__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
