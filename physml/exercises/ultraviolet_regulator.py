"""Answers to the exercises of "The scalar-field RBM as an ultraviolet regulator"."""

from __future__ import annotations

from typing import Any

import torch

from .. import exact, lattice
from .core import check, compare_function, compare_number, seeded_cases

__all__ = [
    "check_cd_factor",
    "check_growth_ratio",
    "check_hidden_kernel",
    "check_mass_plateau",
    "check_mixing_time",
    "check_smallest_machine",
    "check_square_modes",
    "check_step_order",
]


@check
def check_hidden_kernel(answer: Any) -> str:
    """A function of the weights ``(n, m)``, mass and sigma: eigenvalues of the hidden kernel."""

    def reference(weight: torch.Tensor, mu2: float, sigma: float) -> torch.Tensor:
        unit = torch.eye(weight.shape[1], dtype=weight.dtype)
        return torch.linalg.eigvalsh(unit / sigma**2 - weight.T @ weight / mu2)

    def make(generator: torch.Generator) -> tuple[torch.Tensor, float, float]:
        return torch.randn(5, 3, generator=generator, dtype=torch.float64), 5.0, 0.5

    compare_function(
        answer, reference, seeded_cases(make), what="the set of eigenvalues",
        prepare=lambda found: found.sort().values,
        describe=lambda w, mu2, sigma: f"{w.shape[0]} visible and {w.shape[1]} hidden units",
        hint="complete the square in phi, which has the mass mu2, and mind sigma")
    return "each is positive exactly if the eigenvalue of K with the same singular value is."


@check
def check_step_order(answer: Any) -> str:
    """The power of the step size with which gradient ascent deviates from its flow."""
    compare_number(answer, 1, what="the power of the step size",
                   hint="compare two runs with the same learning time, one with half the step")
    return "gradient ascent is Euler's method for the flow."


@check
def check_growth_ratio(answer: Any) -> str:
    """How many times slower kappa = 8 grows than kappa = 4 at mu2 = 9, from small xi."""
    compare_number(answer, (1 / 4 - 1 / 9) / (1 / 8 - 1 / 9), what="the ratio of the rates",
                   hint="while xi is small, lambda is mu2; put that into the flow")
    return "the closer a mode is to the cut-off, the longer it has to wait."


@check
def check_mass_plateau(answer: Any) -> str:
    """The learned mass of a machine with five hidden units, on the chapter's ring."""
    expected = exact.rbm_mass_plateau(exact.chain_spectrum(10, 4.0), 5)
    compare_number(answer, expected, rtol=2e-3, what="the plateau",
                   hint="it is a mean over the modes that are cut, and not the arithmetic one")
    return "the mass is the harmonic mean of what it stands for."


@check
def check_smallest_machine(answer: Any) -> str:
    """The fewest hidden units at mu2 = 9 for a KL gap below 0.02 nats, on the chapter's ring."""
    kappa = exact.chain_spectrum(10, 4.0)
    expected = next(n for n in range(1, 11) if exact.rbm_kl_gap(kappa, 9.0, n) < 0.02)
    compare_number(answer, expected, rtol=0, what="the number of hidden units",
                   hint="add up the gap mode by mode from the ultraviolet end")
    return "the modes next to the cut-off cost almost nothing."


@check
def check_mixing_time(answer: Any) -> str:
    """A function of kappa and the mass: the autocorrelation time of a learned mode, in sweeps."""
    compare_function(
        answer, lambda kappa, mu2: mu2 / kappa - 0.5,
        [(kappa, mu2) for kappa in (0.5, 4.0) for mu2 in (4.5, 9.0, 160.0)],
        what="the autocorrelation time",
        describe=lambda kappa, mu2: f"kappa = {kappa:g} and mass squared {mu2:g}",
        hint="sum the geometric series of rho, and count the half at t = 0")
    return "so a large cut-off makes slow chains, and the infrared is the slowest."


@check
def check_cd_factor(answer: Any) -> str:
    """A function of lambda, the mass and the sweeps: by what CD-k multiplies the gradient."""
    compare_function(
        answer, lambda lam, mu2, sweeps: 1 - (1 - lam / mu2) ** (2 * sweeps),
        [(lam, 9.0, sweeps) for lam in (2.0, 4.0, 8.0) for sweeps in (1, 3, 10)],
        what="the factor",
        describe=lambda lam, mu2, k: f"lambda = {lam:g}, mass squared {mu2:g} and {k} sweeps",
        hint="a sweep multiplies the amplitude of a mode by rho; the gradient needs its square")
    return "it is never negative, so the fixed points stay where they are."


@check
def check_square_modes(answer: Any) -> str:
    """How many modes of the free field on 8 x 8 sites with mass 1 lie below the cut-off 5."""
    kappa = lattice.Lattice((8, 8)).free_spectrum(1.0)
    compare_number(answer, int((kappa < 5 - 1e-9).sum()), rtol=0, what="the number of modes",
                   hint="modes exactly at the cut-off do not count, and rounding moves them")
    return "the others, with those that sit on the cut-off, are white noise to the machine."
