r"""The scalar-field restricted Boltzmann machine, mode by mode.

The target's kernel has the eigenvalues :math:`\kappa`, the model's :math:`\lambda`. A machine with
mass :math:`\mu^2` and hidden width :math:`\sigma` has :math:`K=\mu^2 1-\sigma^2WW^T`, hence
:math:`\lambda_\alpha=\mu^2-\sigma^2\xi_\alpha^2` with the singular values :math:`\xi` of `W`.
"""

from __future__ import annotations

import math

import torch

from ..device import as_double
from ..errors import check_finite, check_positive

__all__ = [
    "rbm_gibbs_correlation",
    "rbm_kl_gap",
    "rbm_mass_plateau",
    "rbm_mode_flow",
    "rbm_step_bound",
]


def rbm_kl_gap(kappa: torch.Tensor, mu2: float, n_hidden: int | None = None) -> float:
    r"""Return the smallest KL(target || RBM) in nats at a fixed mass.

    A mode is cut if :math:`\kappa\ge\mu^2` or if more than `n_hidden` modes lie below it; it
    then sits at :math:`\mu^2`, and the gap is
    :math:`\frac12\sum_{\rm cut}[\mu^2/\kappa-1-\ln(\mu^2/\kappa)]` (derivation: the KL divergence
    of two Gaussians with common eigenvectors is a sum over modes, and a learned mode has none).
    """
    kappa = as_double(kappa).sort().values
    mu2 = check_positive("mu2", mu2)
    number = torch.arange(len(kappa), device=kappa.device)
    keep = number < (len(kappa) if n_hidden is None else n_hidden)
    ratio = mu2 / kappa[~(keep & (kappa < mu2))]
    return float(0.5 * (ratio - 1 - ratio.log()).sum())


def rbm_mass_plateau(kappa: torch.Tensor, n_hidden: int) -> float:
    r"""Return the stationary mass of an RBM that learns :math:`\mu^2`: the harmonic mean of the
    cut eigenvalues (derivation: :math:`\partial_{\mu^2}` of the log-likelihood is
    :math:`-\frac12\sum_\alpha(1/\kappa_\alpha-1/\lambda_\alpha)`, and only cut modes contribute).
    It is the inverse noise of probabilistic principal component analysis (Tipping and Bishop,
    J. R. Stat. Soc. B 61 (1999) 611, eq. 8).
    """
    cut = as_double(kappa).sort().values[n_hidden:]
    if len(cut) == 0:
        raise ValueError(f"n_hidden={n_hidden} cuts no mode of {len(kappa)}: any mu2 above serves")
    return float(len(cut) / (1 / cut).sum())


def rbm_step_bound(kappa_min: float, mu2: float, sigma: float = 1.0) -> float:
    r"""Return the largest stable step of plain gradient ascent on `W`.

    The lowest mode relaxes at the rate :math:`2\sigma^2(\mu^2-\kappa)/\kappa^2`; a step larger
    than 2 over it overshoots: :math:`\mathrm{lr}<\kappa^2/[\sigma^2(\mu^2-\kappa)]`.
    """
    kappa_min, mu2 = check_positive("kappa_min", kappa_min), check_positive("mu2", mu2)
    return math.inf if kappa_min >= mu2 else kappa_min**2 / (sigma**2 * (mu2 - kappa_min))


def rbm_gibbs_correlation(kappa: torch.Tensor, mu2: float) -> torch.Tensor:
    r"""Return the lag-1 autocorrelation of each mode under a block-Gibbs sweep at the solution.

    :math:`\rho=(\mu^2-\kappa)/\mu^2`: a sweep multiplies the mode by
    :math:`\sigma^2\xi^2/\mu^2`. Hence the mixing time of about :math:`\mu^2/\kappa` sweeps.
    """
    return (mu2 - as_double(kappa)).clamp(min=0) / mu2


def rbm_mode_flow(
    xi: torch.Tensor,
    kappa: torch.Tensor,
    times: torch.Tensor,
    mu2: float,
    sigma: float = 1.0,
    substeps: int = 20,
) -> torch.Tensor:
    r"""Integrate the learning of aligned modes; return `xi` at `times`, ``(times, modes)``.

    :math:`\dot\xi_\alpha=\sigma^2(1/\kappa_\alpha-1/\lambda_\alpha)\,\xi_\alpha` with
    :math:`\lambda_\alpha=\mu^2-\sigma^2\xi_\alpha^2` (derivation: the gradient of the exact
    log-likelihood in the target's eigenbasis). Fourth-order Runge-Kutta in
    :math:`y=\ln\xi`, at least `substeps` steps between neighbouring times and never longer than a
    tenth of the fastest relaxation time.

    Parameters
    ----------
    xi, kappa
        Start values and target eigenvalues, ``(modes,)``; :math:`\sigma^2\xi^2<\mu^2`.
    times
        Increasing learning times (step number times step size); `xi` holds at ``times[0]``.
    """
    kappa = check_finite("kappa", as_double(kappa))
    xi = check_finite("xi", as_double(xi))
    times = as_double(times)
    if bool((times.diff() <= 0).any()):
        raise ValueError("times must increase")
    if bool((sigma**2 * xi**2 >= mu2).any()):
        raise ValueError(f"xi must stay below mu/sigma = {math.sqrt(mu2) / sigma:.4g} to start")

    def slope(y: torch.Tensor) -> torch.Tensor:
        # a trial step may overshoot the pole at lambda = 0: hold lambda above it
        lam = (mu2 - sigma**2 * (2 * y).exp()).clamp(min=1e-3 * float(kappa.min()))
        return sigma**2 * (1 / kappa - 1 / lam)

    rate = float((2 * sigma**2 * (mu2 - kappa).clamp(min=0) / kappa**2).max())
    rate = max(rate, float(sigma**2 / kappa.min()))
    y = xi.log()
    out = [xi]
    for start, stop in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        n = max(substeps, math.ceil(10 * rate * (stop - start)))
        h = (stop - start) / n
        for _ in range(n):
            k1 = slope(y)
            k2 = slope(y + 0.5 * h * k1)
            k3 = slope(y + 0.5 * h * k2)
            k4 = slope(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        out.append(y.exp())
    return torch.stack(out)
