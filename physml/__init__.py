"""`physml`: where quantum field theory and machine learning meet, in PyTorch.

The modules, from the ground up; imports only point down this list:

* `errors`, `device`, `files`, `checkpoints`, `progress`, `training`, `lattice` -- checks, where
  numbers live, files, which run is which, the loop of all trainings, sites;
* `statistics`, `reweighting`, `observables` -- errors with autocorrelation, weights from one
  ensemble to another, observables of lattice fields;
* `actions`, `exact` -- actions and forces, what is known in closed form;
* `graphs` -- Markov random fields, cliques and their potentials;
* `sampling`, `ensembles` -- Langevin, HMC, Metropolis, Gibbs, clusters; configurations;
* `diffusion`, `pretrained` -- diffusion models: processes, exact scores, samplers, likelihoods;
  models that are trained already;
* `phi4_learning` -- phi^4 actions and networks that learn, reweighting;
* `rbm`, `spectra` -- the scalar-field restricted Boltzmann machine, two-point functions of data;
* `datasets`, `plotting`, `flipbook`, `diagrams`, `tables`, `exercises` -- data, figures, tables,
  checks of answers.

Modules are loaded when they are first used, so that importing `physml` costs little more than
importing torch.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_MODULES = (
    "actions",
    "checkpoints",
    "datasets",
    "device",
    "diagrams",
    "diffusion",
    "ensembles",
    "errors",
    "exact",
    "exercises",
    "files",
    "flipbook",
    "graphs",
    "lattice",
    "observables",
    "phi4_learning",
    "plotting",
    "pretrained",
    "progress",
    "rbm",
    "reweighting",
    "sampling",
    "spectra",
    "statistics",
    "tables",
    "training",
)

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
