"""Diffusion processes against their differential equations and exact Gaussian marginals."""

from __future__ import annotations

import math

import pytest
import torch

from physml import diffusion, exact
from physml.device import generator
from physml.diffusion import Reverse, VarianceExploding, VariancePreserving, time_grid
from physml.errors import ShapeError
from physml.lattice import Lattice

PROCESSES = [VarianceExploding(), VarianceExploding(3.0), VariancePreserving(),
             VariancePreserving(2.0, 2.0)]
TIMES = torch.linspace(0.01, 1, 23, dtype=torch.float64)
LATTICE = Lattice((6, 6))


def rate(f, t=TIMES):
    """Return df/dt at each time, by automatic differentiation."""
    t = t.clone().requires_grad_(True)
    return torch.autograd.grad(f(t).sum(), t)[0]


def test_values_of_the_paper():
    process = VarianceExploding(25.0)
    assert process.variance(1.0) == pytest.approx(96.928, abs=5e-4)
    assert math.sqrt(process.prior_variance) == pytest.approx(9.8452, abs=5e-5)
    assert process.mean_factor(0.4) == 1.0 and process.variance(0.0) == 0.0


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_kernels_solve_the_moment_equations(process):
    """The mean factor and the variance obey the equations that drift and noise imply."""
    a, s2 = process.mean_factor(TIMES), process.variance(TIMES)
    if not isinstance(process, VarianceExploding):
        torch.testing.assert_close(rate(process.mean_factor), -process.decay(TIMES) * a)
    torch.testing.assert_close(rate(process.variance),
                               -2 * process.decay(TIMES) * s2 + process.noise2(TIMES))
    assert process.mean_factor(0.0) == 1.0 and process.variance(0.0) == 0.0


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_numbers_and_tensors_of_times_agree(process):
    for name in ("decay", "noise2", "mean_factor", "variance", "ratio"):
        f = getattr(process, name)
        one = torch.tensor([f(float(t)) for t in TIMES], dtype=torch.float64)
        torch.testing.assert_close(f(TIMES), one, rtol=1e-14, atol=0)
        single = f(TIMES.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_transitions_compose(process):
    for s, t in [(0.0, 0.3), (0.2, 0.9), (0.5, 0.5)]:
        a, v = process.transition(s, t)
        assert a * process.mean_factor(s) == pytest.approx(process.mean_factor(t), rel=1e-14)
        assert a**2 * process.variance(s) + v == pytest.approx(process.variance(t), rel=1e-13)
    b, w = process.transition(0.2, 0.6)
    c, x = process.transition(0.6, 0.9)
    a, v = process.transition(0.2, 0.9)
    assert (b * c, c * c * w + x) == pytest.approx((a, v), rel=1e-13)


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_every_reverse_process_has_the_marginals(process, zeta):
    """For a Gaussian mode of any width: dv/dtau of the reverse process is -dv_t/dt."""
    reverse = Reverse(process, zeta)
    for v0 in (0.1, 1.0, 7.0):
        forward = rate(lambda t, v0=v0: process.marginal(v0, t))
        for t, slope in zip(TIMES.tolist(), forward.tolist(), strict=True):
            v = process.marginal(v0, t)
            # the drift is linear, so that its value at phi = 1 is its slope
            one = torch.ones(1, dtype=torch.float64)
            pull = float(reverse.drift(one, -one / v, t))
            assert 2 * pull * v + reverse.noise(t) ** 2 == pytest.approx(-slope, rel=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_noised_free_field_has_the_exact_spectrum(process, dtype):
    g = generator(3)
    spectrum = 1 / exact.hopping_spectrum(LATTICE, 0.22)
    white = torch.randn(20000, *LATTICE.shape, generator=g, dtype=torch.float64)
    phi = torch.fft.ifftn(torch.fft.fftn(white, dim=(1, 2)) * spectrum.sqrt(), dim=(1, 2)).real
    phi = phi.to(dtype)
    noise = torch.randn(phi.shape, generator=g, dtype=torch.float64).to(dtype)
    noised = process.perturb(phi, 0.4, noise)
    assert noised.dtype == dtype
    power = torch.fft.fftn(noised.double(), dim=(1, 2)).abs().square() / LATTICE.volume
    expected = process.marginal(spectrum, 0.4)
    error = power.std(0) / math.sqrt(len(phi))
    z = (power.mean(0) - expected) / error
    # half of the modes are the conjugates of the others
    assert float(z.abs().max()) < 4 and float(z.square().mean()) < 2


def test_times_may_differ_between_chains():
    process, g = VariancePreserving(), generator(1)
    phi, noise = (torch.randn(4, 3, 5, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.1, 0.9, 0.3, 0.5], dtype=torch.float64)
    together = process.perturb(phi, t, noise)
    for i, time in enumerate(t.tolist()):
        alone = process.perturb(phi[i : i + 1], time, noise[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_prior(process):
    z = torch.randn(5, 4, generator=generator(1), dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, math.sqrt(process.variance(1.0)))
    phi = process.prior(z)
    torch.testing.assert_close(process.prior_log_density(phi), normal.log_prob(phi).sum(1))
    torch.testing.assert_close(process.prior_log_density(phi.float()),
                               normal.log_prob(phi).sum(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_time_of_inverts_the_ratio(process):
    for t in TIMES.tolist():
        assert process.time_of(process.ratio(t)) == pytest.approx(t, rel=1e-12)
    assert process.time_of(0.0) == 0.0
    torch.testing.assert_close(process.time_of(process.ratio(TIMES)), TIMES)
    single = process.ratio(TIMES.float())
    torch.testing.assert_close(process.time_of(single), TIMES.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_grids_are_equidistant_in_their_variable(process):
    of = {"uniform": lambda t: t, "geometric": lambda t: math.log(process.ratio(t)),
          "karras": lambda t: process.ratio(t) ** (1 / 7)}
    assert set(of) == set(diffusion.GRIDS)
    for kind, variable in of.items():
        times = time_grid(process, 17, kind, end=2e-3)
        assert len(times) == 18 and times[0] == 1.0 and times[-1] == 2e-3
        gaps = torch.tensor([variable(t) for t in times], dtype=torch.float64).diff()
        torch.testing.assert_close(gaps, gaps.mean().expand(17), rtol=1e-8, atol=0)
        assert float(gaps.max()) < 0


@pytest.mark.parametrize(("call", "says"), [
    (lambda: VarianceExploding(1.0), "sigma must be larger than 1"),
    (lambda: VarianceExploding(math.nan), "sigma must be a finite positive number"),
    (lambda: VariancePreserving(0.0), "beta_min must be"),
    (lambda: VariancePreserving(2.0, 1.0), "beta_max=1.0 must not be less"),
    (lambda: VarianceExploding().variance(1.1), "t must lie in"),
    (lambda: VarianceExploding().variance(math.nan), "t must lie in"),
    (lambda: VariancePreserving().mean_factor(torch.tensor([0.2, -0.1])), "t must lie in"),
    (lambda: VarianceExploding().transition(0.5, 0.2), "runs forward"),
    (lambda: VarianceExploding().time_of(11.0), "reached at no time"),
    (lambda: VarianceExploding().time_of(torch.tensor([1.0, 11.0])), "reached at no time"),
    (lambda: Reverse(VarianceExploding(), -1.0), "zeta must be"),
    (lambda: Reverse(VarianceExploding(), math.nan), "zeta must be"),
    (lambda: time_grid(VarianceExploding(), 0), "steps must be"),
    (lambda: time_grid(VarianceExploding(), 5, "cosine"), "'cosine' is not known"),
    (lambda: time_grid(VarianceExploding(), 5, end=1.0), "end must lie between"),
    (lambda: time_grid(VarianceExploding(), 5, rho=0.0), "rho must be"),
])
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_bad_shapes():
    phi = torch.zeros(3, 4, 4)
    with pytest.raises(ShapeError, match="noise must have the shape of phi"):
        VarianceExploding().perturb(phi, 0.5, torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="one for each of the 3 chains"):
        VarianceExploding().perturb(phi, torch.tensor([0.1, 0.2]), phi)
