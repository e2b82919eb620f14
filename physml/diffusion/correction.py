r"""Making a model exact: an accept step, or weights, with its log density against an action.

Fields drawn independently from a density :math:`q`, with :math:`\ln q` known, have the weights
:math:`w=e^{-S}/q`, whose mean is the partition function `Z` (with :math:`q` normalised). From them

* reweighting: :math:`\langle O\rangle=\langle wO\rangle_q/\langle w\rangle_q`, worth
  :math:`n_{\rm eff}=(\sum w)^2/\sum w^2` fields (`effective_sample_size`);
* the independence sampler: propose one field after the other, and take it in place of the current
  one with the probability :math:`\min(1,w'/w)` (W. K. Hastings, Biometrika 57 (1970) 97).

For weights with :math:`\ln w` Gaussian of variance :math:`s^2`, :math:`n_{\rm eff}/n=e^{-s^2}` and
the acceptance is :math:`\operatorname{erfc}(s/2)` (derivation: in equilibrium :math:`\ln w` of the
current field is shifted by :math:`s^2`, so that the difference is :math:`N(-s^2,2s^2)`). Where
:math:`q` misses part of :math:`e^{-S}`, neither tells: look at observables. What noise in an
estimated :math:`\ln q` does is said in `likelihood`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import statistics
from ..actions import LocalAction
from ..errors import ShapeError, check_finite, check_positive_int, check_shape
from .sde import check_field

__all__ = [
    "IndependenceChain",
    "effective_sample_size",
    "expected_acceptance",
    "independence_metropolis",
    "log_partition",
    "log_weights",
    "reweight",
]


def log_weights(action: LocalAction, phi: Tensor, log_q: Tensor) -> Tensor:
    r"""Return :math:`\ln w=-S-\ln q` of fields, ``(chains,)``, float64 where there is one."""
    check_finite("phi", check_field(phi))
    if log_q is None:
        raise ValueError("log_q is None: these fields were drawn without densities; let `flow` "
                         "compute them with dilution=4, say, or take `flow_from`")
    check_finite("log_q", check_shape("log_q", log_q, (len(phi),)))
    return -action(phi) - log_q


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


def log_partition(log_weight: Tensor) -> statistics.Estimate:
    r"""Return :math:`\ln Z=\ln\langle w\rangle_q` with its error, for normalised :math:`q`.

    The error is that of the mean to first order; the estimate of the logarithm is low by half the
    square of it.
    """
    log_weight = _weights(log_weight)
    top = log_weight.max()
    weight = (log_weight - top).exp()
    mean = weight.mean()
    error = float(weight.std() / mean) / math.sqrt(len(weight)) if len(weight) > 1 else math.inf
    return statistics.Estimate(float(mean.log() + top), error)


def reweight(log_weight: Tensor, values: Tensor) -> statistics.JackknifeEstimate:
    r"""Return :math:`\langle wO\rangle_q/\langle w\rangle_q` with its jackknife error.

    Parameters
    ----------
    log_weight
        :math:`\ln w` of independent fields, ``(n,)``.
    values
        The observable on them, ``(n,)``.
    """
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
