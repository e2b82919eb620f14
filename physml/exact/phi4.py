r""":math:`\phi^4` in zero dimensions, in closed form.

.. math:: S(\phi)=\frac{\mu^2}2\phi^2+\frac g{4!}\phi^4,\qquad g>0,

with either sign of :math:`\mu^2`: a single well, or two wells at :math:`\phi^2=6|\mu^2|/g`
separated by a barrier of height :math:`3\mu^4/2g`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import check_number, check_positive, check_positive_int
from .zero_dim import Quadrature, quadrature

__all__ = ["phi4_abs", "phi4_log_z", "phi4_moments", "phi4_quadrature", "phi4_z"]


def phi4_log_z(mu2: float, g: float) -> float:
    r"""Return :math:`\ln Z` of :math:`Z=\int d\phi\,e^{-S}` in terms of Bessel functions.

    With :math:`a=3\mu^4/4g`,

    .. math::

        Z&=\sqrt{3\mu^2/g}\;e^aK_{1/4}(a)\quad(\mu^2>0),\\
        Z&=\pi\sqrt{3|\mu^2|/2g}\;e^a[I_{1/4}(a)+I_{-1/4}(a)]\quad(\mu^2<0),

    and :math:`Z=\frac12\Gamma(\frac14)(24/g)^{1/4}` at :math:`\mu^2=0`. Source: Gradshteyn and
    Ryzhik, 3.323.3, for the first; the second is its continuation to :math:`-\mu^2`. The Bessel
    functions come from the integral
    :math:`K_\nu(x)=\int_0^\infty dt\,e^{-x\cosh t}\cosh\nu t` by the trapezoidal rule (which
    converges exponentially) and from the ascending, or for large argument the asymptotic, series
    of :math:`I_\nu`; scipy.special agrees to 13 digits.
    """
    mu2, g = _couplings(mu2, g)
    if mu2 == 0:
        return math.log(0.5 * math.gamma(0.25)) + 0.25 * math.log(24 / g)
    a = 0.75 * mu2 * mu2 / g
    if a == 0:  # mu2 so small that its square is lost
        return phi4_log_z(0.0, g)
    if mu2 > 0:
        return 0.5 * math.log(3 * mu2 / g) + math.log(_scaled_k(0.25, a))
    # I_{-nu} = I_nu + (2/pi) sin(pi nu) K_nu
    both = 2 * _scaled_i(0.25, a)
    both += 2 / math.pi * math.sin(math.pi / 4) * _scaled_k(0.25, a) * math.exp(-2 * a)
    return math.log(math.pi) + 0.5 * math.log(-1.5 * mu2 / g) + 2 * a + math.log(both)


def phi4_z(mu2: float, g: float) -> float:
    r"""Return :math:`Z`, the exponential of `phi4_log_z`; infinite if it does not fit a float."""
    log_z = phi4_log_z(mu2, g)
    return math.exp(log_z) if log_z < 709 else math.inf


def phi4_abs(mu2: float, g: float) -> float:
    r"""Return :math:`\langle|\phi|\rangle`, in closed form.

    :math:`Z\langle|\phi|\rangle=\int_0^\infty du\,e^{-\mu^2u/2-gu^2/24}
    =\sqrt{6\pi/g}\;e^{b^2}\operatorname{erfc}b` with :math:`b=\mu^2\sqrt{3/2g}` (derivation:
    substitute :math:`u=\phi^2` and complete the square).
    """
    mu2, g = _couplings(mu2, g)
    b = torch.tensor(mu2 * math.sqrt(1.5 / g), dtype=torch.float64, device="cpu")
    if mu2 > 0:
        log_tail = float(torch.special.erfcx(b).log())
    else:
        log_tail = float(b.square() + torch.special.erfc(b).log())
    return math.exp(0.5 * math.log(6 * math.pi / g) + log_tail - phi4_log_z(mu2, g))


def phi4_moments(mu2: float, g: float, n: int = 4) -> list[float]:
    r"""Return :math:`\langle\phi^2\rangle,\langle\phi^4\rangle,\ldots,\langle\phi^{2n}\rangle`.

    By quadrature. They obey the Schwinger-Dyson equations
    :math:`\mu^2\langle\phi^{k+1}\rangle+\frac g6\langle\phi^{k+3}\rangle
    =k\langle\phi^{k-1}\rangle`; used as a recursion, these would lose digits at every step.
    """
    n = check_positive_int("n", n)
    solved = phi4_quadrature(mu2, g)
    return [solved.moment(2 * k) for k in range(1, n + 1)]


def phi4_quadrature(mu2: float, g: float, source: float = 0.0) -> Quadrature:
    r"""Return the theory integrated by `quadrature`: :math:`\ln Z`, moments, cumulants, density."""
    return quadrature(_Action(*_couplings(mu2, g)), source)


# ---------------------------------------------------------------------------------------------


def _couplings(mu2: float, g: float) -> tuple[float, float]:
    return check_number("mu2", mu2), check_positive("g", g)


@dataclass(frozen=True)
class _Action:
    """A class, since functions made within functions cannot be pickled."""

    mu2: float
    g: float

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        square = phi * phi
        return square * (self.mu2 / 2 + self.g / 24 * square)


def _scaled_k(nu: float, x: float) -> float:
    """Return exp(x) K_nu(x) for x > 0."""
    stop = math.acosh(1 + 745 / x)
    t = torch.linspace(0, stop, 1001, dtype=torch.float64, device="cpu")
    f = torch.exp(-2 * x * torch.sinh(t / 2) ** 2) * torch.cosh(nu * t)
    return float(torch.trapezoid(f, t))


def _scaled_i(nu: float, x: float) -> float:
    """Return exp(-x) I_nu(x) for x > 0."""
    if x < 30:  # all terms are positive: nothing cancels
        k = torch.arange(120, dtype=torch.float64, device="cpu")
        log_term = (2 * k + nu) * math.log(x / 2) - torch.lgamma(k + 1) - torch.lgamma(k + nu + 1)
        return float(torch.exp(log_term - x).sum())
    total, term = 1.0, 1.0
    for k in range(1, 30):  # the smallest term is below the last digit
        term *= -(4 * nu * nu - (2 * k - 1) ** 2) / (8 * k * x)
        total += term
    return total / math.sqrt(2 * math.pi * x)
