r"""The two-dimensional Ising model, and critical points of two-dimensional :math:`\phi^4`.

Conventions. Square lattice, :math:`Z=\sum_{\{s\}}e^{\beta\sum_{\langle xy\rangle}s_xs_y}` with
coupling :math:`J=1`; all quantities are per site, the energy is
:math:`e=-\frac1N\partial_\beta\ln Z`. Lattice :math:`\phi^4` becomes this model for
:math:`\lambda\to\infty`, where :math:`\phi^2\to1` and :math:`\beta=2\kappa`; and all of
its critical points, at any :math:`\lambda`, are in the universality class of this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from ..device import derivatives
from ..errors import ShapeError, check_positive
from ..lattice import Lattice

__all__ = [
    "ISING_BETA_C",
    "ISING_BINDER",
    "PHI4_CRITICAL",
    "CriticalPoint",
    "IsingState",
    "ising_enumeration",
    "ising_finite",
    "ising_infinite",
]

ISING_BETA_C = math.log(1 + math.sqrt(2)) / 2
r""":math:`\sinh2\beta_c=1` (H. Kramers and G. Wannier, Phys. Rev. 60 (1941) 252)."""

ISING_BINDER = 0.61069
r"""The Binder cumulant at :math:`\beta_c` on a periodic square for :math:`L\to\infty`: universal
(G. Kamieniarz and H. Bloete, J. Phys. A 26 (1993) 201; J. Salas and A. Sokal, cond-mat/9904038)."""


@dataclass(frozen=True)
class CriticalPoint:
    r"""A critical point of two-dimensional :math:`\phi^4` in the hopping form, from the literature.

    Parameters
    ----------
    lam, kappa
        :math:`\lambda` and :math:`\kappa_c(\lambda)`.
    source
        Where the number is from.
    """

    lam: float
    kappa: float
    source: str


PHI4_CRITICAL = (
    CriticalPoint(0.022, 0.27088, "Tan et al., arXiv:2607.08505, as quoted on its data set card"),
    CriticalPoint(math.inf, ISING_BETA_C / 2, "Ising limit, exact: kappa = beta/2"),
)
"""Critical hopping parameters of two-dimensional lattice phi^4, for comparison."""


@dataclass(frozen=True)
class IsingState:
    r"""What is known of the Ising model at one temperature.

    Parameters
    ----------
    log_z
        :math:`\frac1N\ln Z`, minus :math:`\beta` times the free energy per site.
    energy
        Per site, :math:`-2\le e\le0`.
    magnetisation
        The spontaneous one; None on a finite lattice.
    m2, binder
        :math:`\langle m^2\rangle` and :math:`1-\langle m^4\rangle/3\langle m^2\rangle^2`; only from
        `ising_enumeration`, else None.
    """

    log_z: float
    energy: float
    magnetisation: float | None = None
    m2: float | None = None
    binder: float | None = None


def ising_infinite(beta: float) -> IsingState:
    r"""Return the infinite system.

    L. Onsager, Phys. Rev. 65 (1944) 117: with :math:`k=2\sinh2\beta/\cosh^22\beta`,

    .. math::

        \tfrac1N\ln Z&=\ln(\sqrt2\cosh2\beta)+\frac1\pi\int_0^{\pi/2}d\theta\,
        \ln\bigl(1+\sqrt{1-k^2\sin^2\theta}\bigr),\\
        e&=-\coth2\beta\,\bigl[1+\tfrac2\pi(2\tanh^22\beta-1)K(k)\bigr],

    and :math:`m=(1-\sinh^{-4}2\beta)^{1/8}` above :math:`\beta_c`, zero below (C. N. Yang, Phys.
    Rev. 85 (1952) 808). The integral is done by the double-exponential rule, which is indifferent
    to the cusp at :math:`\theta=\pi/2`; :math:`K=\pi/2\operatorname{agm}(1,\sqrt{1-k^2})`.
    """
    beta = check_positive("beta", beta)
    s, t = math.sinh(2 * beta), math.tanh(2 * beta)
    c = math.cosh(2 * beta)
    # 1 - k^2 = (2 tanh^2 - 1)^2, without cancellation: (sinh^2 - 1) / cosh^2
    complement = abs(s - 1) * (s + 1) / c**2
    u = torch.linspace(-4, 4, 401, dtype=torch.float64, device="cpu")
    weight = 0.5 * math.pi * u.cosh() / (0.5 * math.pi * u.sinh()).cosh() ** 2
    # distance from pi/2, small and exact at that end: (pi/4)(1 - tanh y) = (pi/2) / (1 + e^2y)
    distance = 0.5 * math.pi / (1 + torch.exp(math.pi * u.sinh()))
    modulus = (distance.sin() ** 2 + complement**2 * distance.cos() ** 2).sqrt()
    integral = float((weight * torch.log1p(modulus)).sum()) * float(u[1] - u[0]) * math.pi / 4
    log_z = math.log(math.sqrt(2) * c) + integral / math.pi
    if complement == 0:
        product = 0.0  # x K -> 0 at the critical point
    else:
        product = math.copysign(complement, s - 1) / _agm(1.0, complement)
    return IsingState(
        log_z=log_z,
        energy=-(1 + product) / t,
        magnetisation=(1 - s**-4) ** 0.125 if s > 1 else 0.0,
    )


def ising_finite(beta: float, shape: Sequence[int]) -> IsingState:
    r"""Return the model on a periodic lattice of any size, exactly.

    B. Kaufman, Phys. Rev. 76 (1949) 1232: on `m` rows of `n` columns

    .. math::

        Z=\tfrac12(2\sinh2\beta)^{mn/2}\Bigl[
        &\prod_{r=0}^{n-1}2\cosh\tfrac m2\gamma_{2r+1}+\prod2\sinh\tfrac m2\gamma_{2r+1}\\
        &+\prod2\cosh\tfrac m2\gamma_{2r}+\prod2\sinh\tfrac m2\gamma_{2r}\Bigr]

    with :math:`\cosh\gamma_l=\cosh^22\beta/\sinh2\beta-\cos(\pi l/n)`,
    :math:`\gamma_l>0` but for :math:`\gamma_0=2\beta+\ln\tanh\beta`, which changes sign at
    :math:`\beta_c`. The energy is its derivative, by automatic differentiation.

    Parameters
    ----------
    beta
        Inverse temperature.
    shape
        Two lengths, each at least 2.
    """
    rows, columns = _two_lengths(shape)
    value = torch.tensor(check_positive("beta", beta), dtype=torch.float64, device="cpu")
    with derivatives():
        b = value.clone().requires_grad_(True)
        level = torch.arange(2 * columns, dtype=torch.float64, device="cpu") * (math.pi / columns)
        s = torch.sinh(2 * b)
        # cosh(gamma) - 1 >= 0, as a sum of squares: (s - 1)^2 / s + 2 sin^2
        above = (s - 1) ** 2 / s + 2 * torch.sin(level[1:] / 2) ** 2
        gamma = torch.log1p(above + (above * (above + 2)).sqrt())
        zero = 2 * b + torch.log(torch.tanh(b))
        odd, even = gamma[0::2], gamma[1::2]
        half = rows / 2

        def log_cosh(g: torch.Tensor) -> torch.Tensor:  # ln 2 cosh
            return half * g + torch.log1p(torch.exp(-rows * g))

        def log_sinh(g: torch.Tensor) -> torch.Tensor:  # ln 2 sinh
            return half * g + torch.log(-torch.expm1(-rows * g))

        # the two products with gamma_0 are added first: the sinh of it may vanish
        with_cosh, with_sinh = log_cosh(even).sum(), log_sinh(even).sum()
        first, second = log_cosh(odd).sum(), log_sinh(odd).sum()
        highest = torch.stack([first, second, with_cosh, with_sinh]).max().detach()
        scale = (half * zero.abs()).detach()
        total = torch.exp(first - highest - scale) + torch.exp(second - highest - scale)
        grow, fall = torch.exp(half * zero - scale), torch.exp(-half * zero - scale)
        total = total + torch.exp(with_cosh - highest) * (grow + fall)
        total = total + torch.exp(with_sinh - highest) * (grow - fall)
        sites = rows * columns
        log_z = -math.log(2) / sites + torch.log(2 * s) / 2
        log_z = log_z + (total.log() + highest + scale) / sites
        (slope,) = torch.autograd.grad(log_z, b)
    return IsingState(log_z=float(log_z.detach()), energy=-float(slope))


def ising_enumeration(beta: float, shape: Sequence[int] = (4, 4)) -> IsingState:
    r"""Return the model on a periodic lattice of at most 20 sites, by summing over all states.

    With :math:`\langle m^2\rangle` and the Binder cumulant of :math:`m=\frac1N\sum s_x`. In a
    direction of length 2 the two links between two sites both count, as on a `Lattice`.

    Parameters
    ----------
    beta
        Inverse temperature, of either sign.
    shape
        Lengths of the lattice, in any dimension.
    """
    lattice = Lattice(tuple(shape))
    if lattice.volume > 20:
        raise ShapeError(f"shape={tuple(shape)} has 2^{lattice.volume} states: at most 20 sites")
    bonds, spin = _states(lattice.shape)
    log_weight = float(beta) * bonds
    log_z = float(log_weight.logsumexp(0))
    weight = torch.softmax(log_weight, 0)
    m = spin / lattice.volume
    m2, m4 = float((weight * m**2).sum()), float((weight * m**4).sum())
    return IsingState(
        log_z=log_z / lattice.volume,
        energy=-float((weight * bonds).sum()) / lattice.volume,
        m2=m2,
        binder=1 - m4 / (3 * m2**2),
    )


# ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _states(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of s s' over links, and of s over sites, for all states, in float64."""
    lattice = Lattice(shape)
    forward = lattice.neighbours()[:, : lattice.dim]
    number = torch.arange(2**lattice.volume, device="cpu")
    spins = [(1 - 2 * ((number >> x) & 1)).to(torch.int8) for x in range(lattice.volume)]
    bonds = torch.zeros(len(number), dtype=torch.int16, device="cpu")
    for x, row in enumerate(forward.tolist()):
        for y in row:
            bonds += spins[x] * spins[y]
    return bonds.double(), sum(s.short() for s in spins).double()


def _two_lengths(shape: Sequence[int]) -> tuple[int, int]:
    lattice = Lattice(tuple(shape))
    if lattice.dim != 2:
        raise ShapeError(f"shape must hold two lengths, not {tuple(shape)}")
    return lattice.shape


def _agm(a: float, b: float) -> float:
    """The arithmetic-geometric mean."""
    while abs(a - b) > 1e-15 * a:
        a, b = (a + b) / 2, math.sqrt(a * b)
    return a
