r"""The machine, its two conditionals, and everything about it that is exact.

.. math::

    S(\phi,h)=\tfrac12\mu^2\sum_i\phi_i^2+\tfrac1{2\sigma^2}\sum_a(h_a-\eta_a)^2
              -\sum_{ia}\phi_iw_{ia}h_a ,\qquad p(\phi,h)=e^{-S}/Z .

All is Gaussian. Summing over `h` leaves :math:`p(\phi)\propto e^{-\frac12\phi^TK\phi+J^T\phi}` with
:math:`K=\mu^21-\sigma^2WW^T` and :math:`J=W\eta`, normalisable if and only if `K` is positive:
:math:`\sigma^2\xi_{\max}^2<\mu^2` for the largest singular value of `W`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import (
    StabilityError,
    check_finite,
    check_number,
    check_positive,
    check_positive_int,
    check_precision,
    check_shape,
    has_numbers,
)

__all__ = ["ScalarFieldRBM"]


class ScalarFieldRBM:
    r"""A restricted Boltzmann machine with continuous, Gaussian units in both layers.

    Parameters
    ----------
    n_visible, n_hidden
        Numbers of units; `W` has shape ``(n_visible, n_hidden)``, either may be larger.
    mu2
        The mass squared :math:`\mu^2>0` of the visible layer: an ultraviolet cut-off on the
        spectrum of `K`.
    sigma
        The width of the hidden units.
    init
        `W` starts with independent normal entries of this standard deviation (none: zero).
    generator
        Where the start values come from; needed unless ``init=0``.
    dtype, device
        Of all tensors; float32 or float64.

    Attributes
    ----------
    weight, eta, mu2
        Tensors ``(n_visible, n_hidden)``, ``(n_hidden,)`` and ``()``. Assign to them freely, a
        number to `mu2` if you like;
        methods that need a normalisable distribution raise `StabilityError` if there is none.

    Raises
    ------
    StabilityError
        If the start values give a kernel that is not positive.
    """

    def __init__(
        self,
        n_visible: int,
        n_hidden: int,
        mu2: float,
        sigma: float = 1.0,
        *,
        init: float = 0.1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (check_positive_int("n_visible", n_visible),
                 check_positive_int("n_hidden", n_hidden))
        where = {"dtype": check_precision("dtype", dtype), "device": device}
        self.sigma = check_positive("sigma", sigma)
        self.mu2 = torch.tensor(check_positive("mu2", mu2), **where)
        self.eta = torch.zeros(shape[1], **where)
        self.weight = torch.zeros(shape, **where)
        if init:
            if generator is None:
                raise ValueError("init > 0 needs a generator, such as physml.device.generator(1)")
            self.weight.normal_(0, check_positive("init", init), generator=generator)
            self.check_stable()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "mu2" and not isinstance(value, Tensor):
            value = self.mu2.new_tensor(check_number(name, value))
        dims = {"weight": 2, "eta": 1, "mu2": 0}
        if name in dims:
            check_precision(name, check_shape(name, value, (None,) * dims[name]))
        super().__setattr__(name, value)

    @classmethod
    def optimum(
        cls,
        two_point: Tensor,
        n_hidden: int,
        mu2: float | None = None,
        sigma: float = 1.0,
    ) -> ScalarFieldRBM:
        r"""Return the machine of highest likelihood, in closed form, without bias.

        The `n_hidden` leading eigenvectors `u` of the two-point function with eigenvalues `c`
        above :math:`1/\mu^2` become the left singular vectors of `W`, with
        :math:`\sigma^2\xi^2=\mu^2-1/c`; the other modes stay at :math:`\mu^2`. Without `mu2` the
        mass is learned too: it is the inverse of the mean of the `c` that are cut. This is
        probabilistic principal component analysis (Tipping and Bishop 1999) in other variables.

        Parameters
        ----------
        two_point
            :math:`\langle\phi_i\phi_j\rangle`, symmetric, ``(n_visible, n_visible)``.
        """
        n = two_point.shape[0]
        check_finite("two_point", check_shape("two_point", two_point, (n, n)))
        keep = min(check_positive_int("n_hidden", n_hidden), n)
        c, u = torch.linalg.eigh(two_point)
        c, u = c.flip(0), u.flip(1)
        if mu2 is None:
            if keep == n:
                raise ValueError("mu2=None needs n_hidden < n_visible: else any large mu2 serves")
            mu2 = 1 / float(c[keep:].mean())
        model = cls(n, n_hidden, mu2, sigma, init=0, dtype=two_point.dtype,
                    device=two_point.device)
        xi2 = (mu2 - 1 / c[:keep].clamp(min=1e-300)).clamp(min=0) / sigma**2
        model.weight[:, :keep] = u[:, :keep] * xi2.sqrt()
        return model

    def __repr__(self) -> str:
        return (f"ScalarFieldRBM(n_visible={self.n_visible}, n_hidden={self.n_hidden}, "
                f"mu2={float(self.mu2):.6g}, sigma={self.sigma:g})")

    def to(self, dtype: torch.dtype | None = None,
           device: torch.device | str | None = None) -> ScalarFieldRBM:
        """Return a copy in another dtype, float32 or float64, or on another device."""
        if dtype is not None:
            check_precision("dtype", dtype)
        copy = ScalarFieldRBM(self.n_visible, self.n_hidden, float(self.mu2), self.sigma, init=0)
        for name in ("weight", "eta", "mu2"):
            setattr(copy, name, getattr(self, name).clone().to(dtype=dtype, device=device))
        return copy

    @property
    def n_visible(self) -> int:
        """Number of visible units."""
        return self.weight.shape[0]

    @property
    def n_hidden(self) -> int:
        """Number of hidden units."""
        return self.weight.shape[1]

    # --- the joint distribution -------------------------------------------------------------

    def action(self, phi: Tensor, h: Tensor) -> Tensor:
        """Return S(phi, h), shape ``(chains,)``, from ``(chains, n_visible)`` and hidden alike."""
        self._check_visible(phi)
        check_shape("h", h, (phi.shape[0], self.n_hidden))
        visible = 0.5 * self.mu2 * (phi**2).sum(-1)
        hidden = ((h - self.eta) ** 2).sum(-1) / (2 * self.sigma**2)
        return visible + hidden - ((phi @ self.weight) * h).sum(-1)

    def hidden_mean(self, phi: Tensor) -> Tensor:
        r"""Return :math:`\langle h\rangle_\phi=\eta+\sigma^2W^T\phi`, ``(chains, n_hidden)``."""
        return torch.addmm(self.eta, self._check_visible(phi), self.weight, alpha=self.sigma**2)

    def visible_mean(self, h: Tensor) -> Tensor:
        r"""Return :math:`\langle\phi\rangle_h=Wh/\mu^2`, shape ``(chains, n_visible)``."""
        check_shape("h", h, (None, self.n_hidden))
        return (h @ self.weight.T).div_(self.mu2)

    def sample_hidden(self, phi: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw `h` given `phi`: normal about `hidden_mean` with variance :math:`\sigma^2`."""
        mean = self.hidden_mean(phi)
        return mean.add_(_noise(mean, generator), alpha=self.sigma)

    def sample_visible(self, h: Tensor, generator: torch.Generator) -> Tensor:
        r"""Draw `phi` given `h`: normal about `visible_mean` with variance :math:`1/\mu^2`."""
        mean = self.visible_mean(h)
        return mean.add_(_noise(mean, generator).mul_(self.mu2.rsqrt()))

    def gibbs(self, phi: Tensor, sweeps: int, generator: torch.Generator) -> Tensor:
        """Return `phi` after `sweeps` block-Gibbs sweeps (hidden, then visible), same shape."""
        for _ in range(check_positive_int("sweeps", sweeps)):
            phi = self.sample_visible(self.sample_hidden(phi, generator), generator)
        return phi

    # --- the induced distribution of the visible layer ----------------------------------------

    def kernel(self) -> Tensor:
        r"""Return :math:`K=\mu^21-\sigma^2WW^T`, shape ``(n_visible, n_visible)``."""
        k = torch.mm(self.weight, self.weight.T).mul_(-self.sigma**2)
        k.diagonal().add_(self.mu2)
        return k

    def source(self) -> Tensor:
        r"""Return :math:`J=W\eta`, shape ``(n_visible,)``."""
        return self.weight @ self.eta

    def singular_values(self) -> Tensor:
        r"""Return the singular values :math:`\xi` of `W`, largest first."""
        return torch.linalg.svdvals(self.weight)

    def spectrum(self) -> Tensor:
        """Return the eigenvalues of `K` in ascending order, shape ``(n_visible,)``."""
        return self._levels(self._squared_singular_values())

    def modes(self) -> tuple[Tensor, Tensor]:
        """Return eigenvalues of `K`, ascending, and eigenvectors as columns."""
        u, xi, _ = torch.linalg.svd(self.weight, full_matrices=True)
        return self._levels(xi**2), u

    def check_stable(self) -> None:
        r"""Raise `StabilityError` unless :math:`\sigma^2\xi_{\max}^2<\mu^2`."""
        check_finite("weight", self.weight)
        if self._is_fake():
            return
        if not int(torch.linalg.cholesky_ex(self.kernel()).info):  # a tenth of the cost of a norm
            return
        top = float(self.sigma**2 * self._squared_singular_values()[0])
        if not top < float(self.mu2):
            raise StabilityError(
                f"mu2={float(self.mu2):.6g} must exceed sigma^2 xi_max^2={top:.6g}, or K is not "
                "positive and p(phi) has no norm: raise mu2, or scale `weight` (or `init`) down"
            )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Draw `n` independent fields exactly, shape ``(n, n_visible)``.

        With the Cholesky factor :math:`K=LL^T`: :math:`\phi=K^{-1}J+L^{-T}z`.
        """
        lower = self._cholesky()
        z = torch.empty(check_positive_int("n", n), self.n_visible, dtype=lower.dtype,
                        device=lower.device).normal_(generator=generator)
        phi = torch.linalg.solve_triangular(lower, z, upper=False, left=False)
        return phi + torch.cholesky_solve(self.source()[:, None], lower)[:, 0]

    def covariance(self) -> Tensor:
        """Return the connected two-point function, the inverse of `K`."""
        return torch.cholesky_inverse(self._cholesky())

    def log_likelihood(self, phi: Tensor) -> Tensor:
        r"""Return :math:`\ln p(\phi)`, normalised, shape ``(chains,)``.

        :math:`-\frac12\phi^TK\phi+J^T\phi-\frac12J^TK^{-1}J+\frac12\ln\det K
        -\frac{N_v}2\ln2\pi`, exact.
        """
        self._check_visible(phi)
        along = phi @ self.weight
        quadratic = self.mu2 * (phi**2).sum(-1) - self.sigma**2 * (along**2).sum(-1)
        return -0.5 * quadratic + along @ self.eta + self._log_norm()

    def mean_log_likelihood(self, two_point: Tensor, mean: Tensor | None = None) -> Tensor:
        r"""Return the average of `log_likelihood` over data known by their two-point function.

        Parameters
        ----------
        two_point
            :math:`\langle\phi_i\phi_j\rangle` of the data, disconnected part included.
        mean
            :math:`\langle\phi_i\rangle` of the data; it counts only where there is a bias.
        """
        n = self.n_visible
        check_shape("two_point", two_point, (n, n))
        along = ((two_point @ self.weight) * self.weight).sum()
        quadratic = self.mu2 * two_point.trace() - self.sigma**2 * along
        linear = 0.0 if mean is None else check_shape("mean", mean, (n,)) @ self.source()
        return -0.5 * quadratic + linear + self._log_norm()

    def kl(self, two_point: Tensor, mean: Tensor | None = None) -> Tensor:
        """Return KL(target || model) in nats for a Gaussian target.

        The target has the given (full) two-point function and mean (none: zero); its connected
        part must be positive definite.
        """
        centred = two_point if mean is None else two_point - torch.outer(mean, mean)
        chol, bad = torch.linalg.cholesky_ex(centred)
        if int(bad):
            raise StabilityError(
                "two_point has an eigenvalue that is not positive, so the target has no density: "
                "compare `mean_log_likelihood` of two models instead"
            )
        entropy = 0.5 * self.n_visible * (1 + math.log(2 * math.pi))
        entropy = entropy + chol.diagonal().log().sum()
        return -entropy - self.mean_log_likelihood(two_point, mean)

    # --- inner parts --------------------------------------------------------------------------

    def _squared_singular_values(self) -> Tensor:
        """From the smaller Gram matrix, largest first: as exact as `K` itself, twice as fast."""
        w = self.weight if self.n_hidden > self.n_visible else self.weight.T
        return torch.linalg.eigvalsh(w @ w.T).flip(0).clamp(min=0)

    def _levels(self, xi2: Tensor) -> Tensor:
        lam = self.mu2.repeat(self.n_visible)
        lam[: len(xi2)] -= self.sigma**2 * xi2
        return lam

    def _log_norm(self) -> Tensor:
        lower = self._cholesky()
        source = torch.linalg.solve_triangular(lower, self.source()[:, None], upper=False)
        log_det = lower.diagonal().log().sum()
        return log_det - 0.5 * (source**2).sum() - 0.5 * self.n_visible * math.log(2 * math.pi)

    def _cholesky(self) -> Tensor:
        lower, bad = torch.linalg.cholesky_ex(self.kernel())
        if not self._is_fake() and int(bad):
            self.check_stable()  # raises with the numbers, unless K is positive by a rounding
            raise StabilityError("K is positive only within rounding: use float64 or raise mu2")
        return lower

    def _check_visible(self, phi: Tensor) -> Tensor:
        check_shape("phi", phi, (None, self.n_visible))
        if phi.dtype != self.weight.dtype:
            raise ValueError(f"phi must be {self.weight.dtype}, the machine's type, not "
                             f"{phi.dtype}: convert one of them with `to`")
        return phi

    def _is_fake(self) -> bool:
        return not has_numbers(self.weight)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(like).normal_(generator=generator)
