r"""Two-point functions of data, their modes, how much of them is noise, and how samples compare.

A data set of fields :math:`\phi` (one a row) defines :math:`C_{ij}=\langle\phi_i\phi_j\rangle`.
Its eigenvalues `c` are the variances of the modes; :math:`\kappa=1/c` are the eigenvalues of the
kernel of the Gaussian field with the same two-point function. Small :math:`\kappa` is the infrared,
:math:`\kappa\to\infty` the ultraviolet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import (
    check_finite,
    check_positive_int,
    check_real,
    check_rows,
    check_shape,
)
from .statistics import Estimate, mean

__all__ = [
    "Level",
    "NoiseFloor",
    "Spectrum",
    "connected",
    "energy_distance",
    "excess_kurtosis",
    "integer_rank",
    "learned_levels",
    "noise_floor",
    "reconstruct",
    "reconstruction_error",
    "shuffle_pixels",
    "spectrum",
    "two_point",
    "whiten",
]

RELATIVE_THRESHOLD = 1e-14
"""Eigenvalues below this fraction of the largest are rounding: the unit roundoff of float64 is
1.1e-16, and the error of a symmetric eigensolver a modest multiple of it times the norm."""


def two_point(data: Tensor, block: int = 4096) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\langle\phi_i\phi_j\rangle` ``(n, n)`` and the mean ``(n,)``, in float64.

    The sums run in float64 over blocks of rows, so that memory stays small whatever the number of
    rows. (On devices without float64 the blocks go to the CPU.)

    Parameters
    ----------
    data
        Fields, ``(samples, n)``, of any type; uint8 images are scaled to [0, 1].
    block
        Rows to widen at a time.
    """
    check_rows("data", check_real("data", check_shape("data", data, (None, None))))
    check_positive_int("block", block)
    where = torch.device("cpu") if data.device.type == "mps" else data.device
    n = data.shape[1]
    second = torch.zeros(n, n, dtype=torch.float64, device=where)
    first = torch.zeros(n, dtype=torch.float64, device=where)
    for rows in data.split(block):
        wide = rows.to(where).double()
        second.addmm_(wide.T, wide)
        first += wide.sum(0)
    scale = 1 / 255 if data.dtype == torch.uint8 else 1.0
    check_finite("data", first)
    return second * (scale**2 / len(data)), first * (scale / len(data))


def connected(second: Tensor, mean: Tensor) -> Tensor:
    r"""Return :math:`\langle\phi_i\phi_j\rangle-\langle\phi_i\rangle\langle\phi_j\rangle`."""
    n = len(mean)
    return check_shape("second", second, (n, n)) - torch.outer(mean, mean)


@dataclass(frozen=True)
class Spectrum:
    r"""The modes of a two-point function, largest variance (most infrared) first.

    Attributes
    ----------
    variance, modes
        Eigenvalues ``(n,)``, and eigenvectors as the columns of ``(n, n)``, each with its largest
        entry positive.
    zero_rows
        How many rows are exactly zero: fields that are zero in every sample.
    zero_modes
        How many eigenvalues count as zero, the zero rows among them.
    threshold
        The value below which the others do.
    """

    variance: Tensor
    modes: Tensor
    zero_rows: int
    zero_modes: int
    threshold: float

    @property
    def rank(self) -> int:
        """Number of modes that are not zero."""
        return len(self.variance) - self.zero_modes

    @property
    def kappa(self) -> Tensor:
        r"""The kernel's eigenvalues :math:`\kappa=1/c`, infinite for zero modes."""
        out = torch.full_like(self.variance, float("inf"))
        out[: self.rank] = 1 / self.variance[: self.rank]
        return out


def spectrum(second: Tensor, relative: float = RELATIVE_THRESHOLD) -> Spectrum:
    """Return the modes of a symmetric, non-negative two-point function ``(n, n)``.

    Rows that are zero are taken out before, so that they give exact zero modes. Of the rest an
    eigenvalue is a zero mode if it lies below `relative` times the largest.
    """
    n = second.shape[0]
    check_finite("second", check_shape("second", second, (n, n)))
    live = (second != 0).any(1)
    inner = second[live][:, live]
    variance = second.new_zeros(n)
    modes = second.new_zeros(n, n)
    rank = len(inner)
    c, u = torch.linalg.eigh(inner)
    if rank:
        u = u * torch.where(u.gather(0, u.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)
    threshold = relative * float(c[-1]) if rank else 0.0
    variance[:rank] = c.flip(0)
    modes[live.nonzero()[:, 0][:, None], torch.arange(rank, device=u.device)] = u.flip(1)
    modes[(~live).nonzero()[:, 0], torch.arange(rank, n, device=u.device)] = 1.0
    small = int((variance[:rank] <= threshold).sum())
    variance[rank - small :] = 0
    return Spectrum(variance, modes, n - rank, n - rank + small, threshold)


def integer_rank(gram: Tensor, prime: int = 2**31 - 1) -> int:
    """Return the rank of an integer matrix ``(n, m)`` modulo a prime: exact, without rounding.

    It never exceeds the rank over the rational numbers, and falls below it only if the prime
    divides all minors of that size (derivation: Gaussian elimination in the field of `prime`
    elements). `gram` holds integers, in int64 or in float64 below 2**53.
    """
    import numpy as np

    if gram.is_floating_point() and not bool((gram == gram.round()).all()):
        raise ValueError("gram must hold integers: sum the uint8 pixels, not the scaled ones")
    a = gram.to("cpu", torch.int64).numpy() % prime
    rank = 0
    for column in range(a.shape[1]):
        found = np.flatnonzero(a[rank:, column])
        if not len(found):
            continue
        a[[rank, rank + found[0]]] = a[[rank + found[0], rank]]
        factor = a[rank + 1 :, column] * pow(int(a[rank, column]), -1, prime) % prime
        a[rank + 1 :, column:] -= factor[:, None] * a[rank, column:] % prime
        a[rank + 1 :, column:] %= prime
        rank += 1
        if rank == len(a):
            break
    return rank


@dataclass(frozen=True)
class NoiseFloor:
    """Modes of one half of the data, tried on the other.

    Attributes
    ----------
    inside, outside
        Variance of each mode in the half it was found in, and in the other, ``(n,)``.
    overlap
        Squared overlap of each mode with the mode of the same number of the other half.
    subspace
        The part of the first `k + 1` modes that lies within the other half's first `k + 1`: 1 if
        they span the same space, ``(k + 1) / n`` for random ones.
    """

    inside: Tensor
    outside: Tensor
    overlap: Tensor
    subspace: Tensor


def noise_floor(first: Tensor, second: Tensor) -> NoiseFloor:
    """Compare the two-point functions ``(n, n)`` of two halves of the data."""
    check_shape("second", second, tuple(first.shape))
    one, two = spectrum(first), spectrum(second)
    outside = ((second @ one.modes) * one.modes).sum(0)
    squares = (one.modes.T @ two.modes) ** 2
    within = squares.cumsum(0).cumsum(1).diagonal()
    count = torch.arange(1, len(within) + 1, dtype=within.dtype, device=within.device)
    return NoiseFloor(one.variance, outside, squares.diagonal().clone(), within / count)


def reconstruct(data: Tensor, modes: Tensor, n: int) -> Tensor:
    """Return each row of `data` ``(samples, n_visible)`` rebuilt from its first `n` modes."""
    check_shape("data", data, (None, modes.shape[0]))
    if not 0 <= n <= modes.shape[1]:
        raise ValueError(f"n must lie between 0 and {modes.shape[1]}, not {n}")
    kept = modes[:, :n].to(data)
    return (data @ kept) @ kept.T


def reconstruction_error(second: Tensor, modes: Tensor) -> Tensor:
    """Return the mean squared error per site of `reconstruct`, for 0 to all modes, ``(m + 1,)``.

    Exact, for data with the two-point function `second` ``(n, n)`` (derivation: what is lost is
    the variance outside the span of the modes kept).

    Parameters
    ----------
    modes
        Orthonormal columns ``(n, m)``; they need not be a whole basis.
    """
    check_shape("modes", modes, (second.shape[0], None))
    along = ((second @ modes) * modes).sum(0)
    # summed from the small end; a whole basis leaves nothing outside, up to rounding
    outside = (second.trace() - along.sum()).clamp(min=0) * (modes.shape[1] < len(second))
    lost = torch.cat([along.flip(0).cumsum(0).flip(0), along.new_zeros(1)])
    return (lost + outside) / len(second)


def whiten(data: Tensor, spec: Spectrum, n: int) -> Tensor:
    r"""Return the amplitudes of the first `n` modes in units of their size, ``(samples, n)``.

    :math:`z_\alpha=\sqrt{\kappa_\alpha}\,u_\alpha^T\phi`: for the Gaussian field with this
    spectrum and no mean they are independent normal variables of variance one.
    """
    if not 1 <= n <= spec.rank:
        raise ValueError(f"n must lie between 1 and the rank {spec.rank}, not {n}")
    return data @ (spec.modes[:, :n] * spec.kappa[:n].sqrt()).to(data)


def shuffle_pixels(data: Tensor, generator: torch.Generator, block: int = 4096) -> Tensor:
    """Return a copy whose entries are permuted within each row, independently for each row."""
    check_shape("data", data, (None, None))
    out = torch.empty_like(data)
    for start in range(0, len(data), check_positive_int("block", block)):
        rows = data[start : start + block]
        key = torch.rand(rows.shape, generator=generator, device=data.device)
        out[start : start + block] = rows.gather(1, key.argsort(1))
    return out


def excess_kurtosis(data: Tensor, modes: Tensor) -> Tensor:
    """Return the excess kurtosis of the data along each mode: 0 for any Gaussian field."""
    along = data @ modes.to(data)
    along = (along - along.mean(0)).double()
    return (along**4).mean(0) / (along**2).mean(0) ** 2 - 3


def energy_distance(one: Tensor, two: Tensor, groups: int = 10) -> Estimate:
    r"""Return the energy distance of two samples, with its error.

    It is :math:`2\langle|x-y|\rangle-\langle|x-x'|\rangle-\langle|y-y'|\rangle`: zero if and
    only if the two distributions are the same. The estimate has no bias, so it may be negative
    (Székely and Rizzo, J. Stat. Plan. Inference 143 (2013) 1249). The error comes from `groups`
    independent parts of both samples.

    Parameters
    ----------
    one, two
        Independent samples, ``(samples, n)``, in equal numbers.
    """
    check_shape("two", two, tuple(one.shape))
    size = len(one) // check_positive_int("groups", groups)
    if groups < 2 or size < 2:
        raise ValueError(f"groups={groups} leaves too little: take 2 or more, with 2 rows or more")
    values = []
    for x, y in zip(one[: groups * size].split(size), two[: groups * size].split(size),
                    strict=True):
        pairs = size * (size - 1)
        inner = _distances(x, x).sum(dtype=torch.float64) + _distances(y, y).sum(
            dtype=torch.float64)
        values.append(2 * _distances(x, y).mean(dtype=torch.float64) - inner / pairs)
    value = torch.stack(values)
    return Estimate(float(value.mean()), float(value.std() / groups**0.5))


@dataclass(frozen=True)
class Level:
    """An eigenvalue of the target, with its degeneracy, and what a machine learned of it.

    Attributes
    ----------
    kappa
        The eigenvalue of the target.
    members
        The numbers of its modes, counted from 0 at the infrared end.
    learned
        The mean of the machine's eigenvalues of these modes.
    """

    kappa: float
    members: tuple[int, ...]
    learned: Estimate

    @property
    def z(self) -> float:
        """How many standard errors the learned eigenvalue lies above the target's."""
        return self.learned.z(self.kappa)


def learned_levels(
    series: Tensor, final: Tensor, kappa: Tensor, mu2: float, n_hidden: int
) -> list[Level]:
    r"""Return the levels that a machine can learn, each with the error of what it learned.

    Learned can be the lowest `n_hidden` modes with :math:`\kappa<\mu^2`. Modes with one
    :math:`\kappa` (to a part in a million) are averaged: noise splits a degenerate level into ones
    that repel each other, and leaves their mean alone. The error is that of the mean of the
    fluctuating eigenvalues, with their autocorrelation.

    Parameters
    ----------
    series
        Eigenvalues during the last part of a training run, ascending, ``(records, n)``.
    final
        Eigenvalues of the final machine, ascending, ``(n,)``: of averaged weights, say.
    kappa
        Eigenvalues of the target, ascending, ``(n,)``.

    Warns
    -----
    ShortChainWarning
        If `series` is too short for a safe error: see `statistics.mean`.
    """
    n = len(kappa)
    check_shape("final", final, (n,))
    check_shape("series", series, (None, n))
    kept = kappa[: check_positive_int("n_hidden", n_hidden)]
    kept = kept[kept < mu2].double()
    groups: list[list[int]] = []
    for i, value in enumerate(kept):
        if groups and value - kept[groups[-1][0]] <= 1e-6 * value:
            groups[-1].append(i)
        else:
            groups.append([i])
    levels = []
    for members in groups:
        error = mean(series[:, members].mean(-1)).error
        learned = Estimate(float(final[members].double().mean()), error)
        levels.append(Level(float(kept[members[0]]), tuple(members), learned))
    return levels


def _distances(x: Tensor, y: Tensor) -> Tensor:
    square = torch.addmm((x**2).sum(1)[:, None] + (y**2).sum(1), x, y.T, alpha=-2)
    if x is y:
        square.fill_diagonal_(0)
    return square.clamp_(min=0).sqrt_()
