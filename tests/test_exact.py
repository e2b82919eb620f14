from __future__ import annotations

import math

import pytest
import torch

from physml import exact

GAPS = [(10, 9.0, 0.0), (9, 9.0, 0.003608), (8, 9.0, 0.010959), (7, 9.0, 0.018309),
        (6, 9.0, 0.044557), (10, 7.8, 0.000159), (10, 7.1, 0.005846), (10, 5.8, 0.065637),
        (10, 4.8, 0.200178)]


def test_chain_spectrum_is_that_of_the_matrix():
    k = 6 * torch.eye(10, dtype=torch.float64)
    i = torch.arange(10)
    k[i, (i + 1) % 10] -= 1
    k[(i + 1) % 10, i] -= 1
    kappa = exact.chain_spectrum(10, 4.0)
    torch.testing.assert_close(kappa, torch.linalg.eigvalsh(k), rtol=1e-13, atol=0)
    assert float(kappa.log().sum()) == pytest.approx(17.627472, abs=1e-6)
    assert float((1 / kappa).mean()) == pytest.approx(0.1767767, abs=1e-7)


@pytest.mark.parametrize(("n_hidden", "mu2", "gap"), GAPS)
def test_gap_of_the_nine_panels(n_hidden, mu2, gap):
    assert exact.rbm_kl_gap(exact.chain_spectrum(10, 4.0), mu2, n_hidden) == pytest.approx(
        gap, abs=6e-7)


@pytest.mark.parametrize(("n_hidden", "mass"), [(9, 8.0), (8, 7.8043), (7, 7.7412), (6, 7.4261),
                                                (0, 5.6569)])
def test_mass_plateaus(n_hidden, mass):
    assert exact.rbm_mass_plateau(exact.chain_spectrum(10, 4.0), n_hidden) == pytest.approx(
        mass, abs=6e-5)


def test_plateau_minimises_the_gap():
    kappa = exact.chain_spectrum(10, 4.0)
    # n_hidden=8 cuts 7.618 and 8: the plateau lies above every kept mode
    best = exact.rbm_mass_plateau(kappa, 8)
    gap = exact.rbm_kl_gap(kappa, best, 8)
    assert all(exact.rbm_kl_gap(kappa, best * f, 8) > gap for f in (0.99, 1.01))
    with pytest.raises(ValueError, match="cuts no mode"):
        exact.rbm_mass_plateau(kappa, 10)


def test_gaussian_kl_against_torch():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5, 5, dtype=torch.float64, generator=g)
    c, k = a @ a.T + torch.eye(5), b @ b.T + torch.eye(5)
    normal = torch.distributions.MultivariateNormal
    zero = torch.zeros(5, dtype=torch.float64)
    want = torch.distributions.kl_divergence(normal(zero, c), normal(zero, precision_matrix=k))
    assert float(exact.gaussian_kl(c, k)) == pytest.approx(float(want), rel=1e-11)


def test_step_bound_marks_where_the_linear_map_diverges():
    bound = exact.rbm_step_bound(4.0, 9.0)
    assert bound == pytest.approx(3.2)
    assert exact.rbm_step_bound(4.0, 9.0, 2.0) == pytest.approx(0.8)
    assert math.isinf(exact.rbm_step_bound(9.0, 9.0))
    for factor, grows in ((0.95, False), (1.05, True)):
        xi = math.sqrt(5.0) + 1e-5
        start = abs(xi**2 - 5)
        for _ in range(20):
            xi += factor * bound * (0.25 - 1 / (9 - xi**2)) * xi
        assert (abs(xi**2 - 5) > start) is grows


def test_mode_flow_solves_its_equation():
    kappa = torch.tensor([4.0, 6.0, 9.5], dtype=torch.float64)
    start = torch.full((3,), 0.1, dtype=torch.float64)
    t = torch.tensor([0.0, 1.0, 1.001, 1.002, 300.0], dtype=torch.float64)
    xi = exact.rbm_mode_flow(start, kappa, t, 9.0)
    # central difference, error O(h^2) = 1e-6
    speed = (xi[3] - xi[1]) / 0.002
    want = (1 / kappa - 1 / (9 - xi[2] ** 2)) * xi[2]
    torch.testing.assert_close(speed, want, rtol=1e-6, atol=0)
    torch.testing.assert_close(9 - xi[-1, :2] ** 2, kappa[:2], rtol=1e-10, atol=0)
    assert float(xi[-1, 2]) < 0.02  # decays at the rate 1/9 - 1/9.5
    # half the steps: fourth order leaves nothing to see
    finer = exact.rbm_mode_flow(start, kappa, t[:2], 9.0, substeps=200)
    torch.testing.assert_close(finer[1], xi[1], rtol=1e-7, atol=0)
    with pytest.raises(ValueError, match="times must increase"):
        exact.rbm_mode_flow(start, kappa, t.flip(0), 9.0)
    with pytest.raises(ValueError, match="below mu/sigma"):
        exact.rbm_mode_flow(start + 3, kappa, t, 9.0)


@pytest.mark.parametrize(("ratio", "variance"), [(0.2, 1.0), (0.6, 2.5), (3.0, 0.5)])
def test_marchenko_pastur_moments(ratio, variance):
    low, high = exact.marchenko_pastur_edges(ratio, variance)
    # x = centre - half cos(t): the square roots become smooth, the trapezoid rule exact
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) * math.pi / 4000
    x = (low + high) / 2 - (high - low) / 2 * t.cos()
    weight = exact.marchenko_pastur(x, ratio, variance) * (high - low) / 2 * t.sin()
    moment = [float((weight * x**n).sum() * math.pi / 4000) for n in range(3)]
    assert moment == pytest.approx(
        [min(1, 1 / ratio), variance, variance**2 * (1 + ratio)], rel=1e-6)
    outside = torch.tensor([low / 2, high * 1.1], dtype=torch.float64)
    assert exact.marchenko_pastur(outside, ratio, variance).tolist() == [0.0, 0.0]


def test_marchenko_pastur_against_a_random_matrix():
    g = torch.Generator().manual_seed(2)
    n, p = 800, 240
    x = torch.randn(n, p, dtype=torch.float64, generator=g)
    value = torch.linalg.eigvalsh(x.T @ x / n)
    low, high = exact.marchenko_pastur_edges(p / n)
    # edges fluctuate by ~ n^(-2/3) = 1.2 %: five times that
    assert float(value[0]) == pytest.approx(low, rel=0.06)
    assert float(value[-1]) == pytest.approx(high, rel=0.06)
    # linear statistics: Var tr(X^T X / n) = 2p/n, so the mean has the error sqrt(2/(pn)); 4 sigma
    assert abs(float(value.mean()) - 1) < 4 * math.sqrt(2 / (p * n))
    grid = torch.linspace(low, high, 20001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(exact.marchenko_pastur(grid, p / n), grid)
    empirical = torch.searchsorted(value, grid[1:]) / p
    assert float((cdf - empirical).abs().max()) < 5 / p  # rigid: O(log p) eigenvalues at most
