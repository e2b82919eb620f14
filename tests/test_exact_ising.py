from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import integrate, special

from physml import exact
from physml.errors import ShapeError

BETA_C = exact.ISING_BETA_C


def test_critical_temperature_is_self_dual():
    assert BETA_C == pytest.approx(0.4406867935, abs=5e-11)
    assert math.tanh(BETA_C) == pytest.approx(math.exp(-2 * BETA_C), rel=1e-15)
    at = exact.ising_infinite(BETA_C)
    assert at.energy == pytest.approx(-math.sqrt(2), rel=1e-13)
    # Onsager: ln sqrt 2 + 2 G / pi with Catalan's constant
    assert at.log_z == pytest.approx(math.log(2) / 2 + 2 * 0.915965594177219 / math.pi, rel=1e-14)


@pytest.mark.parametrize(
    ("beta", "energy", "log_z", "m"),
    [
        (0.3, -0.7044990708, 0.7905590710, 0.0),
        (0.4, -1.1060792037, 0.8793638208, 0.0),
        (0.5, -1.7455645753, 1.0257928127, 0.9113193779),
    ],
)
def test_infinite_system(beta, energy, log_z, m):
    state = exact.ising_infinite(beta)
    assert [state.energy, state.log_z, state.magnetisation] == pytest.approx(
        [energy, log_z, m], abs=6e-11
    )


@pytest.mark.parametrize("beta", [0.05, 0.3, 0.44, 0.4406867, 0.45, 0.7, 2.0])
def test_infinite_system_against_scipy(beta):
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    area, _ = integrate.quad(
        lambda x: math.log1p(math.sqrt(max(0.0, 1 - (k * math.sin(x)) ** 2))),
        0, math.pi / 2, epsabs=1e-12, epsrel=1e-12, limit=500,
    )  # fmt: skip
    state = exact.ising_infinite(beta)
    want = math.log(math.sqrt(2) * math.cosh(2 * beta)) + area / math.pi
    assert state.log_z == pytest.approx(want, rel=1e-11)
    factor = 2 * math.tanh(2 * beta) ** 2 - 1
    kernel = special.ellipkm1(factor**2)  # 1 - k^2 is the square of the factor
    want = -(1 + 2 / math.pi * factor * kernel) / math.tanh(2 * beta)
    assert state.energy == pytest.approx(want, rel=1e-11)


@pytest.mark.parametrize("beta", [0.2, 0.43, 0.45, 0.6])
def test_energy_is_the_derivative(beta):
    h = 1e-5
    slope = (exact.ising_infinite(beta + h).log_z - exact.ising_infinite(beta - h).log_z) / (2 * h)
    assert exact.ising_infinite(beta).energy == pytest.approx(-slope, rel=1e-7)
    slope = [exact.ising_finite(b, (6, 8)).log_z for b in (beta + h, beta - h)]
    assert exact.ising_finite(beta, (6, 8)).energy == pytest.approx(
        -(slope[0] - slope[1]) / (2 * h), rel=1e-7
    )


@pytest.mark.parametrize("beta", [0.1, 0.37, 0.6])
def test_duality_of_the_free_energy(beta):
    """Kramers and Wannier: ln Z(b)/N - ln sinh(2b)/2 is the same at the dual temperature."""
    dual = -math.log(math.tanh(beta)) / 2
    one, two = (
        exact.ising_infinite(b).log_z - math.log(math.sinh(2 * b)) / 2 for b in (beta, dual)
    )
    assert one == pytest.approx(two, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "beta", "log_z", "energy"),
    [
        (4, BETA_C, 0.9701197162, -1.5656238),
        (16, BETA_C, 0.9321963150, -1.4530649),
        (4, 0.4, 0.9100683140, -1.3791165),
        (16, 0.4, 0.8798001826, -1.1313180),
    ],
)
def test_finite_lattices(size, beta, log_z, energy):
    state = exact.ising_finite(beta, (size, size))
    assert state.log_z == pytest.approx(log_z, abs=6e-11)
    assert state.energy == pytest.approx(energy, abs=6e-8)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 3), (3, 5), (2, 4), (5, 2), (2, 2)])
@pytest.mark.parametrize("beta", [0.2, BETA_C, 0.9])
def test_kaufman_against_enumeration(shape, beta):
    one, two = exact.ising_finite(beta, shape), exact.ising_enumeration(beta, shape)
    assert one.log_z == pytest.approx(two.log_z, rel=1e-12)
    assert one.energy == pytest.approx(two.energy, rel=1e-10)


def test_enumeration():
    at = exact.ising_enumeration(BETA_C)
    assert at.m2 == pytest.approx(0.7613589086, abs=6e-11)
    assert at.binder == pytest.approx(0.6171993, abs=6e-8)
    warm = exact.ising_enumeration(0.3)
    assert warm.energy == pytest.approx(-0.8440540736, abs=6e-11)
    assert warm.m2 == pytest.approx(0.3576467969, abs=6e-11)
    # a ring of five, by hand
    t = math.tanh(0.7)
    ring = exact.ising_enumeration(0.7, (5,))
    assert 5 * ring.log_z == pytest.approx(
        5 * math.log(2 * math.cosh(0.7)) + math.log(1 + t**5), rel=1e-13
    )
    free = exact.ising_enumeration(0.0, (3, 3))
    assert free.m2 == pytest.approx(1 / 9, rel=1e-13)


def test_enumeration_by_loops():
    total, m2 = 0.0, 0.0
    for s in itertools.product((-1, 1), repeat=6):
        x = torch.tensor(s).reshape(2, 3)
        bonds = int((x * (x.roll(-1, 0) + x.roll(-1, 1))).sum())
        weight = math.exp(0.3 * bonds)
        total, m2 = total + weight, m2 + weight * (sum(s) / 6) ** 2
    state = exact.ising_enumeration(0.3, (2, 3))
    assert 6 * state.log_z == pytest.approx(math.log(total), rel=1e-13)
    assert state.m2 == pytest.approx(m2 / total, rel=1e-13)


def test_large_lattices_reach_the_infinite_one():
    """Exponentially, away from the critical point; ordered phase: two states, ln 2 / N."""
    for beta, degeneracy in ((0.3, 1), (0.6, 2)):
        finite, infinite = exact.ising_finite(beta, (120, 120)), exact.ising_infinite(beta)
        want = infinite.log_z + math.log(degeneracy) / 120**2
        assert finite.log_z == pytest.approx(want, rel=1e-12)
        assert finite.energy == pytest.approx(infinite.energy, rel=1e-10)


def test_critical_points_of_phi4():
    points = {p.lam: p.kappa for p in exact.PHI4_CRITICAL}
    assert points[0.022] == 0.27088 and points[math.inf] == pytest.approx(0.2203433967)
    assert all(p.source for p in exact.PHI4_CRITICAL)
    # above the mean-field value (1 - 2 lam) / 2d
    assert points[0.022] > (1 - 0.044) / 4
    # <m^4>/<m^2>^2 = 1.1679229 at criticality (Salas and Sokal)
    assert exact.ISING_BINDER == pytest.approx(1 - 1.1679229 / 3, abs=5e-6)


def test_bad_shapes():
    with pytest.raises(ShapeError, match="two lengths"):
        exact.ising_finite(0.3, (4,))
    with pytest.raises(ShapeError, match="at most 20 sites"):
        exact.ising_enumeration(0.3, (5, 5))
    with pytest.raises(ValueError, match="beta"):
        exact.ising_infinite(0.0)
