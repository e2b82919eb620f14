"""Checkerboard Gibbs sampling: exact draws, an exact stationary distribution, known observables."""

from __future__ import annotations

import math

import pytest
import torch

from physml import statistics
from physml.actions import FreeField, InhomogeneousPhi4, Phi4
from physml.device import generator
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice
from physml.sampling import CheckerboardGibbs, quartic_normal

GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)
CASES = [
    (0.0, 1.0, 0.0),
    (0.7, 0.5, 0.3),
    (-2.0, 0.0, 1.0),
    (0.3, -3.0, 2.0),
    (25.0, 1.0, 0.5),
    (-4.0, -19.0, 10.0),  # two humps in the proposals
    (0.01, -199.0, 100.0),
    (6.5, -19.0, 10.0),
    (20.0, -19.0, 10.0),  # too strong a field for two humps
    (0.0, 1.0, 1e-40),
]


def cumulative(h, a, b):
    log_p = h * GRID - a * GRID**2 - b * GRID**4
    p = torch.exp(log_p - log_p.max())
    return torch.cumulative_trapezoid(p, GRID) / torch.trapezoid(p, GRID)


@pytest.mark.parametrize(("h", "a", "b"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_density(h, a, b, dtype):
    """Kolmogorov's test against quadrature: sqrt(n) D > 1.95 has probability 1e-3."""
    n = 20_000
    phi, acceptance = quartic_normal(torch.full((n,), h, dtype=dtype), a, b, generator(11))
    assert phi.dtype == dtype and phi.shape == (n,)
    low = torch.searchsorted(GRID, phi.double().sort().values).clamp(2, len(GRID) - 1)
    exact = cumulative(h, a, b)[low - 2]  # a step of the grid is 0.004: smooth enough
    rank = torch.arange(1, n + 1, dtype=torch.float64) / n
    slope = float(cumulative(h, a, b).diff().max())  # by which the grid blurs
    assert float((exact - rank).abs().max()) < 1.95 / math.sqrt(n) + slope
    assert 0 < acceptance <= 1


def test_moments_of_all_cases_at_once():
    """Site by site couplings, as on an inhomogeneous lattice; chi2 of 20 moments."""
    n = 50_000
    h, a, b = (torch.tensor(v, dtype=torch.float64) for v in zip(*CASES, strict=True))
    phi, _ = quartic_normal(h.expand(n, -1), a, b, generator(12))
    chi2 = 0.0
    for i, case in enumerate(CASES):
        log_p = case[0] * GRID - case[1] * GRID**2 - case[2] * GRID**4
        p = torch.exp(log_p - log_p.max())
        p = p / p.sum()
        for k in (1, 2):
            mean, square = float((p * GRID**k).sum()), float((p * GRID ** (2 * k)).sum())
            error = math.sqrt((square - mean**2) / n)
            chi2 += ((float((phi[:, i] ** k).mean()) - mean) / error) ** 2
    assert chi2 < 20 + 4 * math.sqrt(40)


def test_couplings_keep_their_precision():
    h = torch.linspace(-1, 1, 50, dtype=torch.float64)
    numbers, _ = quartic_normal(h, 0.1, 0.3, generator(5))
    tensors, _ = quartic_normal(h, torch.full_like(h, 0.1), torch.full_like(h, 0.3), generator(5))
    assert torch.equal(numbers, tensors)


def test_acceptance_of_single_wells():
    """Never below 1/sqrt(3), its limit for strong fields."""
    for a in (0.0, 0.1, 3.0):
        for h in (0.0, 1.0, 100.0):
            field = torch.full((20_000,), h, dtype=torch.float64)
            _, acceptance = quartic_normal(field, a, 1.0, generator(13))
            assert acceptance > 3**-0.5 - 0.012  # four standard errors


@pytest.mark.parametrize("lam", [1.0, 2.0, 4.0, 5.0, 10.0, 100.0, 1e4])
def test_acceptance_of_double_wells(lam):
    for h in (0.0, 1.0, 3.0):
        field = torch.full((20_000,), h, dtype=torch.float64)
        _, acceptance = quartic_normal(field, 1 - 2 * lam, lam, generator(14))
        assert acceptance > (0.2 if lam < 10 else 0.35)


def ring(sites, kappa, lam):
    """Moments of phi^4 on a ring from the transfer matrix, by the trapezoidal rule."""
    x = torch.linspace(-5, 5, 401, dtype=torch.float64)
    potential = (1 - 2 * lam) * x**2 + lam * x**4
    log_t = 2 * kappa * x[:, None] * x - 0.5 * (potential[:, None] + potential)
    t = torch.exp(log_t) * float(x[1] - x[0])
    rest = torch.linalg.matrix_power(t, sites - 1)
    weight = rest.T * t  # of the fields on a link
    z = float(weight.sum())
    site = weight.sum(1)
    return {
        "phi2": float((site * x**2).sum()) / z,
        "phi4": float((site * x**4).sum()) / z,
        "link": float((weight * x[:, None] * x).sum()) / z,
    }


def test_the_transfer_matrix_is_right():
    exact = ring(8, 0.3, 0.1)
    assert exact["phi2"] == pytest.approx(0.55243915, abs=1e-8)
    assert exact["phi4"] == pytest.approx(0.79096460, abs=1e-8)
    assert exact["link"] == pytest.approx(0.16690706, abs=1e-8)


def run(action, shape, sweeps, chains, seed, burn=100, dtype=torch.float64):
    sampler, g = CheckerboardGibbs(action), generator(seed)
    state = sampler.init(torch.zeros(chains, *shape, dtype=dtype))
    fields = []
    for sweep in range(burn + sweeps):
        state, _ = sampler.step(state, g)
        if sweep >= burn:
            fields.append(state.phi)
    return torch.stack(fields, 1)


def moments(phi):
    lattice = tuple(range(2, phi.ndim))
    link = sum(phi * phi.roll(1, mu) for mu in lattice) / len(lattice)
    values = {"phi2": phi**2, "phi4": phi**4, "link": link}
    return {name: value.mean(lattice) for name, value in values.items()}


def deviations(measured, exact):
    return {k: statistics.mean(measured[k].double()).z(exact[k]) for k in exact}


@pytest.mark.parametrize(("kappa", "lam"), [(0.3, 0.1), (0.25, 2.0), (0.2, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ring_against_the_transfer_matrix(kappa, lam, dtype):
    phi = run(Phi4(kappa, lam), (8,), 400, 100, seed=21, dtype=dtype)
    assert phi.dtype == dtype
    found = deviations(moments(phi), ring(8, kappa, lam))
    assert all(abs(z) < 3.5 for z in found.values()), found


def test_two_by_two_is_a_ring_with_doubled_links():
    """On the 2 x 2 torus each link counts twice: a ring of four sites with twice the hopping."""
    kappa, lam = 0.12, 0.5
    phi = run(Phi4(kappa, lam), (2, 2), 400, 100, seed=22)
    found = deviations(moments(phi), ring(4, 2 * kappa, lam))
    assert all(abs(z) < 3.5 for z in found.values()), found


def test_free_field_against_its_propagator():
    lattice, mass2 = Lattice((4, 6)), 1.0
    phi = run(FreeField(mass2, 2), lattice.shape, 400, 100, seed=23)
    g = lattice.free_propagator(mass2)
    link = 0.5 * float(g[1, 0] + g[0, 1])
    exact = {"phi2": float(g[0, 0]), "phi4": 3 * float(g[0, 0]) ** 2, "link": link}
    found = deviations(moments(phi), exact)
    assert all(abs(z) < 3.5 for z in found.values()), found


def test_schwinger_dyson_on_an_inhomogeneous_lattice():
    r""":math:`\langle\phi_x\partial S/\partial\phi_x\rangle=1` at each site, chi2 of 16 sites."""
    g = generator(24)
    def draw(*s):
        return torch.rand(*s, generator=g, dtype=torch.float64)
    action = InhomogeneousPhi4(draw(2, 4, 4) - 0.5, draw(4, 4) - 0.5, draw(4, 4) + 0.1, draw(4, 4))
    phi = run(action, (4, 4), 300, 100, seed=25)
    flat = phi.reshape(-1, 4, 4)
    series = (-flat * action.force(flat)).reshape(*phi.shape[:2], 16)
    chi2 = sum(e.z(1.0) ** 2 for e in statistics.mean(series))
    assert chi2 < 16 + 4 * math.sqrt(32)


def test_a_step_is_pure_and_follows_its_generator():
    sampler = CheckerboardGibbs(Phi4(0.2, 0.5))
    phi = torch.randn(2, 4, 4, generator=generator(1))
    before = phi.clone()
    state = sampler.init(phi)
    once, twice = (sampler.step(state, generator(2))[0].phi for _ in range(2))
    assert torch.equal(once, twice) and torch.equal(phi, before) and torch.equal(state.phi, before)
    assert not torch.equal(sampler.step(state, generator(3))[0].phi, once)


def test_even_sites_do_not_look_at_even_sites():
    """The even half of a sweep depends on the odd sites alone."""
    sampler = CheckerboardGibbs(Phi4(0.2, 0.5))
    phi = torch.randn(1, 4, 4, generator=generator(1))
    even = Lattice((4, 4)).parity()
    other = torch.where(even, 7.0, phi)
    drawn = [sampler.step(sampler.init(start), generator(2))[0].phi for start in (phi, other)]
    assert torch.equal(*drawn)  # the odd half sees the even sites only after they were drawn anew


def test_bad_input():
    sampler = CheckerboardGibbs(Phi4(0.2, 0.5))
    with pytest.raises(ShapeError, match="no checkerboard"):
        sampler.init(torch.zeros(1, 3, 4))
    with pytest.raises(ShapeError, match=r"\(chains, \*lattice.shape\)"):
        sampler.init(torch.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        sampler.init(torch.full((1, 4), math.nan))
    with pytest.raises(StabilityError, match="no norm"):
        CheckerboardGibbs(Phi4(0.3, 0.0)).init(torch.zeros(1, 4, 4))
    zero = torch.zeros(3)
    for a, b in ((-1.0, 0.0), (0.0, 0.0), (1.0, -0.1), (torch.tensor([1.0, 1.0, -1.0]), 0.0)):
        with pytest.raises(StabilityError, match="b > 0"):
            quartic_normal(zero, a, b, generator(0))
    with pytest.raises(ValueError, match="NaN"):
        quartic_normal(zero * math.nan, 1.0, 1.0, generator(0))
    with pytest.raises(ValueError, match="width of the proposals"):
        quartic_normal(zero + 1e30, 1.0, 1.0, generator(0))
