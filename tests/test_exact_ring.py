from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.errors import StabilityError
from physml.lattice import Lattice


def test_table():
    ring = exact.phi4_ring(8, 0.3, 0.1)
    got = [ring.log_z, ring.phi2, ring.phi4, ring.hopping, ring.chi]
    want = [5.18661060, 0.55243915, 0.79096460, 0.16690706, 1.03018068]
    assert got == pytest.approx(want, abs=6e-9)


@pytest.mark.parametrize(
    ("sites", "kappa", "lam"),
    [(8, 0.3, 0.1), (33, 0.5, 0.022), (5, -0.4, 1.0), (64, 0.8, 0.2), (2, 0.2, 50.0), (7, 0.49, 0)],
)
def test_two_grids_agree_and_schwinger_dyson_holds(sites, kappa, lam):
    one = exact.phi4_ring(sites, kappa, lam)
    # shares no point with the default grid, and is finer
    other = exact.phi4_ring(sites, kappa, lam, points=1031)
    assert one.log_z == pytest.approx(other.log_z, rel=1e-11, abs=1e-11)
    torch.testing.assert_close(one.correlator, other.correlator, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(one.square_correlator, other.square_correlator, rtol=1e-9, atol=0)
    # <phi dS/dphi> = 1
    virial = -4 * kappa * one.hopping + 2 * (1 - 2 * lam) * one.phi2 + 4 * lam * one.phi4
    assert virial == pytest.approx(1, abs=1e-9 * max(1, 4 * lam * one.phi4))
    c = one.correlator
    torch.testing.assert_close(c[1:], c[1:].flip(0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("sites", "kappa"), [(2, 0.2), (7, -0.3), (8, 0.45), (40, 0.1)])
def test_the_free_ring(sites, kappa):
    spectrum = exact.hopping_spectrum(Lattice(sites), kappa)
    ring = exact.phi4_ring(sites, kappa, 0.0)
    green = exact.free_propagator(spectrum)
    torch.testing.assert_close(ring.correlator, green, rtol=1e-10, atol=1e-12)
    assert ring.log_z == pytest.approx(exact.free_log_z(spectrum), rel=1e-12)
    assert ring.chi == pytest.approx(exact.free_chi(spectrum), rel=1e-11)
    # Wick: <phi_0^2 phi_r^2> = G(0)^2 + 2 G(r)^2
    wick = green[0] ** 2 + 2 * green**2
    torch.testing.assert_close(ring.square_correlator, wick, rtol=1e-10, atol=0)


def test_without_hopping_the_sites_are_zero_dimensional():
    for lam in (0.022, 0.3, 0.5, 2.0):  # at lam > 1/2 a double well
        ring = exact.phi4_ring(5, 0.0, lam)
        mu2, g = 2 * (1 - 2 * lam), 24 * lam
        assert ring.log_z == pytest.approx(5 * exact.phi4_log_z(mu2, g), rel=1e-12)
        assert [ring.phi2, ring.phi4] == pytest.approx(exact.phi4_moments(mu2, g, 2), rel=1e-11)
        assert ring.chi == pytest.approx(ring.phi2, rel=1e-11)


@pytest.mark.parametrize("sites", [2, 3])
def test_small_rings_by_brute_force(sites):
    kappa, lam = 0.35, 0.2
    x = torch.linspace(-4.5, 4.5, 121, dtype=torch.float64)
    phi = torch.stack(torch.meshgrid(*[x] * sites, indexing="ij"))
    action = (-2 * kappa * phi * phi.roll(-1, 0) + (1 - 2 * lam) * phi**2 + lam * phi**4).sum(0)
    weight = torch.exp(-action) * (9 / 120) ** sites
    z = weight.sum()
    ring = exact.phi4_ring(sites, kappa, lam)
    assert ring.log_z == pytest.approx(float(z.log()), rel=1e-11)
    for r in range(sites):
        want = float((weight * phi[0] * phi[r]).sum() / z)
        assert float(ring.correlator[r]) == pytest.approx(want, rel=1e-10)
        want = float((weight * phi[0] ** 2 * phi[r] ** 2).sum() / z)
        assert float(ring.square_correlator[r]) == pytest.approx(want, rel=1e-10)


def test_the_ising_limit():
    """1/lambda corrections: half of them at twice lambda, and none left when extrapolated."""
    t = math.tanh(0.6)
    want = (t + t**6) / (1 + t**7)
    rough = [exact.phi4_ring(7, 0.3, lam).hopping for lam in (500.0, 1000.0)]
    assert abs(rough[1] - want) < 2e-3
    assert 2 * rough[1] - rough[0] == pytest.approx(want, abs=1e-5)


def test_bad_couplings():
    for kappa, lam in [(0.5, 0.0), (-0.6, 0.0), (0.1, -0.1)]:
        with pytest.raises(StabilityError, match="choose lam > 0"):
            exact.phi4_ring(8, kappa, lam)
    with pytest.raises(ValueError, match="its own neighbour"):
        exact.phi4_ring(1, 0.1, 0.1)
    with pytest.raises(ValueError, match="grid points"):
        exact.phi4_ring(8, 0.1, 1e6)
    with pytest.raises(ValueError, match="finite"):
        exact.phi4_ring(8, math.nan, 1.0)
