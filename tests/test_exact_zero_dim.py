from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.errors import StabilityError

DOUBLE = exact.phi4_quadrature(-1.0, 0.4)


def gauss(mean: float, sd: float):
    return lambda x: ((x - mean) / sd) ** 2 / 2


def double_well(x):
    return -(x**2) / 2 + x**4 / 60


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (1000, 0.01), (-3, 40.0), (1e5, 1.0)])
def test_a_gaussian_is_found_wherever_it_is(mean, sd):
    solved = exact.quadrature(gauss(mean, sd))
    assert solved.log_z == pytest.approx(math.log(sd * math.sqrt(2 * math.pi)), abs=1e-12)
    assert solved.moment(1) == pytest.approx(mean, rel=1e-13, abs=1e-13 * sd)
    scale = [sd**n for n in range(1, 7)]
    got = [k / s for k, s in zip(solved.cumulants(6), scale, strict=True)]
    # the nodes themselves are rounded at a mean of 1e5 sd
    assert got[1:] == pytest.approx([1, 0, 0, 0, 0], abs=1e-9)


def test_source_generates_the_cumulants():
    """d ln Z(J) / dJ = <phi>_J and its derivatives, by central differences."""
    h = 1e-3
    w = {k: exact.quadrature(double_well, k * h).log_z for k in (-2, -1, 0, 1, 2)}
    kappa = DOUBLE.cumulants(4)
    # the next order is h^2 times a cumulant two higher
    assert (w[1] - 2 * w[0] + w[-1]) / h**2 == pytest.approx(kappa[1], rel=1e-5)
    shifted = exact.quadrature(double_well, 0.3)
    up, down = (exact.quadrature(double_well, 0.3 + s * h).log_z for s in (1, -1))
    slope = (up - down) / (2 * h) - h**2 / 6 * shifted.cumulants(3)[2]
    assert slope == pytest.approx(shifted.moment(1), rel=1e-9)
    assert shifted.moment(1) > 0


def test_moments_with_a_source_obey_schwinger_dyson():
    solved = exact.quadrature(double_well, 0.3)
    assert solved.mean(lambda x: -x + x**3 / 15) == pytest.approx(0.3, abs=1e-13)


def test_number_of_panels_does_not_matter():
    coarse = exact.quadrature(double_well, panels=64)
    assert coarse.log_z == pytest.approx(DOUBLE.log_z, abs=1e-13)
    assert coarse.moment(6) == pytest.approx(DOUBLE.moment(6), rel=1e-13)


def test_density():
    x = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    p = DOUBLE.density(x)
    assert float(torch.trapezoid(p, x)) == pytest.approx(1, abs=1e-12)
    assert DOUBLE.density(x.float()).dtype == torch.float32
    assert float(torch.trapezoid(p * x**4, x)) == pytest.approx(DOUBLE.moment(4), rel=1e-12)


def test_cumulants_of_a_poisson_and_an_exponential_law():
    # Touchard moments of a Poisson law of mean 1: all cumulants 1
    assert exact.cumulants_from_moments([1, 2, 5, 15, 52]) == [1, 1, 1, 1, 1]
    factorial = [math.factorial(n) for n in range(1, 7)]
    want = [math.factorial(n) for n in range(6)]
    assert exact.cumulants_from_moments(factorial) == want


def test_an_action_without_a_bottom_is_refused():
    with pytest.raises(StabilityError, match=r"towards \+infinity"):
        exact.quadrature(lambda x: torch.exp(-x) + 0 * x)
    with pytest.raises(StabilityError, match="-infinity"):
        exact.quadrature(lambda x: x**3)
    with pytest.raises(ValueError, match="same shape"):
        exact.quadrature(lambda x: x.square().sum())
    with pytest.raises(ValueError, match="NaN"):
        exact.quadrature(torch.sqrt)
    with pytest.raises(ValueError, match="increasing"):
        exact.quadrature(double_well, interval=(1.0, 1.0))


def test_a_wall_is_allowed():
    half = exact.quadrature(lambda x: torch.where(x < 0, math.inf, x), interval=(0.0, 60.0))
    assert half.log_z == pytest.approx(0, abs=1e-12)
    assert half.cumulants(4) == pytest.approx([1, 1, 2, 6], rel=1e-12)


# --- noise on top ----------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [1e-12, 1e-4, 0.3, 96.9, 1e6])
@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_noise_on_a_gaussian(variance, scale):
    mean, sd = 0.5, 1.3
    phi = torch.linspace(-40, 40, 81, dtype=torch.float64) * math.sqrt(variance + scale**2) / 8
    noised, score = exact.noised_action(gauss(mean, sd), phi, variance, scale)
    total = variance + (scale * sd) ** 2
    want = (phi - scale * mean) ** 2 / (2 * total) - math.log(sd / math.sqrt(total))
    torch.testing.assert_close(noised, want, rtol=1e-12, atol=1e-12)
    # the score is a mean of differences of size sigma, over sigma^2
    torch.testing.assert_close(
        score, -(phi - scale * mean) / total, rtol=1e-10, atol=1e-13 / math.sqrt(variance)
    )


@pytest.mark.parametrize("variance", [0.01, 1.0, 30.0])
def test_noise_on_a_double_well_by_brute_force(variance):
    phi = torch.linspace(-15, 15, 61, dtype=torch.float64).requires_grad_(True)
    x = torch.linspace(-18, 18, 72001, dtype=torch.float64)
    weight = -double_well(x) - (phi[:, None] - x) ** 2 / (2 * variance)
    norm = math.log(36 / 72000) - 0.5 * math.log(2 * math.pi * variance)
    want = -(weight.logsumexp(1) + norm)
    (force,) = torch.autograd.grad(want.sum(), phi)
    noised, score = exact.noised_action(double_well, phi, variance)
    torch.testing.assert_close(noised, want.detach(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(score, -force, rtol=1e-9, atol=1e-9)


def test_noise_adds_to_the_second_cumulant_only():
    variance = 2.5
    noisy = exact.quadrature(lambda x: exact.noised_action(double_well, x, variance)[0])
    assert noisy.log_z == pytest.approx(DOUBLE.log_z, abs=1e-11)  # Z is conserved
    want = DOUBLE.cumulants(6)
    want[1] += variance
    assert noisy.cumulants(6) == pytest.approx(want, rel=1e-9, abs=1e-8)


def test_noised_action_keeps_shape_and_type():
    phi = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    noised, score = exact.noised_action(double_well, phi, 0.5)
    assert noised.shape == score.shape == phi.shape
    assert noised.dtype == score.dtype == torch.float32
    fine = exact.noised_action(double_well, phi.double(), 0.5)
    torch.testing.assert_close(noised.double(), fine[0], rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="variance"):
        exact.noised_action(double_well, phi, 0.0)
