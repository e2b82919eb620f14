"""Answers to the exercises of "Diffusion models of lattice phi^4"."""

from __future__ import annotations

import math
from typing import Any

from .core import check, compare_function
from .diffusion_models import _positive

__all__ = [
    "check_acceptance_of_spread",
    "check_acceptance_of_volume",
    "check_least_target",
    "check_noisy_acceptance",
    "check_target_gain",
    "check_wick_cube",
]


@check
def check_acceptance_of_spread(answer: Any) -> str:
    """A function of the spread of ln w: the acceptance of independent proposals."""
    compare_function(
        answer, lambda s: math.erfc(s / 2), _positive((0.1, 3.0)), what="the acceptance",
        describe=lambda s: f"spread {s:.2f}",
        hint="the current field is one of the target, where ln w is higher by its variance")
    return "The acceptance is erfc(Delta/2): 0.62 for 0.7, 0.16 for 2."


@check
def check_acceptance_of_volume(answer: Any) -> str:
    """A function of the spread and b: the acceptance on a lattice b times as long."""
    compare_function(
        answer, lambda s, b: math.erfc(b * s / 2), _positive((0.1, 1.0), (1.0, 4.0)),
        what="the acceptance", describe=lambda s, b: f"spread {s:.2f} and b = {b:.2f}",
        hint="variances of independent parts of the lattice add, and there are b^2 of them")
    return "The spread grows as the root of the volume; the acceptance falls as erfc(b Delta/2)."


@check
def check_least_target(answer: Any) -> str:
    """A function of rho and v: the weight of the noise in the target of least variance."""
    compare_function(
        answer, lambda rho, v: -rho / (1 + rho * v), _positive((0.05, 2.0), (0.1, 10.0)),
        what="the weight", describe=lambda rho, v: f"rho = {rho:.2f} and v = {v:.2f}",
        hint="keep the mean, alpha - beta v = 1, and minimise alpha^2 rho + beta^2 v")
    return "The force carries the rest of the target, 1/(1 + rho v)."


@check
def check_target_gain(answer: Any) -> str:
    """A function of rho and v: the variance of denoising over that of the best target."""
    compare_function(
        answer, lambda rho, v: 1 + 1 / (rho * v), _positive((0.05, 2.0), (0.1, 10.0)),
        what="the factor", describe=lambda rho, v: f"rho = {rho:.2f} and v = {v:.2f}",
        hint="denoising alone has the target (D - phi_0)/v, of variance 1/v")
    return "Modes that hardly interact, or hardly have noise, gain most."


@check
def check_noisy_acceptance(answer: Any) -> str:
    """A function of the spread and n: the acceptance with noise of variance n in ln q."""
    compare_function(
        answer, lambda s, n: math.erfc(math.sqrt(s**2 + n) / 2),
        _positive((0.1, 2.0), (0.1, 3.0)), what="the acceptance",
        describe=lambda s, n: f"spread {s:.2f} and n = {n:.2f}",
        hint="noise that is kept with its field is a part of its weight, and variances add")
    return "The noise of the density costs as much as an error of the model of the same size."


@check
def check_wick_cube(answer: Any) -> str:
    """A function of D, v, G and lambda: the mean of 4 lambda (phi^3 - 3 G phi)."""
    compare_function(
        answer, lambda d, v, g, lam: 4 * lam * (d**3 - 3 * (g - v) * d),
        _positive((0.5, 2.0), (0.1, 1.0), (0.5, 2.0), (0.01, 0.1)), what="the mean",
        describe=lambda d, v, g, lam: f"D = {d:.2f}, v = {v:.2f}, G = {g:.2f}, lambda = {lam:.3f}",
        hint="write phi = D + sqrt(v) z and average over z")
    return "With G = <D^2> + v what is left is the cube of D with its own average taken out."
