r"""The :math:`\phi^4` neural network: two layers, no couplings within a layer, quartic terms.

.. math::

    S(\phi,h)=-\sum_{ij}\phi_iw_{ij}h_j+\sum_i(r_i\phi_i+a_i\phi_i^2+b_i\phi_i^4)
              +\sum_j(s_jh_j+m_jh_j^2+n_jh_j^4)

(arXiv:2102.09449). Given one layer the units of the other are independent, each with the weight
:math:`e^{x\phi-a\phi^2-b\phi^4}` of a single site in the field `x`, which
`physml.sampling.quartic_normal` draws exactly. Summed over the hidden layer

.. math::

    p(\phi)&\propto\exp\Big[-\sum_i(r_i\phi_i+a_i\phi_i^2+b_i\phi_i^4)
                           +\sum_j\ln z_j\big((W^T\phi)_j-s_j\big)\Big],\\
    z_j(x)&=\int dh\,e^{xh-m_jh^2-n_jh^4} .

A layer may also be two-valued, ``"binary"`` (0 and 1) or ``"spin"`` (-1 and 1); then its quadratic
and quartic terms are constants or a part of the linear one, and are left out. The limits:

=======================  ===================================================================
:math:`b=n=0`            Gaussian-Gaussian RBM, as `physml.rbm.ScalarFieldRBM`
binary `h`, :math:`b=0`  Gaussian-Bernoulli RBM
binary `h`               :math:`\phi^4`-Bernoulli RBM
both binary              Bernoulli-Bernoulli RBM
:math:`n\to\infty`       :math:`n(h^2-1)^2` ties :math:`h` to spins
=======================  ===================================================================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..device import derivatives
from ..errors import (
    StabilityError,
    check_finite,
    check_number,
    check_positive,
    check_positive_int,
    check_precision,
    check_shape,
    check_tensor,
    has_numbers,
)
from ..sampling import quartic_normal
from ..statistics import Estimate

__all__ = ["Phi4Network", "site_log_z"]

KINDS = ("real", "binary", "spin")
_VALUES = {"binary": (0, 1), "spin": (-1, 1)}
_DEPTH = 60.0  # exp(-60): what the integrals over a site leave out


def site_log_z(field: Tensor, a: float | Tensor, b: float | Tensor, points: int = 257) -> Tensor:
    r"""Return :math:`\ln\int d\phi\,e^{x\phi-a\phi^2-b\phi^4}`, shape of `field`, differentiable.

    Gaussian sites in closed form, the others by the trapezoidal rule on a grid that is laid for
    each of them over all that is within :math:`e^{-60}` of the maximum: better than 1e-10 unless
    the width of a well is below a hundredth of its distance from zero.

    Parameters
    ----------
    field
        :math:`x`, any shape.
    a, b
        Numbers or tensors that broadcast to it; :math:`b\ge0`, and :math:`a>0` where :math:`b=0`.

    Raises
    ------
    StabilityError
        If some density has no norm.
    """
    check_precision("field", field)
    a, b = (torch.as_tensor(v, dtype=field.dtype, device=field.device).expand_as(field)
            for v in (a, b))
    if has_numbers(field) and bool(
        ((b < 0) | ((b == 0) & (a <= 0))).any()
    ):
        raise StabilityError("the density needs b > 0, or b = 0 with a > 0, at every site")
    low, high = _span(field.detach(), a.detach(), b.detach())
    unit = torch.linspace(0, 1, points, dtype=field.dtype, device=field.device)
    phi = low[..., None] + (high - low)[..., None] * unit
    square = phi * phi
    exponent = field[..., None] * phi - (b[..., None] * square + a[..., None]) * square
    quartic = exponent.logsumexp(-1) + ((high - low) / (points - 1)).log()
    safe = torch.where(b == 0, a, 1.0)  # no infinity may enter the branch that is not taken
    return torch.where(b == 0, field**2 / (4 * safe) + 0.5 * (math.pi / safe).log(), quartic)


class Phi4Network:
    r"""A bipartite :math:`\phi^4` theory whose couplings can be learned.

    Parameters
    ----------
    n_visible, n_hidden
        Numbers of units.
    visible, hidden
        Kind of the units: ``"real"``, ``"binary"`` (0 and 1) or ``"spin"`` (-1 and 1).
    a, b, m, n
        Start values of the quadratic and quartic couplings of real units; the default
        is Gaussian with variance 1. :math:`r` and :math:`s` start at zero.
    init
        `weight` starts with independent normal entries of this standard deviation (none: zero).
    generator
        Where they come from; needed unless ``init=0``.
    dtype, device
        Of all tensors; float32 or float64.

    Attributes
    ----------
    weight, r, a, b, s, m, n
        Tensors ``(n_visible, n_hidden)``, three ``(n_visible,)`` and three ``(n_hidden,)``. Assign
        to them freely, one number for all units if you like; what needs a normalisable weight
        raises `StabilityError` if there is none.

    Examples
    --------
    >>> network = Phi4Network(4, 2, b=0.1, hidden="binary", init=0)
    >>> network.free_action(torch.zeros(3, 4, dtype=torch.float64)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        n_visible: int,
        n_hidden: int,
        *,
        visible: str = "real",
        hidden: str = "real",
        a: float = 0.5,
        b: float = 0.0,
        m: float = 0.5,
        n: float = 0.0,
        init: float = 0.01,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (check_positive_int("n_visible", n_visible),
                 check_positive_int("n_hidden", n_hidden))
        for name, kind in (("visible", visible), ("hidden", hidden)):
            if kind not in KINDS:
                raise ValueError(f"{name} must be one of {KINDS}, not {kind!r}")
        self.visible, self.hidden = visible, hidden
        self.weight = torch.zeros(shape, dtype=check_precision("dtype", dtype), device=device)
        self.r, self.a, self.b, self.s, self.m, self.n = 0.0, a, b, 0.0, m, n
        if init:
            if generator is None:
                raise ValueError("init > 0 needs a generator, such as physml.device.generator(1)")
            self.weight.normal_(0, check_positive("init", init), generator=generator)
        self.check_stable()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "weight":
            check_precision(name, check_shape(name, value, (None, None)))
        elif name in ("r", "a", "b", "s", "m", "n"):
            units = self.n_visible if name in ("r", "a", "b") else self.n_hidden
            if not isinstance(value, Tensor):
                value = self.weight.new_full((units,), check_number(name, value))
            check_precision(name, check_shape(name, value, (units,)))
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return (f"Phi4Network({self.n_visible} {self.visible} visible, "
                f"{self.n_hidden} {self.hidden} hidden)")

    @property
    def n_visible(self) -> int:
        """Number of visible units."""
        return self.weight.shape[0]

    @property
    def n_hidden(self) -> int:
        """Number of hidden units."""
        return self.weight.shape[1]

    def parameters(self) -> dict[str, Tensor]:
        """Return the couplings that mean something for these kinds of units, by name."""
        names = ["weight", "r", "s"]
        names += ["a", "b"] if self.visible == "real" else []
        names += ["m", "n"] if self.hidden == "real" else []
        return {name: getattr(self, name) for name in names}

    # --- the joint distribution -------------------------------------------------------------

    def action(self, phi: Tensor, h: Tensor) -> Tensor:
        """Return S(phi, h), ``(chains,)``, from ``(chains, n_visible)`` and hidden alike."""
        self._check_units("phi", check_shape("phi", phi, (None, self.n_visible)))
        self._check_units("h", check_shape("h", h, (len(phi), self.n_hidden)))
        return self._layer(phi, "visible") + self._layer(h, "hidden") - (
            (phi @ self.weight) * h).sum(-1)

    def sample_hidden(self, phi: Tensor, generator: torch.Generator) -> Tensor:
        """Draw `h` given `phi`, exactly, ``(chains, n_hidden)``."""
        self._check_units("phi", phi)
        return self._draw(self._hidden_field(phi), "hidden", generator)

    def sample_visible(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """Draw `phi` given `h`, exactly, ``(chains, n_visible)``."""
        self._check_units("h", h)
        return self._draw(self._visible_field(h), "visible", generator)

    def gibbs(self, phi: Tensor, sweeps: int, generator: torch.Generator) -> Tensor:
        """Return `phi` after `sweeps` block-Gibbs sweeps (hidden, then visible), same shape."""
        for _ in range(check_positive_int("sweeps", sweeps)):
            phi = self.sample_visible(self.sample_hidden(phi, generator), generator)
        return phi

    def hidden_mean(self, phi: Tensor) -> Tensor:
        r"""Return :math:`\langle h\rangle_\phi`, ``(chains, n_hidden)``."""
        return self._mean(self._hidden_field(phi), "hidden")

    def visible_mean(self, h: Tensor) -> Tensor:
        r"""Return :math:`\langle\phi\rangle_h`, ``(chains, n_visible)``."""
        return self._mean(self._visible_field(h), "visible")

    # --- marginals and norm -----------------------------------------------------------------

    def free_action(self, phi: Tensor) -> Tensor:
        r"""Return :math:`-\ln\int dh\,e^{-S(\phi,h)}`, ``(chains,)``, differentiable.

        :math:`\ln p(\phi)` is minus this minus :math:`\ln Z`.
        """
        self._check_units("phi", self._check_layer("phi", phi, self.n_visible))
        return self._layer(phi, "visible") - self._log_z(self._hidden_field(phi), "hidden").sum(-1)

    def log_z(self) -> Tensor:
        r"""Return :math:`\ln Z` exactly, where there is a way: Gaussian, or few two-valued units.

        For :math:`b=n=0` it is a Gaussian integral over both layers; for a two-valued layer of up
        to 20 units a sum over its states.

        Raises
        ------
        ValueError
            If neither applies: use `annealed_log_z`.
        """
        if self.hidden == "real" == self.visible and not bool(self.b.any() or self.n.any()):
            kernel, source = self._kernel(), -torch.cat([self.r, self.s])
            lower = torch.linalg.cholesky(kernel)
            half = torch.linalg.solve_triangular(lower, source[:, None], upper=False)
            size = len(kernel)
            return (0.5 * (half**2).sum() - lower.diagonal().log().sum()
                    + 0.5 * size * math.log(2 * math.pi))
        for layer, units in (("hidden", self.n_hidden), ("visible", self.n_visible)):
            if getattr(self, layer) != "real" and units <= 20:
                low = 0.0 if getattr(self, layer) == "binary" else -1.0
                values = torch.tensor([low, 1.0]).to(self.weight)
                states = torch.cartesian_prod(*[values] * units).reshape(-1, units)
                total = []
                for part in states.split(4096):
                    other = "visible" if layer == "hidden" else "hidden"
                    field = (self._visible_field(part) if layer == "hidden"
                             else self._hidden_field(part))
                    total.append(self._log_z(field, other).sum(-1) - self._layer(part, layer))
                return torch.cat(total).logsumexp(0)
        raise ValueError("log_z is known exactly only for a Gaussian network, or with up to 20 "
                         "two-valued units in one layer: use annealed_log_z")

    def annealed_log_z(self, chains: int, steps: int, generator: torch.Generator) -> Estimate:
        r"""Return :math:`\ln Z` by annealing the weights from zero; see `oracle.annealed_log_z`."""
        zero = self.weight.new_zeros(check_positive_int("chains", chains), self.n_hidden)
        there = self.weight.clone()
        try:
            self.weight = torch.zeros_like(there)
            log_z0 = (self._log_z(self._visible_field(zero[:1]), "visible").sum()
                      + self._log_z(-self.s, "hidden").sum())
            phi = self._draw(self._visible_field(zero), "visible", generator)
            log_weight = 0.0
            for k in range(check_positive_int("steps", steps)):
                before = self.free_action(phi)
                self.weight = there * ((k + 1) / steps)
                log_weight = log_weight + before - self.free_action(phi)
                if k + 1 < steps:
                    phi = self.gibbs(phi, 1, generator)
        finally:
            self.weight = there
        w = torch.exp(log_weight - log_weight.max())
        return Estimate(float(log_z0 + w.mean().log() + log_weight.max()),
                        float(w.std() / w.mean()) / math.sqrt(chains))

    def check_stable(self) -> None:
        r"""Raise `StabilityError` unless :math:`e^{-S}` can be normalised.

        Along a direction with a quartic term the action wins in the end. So the kernel of the real
        units without one, :math:`\big(\begin{smallmatrix}2a&-W\\-W^T&2m\end{smallmatrix}\big)`,
        must be positive definite.
        """
        if not has_numbers(self.weight):
            return
        for name, tensor in self.parameters().items():
            check_finite(name, tensor)
        quartic = []
        for layer, name, coupling in (("visible", "b", self.b), ("hidden", "n", self.n)):
            if getattr(self, layer) != "real":
                quartic.append(torch.ones_like(coupling))  # bounded: as good as a quartic term
            elif bool((coupling < 0).any()):
                raise StabilityError(f"{name} has negative entries, so exp(-S) has no norm")
            else:
                quartic.append(coupling)
        soft = torch.cat(quartic) == 0
        if not bool(soft.any()):
            return
        kernel = self._kernel()[soft][:, soft].double()
        if int(torch.linalg.cholesky_ex(kernel).info):
            lowest = float(torch.linalg.eigvalsh(kernel)[0])
            raise StabilityError(
                f"the units without a quartic term have a kernel with the eigenvalue {lowest:.4g}, "
                "so exp(-S) has no norm: scale `weight` down, or raise a, m, b or n"
            )

    # --- inner parts --------------------------------------------------------------------------

    def _check_layer(self, name: str, x: Tensor, units: int) -> Tensor:
        check_shape(name, x, (None, units))
        if x.dtype != self.weight.dtype:
            raise ValueError(f"{name} must be {self.weight.dtype}, the network's type, not "
                             f"{x.dtype}: convert it with `to`")
        return x

    def _check_units(self, name: str, x: Tensor) -> Tensor:
        """Return units `x`, raise `ValueError` if those of a two-valued layer are something else:
        their probabilities would be numbers, and mean nothing."""
        kind = self.hidden if name == "h" else self.visible
        if kind == "real" or not has_numbers(check_tensor(name, x)):
            return x
        low, high = _VALUES[kind]
        if not bool(((x == low) | (x == high)).all()):
            raise ValueError(
                f"{name} holds {float(x.min()):.4g} to {float(x.max()):.4g}, but these units are "
                f"{kind}: each must be {low} or {high}; threshold the values, or take real units"
            )
        return x

    def _kernel(self) -> Tensor:
        return torch.cat([torch.cat([torch.diag(2 * self.a), -self.weight], 1),
                          torch.cat([-self.weight.T, torch.diag(2 * self.m)], 1)])

    def _hidden_field(self, phi: Tensor) -> Tensor:
        return self._check_layer("phi", phi, self.n_visible) @ self.weight - self.s

    def _visible_field(self, h: Tensor) -> Tensor:
        return self._check_layer("h", h, self.n_hidden) @ self.weight.T - self.r

    def _site(self, layer: str) -> tuple[Tensor, Tensor, Tensor]:
        return (self.r, self.a, self.b) if layer == "visible" else (self.s, self.m, self.n)

    def _layer(self, x: Tensor, layer: str) -> Tensor:
        linear, quadratic, quartic = self._site(layer)
        if getattr(self, layer) != "real":
            return x @ linear
        square = x * x
        return x @ linear + square @ quadratic + (square * square) @ quartic

    def _draw(self, field: Tensor, layer: str, generator: torch.Generator) -> Tensor:
        kind = getattr(self, layer)
        _, quadratic, quartic = self._site(layer)
        if kind == "real":
            return quartic_normal(field, quadratic, quartic, generator)[0]
        up = torch.sigmoid(field if kind == "binary" else 2 * field)
        drawn = torch.rand(up.shape, generator=generator, dtype=up.dtype, device=up.device) < up
        return drawn.to(up) if kind == "binary" else 2 * drawn.to(up) - 1

    def _log_z(self, field: Tensor, layer: str) -> Tensor:
        kind = getattr(self, layer)
        _, quadratic, quartic = self._site(layer)
        if kind == "real":
            return site_log_z(field, quadratic, quartic)
        if kind == "binary":
            return torch.nn.functional.softplus(field)
        return torch.logaddexp(field, -field)

    def _mean(self, field: Tensor, layer: str) -> Tensor:
        # the derivative of ln z in the field
        with derivatives():
            x = field.detach().clone().requires_grad_(True)
            return torch.autograd.grad(self._log_z(x, layer).sum(), x)[0]


def _span(field: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return an interval outside which the weight is below exp(-60) of its maximum."""
    h = field.abs()
    # the largest root of 4 b phi^3 + 2 a phi = h is the maximum: Newton's method from above, where
    # the cubic is convex
    safe = b.clamp(min=torch.finfo(b.dtype).tiny ** 0.5)
    phi = ((-a).clamp(min=0) / (2 * safe)).sqrt() + (h / (4 * safe)) ** (1 / 3)
    phi = torch.where(a > 0, torch.minimum(phi, h / (2 * a.clamp(min=1e-30))), phi)
    for _ in range(30):
        slope = 12 * b * phi**2 + 2 * a
        step = ((4 * b * phi**2 + 2 * a) * phi - h) / torch.where(slope > 0, slope, 1.0)
        phi = phi - torch.where(slope > 0, step, 0.0)
    # beyond it the exponent falls by more than k x^2 / 2 + b x^4, with the curvature k there
    k = (12 * b * phi**2 + 2 * a).clamp(min=0)
    beyond = (4 * _DEPTH / (k + (k * k + 16 * b * _DEPTH).sqrt())).sqrt()
    high = phi + beyond
    top = h * phi - (a + b * phi**2) * phi**2
    # below it: a single well is concave, so the level is met once; two wells lie symmetrically
    low, inside = -high, phi.clone()
    for _ in range(40):
        middle = 0.5 * (low + inside)
        under = h * middle - (a + b * middle**2) * middle**2 < top - _DEPTH
        low, inside = torch.where(under, middle, low), torch.where(under, inside, middle)
    low = torch.where(a < 0, -high, low)
    sign = field < 0
    return torch.where(sign, -high, low), torch.where(sign, -low, high)
