r""":math:`\phi^4` on a ring by transfer matrix.

.. math:: S=\sum_{x=1}^N[-2\kappa\,\phi_x\phi_{x+1}+(1-2\lambda)\phi_x^2+\lambda\phi_x^4]

is a product of links, :math:`e^{-S}=\prod_xT(\phi_x,\phi_{x+1})` with the symmetric
:math:`T(a,b)=e^{-V(a)/2+2\kappa ab-V(b)/2}` and :math:`V(a)=(1-2\lambda)a^2+\lambda a^4`. On a
uniform grid the integrals over the fields become matrix products, with an error that falls
exponentially with the number of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from ..errors import StabilityError, check_number, check_positive_int

__all__ = ["Phi4Ring", "phi4_ring"]

_DEPTH = 100.0  # exp(-100): what is cut off the fields' range
_LARGEST = 3000  # points of a grid: seconds


@dataclass(frozen=True)
class Phi4Ring:
    r""":math:`\phi^4` on a ring, solved; made by `phi4_ring`.

    Parameters
    ----------
    log_z
        :math:`\ln Z`, :math:`Z=\int d^N\phi\,e^{-S}`.
    phi2, phi4
        :math:`\langle\phi_x^2\rangle` and :math:`\langle\phi_x^4\rangle`.
    hopping
        :math:`\langle\phi_x\phi_{x+1}\rangle`.
    chi
        :math:`\chi=N\langle M^2\rangle=\sum_r\langle\phi_0\phi_r\rangle`.
    correlator
        :math:`\langle\phi_0\phi_r\rangle` for r = 0, ..., N - 1, ``(sites,)``.
    square_correlator
        :math:`\langle\phi_0^2\phi_r^2\rangle`, not connected, ``(sites,)``.
    """

    log_z: float
    phi2: float
    phi4: float
    hopping: float
    chi: float
    correlator: torch.Tensor = field(repr=False)
    square_correlator: torch.Tensor = field(repr=False)


def phi4_ring(sites: int, kappa: float, lam: float, points: int | None = None) -> Phi4Ring:
    r"""Solve :math:`\phi^4` on a ring of `sites` in the hopping form.

    With the eigenvalues :math:`\Lambda_i` of `T` and the elements :math:`O_{ij}` of a function of
    the field between its eigenvectors, :math:`Z=\sum_i\Lambda_i^N` and
    :math:`\langle O_0O_r\rangle=\frac1Z\sum_{ij}\Lambda_i^{N-r}\Lambda_j^r\,O_{ij}^2`.

    Parameters
    ----------
    sites
        Length `N` of the ring, at least 2 (at 2 the link counts twice, as on a `Lattice`).
    kappa, lam
        Couplings; :math:`\lambda\ge0`, and :math:`|\kappa|<\frac12` at :math:`\lambda=0`.
    points
        Size of the grid. By default its spacing is a quarter of the narrowest width in `T`; give
        another number to see the error.

    Raises
    ------
    StabilityError
        If the couplings define no normalisable density.
    """
    sites = check_positive_int("sites", sites)
    kappa, lam = check_number("kappa", kappa), check_number("lam", lam)
    if sites < 2:
        raise ValueError("sites must be at least 2: a single site would be its own neighbour")
    slope = 1 - 2 * lam - 2 * abs(kappa)  # of V(a) - 2 |kappa| a^2 in a^2: a bound for each field
    if lam < 0 or (lam == 0 and slope <= 0):
        raise StabilityError(
            f"kappa={kappa}, lam={lam} define no normalisable density: choose lam > 0, or lam = 0 "
            "and |kappa| < 1/2"
        )
    # the field at which that bound lies _DEPTH above its minimum
    bottom = -(slope**2) / (4 * lam) if slope < 0 else 0.0
    root = math.sqrt(slope**2 + 4 * lam * (bottom + _DEPTH))
    square = 2 * _DEPTH / (slope + root) if slope > 0 else (root - slope) / (2 * lam)
    reach = math.sqrt(square)
    if points is None:
        # V'' is largest at the end; the trapezoidal rule errs by exp(-2 (pi width / spacing)^2)
        width = 1 / math.sqrt(2 * abs(1 - 2 * lam) + 12 * lam * square)
        points = 2 * math.ceil(4 * reach / width)
        if points > _LARGEST:
            raise ValueError(
                f"kappa={kappa}, lam={lam} need about {points} grid points: say so with `points`, "
                "if you want to wait for it"
            )
    points = check_positive_int("points", points)

    x = torch.linspace(-reach, reach, points, dtype=torch.float64, device="cpu")
    potential = (1 - 2 * lam) * x**2 + lam * x**4
    exponent = 2 * kappa * torch.outer(x, x) - (potential[:, None] + potential) / 2
    highest = float(exponent.max())
    values, vectors = torch.linalg.eigh(torch.exp(exponent - highest))
    largest = float(values.abs().max())
    ratio = values / largest
    power = torch.arange(sites + 1, dtype=torch.float64, device="cpu")[:, None]
    forward = ratio**power  # (sites + 1, points); the sign survives an integer power
    z = forward[-1].sum()

    def correlator(f: torch.Tensor) -> torch.Tensor:
        elements = (vectors.T @ (f[:, None] * vectors)).square()
        return ((forward.flip(0)[:-1] @ elements) * forward[:-1]).sum(1) / z

    spacing = 2 * reach / (points - 1)
    field_field, square_square = correlator(x), correlator(x**2)
    return Phi4Ring(
        log_z=sites * (highest + math.log(largest * spacing)) + math.log(z),
        phi2=float(field_field[0]),
        phi4=float(square_square[0]),
        hopping=float(field_field[1]),
        chi=float(field_field.sum()),
        correlator=field_field,
        square_correlator=square_square,
    )
