r"""From one ensemble to another by weights, and what the weights are worth.

.. math:: \langle O\rangle_A=\frac{\langle O\,w\rangle}{\langle w\rangle},\qquad
          \mathrm{ESS}=\frac{|\sum w|^2}{\sum|w|^2},

with :math:`w=e^{S-A}` for measurements in the ensemble of `S`, and :math:`w=e^{-A}/q` for fields
drawn from a density `q`. `reweight` is for Markov chains, and for weights that may be complex;
`reweight_independent` for independent fields; the independence sampler makes a chain of these. All
take the observable first and the logarithm of the weights by name: the two have one shape, and in
the wrong order they would give a number.

The effective sample size says how many samples of `A` the weighted ones are worth. Where it is a
handful the ratio and its error are both wrong: the configurations that matter were not drawn.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import statistics
from .errors import ShapeError, check_finite, check_positive_int, check_shape, check_tensor
from .statistics import Estimate, MeanEstimate

__all__ = [
    "IndependenceChain",
    "Reweighted",
    "ReweightingWarning",
    "effective_sample_size",
    "expected_acceptance",
    "independence_metropolis",
    "log_mean_weight",
    "reweight",
    "reweight_independent",
]


class ReweightingWarning(UserWarning):
    """Few samples carry all the weight: neither value nor error can be trusted."""


@dataclass(frozen=True)
class Reweighted:
    r"""Expectations in another ensemble.

    Attributes
    ----------
    real, imag
        A `MeanEstimate`, or a list of one for each observable. `imag` is None for real weights.
    ess
        :math:`|\sum w|^2/\sum|w|^2`, divided by :math:`2\tau_{\rm int}` of the weights where they
        are correlated in time: a number of independent samples.
    fraction
        :math:`|\sum w|^2/(n\sum|w|^2)`, between 0 and 1.
    phase
        :math:`|\langle w\rangle|/\langle|w|\rangle`, 1 for real weights: how much of the signal is
        left after the phases have cancelled.
    log_ratio
        :math:`\ln|Z_A/Z_S|=\ln|\langle w\rangle|`.
    """

    real: MeanEstimate | list[MeanEstimate]
    imag: MeanEstimate | list[MeanEstimate] | None
    ess: float
    fraction: float
    phase: float
    log_ratio: Estimate


def reweight(
    observable: Tensor, *unnamed: Tensor, log_weight: Tensor | None = None, least: float = 100.0
) -> Reweighted:
    r"""Return :math:`\langle O\rangle_A` from measurements in the ensemble of `S`.

    Errors are those of a ratio of means, correlations between the two included, by
    `physml.statistics.function_of_means`.

    Parameters
    ----------
    observable
        `O`, real: ``(chains, time)`` or ``(chains, time, observables)``.
    log_weight
        :math:`S-A` of the same measurements, ``(chains, time)``, real or complex; by name, since
        the two look alike.
    least
        The effective sample size below which there is a warning.

    Raises
    ------
    TypeError
        If `log_weight` is not given by name.

    Warns
    -----
    ReweightingWarning
        If the effective sample size is too small.
    """
    _by_name("observable", unnamed, log_weight)
    check_tensor("observable", observable)
    check_tensor("log_weight", log_weight)
    vector = observable.ndim == 3
    rows = observable if vector else observable[..., None]
    if log_weight.ndim != 2 or rows.ndim != 3 or rows.shape[:2] != log_weight.shape:
        raise ShapeError(
            f"log_weight must have shape (chains, time), that of the observable, not "
            f"{tuple(log_weight.shape)} next to {tuple(observable.shape)}"
        )
    check_finite("log_weight", log_weight)
    rows = check_finite("observable", rows).double()
    wide = log_weight.to(torch.complex128 if log_weight.is_complex() else torch.float64)
    top = wide.real.max() if wide.is_complex() else wide.max()
    w = torch.exp(wide - top)
    size = w.abs()
    fraction = float(w.sum().abs() ** 2 / (w.numel() * (size**2).sum()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", statistics.ShortChainWarning)
        tau = statistics.mean(size).tau_int
    ess = fraction * w.numel() / max(1.0, 2 * tau)
    if ess < least:
        warnings.warn(ReweightingWarning(
            f"the effective sample size is {ess:.3g} of {w.numel()} measurements: move the sampled "
            "action closer to the target, or go there in several steps"), stacklevel=2)

    parts = (w.real, w.imag) if w.is_complex() else (w,)
    n = rows.shape[-1]
    table = torch.cat([torch.cat([rows * p[..., None], p[..., None]], -1) for p in parts], -1)

    def ratio(mean: Tensor) -> Tensor:
        if not w.is_complex():
            return mean[:n] / mean[n]
        up = torch.complex(mean[:n], mean[n + 1:-1])
        value = up / torch.complex(mean[n], mean[-1])
        return torch.cat([value.real, value.imag])

    def log_norm(mean: Tensor) -> Tensor:
        return torch.stack([mean[n::n + 1].square().sum().log() / 2 + top])

    found = statistics.function_of_means(ratio, table)
    log_ratio = statistics.function_of_means(log_norm, table)[0]
    pick = (lambda values: values) if vector else (lambda values: values[0])
    return Reweighted(
        pick(found[:n]), pick(found[n:]) if w.is_complex() else None, ess, fraction,
        float(w.mean().abs() / size.mean()), Estimate(log_ratio.value, log_ratio.error))


def effective_sample_size(log_weight: Tensor) -> float:
    r"""Return :math:`n_{\rm eff}=(\sum w)^2/\sum w^2`, between 1 and the number of fields."""
    log_weight = _weights(log_weight)
    return math.exp(float(2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)))


def expected_acceptance(log_weight: Tensor) -> float:
    r"""Return the acceptance of the independence sampler in equilibrium, from weights alone.

    :math:`\langle\min(1,w'/w)\rangle` with `w` of a field of :math:`e^{-S}` and :math:`w'` of one
    of :math:`q`: :math:`\sum_{ij}\min(w_i,w_j)/(n\sum_iw_i)`, here over pairs :math:`i\ne j`.
    """
    weight = (_weights(log_weight) - log_weight.max()).exp().sort().values
    n = len(weight)
    if n < 2:
        raise ValueError("log_weight holds one entry: a proposal needs another field")
    # sorted, the k-th smallest is the minimum of its pairs with all n - k larger ones
    larger = torch.arange(n - 1, -1, -1, dtype=weight.dtype, device=weight.device)
    return float(2 * (weight * larger).sum() / ((n - 1) * weight.sum()))


def log_mean_weight(log_weight: Tensor) -> Estimate:
    r"""Return :math:`\ln\langle w\rangle` of independent weights, with its error.

    The error is that of the mean to first order; the estimate of the logarithm is low by half the
    square of it. It is :math:`\ln Z` where :math:`w=e^{-S}/q` with normalised `q`, and a ratio of
    two of them after annealing.
    """
    log_weight = _weights(log_weight)
    top = log_weight.max()
    weight = (log_weight - top).exp()
    mean = weight.mean()
    error = float(weight.std() / mean) / math.sqrt(len(weight)) if len(weight) > 1 else math.inf
    return Estimate(float(mean.log() + top), error)


def reweight_independent(
    values: Tensor, *unnamed: Tensor, log_weight: Tensor | None = None
) -> statistics.JackknifeEstimate:
    r"""Return :math:`\langle wO\rangle_q/\langle w\rangle_q` with its jackknife error.

    Parameters
    ----------
    values
        The observable on independent fields, ``(n,)``.
    log_weight
        :math:`\ln w` of the same fields, ``(n,)``; by name, since the two look alike.

    Raises
    ------
    TypeError
        If `log_weight` is not given by name.
    """
    _by_name("values", unnamed, log_weight)
    log_weight = _weights(log_weight)
    check_finite("values", check_shape("values", values, tuple(log_weight.shape)))
    weight = (log_weight - log_weight.max()).exp()
    return statistics.jackknife(lambda wo, w: wo / w, weight * values.to(weight), weight,
                                bin_size=max(1, len(weight) // 1000))


@dataclass(frozen=True, repr=False)
class IndependenceChain:
    """Chains of the independence sampler; made by `independence_metropolis`.

    Attributes
    ----------
    index
        The number of the field that is current at each time, ``(chains, time)``: ``phi[index]``
        are the fields.
    accepted
        Whether each proposal was taken, ``(chains, time)``.
    """

    index: Tensor = field(repr=False)
    accepted: Tensor = field(repr=False)

    @property
    def acceptance(self) -> float:
        """The accepted share of all proposals."""
        return float(self.accepted.double().mean())

    @property
    def longest_stay(self) -> int:
        """The largest number of proposals in a row that were refused."""
        longest = here = torch.zeros(len(self.accepted), dtype=torch.long, device="cpu")
        for taken in self.accepted.cpu().unbind(1):
            here = torch.where(taken, 0, here + 1)
            longest = torch.maximum(longest, here)
        return int(longest.max())

    def series(self, values: Tensor) -> Tensor:
        """Return the series ``(chains, time)`` of an observable that is known on all fields."""
        if values.ndim != 1 or len(values) <= int(self.index.max()):
            raise ShapeError("values must have shape (n,), one for each field that was proposed, "
                             f"not {tuple(values.shape)}")
        return values[self.index.to(values.device)]

    def mean(self, values: Tensor, **options) -> statistics.MeanEstimate:
        r"""Return the mean of an observable, with error and :math:`\tau_{\rm int}`."""
        return statistics.mean(self.series(values), **options)

    def __repr__(self) -> str:
        chains, time = self.index.shape
        return f"IndependenceChain({chains} chains of {time}, acceptance {self.acceptance:.3f})"


def independence_metropolis(
    log_weight: Tensor,
    *,
    generator: torch.Generator,
    chains: int = 1,
    burn_in: int = 0,
) -> IndependenceChain:
    r"""Run the independence sampler through fields in the order in which they were drawn.

    Parameters
    ----------
    log_weight
        :math:`\ln w=-S-\ln q` of independent fields, ``(n,)``, as of `log_weights`.
    generator
        For the accept steps; on the device of `log_weight`.
    chains
        The fields are dealt out to so many chains, one after the other, all equally long. Each
        starts from its first field, and the `time` of the result counts the proposals after it.
    burn_in
        Proposals at the start that are not recorded: the first field is one of :math:`q`.
    """
    log_weight = _weights(log_weight)
    chains, n = check_positive_int("chains", chains), len(log_weight)
    if n % chains:
        raise ValueError(f"chains={chains} cannot share {n} fields: leave {n % chains} out")
    length = n // chains
    if isinstance(burn_in, bool) or int(burn_in) != burn_in or not 0 <= burn_in < length - 1:
        raise ValueError(f"burn_in must be an integer from 0 to {length - 2}, less than the "
                         f"{length - 1} proposals of each of {chains} chains, not {burn_in!r}")
    # ln of a uniform number in (0, 1]; the loop runs on the CPU, over numbers and not fields
    draw = torch.rand(n, dtype=log_weight.dtype, device=log_weight.device, generator=generator)
    threshold = torch.log1p(-draw).cpu().reshape(chains, length)
    weight = log_weight.cpu().reshape(chains, length)
    number = torch.arange(n, device="cpu").reshape(chains, length)
    current, index = weight[:, 0], number[:, 0]
    held, taken = [], []
    for t in range(1, length):
        accept = threshold[:, t] < weight[:, t] - current
        current = torch.where(accept, weight[:, t], current)
        index = torch.where(accept, number[:, t], index)
        held.append(index)
        taken.append(accept)
    device = log_weight.device
    return IndependenceChain(torch.stack(held[burn_in:], 1).to(device),
                             torch.stack(taken[burn_in:], 1).to(device))


def _weights(log_weight: Tensor) -> Tensor:
    """Return `log_weight`, checked, in float64 where there is one."""
    check_finite("log_weight", check_shape("log_weight", log_weight, (None,)))
    if not len(log_weight):
        raise ShapeError("log_weight is empty")
    return log_weight if log_weight.device.type == "mps" else log_weight.double()


def _by_name(what: str, unnamed: tuple, log_weight: Tensor | None) -> None:
    if unnamed or log_weight is None:
        raise TypeError(f"log_weight must be given by name, after {what}: "
                        f"reweight({what}, log_weight=...)")
