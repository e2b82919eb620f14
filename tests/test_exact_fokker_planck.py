from __future__ import annotations

import itertools
import math

import pytest
import torch

from physml import exact


def phi4(mu2: float, g: float):
    return lambda x: mu2 / 2 * x**2 + g / 24 * x**4


SINGLE, DOUBLE, DEEP = phi4(1.0, 0.4), phi4(-1.0, 0.4), phi4(-2.0, 0.4)
METHODS = ("grid", "polynomials")


def identity(x):
    return x


def square(x):
    return x**2


def both(action, modes=40):
    return [exact.fokker_planck_spectrum(action, modes, method=m) for m in METHODS]


@pytest.mark.parametrize(
    ("action", "gap"), [(SINGLE, 1.15524978577), (DOUBLE, 0.00953500197429), (DEEP, 2.680821268e-7)]
)
def test_gaps_by_two_discretisations(action, gap):
    grid, polynomials = both(action)
    torch.testing.assert_close(grid.energies[1:21], polynomials.energies[1:21], rtol=1e-9, atol=0)
    assert float(grid.energies[0]) < 1e-25
    assert grid.gap == pytest.approx(gap, rel=1e-9)
    finer = exact.fokker_planck_spectrum(action, size=600)
    torch.testing.assert_close(grid.energies[1:21], finer.energies[1:21], rtol=1e-9, atol=0)


def test_gap_against_finite_differences():
    """A third way: jumps between neighbours with rates in detailed balance, extrapolated to zero
    spacing. The errors are of order h^2, then h^4, then h^6."""
    gaps = []
    for points in (200, 400, 800):
        x = torch.linspace(-9, 9, points + 1, dtype=torch.float64)
        h = 18 / points
        p = torch.exp(-DOUBLE(x))
        middle = torch.exp(-DOUBLE((x[1:] + x[:-1]) / 2))
        hop = torch.diag(p.rsqrt())[1:] - torch.diag(p.rsqrt())[:-1]
        gaps.append(float(torch.linalg.svdvals(middle.sqrt()[:, None] * hop / h)[-1]) ** 2)
    once = [(4 * b - a) / 3 for a, b in itertools.pairwise(gaps)]
    twice = (16 * once[1] - once[0]) / 15
    assert twice == pytest.approx(exact.fokker_planck_spectrum(DOUBLE).gap, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gaussian_spectrum_is_linear(method):
    mu2 = 2.5
    solved = exact.fokker_planck_spectrum(lambda x: mu2 / 2 * x**2, 20, method=method)
    want = mu2 * torch.arange(20, dtype=torch.float64)
    torch.testing.assert_close(solved.energies, want, rtol=1e-10, atol=1e-12)
    # f_n is a Hermite polynomial: He_2(y) / sqrt(2), y = phi sqrt(mu2)
    phi = torch.tensor([-1.0, 0.0, 0.4], dtype=torch.float64)
    modes = solved.modes(phi)
    torch.testing.assert_close(modes[1], math.sqrt(mu2) * phi, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(modes[2], (mu2 * phi**2 - 1) / math.sqrt(2), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_relaxation_of_a_gaussian(method):
    mu2, start = 2.0, 1.5
    solved = exact.fokker_planck_spectrum(lambda x: mu2 / 2 * x**2, method=method)
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    mean = solved.relaxation(identity, start, t)
    torch.testing.assert_close(mean, start * torch.exp(-mu2 * t), rtol=1e-9, atol=1e-10)
    width = solved.relaxation(square, torch.tensor([start, -start]), t)
    want = exact.langevin_transient(mu2, start**2, t)
    torch.testing.assert_close(width, want, rtol=1e-9, atol=1e-10)
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)
    density = solved.density(x, start, t[4:])
    assert density.shape == (5, 801)
    decay = torch.exp(-mu2 * t[4:, None])
    normal = torch.distributions.Normal(start * decay, ((1 - decay**2) / mu2).sqrt())
    torch.testing.assert_close(density, normal.log_prob(x).exp(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("f", [identity, square, torch.tanh])
def test_autocorrelation_and_its_time(f):
    grid, polynomials = both(DOUBLE, 60)
    t = torch.linspace(0, 3, 7, dtype=torch.float64)
    rho = grid.autocorrelation(f, t)
    torch.testing.assert_close(rho, polynomials.autocorrelation(f, t), rtol=0, atol=1e-9)
    assert float(rho[0]) == pytest.approx(1)
    q = exact.quadrature(DOUBLE)
    variance = q.mean(lambda x: f(x) ** 2) - q.mean(f) ** 2
    full = grid.autocorrelation(f, t, normalised=False)
    assert float(full[0]) == pytest.approx(variance, rel=1e-6)
    # Ito: the initial slope of the autocorrelation is -<f'^2>
    y = q.x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(f(y).sum(), y)
    coefficient = grid.coefficients(f)[1:]
    got = float((grid.energies[1:] * coefficient**2).sum())
    assert got == pytest.approx(float((q.weight * slope**2).sum()), rel=1e-4)


def test_tau_int_by_integration():
    solved = exact.fokker_planck_spectrum(SINGLE)
    t = torch.linspace(0, 40, 400001, dtype=torch.float64)
    area = float(torch.trapezoid(solved.autocorrelation(identity, t), t))
    assert solved.tau_int(identity) == pytest.approx(area, rel=1e-7)
    lags = 0.3 * torch.arange(1, 200, dtype=torch.float64)
    total = 0.5 + float(solved.autocorrelation(identity, lags).sum())
    assert solved.tau_int(identity, 0.3) == pytest.approx(total, rel=1e-12)
    # f = phi is nearly, but not quite, the slowest mode
    assert 0.99 < solved.tau_int(identity) * solved.gap < 1
    # without a spectrum: (p g')' = -phi p, integrated twice; tau = <g'^2> / <phi^2>
    q = exact.quadrature(SINGLE)
    x = torch.linspace(-8, 0, 8001, dtype=torch.float64)
    p = q.density(x)
    flow = torch.cumulative_trapezoid(x * p, x)
    half = float(torch.trapezoid(flow**2 / p[1:], x[1:]))
    assert solved.tau_int(identity) == pytest.approx(2 * half / q.moment(2), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_relaxation_from_a_density(method):
    solved = exact.fokker_planck_spectrum(DOUBLE, 60, method=method)
    hot = exact.quadrature(lambda x: x**2 / 2)
    t = torch.tensor([0.0, 0.05, 1e4], dtype=torch.float64)
    got = solved.relaxation(square, hot, t)
    assert float(got[0]) == pytest.approx(1, rel=1e-8)
    assert float(got[-1]) == pytest.approx(exact.phi4_moments(-1, 0.4, 1)[0], rel=1e-10)
    # d<phi^2>/dt = 2 - 2 <phi S'>, and the same once more: a Taylor series at the start
    m2, m4, m6 = 1.0, 3.0, 15.0
    first = 2 - 2 * (-m2 + m4 / 15)
    m4_dot = 12 * m2 - 4 * (-m4 + m6 / 15)
    second = 2 * first - 2 / 15 * m4_dot
    h = 1e-4
    early = solved.relaxation(square, hot, torch.tensor([0.0, h, 2 * h], dtype=torch.float64))
    speed = (early[1:] - early[0]) / torch.tensor([h, 2 * h])
    assert float(2 * speed[0] - speed[1]) == pytest.approx(first, abs=1e-5)
    assert float(speed[1] - speed[0]) / h * 2 == pytest.approx(second, rel=2e-2)


def test_relaxation_against_a_simulation():
    """20000 Langevin walkers from the top of the barrier, second weak order in a small step."""
    solved, step, n = exact.fokker_planck_spectrum(DOUBLE), 0.01, 20000
    generator = torch.Generator().manual_seed(5)
    phi = torch.zeros(n, dtype=torch.float64)
    old = torch.randn(n, generator=generator, dtype=torch.float64)
    times, found, errors = [], [], []
    for i in range(1, 301):
        new = torch.randn(n, generator=generator, dtype=torch.float64)
        phi = phi - step * (-phi + phi**3 / 15) + math.sqrt(step / 2) * (old + new)
        old = new
        if i in (50, 150, 300):
            times.append(i * step)
            found.append(phi.square().mean())
            errors.append(phi.square().std() / math.sqrt(n))
    want = solved.relaxation(square, 0.0, torch.tensor(times))
    # the first step lacks half its noise: the walkers are half a step late
    shifted = solved.relaxation(square, 0.0, torch.tensor(times) - step / 2)
    z = (torch.stack(found) - shifted) / torch.stack(errors)
    assert float(z.abs().max()) < 3.5
    assert float(((want - shifted) / torch.stack(errors)).max()) < 3


@pytest.mark.parametrize("method", METHODS)
def test_modes_are_orthonormal(method):
    solved = exact.fokker_planck_spectrum(DOUBLE, 12, method=method)
    q = exact.quadrature(DOUBLE, depth=38.0)
    f = solved.modes(q.x)
    gram = (f * q.weight) @ f.T
    torch.testing.assert_close(gram, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-8)
    # parity alternates
    torch.testing.assert_close(f.flip(1)[::2], f[::2], rtol=0, atol=1e-4)
    assert bool((f[:, -200] > 0).all())


def test_bad_input():
    solved = exact.fokker_planck_spectrum(SINGLE)
    assert repr(solved) == "FokkerPlanck()"
    with pytest.raises(ValueError, match=r"below exp\(-40\)"):
        solved.modes(torch.tensor([20.0]))
    with pytest.raises(ValueError, match="narrower"):
        solved.relaxation(square, exact.quadrature(lambda x: x**2 / 200), torch.tensor(1.0))
    with pytest.raises(ValueError, match="does not fluctuate"):
        solved.tau_int(torch.ones_like)
    with pytest.raises(ValueError, match='"grid" or "polynomials"'):
        exact.fokker_planck_spectrum(SINGLE, method="magic")
    with pytest.raises(ValueError, match="between 2 and size=10"):
        exact.fokker_planck_spectrum(SINGLE, 11, size=10)
    assert not bool(solved.density(torch.tensor([20.0]), 0.0, torch.tensor(1.0)).any())
