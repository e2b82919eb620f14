r"""Actions as points in the space of their couplings.

The inhomogeneous action is linear in its couplings, :math:`S_\theta=\sum_k\theta_kT_k(\phi)`, with

.. math:: \theta=(w_{x,\mu},a_x,b_x,c_x),\qquad
          T=(-\phi_x\phi_{x+\hat\mu},\;\phi_x^2,\;\phi_x^4,\;-\phi_x),

so :math:`e^{-S}/Z` is an exponential family with the sufficient statistics `T`. Vectors of
couplings and of statistics stand in this order: links, direction by direction, then sites, row by
row; `c` only where there is a source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..actions import InhomogeneousPhi4, LocalAction, _field, lattice_sum
from ..errors import (
    ShapeError,
    StabilityError,
    check_number,
    check_shape,
)
from ..lattice import Lattice
from ..sampling import CheckerboardGibbs

__all__ = [
    "BlockGibbs",
    "ComplexAction",
    "NextNearestPhi4",
    "from_vector",
    "sufficient_statistics",
    "to_vector",
]


def sufficient_statistics(phi: Tensor, source: bool = False) -> Tensor:
    r"""Return :math:`T_k(\phi)=\partial S/\partial\theta_k`, shape ``(chains, couplings)``.

    Parameters
    ----------
    phi
        Fields, ``(chains, *lattice.shape)``.
    source
        Whether the linear terms are among the couplings.
    """
    phi = _field(phi)
    if phi.ndim < 2:
        raise ShapeError(f"phi must have shape (chains, *lattice.shape), not {tuple(phi.shape)}")
    square = phi * phi
    parts = [-phi * phi.roll(-1, mu) for mu in range(1, phi.ndim)]
    parts += [square, square * square] + ([-phi] if source else [])
    return torch.cat([part.flatten(1) for part in parts], 1)


def to_vector(action: InhomogeneousPhi4) -> Tensor:
    """Return the couplings as one vector, ``(couplings,)``."""
    parts = [action.hopping, action.quadratic, action.quartic]
    parts += [] if action.source is None else [action.source]
    return torch.cat([part.reshape(-1) for part in parts])


def from_vector(theta: Tensor, lattice: Lattice, source: bool = False) -> InhomogeneousPhi4:
    """Return the action with the couplings `theta`: the inverse of `to_vector`.

    Raises
    ------
    ShapeError
        If the number of couplings is not that of the lattice.
    """
    volume, dim = lattice.volume, lattice.dim
    check_shape("theta", theta, ((dim + 2 + bool(source)) * volume,))
    sites = theta[dim * volume:].reshape(-1, *lattice.shape)
    links = theta[: dim * volume].reshape(dim, *lattice.shape)
    return InhomogeneousPhi4(links, sites[0], sites[1], sites[2] if source else None)


@dataclass(frozen=True)
class NextNearestPhi4(LocalAction):
    r""":math:`\phi^4` theory with a second hopping, along the diagonals of the plaquettes.

    .. math:: S=-w\sum_{\langle xy\rangle}\phi_x\phi_y-w'\sum_{\langle\langle xy\rangle\rangle}
              \phi_x\phi_y+a\sum_x\phi_x^2+b\sum_x\phi_x^4

    In two dimensions a site has four diagonal neighbours. Where a direction has length 2 some of
    them are the same site and count as often, as nearest neighbours do.

    Parameters
    ----------
    hopping, diagonal
        :math:`w` and :math:`w'`.
    quadratic, quartic
        `a` and :math:`b>0`.
    """

    hopping: float
    diagonal: float = 0.0
    quadratic: float
    quartic: float

    def __post_init__(self) -> None:
        for name in ("hopping", "diagonal", "quadratic"):
            check_number(name, getattr(self, name))
        if not check_number("quartic", self.quartic) > 0:
            raise StabilityError(f"quartic={self.quartic} must be positive, or exp(-S) has no norm")

    def __call__(self, phi: Tensor) -> Tensor:
        phi = _field(phi)
        return super().__call__(phi) - 0.5 * self.diagonal * lattice_sum(phi * _diagonal_sum(phi))

    def kick(self, momentum: Tensor, phi: Tensor) -> Callable[[float], None]:
        nearest = super().kick(momentum, phi)

        def add(scale: float) -> None:
            nearest(scale)
            momentum.add_(_diagonal_sum(phi), alpha=scale * self.diagonal)

        return add

    def local_field(self, phi: Tensor) -> Tensor:
        return super().local_field(phi).add_(_diagonal_sum(phi), alpha=self.diagonal)

    def colours(self, phi: Tensor) -> list[Tensor]:
        if phi.ndim < 3:  # no plaquettes
            return super().colours(phi)
        return list(Lattice(tuple(phi.shape[1:])).parity_classes(phi.device))

    def bonds(self, dim: int) -> list[tuple[tuple[int, ...], float | Tensor]]:
        diagonals = []
        for mu, nu in combinations(range(dim), 2):
            for sign in (1, -1):
                offset = [0] * dim
                offset[mu], offset[nu] = 1, sign
                diagonals.append((tuple(offset), self.diagonal))
        return super().bonds(dim) + diagonals


@dataclass(frozen=True)
class ComplexAction:
    r"""A complex action :math:`A=A_R+iA_I`: no probability, but something to reweight to.

    Parameters
    ----------
    real, imaginary
        Callables that take fields to real numbers ``(chains,)``.
    """

    real: Callable[[Tensor], Tensor]
    imaginary: Callable[[Tensor], Tensor]

    def __call__(self, phi: Tensor) -> Tensor:
        """Return A, complex, shape ``(chains,)``."""
        return torch.complex(self.real(phi), self.imaginary(phi))


@dataclass(frozen=True, eq=False)
class BlockGibbs(CheckerboardGibbs):
    r"""Gibbs sampling of local actions with diagonal links: :math:`2^d` colours.

    Sites whose coordinates have the same parities are not joined, neither along a direction nor
    along a diagonal; given all others they are independent, and drawn exactly, all at once.
    `physml.sampling.CheckerboardGibbs` asks the action for its colours, and needs two only for
    nearest neighbours.

    Parameters
    ----------
    action
        A local action; even lengths.
    """

    def _colours(self, phi: Tensor) -> Tensor:
        return Lattice(tuple(phi.shape[1:])).parity_classes(phi.device)


def _diagonal_sum(phi: Tensor) -> Tensor:
    total = torch.zeros_like(phi)
    for mu, nu in combinations(range(1, phi.ndim), 2):
        for forward in (1, -1):
            rows = phi.roll(forward, mu)
            total = total + rows.roll(1, nu) + rows.roll(-1, nu)
    return total
