r"""Exact answers on small lattices, and :math:`\ln Z` of larger ones.

`ProductGrid` integrates over all fields of a few sites by the trapezoidal rule, which for smooth
integrands that vanish at the ends errs by less than any power of the spacing. `strip_log_z` does so
for a strip two sites wide by transfer matrix, whatever its length. `annealed_log_z` estimates
:math:`\ln Z` by annealed importance sampling from decoupled sites (R. Neal, Statistics and
Computing 11 (2001) 125): unlike a free energy that the learned model itself provides, it is
independent of what was learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..actions import InhomogeneousPhi4, LocalAction
from ..errors import ShapeError, check_finite, check_positive, check_positive_int
from ..lattice import Lattice
from ..reweighting import log_mean_weight
from ..sampling import CheckerboardGibbs, quartic_normal
from ..statistics import Estimate
from .couplings import BlockGibbs, NextNearestPhi4
from .network import site_log_z

__all__ = ["ProductGrid", "annealed_log_z", "strip_log_z"]

_MOST = 2**23  # numbers in a table of fields: 64 MB


class ProductGrid:
    r"""All fields of a small lattice on a grid: each expectation is a sum.

    Parameters
    ----------
    lattice
        At most five sites or so: :math:`n^V` fields for `n` points.
    reach
        The grid spans from ``-reach`` to ``reach``; :math:`e^{-S}` must be negligible beyond.
    points
        In each direction; change it to see the error.

    Attributes
    ----------
    phi
        All fields, ``(points ** volume, *lattice.shape)``, float64.
    """

    def __init__(self, lattice: Lattice, reach: float, points: int = 24) -> None:
        reach = check_positive("reach", reach)
        points, volume = check_positive_int("points", points), lattice.volume
        if points**volume * volume > _MOST:
            raise ShapeError(
                f"{points} points for {volume} sites are {points**volume} fields: take fewer"
            )
        x = torch.linspace(-reach, reach, points, dtype=torch.float64, device="cpu")
        axes = torch.meshgrid(*[x] * volume, indexing="ij")
        self.phi = torch.stack(axes, -1).reshape(-1, *lattice.shape)
        self._log_cell = volume * math.log(float(x[1] - x[0]))

    def log_z(self, action: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return :math:`\ln\int d\phi\,e^{-S}`, differentiable in the couplings.

        A complex action gives a complex logarithm, with an imaginary part in :math:`(-\pi,\pi]`.
        """
        values = -action(self.phi)
        top = values.detach().real.max() if values.is_complex() else values.detach().max()
        return torch.exp(values - top).sum().log() + top + self._log_cell

    def mean(self, action: Callable[[Tensor], Tensor],
             f: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return :math:`\langle f\rangle`; `f` gives ``(fields,)`` or ``(fields, n)``."""
        values = -action(self.phi)
        top = values.real.max() if values.is_complex() else values.max()
        weight = torch.exp(values - top)
        observed = f(self.phi)
        return weight @ observed.to(weight.dtype) / weight.sum()

    def free_energy(self, target: Callable[[Tensor], Tensor],
                    action: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return :math:`\mathcal F=\langle A-S\rangle_S-\ln Z_S`, exactly, differentiable."""
        values = action(self.phi)
        log_z = self.log_z(lambda _: values)
        p = torch.exp(-values - log_z + self._log_cell)
        return p @ (target(self.phi) - values) - log_z


def strip_log_z(
    action: Callable[[Tensor], Tensor], lattice: Lattice, reach: float, points: int = 20
) -> Tensor:
    r"""Return :math:`\ln Z` of a strip of length `N` and width 2, ``lattice.shape = (N, 2)``.

    The two sites of a row are one state of a transfer matrix :math:`M_r`, so
    :math:`Z=\operatorname{tr}M_1\cdots M_N`. The matrices are read off the action: a row alone,
    with zeros elsewhere, has :math:`U_r`, and two rows together have in addition what couples them.
    So any action will do that couples neighbouring rows only and vanishes with the field; it may be
    inhomogeneous, have diagonal links, or be complex.

    Parameters
    ----------
    action
        Takes fields ``(n, N, 2)`` to ``(n,)``.
    reach, points
        The grid, as for `ProductGrid`; the matrices have ``points ** 2`` rows.

    Raises
    ------
    ShapeError
        If the lattice is not such a strip with :math:`N\ge3`.
    """
    if len(lattice.shape) != 2 or lattice.shape[1] != 2 or lattice.shape[0] < 3:
        raise ShapeError(f"lattice must have shape (N, 2) with N at least 3, not {lattice.shape}")
    rows, reach = lattice.shape[0], check_positive("reach", reach)
    points = check_positive_int("points", points)
    x = torch.linspace(-reach, reach, points, dtype=torch.float64, device="cpu")
    pair = torch.cartesian_prod(x, x)
    n = len(pair)
    empty = torch.zeros(n, rows, 2, dtype=torch.float64, device="cpu")

    def placed(row: int) -> Tensor:
        phi = empty.clone()
        phi[:, row] = pair
        return phi

    alone = [action(placed(r)) for r in range(rows)]
    log_scale, product = torch.zeros((), dtype=torch.float64, device="cpu"), None
    for r in range(rows):
        there = (r + 1) % rows
        joint = torch.cat([action(_both(pair, part, rows, r, there)) for part in pair.split(40)])
        joint = joint.reshape(n, n).T - 0.5 * (alone[r][:, None] + alone[there])
        top = -(joint.real if joint.is_complex() else joint).min()
        matrix = torch.exp(-joint - top)
        product = matrix if product is None else product @ matrix
        size = product.abs().max()
        product, log_scale = product / size, log_scale + top + size.log()
    return product.trace().log() + log_scale + 2 * rows * math.log(float(x[1] - x[0]))


def annealed_log_z(
    action: LocalAction,
    lattice: Lattice,
    *,
    chains: int,
    steps: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Estimate:
    r"""Return :math:`\ln Z` by annealing the links from zero to their strength.

    With :math:`S_s` the action with all hopping terms times `s`, chains start as exact draws from
    the decoupled sites of :math:`S_0` and take one Gibbs sweep at each :math:`s_k`. Then
    :math:`\langle\prod_ke^{S_{s_k}-S_{s_{k+1}}}\rangle=Z/Z_0` without bias for any number of steps,
    and :math:`Z_0` is a product of one-dimensional integrals.

    Parameters
    ----------
    action
        `InhomogeneousPhi4`, `NextNearestPhi4` or another action of nearest neighbours.
    chains, steps
        Independent runs, and intermediate actions.

    Returns
    -------
    The logarithm of the mean weight, with the error that the spread of the weights gives; it means
    something only while it is small compared to 1.
    """
    chains = check_positive_int("chains", chains)
    steps = check_positive_int("steps", steps)
    if not isinstance(action, InhomogeneousPhi4 | NextNearestPhi4):
        action = InhomogeneousPhi4.homogeneous(action, lattice, dtype=dtype, device=device)
    action.check_stable(lattice)
    names = [name for name in ("hopping", "diagonal") if hasattr(action, name)]
    kind = BlockGibbs if isinstance(action, NextNearestPhi4) else CheckerboardGibbs

    def scaled(s: float) -> LocalAction:
        return replace(action, **{name: s * getattr(action, name) for name in names})

    where = {"dtype": dtype, "device": device}
    source = action.source if isinstance(action.source, Tensor) else torch.zeros(1, **where)
    field = source.to(**where).expand(lattice.shape)
    ab = [torch.as_tensor(v, **where).expand(lattice.shape)
          for v in (action.quadratic, action.quartic)]
    log_z0 = site_log_z(field, *ab).sum()
    phi, _ = quartic_normal(field.expand(chains, *lattice.shape), *ab, generator)
    decoupled, weight = scaled(0.0), 0.0
    kind(action).init(phi)  # checks that conditionals and S belong together
    for k in range(1, steps + 1):
        # the part of the links is S_1 - S_0, and only it changes from one action to the next
        weight = weight + (decoupled(phi) - action(phi)) / steps
        if k < steps:
            sampler = kind(scaled(k / steps))
            phi = sampler.step(sampler.resume(phi), generator)[0].phi
    check_finite("the weights", weight)
    return float(log_z0) + log_mean_weight(weight)


def _both(pair: Tensor, second: Tensor, rows: int, here: int, there: int) -> Tensor:
    """Return fields with each of `pair` in one row and each of `second` in another."""
    phi = torch.zeros(len(second), len(pair), rows, 2, dtype=torch.float64, device="cpu")
    phi[:, :, here] = pair
    phi[:, :, there] = second[:, None]
    return phi.flatten(0, 1)
