r"""Field theories of a single degree of freedom: integrals over one real variable.

A field theory in zero dimensions is :math:`Z=\int d\phi\,e^{-S(\phi)+J\phi}`. The action is any
function that maps a tensor to a tensor of the same shape, entry by entry. The integrals are done
in float64 by Gauss-Legendre quadrature on panels, with a panel edge at :math:`\phi=0`: spectrally
accurate for smooth actions, also for observables with a kink at the origin such as
:math:`|\phi|`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from ..errors import StabilityError, check_number, check_positive, check_positive_int

__all__ = ["Quadrature", "cumulants_from_moments", "noised_action", "quadrature"]

Action = Callable[[torch.Tensor], torch.Tensor]

_ORDER = 16  # nodes in a panel


@dataclass(frozen=True)
class _Exponent:
    """``S - J phi``, a class since functions made within functions cannot be pickled."""

    action: Action
    source: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _evaluate(self.action, x) - self.source * x


@dataclass(frozen=True)
class Quadrature:
    r"""A field theory in zero dimensions, integrated; made by `quadrature`.

    It can be pickled if its action can: an action of `physml.actions`, or a function that is
    defined at the top of a module.

    Parameters
    ----------
    x
        The nodes, ``(nodes,)``, increasing.
    weight
        The probability at each node, ``(nodes,)``: expectation values are sums with it.
    log_z
        :math:`\ln\int d\phi\,e^{-S+J\phi}`.
    """

    x: torch.Tensor = field(repr=False)
    weight: torch.Tensor = field(repr=False)
    log_z: float
    _exponent: Action = field(repr=False, compare=False)

    @property
    def z(self) -> float:
        """The partition function; infinite where it does not fit a float (see `log_z`)."""
        return math.exp(self.log_z) if self.log_z < 709 else math.inf

    def mean(self, f: Callable[[torch.Tensor], torch.Tensor]) -> float:
        r"""Return :math:`\langle f(\phi)\rangle` for a function that works entry by entry."""
        return float((self.weight * f(self.x)).sum())

    def moment(self, n: int) -> float:
        r"""Return :math:`\langle\phi^n\rangle`."""
        return self.mean(lambda x: x**n)

    def cumulants(self, n: int = 8) -> list[float]:
        r"""Return the cumulants :math:`\kappa_1,\ldots,\kappa_n` of :math:`\phi`.

        From central moments: the mean is subtracted first, so that it costs no digits.
        """
        mean = self.moment(1)
        central = [self.mean(lambda x, k=k: (x - mean) ** k) for k in range(2, n + 1)]
        return [mean, *cumulants_from_moments([0.0, *central])[1:]][:n]

    def density(self, phi: torch.Tensor) -> torch.Tensor:
        r"""Return the density :math:`e^{-S+J\phi}/Z` at `phi`, same shape and type."""
        work = _work(phi)
        value = torch.exp(-_evaluate(self._exponent, work) - self.log_z)
        return value.to(phi.dtype).to(phi.device)


def quadrature(
    action: Action,
    source: float = 0.0,
    *,
    interval: tuple[float, float] | None = None,
    panels: int = 128,
    depth: float = 100.0,
) -> Quadrature:
    r"""Integrate a field theory in zero dimensions.

    Parameters
    ----------
    action
        :math:`S(\phi)`, entry by entry on a float64 tensor.
    source
        The linear source `J` in :math:`e^{-S+J\phi}`.
    interval
        Where to integrate. By default the interval outside which :math:`e^{-S+J\phi}` is below
        :math:`e^{-{\rm depth}}` of its maximum, found by doubling from :math:`[-1,1]`: give it
        yourself if there is a deep well behind a wall higher than `depth`.
    panels
        Panels of 16 nodes each. The action should vary little over one of them.
    depth
        See `interval`.

    Returns
    -------
    A `Quadrature`: :math:`\ln Z`, expectation values, cumulants and the density.

    Raises
    ------
    StabilityError
        If the weight does not fall off in both directions.

    Examples
    --------
    >>> gauss = quadrature(lambda phi: phi**2 / 2, source=1.0)
    >>> round(gauss.moment(1), 12)
    1.0
    """
    source = check_number("source", source)
    panels = check_positive_int("panels", panels)

    exponent = _Exponent(action, source)
    low, high = interval if interval is not None else _support(exponent, depth)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"interval must be two finite, increasing numbers, not {(low, high)}")
    edges = torch.linspace(low, high, panels + 1, dtype=torch.float64, device="cpu")
    if low < 0 < high:
        edges = torch.cat([edges, edges.new_zeros(1)]).unique()
    x, width = _panels(edges)
    log_weight = -exponent(x) + width.log()
    log_z = float(log_weight.logsumexp(0))
    weight = torch.softmax(log_weight, 0)
    return Quadrature(x, weight, log_z, exponent)


def cumulants_from_moments(moments: list[float]) -> list[float]:
    r"""Return the cumulants :math:`\kappa_1,\ldots,\kappa_n` of the moments :math:`m_1,\ldots,m_n`.

    :math:`\kappa_n=m_n-\sum_{k=1}^{n-1}\binom{n-1}{k-1}\kappa_km_{n-k}` (derivation: compare
    powers of `J` in :math:`Z'(J)=W'(J)\,Z(J)`, :math:`W=\ln Z`).
    """
    found: list[float] = []
    for n, moment in enumerate(moments, start=1):
        lower = sum(
            math.comb(n - 1, k - 1) * found[k - 1] * moments[n - k - 1] for k in range(1, n)
        )
        found.append(moment - lower)
    return found


def noised_action(
    action: Action, phi: torch.Tensor, variance: float, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the action and the score of a field theory to which Gaussian noise has been added.

    .. math:: S_t(\phi)=-\ln\int d\phi_0\,e^{-S(\phi_0)}\,
              N(\phi;\,a\phi_0,\,\sigma_t^2),\qquad
              s_t(\phi)=-S_t'(\phi)=\frac{\langle a\phi_0-\phi\rangle_\phi}{\sigma_t^2},

    with the average over :math:`\phi_0` at given :math:`\phi` (Tweedie's formula: differentiate
    under the integral). :math:`\int d\phi\,e^{-S_t}=Z` at all times, since noise is normalised.

    Parameters
    ----------
    action
        :math:`S(\phi_0)`, entry by entry on a float64 tensor.
    phi
        Where to evaluate, any shape.
    variance
        :math:`\sigma_t^2>0` of the noise.
    scale
        The factor :math:`a>0` by which the field has shrunk: 1 for a driftless
        (variance-exploding) process, :math:`e^{-u/2}` for a variance-preserving one.

    Returns
    -------
    :math:`S_t` and :math:`s_t`, both with the shape, type and device of `phi`.
    """
    variance, scale = check_positive("variance", variance), check_positive("scale", scale)
    work = _work(phi).reshape(-1)
    low, high = _support(lambda x: _evaluate(action, x), 100.0)
    # integrate over the distance u = phi_0 - phi/a, which is exact where the noise is tiny
    centre = (work / scale)[:, None]
    reach = 12 * math.sqrt(variance) / scale
    low, high = (low - centre).clamp(max=0.0) - reach, (high - centre).clamp(min=0.0) + reach

    def exponent(u: torch.Tensor) -> torch.Tensor:
        value = _evaluate(action, (centre + u).reshape(-1)).reshape(u.shape)
        return value + (scale * u).square() / (2 * variance)

    # for each phi, close in on the phi_0 that matter: neither noise nor weight need be wide
    unit = torch.linspace(0, 1, 257, dtype=torch.float64, device=work.device)
    for _ in range(40):
        u = low + (high - low) * unit
        value = exponent(u)
        near = value < value.amin(1, keepdim=True) + 60
        step = (high - low) / 256
        first = torch.where(near, u, math.inf).amin(1, keepdim=True) - step
        last = torch.where(near, u, -math.inf).amax(1, keepdim=True) + step
        first, last = torch.maximum(first, low), torch.minimum(last, high)
        done = bool((last - first > 0.5 * (high - low)).all())
        low, high = first, last
        if done:
            break

    unit, width = _panels(torch.linspace(0, 1, 65, dtype=torch.float64, device="cpu"))
    u = low + (high - low) * unit.to(work.device)
    log_weight = (width.to(work.device) * (high - low)).log() - exponent(u)
    noised = 0.5 * math.log(2 * math.pi * variance) - log_weight.logsumexp(1)
    pull = (torch.softmax(log_weight, 1) * scale * u).sum(1)
    results = noised, pull / variance
    return tuple(r.reshape(phi.shape).to(phi.dtype).to(phi.device) for r in results)


# ---------------------------------------------------------------------------------------------


def _work(phi: torch.Tensor) -> torch.Tensor:
    phi = phi.detach()
    return (phi.cpu() if phi.device.type == "mps" else phi).double()


def _evaluate(action: Action, x: torch.Tensor) -> torch.Tensor:
    value = action(x)
    if not isinstance(value, torch.Tensor) or value.shape != x.shape:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(
            f"action must map a tensor to one of the same shape, here {tuple(x.shape)}, not {got}"
        )
    if bool(value.isnan().any()):
        raise ValueError("action returns NaN: it must be a number, or infinity, everywhere")
    return value


def _support(exponent: Action, depth: float) -> tuple[float, float]:
    """Return the interval outside which `exponent` exceeds its minimum by `depth`."""
    depth = check_positive("depth", depth)
    low, high = -1.0, 1.0
    while True:
        value = exponent(torch.linspace(low, high, 4001, dtype=torch.float64, device="cpu"))
        above = value - value.min()
        left, right = float(above[0]) > depth, float(above[-1]) > depth
        if left and right:
            break
        low, high = low if left else 2 * low, high if right else 2 * high
        if max(-low, high) > 1e9:
            side = "-infinity" if not left else "+infinity"
            raise StabilityError(
                f"the weight exp(-action) does not fall off towards {side}: there is no "
                "normalisable density, or its tail is too heavy; give an `interval`"
            )
    for _ in range(60):
        x = torch.linspace(low, high, 4001, dtype=torch.float64, device="cpu")
        value = exponent(x)
        near = (value < value.min() + depth).nonzero()
        first, last = max(int(near[0]) - 1, 0), min(int(near[-1]) + 1, len(x) - 1)
        shrunk = float(x[last] - x[first]) < 0.5 * (high - low)
        low, high = float(x[first]), float(x[last])
        if not shrunk:
            break
    return low, high


def _panels(edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nodes and weights of Gauss-Legendre quadrature between neighbouring edges."""
    node, weight = _legendre()
    half = edges.diff()[:, None] / 2
    centre = (edges[:-1] + edges[1:])[:, None] / 2
    return (centre + half * node).reshape(-1), (half * weight).reshape(-1)


@lru_cache(maxsize=1)
def _legendre() -> tuple[torch.Tensor, torch.Tensor]:
    node, weight = np.polynomial.legendre.leggauss(_ORDER)
    return torch.from_numpy(node), torch.from_numpy(weight)
