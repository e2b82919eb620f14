r"""From the ensemble of one action to another, real or complex.

.. math:: \langle O\rangle_A=\frac{\langle O\,e^{S-A}\rangle_S}{\langle e^{S-A}\rangle_S},\qquad
          \mathrm{ESS}=\frac{|\sum w|^2}{\sum|w|^2},\quad w=e^{S-A}.

The effective sample size says how many samples of `A` the weighted ones are worth. Where it is a
handful the ratio and its error are both wrong: the configurations that matter were not drawn.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import statistics
from ..errors import ShapeError, check_finite
from ..statistics import Estimate, MeanEstimate

__all__ = ["Reweighted", "ReweightingWarning", "reweight"]


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


def reweight(observable: Tensor, log_weight: Tensor, least: float = 100.0) -> Reweighted:
    r"""Return :math:`\langle O\rangle_A` from measurements in the ensemble of `S`.

    Errors are those of a ratio of means, correlations between the two included, by
    `physml.statistics.function_of_means`.

    Parameters
    ----------
    observable
        `O`, real: ``(chains, time)`` or ``(chains, time, observables)``.
    log_weight
        :math:`S-A` of the same measurements, ``(chains, time)``, real or complex.
    least
        The effective sample size below which there is a warning.

    Warns
    -----
    ReweightingWarning
        If the effective sample size is too small.
    """
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
