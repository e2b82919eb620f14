r"""Langevin dynamics: what its discretisations sample, exactly for free fields.

Conventions. :math:`d\phi=-S'\,dt+\sqrt2\,dW` has the stationary density :math:`e^{-S}`. For a free
field every mode is an Ornstein-Uhlenbeck process of its own, with :math:`S=\frac12K\phi^2`; the
functions below take its kernel `K` as a number or a tensor of modes and work entry by entry. Two
discretisations with step :math:`\epsilon`, both with :math:`\rho=1-\epsilon K`:

* Euler: :math:`\phi'=\phi-\epsilon S'(\phi)+\sqrt{2\epsilon}\,\xi`;
* Leimkuhler-Matthews: :math:`\phi_{n+1}=\phi_n-\epsilon S'(\phi_n)
  +\sqrt{\epsilon/2}\,(\xi_n+\xi_{n+1})` (B. Leimkuhler and C. Matthews, Appl. Math. Res. Express
  2013, 34).

Integrated autocorrelation times are :math:`\tau_{\rm int}=\frac12+\sum_{t\ge1}\rho(t)` in steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..device import as_double, derivatives
from ..errors import StabilityError, check_positive
from .zero_dim import Action, quadrature

__all__ = [
    "euler_bias",
    "euler_shadow_action",
    "euler_step_bound",
    "euler_tau_int",
    "euler_transient",
    "euler_variance",
    "exponential_tau_int",
    "langevin_transient",
    "leimkuhler_matthews_correlation",
    "leimkuhler_matthews_tau_int",
    "leimkuhler_matthews_transient",
    "leimkuhler_matthews_variance",
]

Number = float | torch.Tensor


def exponential_tau_int(rho: Number) -> torch.Tensor:
    r"""Return :math:`\tau_{\rm int}=\frac12+\sum_{t\ge1}\rho^t=\frac{1+\rho}{2(1-\rho)}`.

    For a single exponential, :math:`|\rho|<1`; a negative :math:`\rho` gives less than
    :math:`\frac12`.
    """
    rho = _tensor(rho)
    if bool((rho.abs() >= 1).any()):
        raise ValueError("rho must lie strictly between -1 and 1")
    return (1 + rho) / (2 * (1 - rho))


def langevin_transient(kernel: Number, start: Number, time: Number) -> torch.Tensor:
    r"""Return :math:`\langle\phi^2\rangle(t)` of a mode in continuous Langevin time.

    :math:`\frac1K+(\langle\phi^2\rangle_0-\frac1K)e^{-2Kt}` (derivation: Ito's formula gives
    :math:`\frac{d}{dt}\langle\phi^2\rangle=-2K\langle\phi^2\rangle+2`). The mean decays as
    :math:`e^{-Kt}`. The arguments are broadcast against each other.

    Parameters
    ----------
    kernel
        `K`, positive.
    start
        :math:`\langle\phi^2\rangle` at time zero; zero for a cold start.
    time
        Langevin time.
    """
    kernel, start, time = _kernel(kernel), _tensor(start), _tensor(time)
    return 1 / kernel + (start - 1 / kernel) * torch.exp(-2 * kernel * time)


def euler_step_bound(kernel: Number) -> float:
    r"""Return the step :math:`2/K_{\max}` from which on Euler's scheme diverges.

    Derivation: :math:`|\rho|=|1-\epsilon K|<1` for every mode. The bound of Leimkuhler and
    Matthews's scheme is the same.
    """
    return 2 / float(_kernel(kernel).max())


def euler_variance(kernel: Number, step: float) -> torch.Tensor:
    r"""Return the stationary :math:`\langle\phi^2\rangle` of Euler's scheme,
    :math:`\frac{1}{K(1-\epsilon K/2)}`.

    Derivation: :math:`v=\rho^2v+2\epsilon`. It is too large, by :math:`\epsilon/2` to first order
    in every mode.

    Raises
    ------
    StabilityError
        If the step is not below `euler_step_bound`.
    """
    kernel, rho = _stable(kernel, step)
    return 2 / (kernel * (1 + rho))


def euler_tau_int(kernel: Number, step: float) -> torch.Tensor:
    r"""Return :math:`\tau_{\rm int}=\frac1{\epsilon K}-\frac12` of a mode under Euler's scheme, in
    steps; its autocorrelation is :math:`(1-\epsilon K)^t`.
    """
    return exponential_tau_int(_stable(kernel, step)[1])


def euler_transient(
    kernel: Number, start: Number, step: float, steps: int | torch.Tensor
) -> torch.Tensor:
    r"""Return :math:`\langle\phi^2\rangle` of a mode after a number of Euler steps.

    :math:`v_n=v+(v_0-v)\rho^{2n}` with the stationary `v` of `euler_variance`.
    """
    _, rho = _stable(kernel, step)
    final = euler_variance(kernel, step)
    return final + (_tensor(start) - final) * rho ** (2 * _tensor(steps))


def leimkuhler_matthews_variance(kernel: Number, step: float) -> torch.Tensor:
    r"""Return the stationary :math:`\langle\phi^2\rangle=1/K`: there is no step-size error.

    Derivation: :math:`\phi_n` contains :math:`\sqrt{\epsilon/2}\,\xi_n`, hence
    :math:`v=\rho^2v+\epsilon+2\rho\,\epsilon/2` and :math:`v=\epsilon/(1-\rho)`.
    """
    return 1 / _stable(kernel, step)[0]


def leimkuhler_matthews_correlation(
    kernel: Number, step: float, lag: int | torch.Tensor
) -> torch.Tensor:
    r"""Return the autocorrelation of a mode at lags :math:`t\ge0`, in steps.

    1 at lag zero and :math:`(1-\epsilon K/2)\rho^{t-1}` from there on (derivation:
    :math:`\langle\phi_{n+1}\phi_n\rangle=\rho v+\epsilon/2`, and after that the noise is new).
    """
    kernel, rho = _stable(kernel, step)
    lag = _tensor(lag)
    later = (1 - step * kernel / 2) * rho ** (lag - 1).clamp(min=0)
    return torch.where(lag > 0, later, torch.ones_like(later))


def leimkuhler_matthews_tau_int(kernel: Number, step: float) -> torch.Tensor:
    r"""Return :math:`\tau_{\rm int}=1/\epsilon K` of a mode, in steps: the sum of
    `leimkuhler_matthews_correlation`.
    """
    return 1 / (step * _stable(kernel, step)[0])


def leimkuhler_matthews_transient(
    kernel: Number, start: Number, step: float, steps: int | torch.Tensor
) -> torch.Tensor:
    r"""Return :math:`\langle\phi^2\rangle` of a mode after a number of steps of this scheme.

    :math:`v_1=\rho^2v_0+\epsilon`, since the start knows nothing of the first noise, and
    :math:`v_n=\frac1K+(v_1-\frac1K)\rho^{2(n-1)}` from there on.
    """
    kernel, rho = _stable(kernel, step)
    start, steps = _tensor(start), _tensor(steps)
    first = rho**2 * start + step
    later = 1 / kernel + (first - 1 / kernel) * rho ** (2 * (steps - 1).clamp(min=0))
    return torch.where(steps > 0, later, start)


def euler_shadow_action(action: Action, step: float) -> Action:
    r"""Return the action that Euler's scheme samples, to first order in the step.

    .. math:: S_\epsilon=S+\frac\epsilon4\,(2S''-S'^2)+O(\epsilon^2).

    Derivation. One step maps an observable `f` to
    :math:`\langle f(\phi')\rangle=e^{\epsilon A}f+\epsilon^2Bf+O(\epsilon^3)` with the generator
    :math:`Af=f''-S'f'` and, collecting the terms of order :math:`\epsilon^2`,
    :math:`Bf=S''f''+\frac12(S'''-S'S'')f'`. The density :math:`e^{-S}(1+\epsilon q)` is stationary
    if :math:`A^\dagger(e^{-S}q)+B^\dagger e^{-S}=0`; both terms are derivatives, and one
    integration gives :math:`q'=-\frac12(S''-\frac12S'^2)'`. In more dimensions the same holds
    with :math:`S''\to\Delta S` and :math:`S'^2\to|\nabla S|^2`. For :math:`S=\frac12K\phi^2` it
    is exact: :math:`S_\epsilon=\frac12K(1-\epsilon K/2)\phi^2`, up to a constant.

    The expansion is one in :math:`\epsilon S''`: for :math:`\phi^4` the result turns over where
    that is large, as Euler's scheme runs away there; use `euler_bias` for averages.
    """
    step = check_positive("step", step)

    def shadow(phi: torch.Tensor) -> torch.Tensor:
        value, first, second = _derivatives(action, phi)
        return value + step / 4 * (2 * second - first.square())

    return shadow


def euler_bias(action: Action, f: Callable[[torch.Tensor], torch.Tensor]) -> float:
    r"""Return :math:`d\langle f\rangle_\epsilon/d\epsilon` at zero step for Euler's scheme.

    :math:`\langle f\rangle_\epsilon=\langle f\rangle+\epsilon\operatorname{Cov}(f,\,
    \frac14S'^2-\frac12S'')+O(\epsilon^2)`, from `euler_shadow_action`, for an action of a single
    degree of freedom; `f` works entry by entry.
    """
    solved = quadrature(action)
    _, first, second = _derivatives(action, solved.x)
    change = first.square() / 4 - second / 2
    value = f(solved.x)
    centred = value - (solved.weight * value).sum()
    return float((solved.weight * centred * change).sum())


# ---------------------------------------------------------------------------------------------


def _tensor(value: Number) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value if value.is_floating_point() else value.double()
    return as_double(value)


def _kernel(kernel: Number) -> torch.Tensor:
    kernel = _tensor(kernel)
    if not bool((kernel > 0).all()):
        raise StabilityError("kernel must be positive: a mode without a well does not equilibrate")
    return kernel


def _stable(kernel: Number, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kernel and rho."""
    kernel, step = _kernel(kernel), check_positive("step", step)
    if not step < euler_step_bound(kernel):
        raise StabilityError(
            f"step={step:.4g} diverges in the stiffest mode: choose it below "
            f"2/K = {euler_step_bound(kernel):.4g}"
        )
    return kernel, 1 - step * kernel


def _derivatives(
    action: Action, phi: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return S, S' and S'' entry by entry, by automatic differentiation."""
    with derivatives():
        x = phi.detach().clone().requires_grad_(True)
        value = action(x)
        (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        second = torch.zeros_like(x)
        if first.requires_grad:  # a linear action has no second derivative
            (second,) = torch.autograd.grad(first.sum(), x)
    return value.detach(), first.detach(), second.detach()
