"""Answers to the exercises of "Diffusion models"."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import as_vector, check, compare_function, seeded_cases

__all__ = [
    "check_crossing_time",
    "check_cumulant_samples",
    "check_family_noise",
    "check_frozen_variance",
    "check_last_step",
    "check_mean_least_loss",
    "check_spike_denoiser",
]


def _positive(*ranges: tuple[float, float]) -> list[tuple[float, ...]]:
    """Return five cases of numbers, each drawn from its own interval."""

    def make(generator: torch.Generator) -> list[float]:
        draw = torch.rand(len(ranges), generator=generator, dtype=torch.float64).tolist()
        return [low + (high - low) * u for (low, high), u in zip(ranges, draw, strict=True)]

    return seeded_cases(make)


@check
def check_crossing_time(answer: Any) -> str:
    """A function of K and sigma: the time at which noise halves the kernel of a mode."""
    compare_function(
        answer, lambda k, sigma: math.log1p(2 * math.log(sigma) / k) / (2 * math.log(sigma)),
        _positive((0.5, 8.0), (5.0, 30.0)), what="the time",
        describe=lambda k, sigma: f"K = {k:.2f} and sigma = {sigma:.1f}",
        hint="the kernel is halved where the variance of the noise is that of the mode")
    return "the larger K, the earlier: the ultraviolet drowns first."


@check
def check_family_noise(answer: Any) -> str:
    """A function of c: the noise, in units of g^2, that goes with the drift c g^2 score."""
    compare_function(
        answer, lambda c: 2 * c - 1, [(0.5,), (1.0,), (1.5,), (3.0,)], what="the noise",
        describe=lambda c: f"c = {c}",
        hint="a Gaussian will do: ask for dv/dx = 1 at v = P + x")
    return "less than one half of the score leaves no noise that would do."


@check
def check_frozen_variance(answer: Any) -> str:
    """A function of P, s^2 and zeta: where the variance settles if the clock is stopped."""
    compare_function(
        answer, lambda p, s2, zeta: zeta**2 / (1 + zeta**2) * (p + s2),
        _positive((0.5, 2.0), (0.1, 5.0), (0.5, 2.0)), what="the variance",
        describe=lambda p, s2, zeta: f"P = {p:.2f}, s^2 = {s2:.2f} and zeta = {zeta:.2f}",
        hint="at a fixed time the process is a Langevin equation: of which power of q?")
    return "for zeta = 1 the law is the square of q, and half as wide; only without end it is q."


@check
def check_spike_denoiser(answer: Any) -> str:
    """A function of phi, m and s^2: the denoiser of a field that is plus or minus m."""
    compare_function(
        answer, lambda phi, m, s2: m * math.tanh(m * phi / s2),
        _positive((-2.0, 2.0), (0.5, 2.0), (0.2, 3.0)), what="the denoiser",
        describe=lambda phi, m, s2: f"phi = {phi:.2f}, m = {m:.2f} and s^2 = {s2:.2f}",
        hint="weigh the two values with the densities of the noise that leads from them to phi")
    return "the mean field of a spin: it chooses a side as the noise falls below m^2."


@check
def check_mean_least_loss(answer: Any) -> str:
    """A function of P and two noise ratios: the mean least loss with ln r uniform between them."""

    def reference(p: float, low: float, high: float) -> float:
        def primitive(r: float) -> float:
            return math.log(r) - 0.5 * math.log(p + r * r)

        return (primitive(high) - primitive(low)) / math.log(high / low)

    compare_function(
        answer, reference, _positive((0.5, 10.0), (0.01, 0.2), (2.0, 10.0)), what="the mean loss",
        describe=lambda p, low, high: f"P = {p:.2f} and r from {low:.2f} to {high:.2f}",
        hint="integrate P/(P + r^2) over dr/r, and divide by the length of the interval")
    return "a loss of this size is not a failure: nothing can be below it."


@check
def check_last_step(answer: Any) -> str:
    """A function of P and s^2: variances after Tweedie's last step, and after half of it."""
    compare_function(
        as_vector(answer),
        lambda p, s2: torch.tensor([p * p / (p + s2), p + s2 * s2 / (4 * (p + s2))]).double(),
        _positive((0.5, 2.0), (0.01, 1.0)), what="the pair of variances",
        describe=lambda p, s2: f"P = {p:.2f} and s^2 = {s2:.2f}",
        hint="the score is linear, so each step multiplies the field by a number")
    return "the whole step is too narrow by s^2, half of it right up to s^4."


@check
def check_cumulant_samples(answer: Any) -> str:
    """A function of kappa_2, kappa_4 and s^2: fields for an error as large as kappa_4."""
    compare_function(
        answer, lambda k2, k4, s2: 24 * (k2 + s2) ** 4 / k4**2,
        _positive((0.5, 2.0), (-2.0, -0.1), (1.0, 50.0)), what="the number of fields",
        describe=lambda k2, k4, s2: f"kappa_2 = {k2:.2f}, kappa_4 = {k4:.2f}, s^2 = {s2:.1f}",
        hint="for Gaussian fields the variance of the estimate is 4! kappa_2(t)^4 / N")
    return "it grows with the eighth power of the noise."
