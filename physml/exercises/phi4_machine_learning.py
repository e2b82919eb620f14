"""Answers to the exercises of "Learning with phi^4 theory"."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import as_vector, check, compare_function, seeded_cases

__all__ = [
    "check_average_phase",
    "check_effective_size",
    "check_gap_equation",
    "check_mass_overlap",
    "check_natural_step",
    "check_rescaled_couplings",
    "check_spin_humps",
    "check_unit_cumulants",
]


@check
def check_gap_equation(answer: Any) -> str:
    """A function of lambda: the coupling of the best Gaussian for phi^2/2 + lambda phi^4/4."""
    compare_function(
        answer, lambda lam: (1 + math.sqrt(1 + 12 * lam)) / 4, [(0.0,), (1.0,), (0.3,), (50.0,)],
        what="the coupling a", describe=lambda lam: f"lambda = {lam}",
        hint="with <phi^2> = 1/(2a) the gap equation is quadratic; a is positive")
    return "the mass that a mean field gives itself."


@check
def check_rescaled_couplings(answer: Any) -> str:
    """A function of w, a, b: the couplings (a, b) of the same theory with w = 1."""
    compare_function(
        as_vector(answer), lambda w, a, b: torch.tensor([a / w, b / w**2]).double(),
        [(2.0, 1.0, 0.5), (0.5, -1.0, 0.3), (1.0, 2.0, 0.1)], what="the pair of couplings",
        describe=lambda w, a, b: f"w = {w}, a = {a} and b = {b}",
        hint="phi goes to zeta phi in all three terms; choose zeta so that w becomes 1")
    return "two couplings tell all that three did."


@check
def check_natural_step(answer: Any) -> str:
    """A function of actions ``(n,)`` and statistics ``(n, k)``: couplings after a natural step."""

    def reference(values: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        centred = statistics - statistics.mean(0)
        return torch.linalg.solve(centred.T @ centred, centred.T @ (values - values.mean()))

    def make(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        statistics = torch.randn(40, 3, generator=generator, dtype=torch.float64) + 1
        noise = torch.randn(40, generator=generator, dtype=torch.float64)
        return statistics @ torch.tensor([1.0, -2.0, 0.5]).double() + 3 + 0.1 * noise, statistics

    compare_function(
        answer, reference, seeded_cases(make), what="the vector of couplings",
        describe=lambda values, statistics: f"{len(values)} samples",
        hint="a least-squares fit with a constant: subtract the means first")
    return "to learn an action is to fit it."


@check
def check_effective_size(answer: Any) -> str:
    """A function of complex log weights ``(n,)``: the effective sample size."""

    def reference(log_weights: torch.Tensor) -> torch.Tensor:
        w = torch.exp(log_weights - log_weights.real.max())
        return w.sum().abs() ** 2 / (w.abs() ** 2).sum()

    def make(generator: torch.Generator) -> tuple[torch.Tensor]:
        real, imaginary = torch.randn(2, 30, generator=generator, dtype=torch.float64)
        return (torch.complex(real + 1000, imaginary),)

    compare_function(
        answer, reference, seeded_cases(make), what="the effective sample size",
        describe=lambda log_weights: f"{len(log_weights)} weights",
        hint="take the largest real part out before the exponential, and moduli at the right place")
    return "a common factor of all weights means nothing."


@check
def check_mass_overlap(answer: Any) -> str:
    """A function of rho and V: ESS/n of reweighting V free sites from mass 1 to rho."""
    compare_function(
        answer, lambda rho, volume: (math.sqrt(2 * rho - 1) / rho) ** volume,
        [(1.0, 5), (2.0, 1), (0.7, 3), (1.1, 100)], what="the fraction",
        describe=lambda rho, volume: f"rho = {rho} and {volume} sites",
        hint="<w>^2 / <w^2> on one site, two Gaussian integrals")
    return "exponential in the volume, and it ends at rho = 1/2."


@check
def check_average_phase(answer: Any) -> str:
    """A function of g and V: the average phase of V free sites with an imaginary mass term."""
    compare_function(
        answer, lambda g, volume: (1 + 4 * g * g) ** (-volume / 4),
        [(0.0, 4), (0.5, 1), (0.15, 16), (1.0, 10)], what="the average phase",
        describe=lambda g, volume: f"g = {g} and {volume} sites",
        hint="the mean of exp(-i g phi^2) is a Gaussian integral; take its modulus")
    return "the sign problem of a free field."


@check
def check_spin_humps(answer: Any) -> str:
    """A function of v and sigma: the couplings (a, w) of a hidden spin that makes two humps."""
    compare_function(
        as_vector(answer),
        lambda v, sigma: torch.tensor([1 / (2 * sigma**2), v / sigma**2]).double(),
        [(1.0, 0.3), (2.0, 1.0), (0.5, 0.2)], what="the pair (a, w)",
        describe=lambda v, sigma: f"v = {v} and sigma = {sigma}",
        hint="complete the square in phi for h = 1: where is its mean, what is its width?")
    return "a hidden spin chooses the hump."


@check
def check_unit_cumulants(answer: Any) -> str:
    """A function of <h^2> and <h^4>: the second and fourth cumulant of a hidden unit."""
    compare_function(
        as_vector(answer),
        lambda second, fourth: torch.tensor([second, fourth - 3 * second**2]).double(),
        [(1.0, 3.5), (1.0, 1.0), (0.4, 0.3)], what="the pair of cumulants",
        describe=lambda second, fourth: f"<h^2> = {second} and <h^4> = {fourth}",
        hint="ln of 1 + x^2 <h^2>/2 + x^4 <h^4>/24, to fourth order")
    return "what is integrated out comes back as an interaction."
