r"""Free fields on periodic lattices, in any dimension.

A free field has the action :math:`S=\frac12\phi^TK\phi` with a kernel that is diagonal in momentum
space, so everything follows from its spectrum :math:`K(k)`, a tensor of the lattice's shape in the
order of `torch.fft.fftn`. Two forms of the kernel are in use here:

* :math:`K=m^2-\Delta`: `Lattice.free_spectrum` gives :math:`m^2+4\sum_\mu\sin^2(k_\mu/2)`;
* the hopping form :math:`S=\sum_x[-2\kappa\sum_\mu\phi_x\phi_{x+\hat\mu}+\phi_x^2]`, which is
  lattice :math:`\phi^4` at :math:`\lambda=0`: `hopping_spectrum`. Both are one theory,
  :math:`K_{\rm hop}=2\kappa(m_0^2-\Delta)` with :math:`m_0^2=1/\kappa-2d`.
"""

from __future__ import annotations

import math

import torch

from ..errors import ShapeError, StabilityError, check_positive, check_positive_int
from ..lattice import Lattice

__all__ = [
    "chain_spectrum",
    "free_chain_propagator",
    "free_chi",
    "free_log_det",
    "free_log_z",
    "free_phi2",
    "free_propagator",
    "gaussian_kl",
    "hopping_spectrum",
]


def chain_spectrum(sites: int, mass2: float) -> torch.Tensor:
    r"""Return the sorted eigenvalues of the free field on a periodic chain, shape ``(sites,)``.

    :math:`\kappa_k = m^2 + 2 - 2\cos(2\pi k/N)`, by Fourier transformation of
    :math:`K=m^2-\Delta`; all but the lowest (and, for even `N`, the highest) come in pairs.
    """
    sites = check_positive_int("sites", sites)
    k = 2 * math.pi * torch.arange(sites, dtype=torch.float64, device="cpu") / sites
    return (check_positive("mass2", mass2) + 2 - 2 * torch.cos(k)).sort().values


def gaussian_kl(covariance: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    r"""Return KL(target || model) in nats for centred Gaussians, shape ``()``.

    :math:`\frac12[\operatorname{tr}(KC) - N - \ln\det(KC)]` with the target's covariance `C`
    and the model's kernel `K`, both ``(n, n)`` and positive definite.
    """
    n = covariance.shape[0]
    log_det = torch.logdet(kernel) + torch.logdet(covariance)
    return 0.5 * ((kernel * covariance).sum() - n - log_det)


def free_chain_propagator(sites: int, mass2: float) -> torch.Tensor:
    r"""Return the propagator of the free field on a periodic chain, shape ``(sites,)``.

    .. math:: G(x)=\frac{\cosh[\omega(x-N/2)]}{2\sinh\omega\,\sinh(\omega N/2)},\qquad
              2\cosh\omega=2+m^2.

    Derivation: :math:`e^{\pm\omega x}` solve :math:`(m^2-\Delta)G=0` away from the origin, the
    combination is the one with :math:`G(x)=G(N-x)`, and the normalisation follows from
    :math:`(2+m^2)G(0)-2G(1)=1`.
    """
    sites = check_positive_int("sites", sites)
    omega = 2 * math.asinh(
        math.sqrt(check_positive("mass2", mass2)) / 2
    )  # no digits lost at m -> 0
    x = torch.arange(sites, dtype=torch.float64, device="cpu")
    # cosh(w(x - N/2)) / sinh(wN/2) with the growing exponentials divided out
    ratio = (torch.exp(-omega * x) + torch.exp(omega * (x - sites))) / -math.expm1(-omega * sites)
    return ratio / (2 * math.sinh(omega))


def hopping_spectrum(lattice: Lattice, kappa: float) -> torch.Tensor:
    r"""Return the spectrum of the free hopping form, :math:`K(k)=2-4\kappa\sum_\mu\cos k_\mu`.

    Derivation: the Fourier transform of :math:`2\delta_{xy}-2\kappa\sum_{\pm\mu}
    \delta_{x\pm\hat\mu,y}`. For :math:`\kappa>0` the smallest eigenvalue is the one at zero
    momentum, :math:`2-4d\kappa`, so the field exists for :math:`\kappa<1/2d`; for negative
    :math:`\kappa` it is the one nearest to :math:`k=(\pi,\ldots,\pi)`, and lengths that are all
    even give :math:`\kappa>-1/2d`.

    Raises
    ------
    StabilityError
        If an eigenvalue is not positive.
    """
    spectrum = 2 - 4 * float(kappa) * lattice.momenta().cos().sum(-1)
    if not bool((spectrum > 0).all()):
        raise StabilityError(
            f"kappa={kappa} gives no free field on a lattice of shape {lattice.shape}: the "
            f"smallest eigenvalue is {float(spectrum.min()):.4g}; choose |kappa| below 1/(2 dim) = "
            f"{1 / (2 * lattice.dim):.4g}"
        )
    return spectrum


def free_propagator(spectrum: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`G(x)=\langle\phi_0\phi_x\rangle=\frac1V\sum_ke^{ikx}/K(k)`, same shape.

    For :math:`K=m^2-\Delta` this is `Lattice.free_propagator`.
    """
    return torch.fft.ifftn(1 / _positive(spectrum)).real


def free_log_det(spectrum: torch.Tensor) -> float:
    r"""Return :math:`\frac1V\ln\det K=\frac1V\sum_k\ln K(k)`."""
    return float(_positive(spectrum).log().mean())


def free_log_z(spectrum: torch.Tensor) -> float:
    r"""Return :math:`\ln Z=\ln\int d^V\phi\,e^{-S}=\frac V2\ln2\pi-\frac12\ln\det K`."""
    return 0.5 * spectrum.numel() * (math.log(2 * math.pi) - free_log_det(spectrum))


def free_phi2(spectrum: torch.Tensor) -> float:
    r"""Return :math:`\langle\phi_x^2\rangle=G(0)=\frac1V\sum_k1/K(k)`."""
    return float((1 / _positive(spectrum)).mean())


def free_chi(spectrum: torch.Tensor) -> float:
    r"""Return the susceptibility :math:`\chi=V\langle M^2\rangle=\sum_xG(x)=1/K(0)`,
    :math:`M=\frac1V\sum\phi`."""
    return 1 / float(_positive(spectrum).reshape(-1)[0])


def _positive(spectrum: torch.Tensor) -> torch.Tensor:
    if spectrum.numel() == 0:
        raise ShapeError("spectrum is empty: give the eigenvalues K(k), of the lattice's shape")
    if not bool((spectrum > 0).all()):
        raise StabilityError(
            f"spectrum has the eigenvalue {float(spectrum.min()):.4g}: a free field needs all of "
            "them positive"
        )
    return spectrum
