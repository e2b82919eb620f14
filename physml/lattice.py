r"""Periodic hypercubic lattices: sites, momenta and the free field's kernel.

Conventions. Lattice spacing 1; sites are numbered row by row, as `tensor.reshape(-1)` numbers the
entries of a field of shape `shape`; momenta stand in the order of `torch.fft.fftn`. The kernel of
the free action :math:`S=\frac12\phi^TK\phi` is :math:`K=m^2-\Delta` with

.. math:: (\Delta\phi)_x=\sum_\mu(\phi_{x+\hat\mu}+\phi_{x-\hat\mu}-2\phi_x),

which plane waves diagonalise: :math:`K(k)=m^2+\hat p^2`,
:math:`\hat p^2=4\sum_\mu\sin^2(k_\mu/2)`. In a direction of length 2 both neighbours of a site are
the same site, so that link counts twice; both sides of the identity agree on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .errors import ShapeError, check_number, check_positive

__all__ = ["Lattice"]


@dataclass(frozen=True)
class Lattice:
    """A periodic lattice.

    Parameters
    ----------
    shape
        Sites in each direction, each at least 2; a single integer gives a chain.

    Raises
    ------
    ShapeError
        If no such lattice exists.

    Examples
    --------
    >>> Lattice((4, 6)).volume
    24
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.shape
        lengths = tuple(given) if isinstance(given, Iterable) else (given,)
        if not lengths:
            raise ShapeError("shape is empty: give the number of sites in each direction")
        for length in lengths:
            try:
                whole = not isinstance(length, bool) and int(length) == length
            except (TypeError, ValueError, OverflowError):
                whole = False
            if not whole or length < 1:
                raise ShapeError(f"shape must hold positive integers, not {length!r} in {given!r}")
            if length == 1:
                raise ShapeError(
                    f"shape={given!r} has a direction of length 1, where a site would be its own "
                    "neighbour: leave that direction out"
                )
        object.__setattr__(self, "shape", tuple(int(length) for length in lengths))

    @property
    def dim(self) -> int:
        """The number of directions."""
        return len(self.shape)

    @property
    def volume(self) -> int:
        """The number of sites."""
        return math.prod(self.shape)

    def sites(self, device: torch.device | str | None = None) -> torch.Tensor:
        """Return the coordinates of all sites, ``(volume, dim)``, integer, row by row."""
        axes = [torch.arange(length, device=device) for length in self.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, self.dim)

    def neighbours(self, device: torch.device | str | None = None) -> torch.Tensor:
        """Return the numbers of each site's neighbours, ``(volume, 2 * dim)``, integer.

        Column `mu` is the neighbour one step forward in direction `mu`, column ``dim + mu`` the
        one backward.
        """
        number = torch.arange(self.volume, device=device).reshape(self.shape)
        tables = [number.roll(-s, mu).reshape(-1) for s in (1, -1) for mu in range(self.dim)]
        return torch.stack(tables, dim=-1)

    def parity(self, device: torch.device | str | None = None) -> torch.Tensor:
        """Return the checkerboard, boolean, of shape `shape`: True where coordinates sum to even.

        Raises
        ------
        ShapeError
            If a length is odd: across that boundary two neighbours would have the same colour.
        """
        odd = [mu for mu, length in enumerate(self.shape) if length % 2]
        if odd:
            raise ShapeError(
                f"a lattice of shape {self.shape} has no checkerboard: the length in direction "
                f"{odd[0]} is odd; choose even lengths"
            )
        return (self.sites(device).sum(-1) % 2 == 0).reshape(self.shape)

    def parity_classes(self, device: torch.device | str | None = None) -> torch.Tensor:
        r"""Return :math:`2^d` colours of equal parities, boolean, ``(2**dim, *shape)``.

        Two sites of one colour are joined neither along a direction nor along a diagonal. The first
        colour has all coordinates even; direction `mu` changes bit `mu` of the colour's number.

        Raises
        ------
        ShapeError
            If a length is odd (see `parity`).
        """
        self.parity()
        weights = 2 ** torch.arange(self.dim, device=device)
        number = (self.sites(device) % 2 * weights).sum(-1).reshape(self.shape)
        colours = torch.arange(2**self.dim, device=device)
        return number == colours.reshape(-1, *[1] * self.dim)

    def momenta(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> torch.Tensor:
        r"""Return the momenta :math:`k_\mu=2\pi n_\mu/L_\mu\in[-\pi,\pi)`, ``(*shape, dim)``.

        They stand where `torch.fft.fftn` puts them: zero first, negative ones last. The type is
        float64 by default, float32 on a device that has no float64.
        """
        axes = [2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in self.shape]
        return _move(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), dtype, device)

    def p_hat_squared(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> torch.Tensor:
        r"""Return :math:`\hat p^2=4\sum_\mu\sin^2(k_\mu/2)`, shape `shape`: the spectrum of
        :math:`-\Delta`.
        """
        return _move((4 * torch.sin(self.momenta() / 2) ** 2).sum(-1), dtype, device)

    def free_spectrum(
        self,
        mass2: float,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        r"""Return the eigenvalues :math:`m^2+\hat p^2` of `kinetic_matrix`, shape `shape`.

        `mass2` may be zero or negative, as in a double well; only a positive one gives a
        normalisable free field.
        """
        return _move(_mass2(mass2) + self.p_hat_squared(), dtype, device)

    def free_propagator(
        self,
        mass2: float,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        r"""Return the free two-point function :math:`G(x)=\langle\phi_0\phi_x\rangle`, shape
        `shape`.

        :math:`G(x)=\frac1V\sum_k e^{ikx}/(m^2+\hat p^2)`, the inverse of `kinetic_matrix`.
        """
        spectrum = self.free_spectrum(check_positive("mass2", mass2))
        return _move(torch.fft.ifftn(1 / spectrum).real, dtype, device)

    def kinetic_matrix(
        self,
        mass2: float,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        r"""Return the dense kernel :math:`K=m^2-\Delta`, ``(volume, volume)``.

        For small lattices: use `free_spectrum` where the matrix would not fit.
        """
        diagonal = torch.full((self.volume,), _mass2(mass2) + 2 * self.dim, dtype=torch.float64)
        matrix = torch.diag(diagonal)
        row = torch.arange(self.volume)
        for column in self.neighbours().unbind(-1):  # one by one, so that double links add up
            matrix[row, column] -= 1
        return _move(matrix, dtype, device)


def _mass2(mass2: float) -> float:
    return check_number("mass2", mass2)


def _move(
    tensor: torch.Tensor, dtype: torch.dtype | None, device: torch.device | str | None
) -> torch.Tensor:
    # everything is computed in float64 on the CPU: small, and exact to the last digit asked for
    device = torch.device(device if device is not None else "cpu")
    if dtype is None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
    return tensor.to(dtype).to(device)
