r"""Spectra of random matrices."""

from __future__ import annotations

import math

import torch

from ..errors import check_positive

__all__ = ["marchenko_pastur", "marchenko_pastur_edges"]


def marchenko_pastur_edges(ratio: float, variance: float = 1.0) -> tuple[float, float]:
    r"""Return the edges :math:`s^2(1\mp\sqrt q)^2` of the Marchenko-Pastur spectrum.

    It is the spectrum of :math:`X^TX/n` for an `n` by `p` matrix of independent entries of the
    given variance, with `ratio` :math:`q=p/n` held fixed (Marchenko and Pastur, Math. USSR Sb. 1
    (1967) 457).
    """
    ratio, variance = check_positive("ratio", ratio), check_positive("variance", variance)
    return variance * (1 - math.sqrt(ratio)) ** 2, variance * (1 + math.sqrt(ratio)) ** 2


def marchenko_pastur(x: torch.Tensor, ratio: float, variance: float = 1.0) -> torch.Tensor:
    r"""Return the Marchenko-Pastur density at `x`, same shape.

    :math:`\rho(x)=\sqrt{(x_+-x)(x-x_-)}/(2\pi q s^2 x)` between the edges, zero outside; for
    :math:`q>1` an atom of weight :math:`1-1/q` at zero comes on top.
    """
    low, high = marchenko_pastur_edges(ratio, variance)
    inside = ((high - x) * (x - low)).clamp(min=0).sqrt()
    return torch.where(inside > 0, inside / (2 * math.pi * ratio * variance * x), inside)
