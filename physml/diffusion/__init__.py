r"""Diffusion models of lattice fields: noise is added to a field, and taken away again.

=============  ================================================================================
`sde`          forward and reverse processes, their exact kernels, time grids; the conventions
`scores`       exact scores: free fields, mixtures, one degree of freedom; Tweedie's formula
`samplers`     from noise to fields: Euler-Maruyama, predictor-corrector, Heun, RK4, DPM
`likelihood`   log densities along the probability flow, with their errors
`networks`     networks that contain the free field exactly, odd and periodic
`training`     denoising score matching
`interaction`  the score of a field whose action is known, and a target with little noise
`picture`      the flow in the interaction picture, with its density
`correction`   independence Metropolis and reweighting: a model made exact
=============  ================================================================================
"""

from .correction import (
    IndependenceChain,
    effective_sample_size,
    expected_acceptance,
    independence_metropolis,
    log_partition,
    log_weights,
    reweight,
)
from .interaction import Distilled, Interaction, InteractionModel, ResidualForce
from .likelihood import LogDensity, log_density, propose
from .networks import OddMLP, ScoreModel, UNet
from .picture import flow, flow_from
from .samplers import (
    DPM,
    LAST,
    RK4,
    SAMPLERS,
    EulerMaruyama,
    Generated,
    Heun,
    PredictorCorrector,
    generate,
    integrate,
)
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
from .training import WEIGHTINGS, History, loss, train, validation_loss, warmup_cosine

__all__ = [
    "DPM",
    "GRIDS",
    "LAST",
    "RK4",
    "SAMPLERS",
    "WEIGHTINGS",
    "Distilled",
    "EulerMaruyama",
    "GaussianScore",
    "Generated",
    "Heun",
    "History",
    "IndependenceChain",
    "Interaction",
    "InteractionModel",
    "LogDensity",
    "MixtureScore",
    "OddMLP",
    "PredictorCorrector",
    "Process",
    "ResidualForce",
    "Reverse",
    "Score",
    "ScoreModel",
    "UNet",
    "VarianceExploding",
    "VariancePreserving",
    "ZeroDimensionalScore",
    "denoiser",
    "effective_sample_size",
    "expected_acceptance",
    "flow",
    "flow_from",
    "generate",
    "independence_metropolis",
    "integrate",
    "log_density",
    "log_partition",
    "log_weights",
    "loss",
    "over_sites",
    "propose",
    "reweight",
    "score_of",
    "time_grid",
    "train",
    "validation_loss",
    "warmup_cosine",
]
