"""Answers to the exercises of "The spectrum of handwritten digits"."""

from __future__ import annotations

import math
from typing import Any

import torch

from .core import check, compare_function, compare_number, seeded_cases

__all__ = [
    "check_likelihood_lost",
    "check_mean_bias",
    "check_modes_for_error",
    "check_modes_that_count",
    "check_shuffled_modes",
    "check_sweeps_to_reach",
]


@check
def check_modes_that_count(answer: Any, variance: torch.Tensor, threshold: float) -> str:
    """How many hidden units hold all modes of a data set above a variance?"""
    expected = int((torch.as_tensor(variance) > threshold).sum())
    compare_number(answer, expected, rtol=0, atol=0.5, what="the number of hidden units",
                   hint="a hidden unit holds one mode, and a mode is learned if c > 1/mu2")
    return "one hidden unit for each mode below the cut-off."


@check
def check_likelihood_lost(answer: Any) -> str:
    """A function of variances, largest first, number of hidden units and mass: nats lost."""

    def reference(variance: torch.Tensor, n_hidden: int, mu2: float) -> torch.Tensor:
        ratio = mu2 * variance[n_hidden:]
        ratio = ratio[ratio > 1]
        return 0.5 * (ratio - 1 - ratio.log()).sum()

    def make(generator: torch.Generator) -> tuple[torch.Tensor, int, float]:
        c = torch.rand(8, generator=generator, dtype=torch.float64).sort(descending=True).values
        c[-1] = 0  # a zero mode
        return c, 2, 3.0

    compare_function(
        answer, reference, seeded_cases(make), what="the likelihood lost",
        describe=lambda c, n, mu2: f"{len(c)} modes, {n} hidden units and mass squared {mu2:g}",
        hint="modes with c < 1/mu2 sit at the cut-off in both machines")
    return "and zero modes cancel, for the regulator holds them in both machines."


@check
def check_shuffled_modes(answer: Any) -> str:
    """A function of images ``(n, pixels)``: the two eigenvalues after shuffling each image."""

    def reference(images: torch.Tensor) -> torch.Tensor:
        pixels = images.shape[1]
        a = (images**2).mean()
        b = ((images.sum(1) ** 2).mean() - pixels * a) / (pixels * (pixels - 1))
        return torch.stack([a + (pixels - 1) * b, a - b])

    def make(generator: torch.Generator) -> tuple[torch.Tensor]:
        return (torch.rand(5, 6, generator=generator, dtype=torch.float64),)

    compare_function(
        answer, reference, seeded_cases(make), what="the pair of eigenvalues",
        describe=lambda images: f"{len(images)} images of {images.shape[1]} pixels",
        hint="return the collective mode first; average over the permutations of one image")
    return "one mode carries the ink, all others are alike."


@check
def check_modes_for_error(answer: Any, variance: torch.Tensor, error: float) -> str:
    """How many modes rebuild images to within a mean squared error per pixel?"""
    variance = torch.as_tensor(variance).double()
    left = (variance.sum() - variance.cumsum(0)) / len(variance)
    expected = 1 + int((left > error).sum())
    if float(variance.sum()) / len(variance) <= error:
        expected = 0
    compare_number(answer, expected, rtol=0, what="the number of modes",
                   hint="what is left out adds up, and is shared by all pixels")
    return "the infrared carries the image."


@check
def check_sweeps_to_reach(answer: Any) -> str:
    """A function of kappa, mass and a fraction: sweeps until a chain from zero has it."""
    compare_function(
        answer, lambda kappa, mu2, part: math.log(1 - part) / (2 * math.log(1 - kappa / mu2)),
        [(kappa, 100.0, part) for kappa in (0.02625, 0.3, 10.0) for part in (0.5, 0.95)],
        what="the number of sweeps",
        describe=lambda kappa, mu2, part: f"kappa = {kappa:g} and {part:.0%} of the variance",
        hint="after t sweeps the variance has reached 1 - rho^(2t) of its value")
    return "for small kappa it grows like mu2/kappa."


@check
def check_mean_bias(answer: Any) -> str:
    """A function of weights, mass and a mean: the bias with which the machine comes closest."""

    def reach(weight: torch.Tensor, mu2: float) -> torch.Tensor:
        unit = torch.eye(weight.shape[0], dtype=weight.dtype)
        return torch.linalg.solve(mu2 * unit - weight @ weight.T, weight)

    def reference(weight: torch.Tensor, mu2: float, mean: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lstsq(reach(weight, mu2), mean[:, None]).solution[:, 0]

    def make(generator: torch.Generator) -> tuple[torch.Tensor, float, torch.Tensor]:
        draws = torch.rand(6, 4, generator=generator, dtype=torch.float64)
        return 0.5 * draws[:, :3], 4.0, draws[:, 3]

    compare_function(
        answer, reference, seeded_cases(make), what="the bias",
        describe=lambda w, mu2, mean: f"{w.shape[0]} pixels and {w.shape[1]} hidden units",
        hint="the mean of the machine is K^-1 W eta, with sigma = 1 here; least squares does it")
    return "as close to the mean as the hidden units reach."
