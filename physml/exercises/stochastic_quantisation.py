"""Answers to the exercises of "Stochastic quantisation"."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import check, compare_function, compare_number, seeded_cases

__all__ = [
    "check_action_density",
    "check_euler_variance",
    "check_largest_step",
    "check_noise_correlation",
    "check_relaxation_rate",
    "check_trajectory_length",
]


@check
def check_euler_variance(answer: Any) -> str:
    """A function of the kernel, the step and the noise strength: Euler's stationary variance."""

    def make(generator: torch.Generator) -> tuple[float, float, float]:
        k, eps, alpha = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        return 0.5 + k, 0.1 + eps, 0.2 + alpha

    compare_function(
        answer, lambda k, eps, alpha: alpha / (k * (1 - eps * k / 2)), seeded_cases(make),
        what="the variance",
        describe=lambda k, eps, alpha: f"K = {k:.2f}, step {eps:.2f} and noise {alpha:.2f}",
        hint="in the stationary state one step changes nothing: v = (1 - eps K)^2 v + noise")
    return "too large by 1/(1 - eps K/2), and proportional to the strength of the noise."


@check
def check_relaxation_rate(answer: Any) -> str:
    """The rate at which the average of phi^2 relaxes in a Gaussian theory with K = 3."""
    compare_number(answer, 6.0, what="the rate", hint="phi^2 - 1/K is an eigenfunction: of which "
                   "energy of the harmonic oscillator?")
    return "the second excited state: twice the rate of phi itself."


@check
def check_largest_step(answer: Any) -> str:
    """A function of mass squared and dimension: the stability bound of Euler's scheme."""

    def make(generator: torch.Generator) -> tuple[float, int]:
        mass2 = float(torch.rand((), generator=generator, dtype=torch.float64))
        return mass2, int(torch.randint(1, 5, (), generator=generator))

    compare_function(
        answer, lambda mass2, dim: 2 / (mass2 + 4 * dim), seeded_cases(make),
        what="the largest step", describe=lambda mass2, dim: f"m^2 = {mass2:.2f}, d = {dim}",
        hint="the fastest mode decides, the one with the largest momentum")
    return "set by the ultraviolet, while the infrared waits."


@check
def check_noise_correlation(answer: Any) -> str:
    """The correlation of field and noise in the second-order scheme at a step of 0.1."""
    compare_number(answer, math.sqrt(0.05), what="the correlation",
                   hint="how did the noise of step n enter the field of step n?")
    return "the same random number is used twice, and that cancels the bias."


@check
def check_action_density(answer: Any) -> str:
    """A function of lambda and <phi^4>: the average action per site."""

    def make(generator: torch.Generator) -> tuple[float, float]:
        lam, phi4 = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return lam, 1 + phi4

    compare_function(
        answer, lambda lam, phi4: 0.5 - lam * phi4, seeded_cases(make), what="S/V",
        describe=lambda lam, phi4: f"lambda = {lam:.2f} and <phi^4> = {phi4:.2f}",
        hint="count how often phi dS/dphi contains each term of S")
    return "for lambda = 0 it is one half a site: equipartition."


@check
def check_trajectory_length(answer: Any) -> str:
    """The shortest trajectory after which a mode with K = 9 is minus itself."""
    compare_number(answer, math.pi / 3, what="the length",
                   hint="a mode of frequency sqrt(K) turns by sqrt(K) t: by which angle here?")
    return "half a period: the mode changes its sign, and its size never."
