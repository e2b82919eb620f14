from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.errors import StabilityError
from physml.lattice import Lattice

KERNEL = torch.tensor([0.5, 2.0, 8.0, 15.0], dtype=torch.float64)
STEP = 0.1


def single(x):
    return x**2 / 2 + x**4 / 60


def covariance(kernel: float, step: float, previous: bool) -> torch.Tensor:
    """Stationary covariance at lags 0, ..., 3 of phi' = rho phi + a xi + b xi' (xi the previous
    noise), by summing its moving average term by term."""
    rho, a = 1 - step * kernel, math.sqrt(step / 2) if previous else 0.0
    b = math.sqrt(step / 2) if previous else math.sqrt(2 * step)
    weight = torch.zeros(4000, dtype=torch.float64)
    power = rho ** torch.arange(3999, dtype=torch.float64)
    weight[:-1] += b * power
    weight[1:] += a * power
    lags = [float((weight[: 4000 - t] * weight[t:]).sum()) for t in range(4)]
    return torch.tensor(lags, dtype=torch.float64)


@pytest.mark.parametrize("kernel", KERNEL.tolist())
def test_both_schemes_by_their_moving_averages(kernel):
    lags = torch.arange(4, dtype=torch.float64)
    euler = covariance(kernel, STEP, False)
    assert float(exact.euler_variance(kernel, STEP)) == pytest.approx(float(euler[0]), rel=1e-12)
    want = (1 - STEP * kernel) ** lags
    torch.testing.assert_close(euler / euler[0], want, rtol=0, atol=1e-12)
    other = covariance(kernel, STEP, True)
    assert float(exact.leimkuhler_matthews_variance(kernel, STEP)) == pytest.approx(
        float(other[0]), rel=1e-12
    )
    want = exact.leimkuhler_matthews_correlation(kernel, STEP, lags)
    torch.testing.assert_close(other / other[0], want, rtol=0, atol=1e-12)


def test_the_books_numbers():
    assert float(exact.euler_variance(8.0, 0.1)) == pytest.approx(0.208333, abs=5e-7)
    assert exact.euler_step_bound(KERNEL) == pytest.approx(2 / 15)
    assert float(exact.exponential_tau_int(0.9)) == pytest.approx(9.5)


def test_autocorrelation_times_are_sums():
    lags = torch.arange(1, 4000)
    for kernel in KERNEL:
        tau = 0.5 + ((1 - STEP * kernel) ** lags).sum()
        torch.testing.assert_close(exact.euler_tau_int(kernel, STEP), tau, rtol=1e-10, atol=0)
        tau = 0.5 + exact.leimkuhler_matthews_correlation(kernel, STEP, lags).sum()
        got = exact.leimkuhler_matthews_tau_int(kernel, STEP)
        torch.testing.assert_close(got, tau, rtol=1e-10, atol=0)


def test_transients_step_by_step():
    steps = torch.arange(6)
    rho, start = 1 - STEP * KERNEL, 3.0
    euler, other, cross = [torch.full_like(KERNEL, start)], [torch.full_like(KERNEL, start)], 0.0
    for _ in range(5):
        euler.append(rho**2 * euler[-1] + 2 * STEP)
        other.append(rho**2 * other[-1] + STEP + 2 * rho * math.sqrt(STEP / 2) * cross)
        cross = math.sqrt(STEP / 2)  # <phi_n xi_n>, zero for the start
    got = exact.euler_transient(KERNEL, start, STEP, steps[:, None])
    torch.testing.assert_close(got, torch.stack(euler), rtol=1e-12, atol=0)
    got = exact.leimkuhler_matthews_transient(KERNEL, start, STEP, steps[:, None])
    torch.testing.assert_close(got, torch.stack(other), rtol=1e-12, atol=0)


def test_small_steps_reach_continuous_time():
    kernel, time = 2.0, 0.3
    want = exact.langevin_transient(kernel, 0.0, time)
    assert float(want) == pytest.approx(0.5 * (1 - math.exp(-1.2)))
    error = [float(exact.euler_transient(kernel, 0.0, time / n, n) - want) for n in (1000, 2000)]
    assert abs(error[0]) < 1e-3
    assert error[0] / error[1] == pytest.approx(2, abs=0.01)  # first order


def test_a_simulated_lattice_mode_by_mode():
    """4096 independent Euler chains of the free field: each mode's variance within its error."""
    lattice, generator = Lattice((4, 4)), torch.Generator().manual_seed(3)
    spectrum = lattice.free_spectrum(1.0)
    step = 0.15  # the stiffest mode has step * K = 1.35
    phi = torch.zeros(4096, 4, 4, dtype=torch.float64)
    for _ in range(80):  # slowest mode: rho^160 = 5e-12
        drift = torch.fft.ifft2(spectrum * torch.fft.fft2(phi)).real
        noise = torch.randn(phi.shape, generator=generator, dtype=torch.float64)
        phi = phi - step * drift + math.sqrt(2 * step) * noise
    power = torch.fft.fft2(phi).abs().square() / 16
    error = power.std(0) / math.sqrt(4096)
    z = (power.mean(0) - exact.euler_variance(spectrum, step)) / error
    assert float(z.abs().max()) < 4  # 10 independent modes
    # the bias it corrects for is far outside the error
    assert float(((power.mean(0) - 1 / spectrum) / error).max()) > 20


def test_shadow_action_is_exact_for_a_gaussian():
    kernel, step = 3.0, 0.2
    shadow = exact.euler_shadow_action(lambda x: kernel * x**2 / 2, step)
    solved = exact.quadrature(shadow)
    assert solved.moment(2) == pytest.approx(float(exact.euler_variance(kernel, step)), rel=1e-12)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    constant = shadow(x) - kernel * (1 - step * kernel / 2) * x**2 / 2
    assert float(constant.max() - constant.min()) < 1e-14


def euler_stationary(action, step: float, f) -> float:
    """<f> in the stationary state of Euler's map: the leading left eigenvector of its kernel."""
    x = torch.linspace(-5.2, 5.2, 1301, dtype=torch.float64)
    y = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(action(y).sum(), y)
    kernel = torch.exp(-((x - (x - step * slope)[:, None]) ** 2) / (4 * step))
    kernel = kernel / kernel.sum(1, keepdim=True)
    p = torch.exp(-action(x))
    for _ in range(int(25 / step)):  # the gap is 1.155: exp(-29)
        p = p @ kernel
    return float((p * f(x)).sum() / p.sum())


@pytest.mark.parametrize("power", [2, 4])
def test_step_size_bias_of_a_quartic_well(power):
    """The map itself, at two steps, extrapolated: the slope is what the shadow action says."""

    def f(x):
        return x**power

    exactly = exact.quadrature(single).mean(f)
    steps = (0.02, 0.01)
    slopes = [(euler_stationary(single, s, f) - exactly) / s for s in steps]
    slope = 2 * slopes[1] - slopes[0]  # what is left is of order step^2
    bias = exact.euler_bias(single, f)
    assert abs(slopes[1] - bias) < abs(slopes[0] - bias)
    assert slope == pytest.approx(bias, rel=2e-3)
    # the shadow action's own average has the same slope
    shadow = exact.euler_shadow_action(single, 1e-4)
    moved = exact.quadrature(shadow, interval=(-6.0, 6.0)).mean(f)
    assert (moved - exactly) / 1e-4 == pytest.approx(bias, rel=1e-3)


def test_float32_modes_stay_float32():
    got = exact.euler_variance(KERNEL.float(), STEP)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact.euler_variance(KERNEL, STEP))


def test_bad_steps_and_kernels():
    with pytest.raises(StabilityError, match=r"below 2/K = 0\.1333"):
        exact.euler_variance(KERNEL, 0.134)
    with pytest.raises(StabilityError, match="positive"):
        exact.euler_step_bound(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="step"):
        exact.euler_variance(KERNEL, 0.0)
    with pytest.raises(ValueError, match="rho"):
        exact.exponential_tau_int(1.0)
