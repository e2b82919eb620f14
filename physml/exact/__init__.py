r"""What is known exactly: the other half of every comparison in the book.

* `free` -- free fields in any dimension, Gaussians;
* `rbm`, `random_matrices` -- the scalar-field RBM mode by mode, Marchenko-Pastur;
* `zero_dim`, `phi4` -- field theories of one degree of freedom, also with noise on top;
* `langevin`, `fokker_planck` -- step-size errors, and relaxation in Langevin time;
* `ring`, `ising` -- phi^4 on a ring by transfer matrix, the two-dimensional Ising model.

All names are found here: ``exact.chain_spectrum``. A Gaussian field has the density
:math:`p(\phi)\propto e^{-\frac12\phi^TK\phi}` with kernel `K`. Results are computed in float64.
"""

from __future__ import annotations

from .fokker_planck import (
    FokkerPlanck,
    fokker_planck_spectrum,
)
from .free import (
    chain_spectrum,
    free_chain_propagator,
    free_chi,
    free_log_det,
    free_log_z,
    free_phi2,
    free_propagator,
    gaussian_kl,
    hopping_spectrum,
)
from .ising import (
    ISING_BETA_C,
    ISING_BINDER,
    PHI4_CRITICAL,
    CriticalPoint,
    IsingState,
    ising_enumeration,
    ising_finite,
    ising_infinite,
)
from .langevin import (
    euler_bias,
    euler_shadow_action,
    euler_step_bound,
    euler_tau_int,
    euler_transient,
    euler_variance,
    exponential_tau_int,
    langevin_transient,
    leimkuhler_matthews_correlation,
    leimkuhler_matthews_tau_int,
    leimkuhler_matthews_transient,
    leimkuhler_matthews_variance,
)
from .phi4 import (
    phi4_abs,
    phi4_log_z,
    phi4_moments,
    phi4_quadrature,
    phi4_z,
)
from .random_matrices import (
    marchenko_pastur,
    marchenko_pastur_edges,
)
from .rbm import (
    rbm_gibbs_correlation,
    rbm_kl_gap,
    rbm_mass_plateau,
    rbm_mode_flow,
    rbm_step_bound,
)
from .ring import (
    Phi4Ring,
    phi4_ring,
)
from .zero_dim import (
    Quadrature,
    cumulants_from_moments,
    noised_action,
    quadrature,
)

__all__ = [
    "ISING_BETA_C",
    "ISING_BINDER",
    "PHI4_CRITICAL",
    "CriticalPoint",
    "FokkerPlanck",
    "IsingState",
    "Phi4Ring",
    "Quadrature",
    "chain_spectrum",
    "cumulants_from_moments",
    "euler_bias",
    "euler_shadow_action",
    "euler_step_bound",
    "euler_tau_int",
    "euler_transient",
    "euler_variance",
    "exponential_tau_int",
    "fokker_planck_spectrum",
    "free_chain_propagator",
    "free_chi",
    "free_log_det",
    "free_log_z",
    "free_phi2",
    "free_propagator",
    "gaussian_kl",
    "hopping_spectrum",
    "ising_enumeration",
    "ising_finite",
    "ising_infinite",
    "langevin_transient",
    "leimkuhler_matthews_correlation",
    "leimkuhler_matthews_tau_int",
    "leimkuhler_matthews_transient",
    "leimkuhler_matthews_variance",
    "marchenko_pastur",
    "marchenko_pastur_edges",
    "noised_action",
    "phi4_abs",
    "phi4_log_z",
    "phi4_moments",
    "phi4_quadrature",
    "phi4_ring",
    "phi4_z",
    "quadrature",
    "rbm_gibbs_correlation",
    "rbm_kl_gap",
    "rbm_mass_plateau",
    "rbm_mode_flow",
    "rbm_step_bound",
]
