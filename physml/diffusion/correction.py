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

from torch import Tensor

from .. import statistics
from ..actions import LocalAction
from ..errors import check_finite, check_shape
from ..reweighting import (
    IndependenceChain,
    effective_sample_size,
    expected_acceptance,
    independence_metropolis,
    log_mean_weight,
)
from ..reweighting import reweight_independent as reweight
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


def log_partition(log_weight: Tensor) -> statistics.Estimate:
    r"""Return :math:`\ln Z=\ln\langle w\rangle_q` with its error, for normalised :math:`q`.

    The error is that of the mean to first order; the estimate of the logarithm is low by half the
    square of it.
    """
    return log_mean_weight(log_weight)
