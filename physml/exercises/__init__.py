"""Checks of answers to the book's exercises, which say what is wrong and keep the solution secret.

`core` says what a check is and how to write one. Each chapter has a module with its checks, and all
of them are found here: ``exercises.check_cd_factor``.
"""

from __future__ import annotations

from .core import (
    NotYet,
    Result,
    check,
    checks,
    compare_function,
    compare_number,
    seeded_cases,
)
from .diffusion_models import (
    check_crossing_time,
    check_cumulant_samples,
    check_family_noise,
    check_frozen_variance,
    check_last_step,
    check_mean_least_loss,
    check_spike_denoiser,
)
from .diffusion_phi4 import (
    check_acceptance_of_spread,
    check_acceptance_of_volume,
    check_least_target,
    check_noisy_acceptance,
    check_target_gain,
    check_wick_cube,
)
from .markov_random_fields import (
    check_clique_count,
    check_decimated_blanket,
    check_diagonal_links,
    check_free_conditional,
    check_ising_potentials,
    check_pair_potential,
    check_partial_correlation,
)
from .mnist_spectra import (
    check_likelihood_lost,
    check_mean_bias,
    check_modes_for_error,
    check_modes_that_count,
    check_shuffled_modes,
    check_sweeps_to_reach,
)
from .phi4_machine_learning import (
    check_average_phase,
    check_effective_size,
    check_gap_equation,
    check_mass_overlap,
    check_natural_step,
    check_rescaled_couplings,
    check_spin_humps,
    check_unit_cumulants,
)
from .stochastic_quantisation import (
    check_action_density,
    check_euler_variance,
    check_largest_step,
    check_noise_correlation,
    check_relaxation_rate,
    check_trajectory_length,
)
from .ultraviolet_regulator import (
    check_cd_factor,
    check_growth_ratio,
    check_hidden_kernel,
    check_mass_plateau,
    check_mixing_time,
    check_smallest_machine,
    check_square_modes,
    check_step_order,
)

__all__ = [
    "NotYet",
    "Result",
    "check",
    "check_acceptance_of_spread",
    "check_acceptance_of_volume",
    "check_action_density",
    "check_average_phase",
    "check_cd_factor",
    "check_clique_count",
    "check_crossing_time",
    "check_cumulant_samples",
    "check_decimated_blanket",
    "check_diagonal_links",
    "check_effective_size",
    "check_euler_variance",
    "check_family_noise",
    "check_free_conditional",
    "check_frozen_variance",
    "check_gap_equation",
    "check_growth_ratio",
    "check_hidden_kernel",
    "check_ising_potentials",
    "check_largest_step",
    "check_last_step",
    "check_least_target",
    "check_likelihood_lost",
    "check_mass_overlap",
    "check_mass_plateau",
    "check_mean_bias",
    "check_mean_least_loss",
    "check_mixing_time",
    "check_modes_for_error",
    "check_modes_that_count",
    "check_natural_step",
    "check_noise_correlation",
    "check_noisy_acceptance",
    "check_pair_potential",
    "check_partial_correlation",
    "check_relaxation_rate",
    "check_rescaled_couplings",
    "check_shuffled_modes",
    "check_smallest_machine",
    "check_spike_denoiser",
    "check_spin_humps",
    "check_square_modes",
    "check_step_order",
    "check_sweeps_to_reach",
    "check_target_gain",
    "check_trajectory_length",
    "check_unit_cumulants",
    "check_wick_cube",
    "checks",
    "compare_function",
    "compare_number",
    "seeded_cases",
]
