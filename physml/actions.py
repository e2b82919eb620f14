r"""Actions of lattice fields, with their forces.

An action is a callable that takes fields of shape ``(chains, *lattice.shape)`` to their actions,
shape ``(chains,)``; its `force` is :math:`F=-\partial S/\partial\phi`, the drift of a Langevin
equation and the score of :math:`e^{-S}`. Lattices are periodic, their shape is read off the field.

`Action` is all that HMC, Langevin dynamics and MALA ask for; `AutogradAction` makes one from
:math:`S` alone. Samplers that move one site or one cluster at a time ask for more, and a
`LocalAction` gives it: which sites may move at once (`~LocalAction.colours`), the distribution of a
site given all others (`~LocalAction.local_field`, `~LocalAction.site_action`), and the links that
join the signs of two sites (`~LocalAction.bonds`). A sampler compares these parts with :math:`S`
when it starts, so a class that overrides some of them and not the others is refused.

All other actions here have the local form

.. math::

    S=\sum_x\Big[-\sum_\mu w_{x,\mu}\,\phi_x\phi_{x+\hat\mu}+a_x\phi_x^2+b_x\phi_x^4-c_x\phi_x\Big],

with the link couplings `w` called `hopping`, and the site couplings `a`, `b`, `c` called
`quadratic`, `quartic` and `source`: numbers, or tensors that broadcast over the lattice. Sums over
the lattice are accumulated in float64 where the device has it, and returned so: the small
differences of actions that decide on acceptance do not survive float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import (
    ShapeError,
    StabilityError,
    check_finite,
    check_number,
    check_positive,
    check_positive_int,
    check_real,
    check_tensor,
    has_numbers,
)
from .lattice import Lattice

__all__ = [
    "Action",
    "AutogradAction",
    "FreeField",
    "InhomogeneousPhi4",
    "LocalAction",
    "Phi4",
    "ZeroDimensionalPhi4",
    "lattice_sum",
    "neighbour_sum",
]


def lattice_sum(field: Tensor) -> Tensor:
    """Return the sum over the lattice, ``(chains,)``, accumulated in float64 where there is one."""
    wide = field.dtype if field.device.type == "mps" else torch.float64
    if field.ndim == 1:
        return field.to(wide)
    return field.sum(tuple(range(1, field.ndim)), dtype=wide)


def probe_field(shape: tuple[int, ...]) -> Tensor:
    """Return one field ``(1, *shape)``, all its numbers different, to try an action on."""
    number = torch.arange(math.prod(shape), dtype=torch.float64, device="cpu")
    return (0.4 + 0.5 * torch.sin(2.4 * number + 1)).reshape(1, *shape)


def neighbour_sum(phi: Tensor) -> Tensor:
    r"""Return :math:`\sum_\mu(\phi_{x+\hat\mu}+\phi_{x-\hat\mu})`, shape and memory as `phi`.

    On a direction of length 2 both neighbours are the same site, which counts twice.
    """
    if torch.is_grad_enabled() and phi.requires_grad:
        return sum((phi.roll(s, mu) for mu in range(1, phi.ndim) for s in (1, -1)), 0 * phi)
    out = torch.empty_like(phi)
    _neighbour_adder(phi, out)()
    return out


def _neighbour_adder(phi: Tensor, out: Tensor) -> Callable[[], None]:
    """Return a function that writes the neighbour sum of `phi` into `out`, again and again.

    Slices instead of rolls: nothing is allocated, and the inner sites make one long addition. On
    small lattices most of the time goes into making the slices, so that is done once.
    """
    if phi.ndim == 1:
        return out.zero_
    n = phi.shape[1]
    first = [
        (phi.narrow(1, 2, n - 2), phi.narrow(1, 0, n - 2), out.narrow(1, 1, n - 2)),
        (phi.select(1, 1), phi.select(1, n - 1), out.select(1, 0)),
        (phi.select(1, 0), phi.select(1, n - 2), out.select(1, n - 1)),
    ]
    more = []
    for mu in range(2, phi.ndim):
        n = phi.shape[mu]
        more += [
            (out.narrow(mu, 0, n - 1), phi.narrow(mu, 1, n - 1)),
            (out.select(mu, n - 1), phi.select(mu, 0)),
            (out.narrow(mu, 1, n - 1), phi.narrow(mu, 0, n - 1)),
            (out.select(mu, 0), phi.select(mu, n - 1)),
        ]

    def add() -> None:
        for one, two, here in first:
            torch.add(one, two, out=here)
        for here, there in more:
            here.add_(there)

    return add


class Action(Protocol):
    r"""What HMC, Langevin dynamics and MALA ask of an action.

    Any object with these members will do. A subclass of this one gives `__call__` and `force`, and
    inherits the rest.

    Attributes
    ----------
    components
        The shape of what lives on each site: fields have the shape
        ``(chains, *components, *lattice.shape)``. It is ``()`` for a scalar field, and None where
        the action does not say; then fields are made and measured by the user only.
    """

    components: tuple[int, ...] | None = None

    def __call__(self, phi: Tensor) -> Tensor:
        """Return S, shape ``(chains,)``; see `lattice_sum`."""
        ...

    def force(self, phi: Tensor) -> Tensor:
        r"""Return :math:`F=-\partial S/\partial\phi`, shape as `phi`."""
        ...

    def kick(self, momentum: Tensor, phi: Tensor) -> Callable[[float], None]:
        """Return a function of `scale` that adds `scale` times the force to `momentum`, in place.

        It looks at `phi` each time it is called, so an integrator asks for it once and then moves
        both tensors in place.
        """
        return lambda scale: momentum.add_(self.force(phi), alpha=scale)

    def check_stable(self, lattice: Lattice) -> None:
        r"""Raise `StabilityError` where it is known that :math:`e^{-S}` has no norm."""


class AutogradAction(Action):
    r"""An action given by :math:`S` alone: its force comes by automatic differentiation.

    HMC, Langevin dynamics and MALA sample it.

    Parameters
    ----------
    function
        :math:`S`: takes fields ``(chains, *components, *lattice.shape)`` to ``(chains,)``, each
        chain on its own, with operations that torch can differentiate. Sum over the lattice with
        `lattice_sum`: the small differences of actions that decide on acceptance do not survive
        float32.
    force
        A faster :math:`-\partial S/\partial\phi`, if there is one. Samplers compare it with the
        derivative of :math:`S` before they use it.
    components
        The shape of what lives on each site, ``()`` for a scalar field (see `Action`). If it is
        not given, fields are made and measured by the user only.
    symmetric
        Whether :math:`S[-\phi]=S[\phi]`, which `physml.sampling.GlobalFlip` asks for.

    Examples
    --------
    >>> def energy(phi):
    ...     square = phi * phi
    ...     return lattice_sum(square**3 + square - 0.2 * phi * neighbour_sum(phi))
    >>> action = AutogradAction(energy, components=())
    >>> phi = torch.ones(2, 4, 4)
    >>> action(phi)
    tensor([19.2000, 19.2000], dtype=torch.float64)
    >>> action.force(phi)[0, 0, 0]
    tensor(-6.4000)
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        force: Callable[[Tensor], Tensor] | None = None,
        components: tuple[int, ...] | None = None,
        symmetric: bool = False,
    ) -> None:
        for name, given in (("function", function), ("force", force)):
            if given is not None and not callable(given):
                raise TypeError(f"{name} must be a function of fields, not {given!r}")
        self.function, self._force, self.symmetric = function, force, bool(symmetric)
        self.components = None if components is None else tuple(components)

    def __repr__(self) -> str:
        return f"AutogradAction({self.function!r}, components={self.components})"

    def __call__(self, phi: Tensor) -> Tensor:
        out = self.function(phi)
        if not isinstance(out, Tensor) or tuple(out.shape) != (len(phi),):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ShapeError(
                f"the function of an AutogradAction must return S of each chain, shape (chains,) = "
                f"({len(phi)},), not {got}: sum over all axes but the first"
            )
        return out

    def force(self, phi: Tensor) -> Tensor:
        if self._force is not None:
            return self._force(phi)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = phi.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf).sum(), leaf)
        return gradient.neg_()


class LocalAction(Action):
    r"""The common part of all actions of the local form at the top of this module.

    A subclass gives `hopping`, `quadratic`, `quartic` and `source`, numbers here. One with further
    terms overrides `__call__` and `kick`, and of `local_field`, `site_action`, `colours` and
    `bonds` those that change: samplers compare them with :math:`S` when they start.
    """

    components = ()
    hopping: float = 0.0
    quadratic: float = 0.0
    quartic: float = 0.0
    source: float = 0.0

    def __call__(self, phi: Tensor) -> Tensor:
        """Return S, shape ``(chains,)``, in float64 where the device has it."""
        phi = _field(phi)
        density = self.quadratic * phi
        if self.quartic:
            density = torch.addcmul(density, phi * phi, phi, value=self.quartic)
        if self.source:
            density = density - self.source
        if self.hopping and phi.ndim > 1:
            density = density.add(neighbour_sum(phi), alpha=-0.5 * self.hopping)
        return lattice_sum(density * phi)

    def force(self, phi: Tensor) -> Tensor:
        r"""Return :math:`F=-\partial S/\partial\phi`, shape as `phi`."""
        wide = _field(phi)
        if torch.is_grad_enabled() and phi.requires_grad:  # nothing in place then
            square = wide * wide
            pull = (4 * self.quartic * square + 2 * self.quadratic) * wide
            return (self.local_field(wide) - pull).to(phi.dtype)
        force = torch.zeros_like(wide)
        self.kick(force, wide)(1.0)
        return force.to(phi.dtype)

    def kick(self, momentum: Tensor, phi: Tensor) -> Callable[[float], None]:
        """Return a function of `scale` that adds `scale` times the force to `momentum`, in place.

        It looks at `phi` each time it is called, so an integrator asks for it once and then moves
        both tensors in place: this is where a simulation spends its time.
        """
        work = torch.empty_like(check_real("phi", phi))
        coupled = self.hopping and phi.ndim > 1
        neighbours = _neighbour_adder(phi, work) if coupled else None
        hopping, quadratic, quartic, source = (
            self.hopping, 2 * self.quadratic, 4 * self.quartic, self.source)

        def add(scale: float) -> None:
            if coupled:
                neighbours()
                momentum.add_(work, alpha=scale * hopping)
            momentum.add_(phi, alpha=-scale * quadratic)
            if quartic:
                torch.mul(phi, phi, out=work)
                momentum.addcmul_(work, phi, value=-scale * quartic)
            if source:
                momentum.add_(scale * source)

        return add

    def local_field(self, phi: Tensor) -> Tensor:
        r"""Return :math:`h_x=\sum_{y\sim x}w_{xy}\phi_y+c_x`, what site `x` feels of the others.

        Given all others, :math:`p(\phi_x)\propto e^{h_x\phi_x-a_x\phi_x^2-b_x\phi_x^4}`: the local
        Markov property.
        """
        return neighbour_sum(check_real("phi", phi)).mul_(self.hopping).add_(self.source)

    def site_action(self, phi: Tensor, field: Tensor) -> Tensor:
        """Return the part of S that changes with each site alone, given its `local_field`."""
        square = phi * phi
        return (self.quartic * square + self.quadratic) * square - field * phi

    def colours(self, phi: Tensor) -> list[Tensor]:
        """Return sets of sites which S does not join, as masks of the shape ``lattice.shape``.

        Given all others, the sites of one set are independent. Each site is in one set. For
        neighbours it is the checkerboard, so lengths must be even.
        """
        if phi.ndim == 1:
            return [torch.ones((), dtype=torch.bool, device=phi.device)]
        even = Lattice(tuple(phi.shape[1:])).parity(phi.device)
        return [even, ~even]

    def bonds(self, dim: int) -> list[tuple[tuple[int, ...], float | Tensor]]:
        r"""Return offset `r` and coupling `w` of each term :math:`-w\sum_x\phi_x\phi_{x+r}`.

        All other terms must be even in the field of each site. A coupling is a number, or a tensor
        that broadcasts over the lattice.
        """
        return [(offset, self.hopping) for offset in _unit_offsets(dim)]

    @property
    def symmetric(self) -> bool:
        r"""Whether :math:`S[-\phi]=S[\phi]`."""
        return not self.source

    def check_stable(self, lattice: Lattice) -> None:
        r"""Raise `StabilityError` unless :math:`e^{-S}` can be normalised on `lattice`.

        With :math:`b>0` it always can. For :math:`b=0` the lowest mode of the kernel
        :math:`2a-2w\sum_\mu\cos k_\mu` must be positive.
        """
        if self.quartic > 0:
            return
        # the largest sum of cosines is d, and on even lengths the smallest is -d
        odd = any(length % 2 for length in lattice.shape)
        reach = self.hopping * lattice.dim if self.hopping > 0 or not odd else float(
            (self.hopping * torch.cos(lattice.momenta()).sum(-1)).max())
        lowest = 2 * self.quadratic - 2 * abs(reach)
        if not lowest > 0:
            raise StabilityError(
                f"{self} has no quartic term and its lowest mode has the kernel {lowest:.4g} on "
                f"{lattice.shape}, so exp(-S) has no norm: lower the hopping, raise the mass, or "
                "add a quartic term"
            )


@dataclass(frozen=True)
class FreeField(LocalAction):
    r"""The free field, :math:`S=\frac12\sum_x[\sum_\mu(\phi_{x+\hat\mu}-\phi_x)^2+m^2\phi_x^2]`.

    Parameters
    ----------
    mass2
        :math:`m^2>0`, in lattice units.
    dim
        Number of directions of the lattice: it sets the site coupling :math:`a=m^2/2+d`.
    """

    mass2: float
    dim: int

    def __post_init__(self) -> None:
        check_positive("mass2", self.mass2)
        check_positive_int("dim", self.dim)

    hopping = 1.0

    @property
    def quadratic(self) -> float:
        """The site coupling of the square, :math:`m^2/2+d`."""
        return 0.5 * self.mass2 + self.dim

    def __call__(self, phi: Tensor) -> Tensor:  # the dimension must fit, or the mass is another
        self._check(phi)
        return super().__call__(phi)

    def kick(self, momentum: Tensor, phi: Tensor) -> Callable[[float], None]:
        self._check(phi)
        return super().kick(momentum, phi)

    def _check(self, phi: Tensor) -> None:
        if check_real("phi", phi).ndim != self.dim + 1:
            raise ShapeError(
                f"phi must have shape (chains, *lattice.shape) with {self.dim} directions, not "
                f"{tuple(phi.shape)}"
            )


@dataclass(frozen=True)
class Phi4(LocalAction):
    r""":math:`\phi^4` theory in the hopping form, in any dimension.

    .. math::

        S=\sum_x\Big[-2\kappa\sum_\mu\phi_x\phi_{x+\hat\mu}+(1-2\lambda)\phi_x^2
          +\lambda\phi_x^4\Big]

    (arXiv:2309.17082, eq. 4.1, without the constant that makes it
    :math:`\lambda(\phi^2-1)^2+\phi^2`). For :math:`\lambda\to\infty` it is the Ising model with
    :math:`\beta=2\kappa`.

    Parameters
    ----------
    kappa
        Hopping parameter :math:`\kappa`.
    lam
        Coupling :math:`\lambda\ge0`; 0 is a free field, normalisable for
        :math:`|\kappa|<1/2d`.
    """

    kappa: float
    lam: float

    def __post_init__(self) -> None:
        check_number("kappa", self.kappa)
        if check_number("lam", self.lam) < 0:
            raise StabilityError(
                f"lam={self.lam} is negative, so exp(-S) has no norm: choose lam >= 0"
            )

    @property
    def hopping(self) -> float:
        r"""The link coupling, :math:`2\kappa`."""
        return 2 * self.kappa

    @property
    def quadratic(self) -> float:
        r"""The site coupling of the square, :math:`1-2\lambda`."""
        return 1 - 2 * self.lam

    @property
    def quartic(self) -> float:
        r"""The site coupling of the fourth power, :math:`\lambda`."""
        return self.lam

    @classmethod
    def from_bare(cls, mass2: float, coupling: float, dim: int) -> tuple[Phi4, float]:
        r"""Return the action and the factor `z` in :math:`\varphi=z\phi` from continuum-like form.

        .. math::

            S=\sum_x\Big[\tfrac12\sum_\mu(\varphi_{x+\hat\mu}-\varphi_x)^2
              +\tfrac12m_0^2\varphi_x^2+\tfrac{\lambda_0}{4!}\varphi_x^4\Big]

        With :math:`\varphi=\sqrt{2\kappa}\,\phi` the coefficients of :math:`\phi^2` and
        :math:`\phi^4` give :math:`\kappa(2d+m_0^2)=1-2\lambda` and
        :math:`\lambda_0\kappa^2/6=\lambda`: a quadratic equation for :math:`\kappa`, of which the
        positive root is the one that is smooth at :math:`\lambda_0=0`. For couplings in the form
        :math:`\frac{\mu^2}2\varphi^2+\frac\lambda4\varphi^4` pass ``coupling=6 * lam``.

        Parameters
        ----------
        mass2, coupling
            :math:`m_0^2` (of any sign if there is a coupling) and :math:`\lambda_0\ge0`.
        dim
            Number of directions `d`.
        """
        b = 2 * check_positive_int("dim", dim) + check_number("mass2", mass2)
        coupling = check_number("coupling", coupling)
        if coupling < 0 or (coupling == 0 and mass2 <= 0):
            raise StabilityError(
                f"mass2={mass2}, coupling={coupling} define no normalisable exp(-S): choose "
                "coupling > 0, or coupling = 0 with mass2 > 0"
            )
        # lambda_0 kappa^2 / 3 + b kappa - 1 = 0, in the form that does not cancel at small coupling
        root = math.sqrt(b * b + 4 * coupling / 3)
        kappa = 2 / (b + root) if b > 0 else 1.5 * (root - b) / coupling
        return cls(kappa, coupling * kappa**2 / 6), math.sqrt(2 * kappa)

    def bare(self, dim: int) -> tuple[float, float, float]:
        r"""Return :math:`m_0^2=(1-2\lambda)/\kappa-2d`, :math:`\lambda_0=6\lambda/\kappa^2` and
        the factor :math:`z=\sqrt{2\kappa}` of the field: the inverse of `from_bare`.
        """
        if not self.kappa > 0:
            raise ValueError(f"kappa={self.kappa} has no continuum-like form: it needs kappa > 0")
        dim = check_positive_int("dim", dim)
        mass2 = (1 - 2 * self.lam) / self.kappa - 2 * dim
        return mass2, 6 * self.lam / self.kappa**2, math.sqrt(2 * self.kappa)

    def vacuum(self, dim: int) -> float:
        r"""Return the size of the uniform field of least action, 0 in the symmetric phase.

        :math:`v^2=(2\kappa d-1+2\lambda)/2\lambda`, by differentiation of the action density.
        """
        excess = 2 * self.kappa * dim - self.quadratic
        return math.sqrt(excess / (2 * self.lam)) if self.lam > 0 and excess > 0 else 0.0


@dataclass(frozen=True)
class ZeroDimensionalPhi4(LocalAction):
    r"""A single degree of freedom, :math:`S=\frac{\mu^2}2\phi^2+\frac g{4!}\phi^4`.

    Fields have the shape ``(chains,)``: a lattice without directions.

    Parameters
    ----------
    mu2
        :math:`\mu^2`; negative for a double well.
    g
        Coupling :math:`g>0`, or 0 if :math:`\mu^2>0`.
    """

    mu2: float
    g: float

    def __post_init__(self) -> None:
        if check_number("g", self.g) < 0 or (self.g == 0 and check_number("mu2", self.mu2) <= 0):
            raise StabilityError(
                f"mu2={self.mu2}, g={self.g} define no normalisable exp(-S): choose g > 0, or "
                "g = 0 with mu2 > 0"
            )
        check_number("mu2", self.mu2)

    @property
    def quadratic(self) -> float:
        r"""The coupling of the square, :math:`\mu^2/2`."""
        return 0.5 * self.mu2

    @property
    def quartic(self) -> float:
        r"""The coupling of the fourth power, :math:`g/24`."""
        return self.g / 24


@dataclass(frozen=True, eq=False)
class InhomogeneousPhi4(LocalAction):
    r""":math:`\phi^4` theory with its own coupling on each link and site (arXiv:2102.09449).

    The local form at the top of this module, with tensors. They may require gradients: `__call__`
    is differentiable in them. Where some :math:`b_x` vanish whether the weight can be normalised
    is for the caller to know.

    Parameters
    ----------
    hopping
        :math:`w_{x,\mu}`, the coupling of the link from `x` to :math:`x+\hat\mu`, shape
        ``(dim, *lattice.shape)``.
    quadratic, quartic
        :math:`a_x` and :math:`b_x\ge0`, shape ``lattice.shape``.
    source
        :math:`c_x`, shape ``lattice.shape``; none by default.
    """

    hopping: Tensor
    quadratic: Tensor
    quartic: Tensor
    source: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(check_tensor("quadratic", self.quadratic).shape)
        want = {"hopping": (len(shape), *shape), "quartic": shape, "source": shape}
        for name, expected in want.items():
            tensor = getattr(self, name)
            if tensor is None:
                continue
            if tuple(check_tensor(name, tensor).shape) != expected:
                raise ShapeError(
                    f"{name} must have shape {expected} to go with quadratic {shape}, not "
                    f"{tuple(tensor.shape)}"
                )
            check_real(name, check_finite(name, tensor))
        check_real("quadratic", check_finite("quadratic", self.quadratic))
        if has_numbers(self.quartic) and bool((self.quartic < 0).any()):
            raise StabilityError("quartic has negative entries, so exp(-S) has no norm: clamp it")

    @classmethod
    def homogeneous(cls, action: LocalAction, lattice: Lattice, **where) -> InhomogeneousPhi4:
        """Return the same action as `action` with couplings as tensors (`dtype`, `device`).

        Raises
        ------
        ValueError
            If `action` has other terms than the local form at the top of this module.
        """
        probe = probe_field(lattice.shape)
        fits = isinstance(action, LocalAction)
        if fits and has_numbers(probe):
            want, found = float(action(probe)), float(LocalAction.__call__(action, probe))
            fits = math.isclose(want, found, rel_tol=1e-6, abs_tol=1e-9)
        if not fits:
            raise ValueError(f"action={action} has other terms than hopping, quadratic, quartic "
                             "and source, which would be lost")

        def full(value: float, *shape: int) -> Tensor:
            return torch.full(shape, float(value), **where)

        return cls(full(action.hopping, lattice.dim, *lattice.shape),
                   full(action.quadratic, *lattice.shape), full(action.quartic, *lattice.shape),
                   full(action.source, *lattice.shape) if action.source else None)

    def __call__(self, phi: Tensor) -> Tensor:
        phi = _field(phi)
        square = phi * phi
        density = (self.quartic * square + self.quadratic) * square
        for mu, w in enumerate(self.hopping):
            density = density - w * phi * phi.roll(-1, mu + 1)
        if self.source is not None:
            density = density - self.source * phi
        return lattice_sum(density)

    def force(self, phi: Tensor) -> Tensor:
        return self.local_field(phi) - (4 * self.quartic * phi * phi + 2 * self.quadratic) * phi

    def kick(self, momentum: Tensor, phi: Tensor) -> Callable[[float], None]:
        return lambda scale: momentum.add_(self.force(phi), alpha=scale)

    def local_field(self, phi: Tensor) -> Tensor:
        check_real("phi", phi)
        field = torch.zeros_like(phi) if self.source is None else self.source.expand_as(phi)
        for mu, w in enumerate(self.hopping):
            field = field + w * phi.roll(-1, mu + 1) + (w * phi).roll(1, mu + 1)
        return field

    def bonds(self, dim: int) -> list[tuple[tuple[int, ...], float | Tensor]]:
        return list(zip(_unit_offsets(len(self.hopping)), self.hopping, strict=True))

    @property
    def symmetric(self) -> bool:
        return self.source is None

    def check_stable(self, lattice: Lattice) -> None:
        if tuple(self.quadratic.shape) != lattice.shape:
            raise ShapeError(
                f"the couplings are for a lattice of shape {tuple(self.quadratic.shape)}, not "
                f"{lattice.shape}"
            )


def _unit_offsets(dim: int) -> list[tuple[int, ...]]:
    return [tuple(int(nu == mu) for nu in range(dim)) for mu in range(dim)]


def _field(phi: Tensor) -> Tensor:
    """Return a real field in float32 at least: half precision cannot hold its fourth power."""
    check_real("phi", phi)
    return phi.float() if phi.is_floating_point() and phi.element_size() < 4 else phi
