"""Log densities by the probability flow against exact ones, and the noise of Hutchinson's trace."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from physml import exact
from physml.actions import ZeroDimensionalPhi4
from physml.device import generator
from physml.diffusion import (
    GaussianScore,
    MixtureScore,
    VarianceExploding,
    VariancePreserving,
    ZeroDimensionalScore,
    generate,
    log_density,
    propose,
)
from physml.errors import ShapeError
from physml.lattice import Lattice

VE, VP = VarianceExploding(), VariancePreserving()
F64 = {"dtype": torch.float64}
LATTICE = Lattice((4, 4))
SPECTRUM = LATTICE.free_spectrum(0.5)
END = 1e-3


def free(process):
    return GaussianScore.of_spectrum(SPECTRUM, process)


def mixture(process):
    means = torch.randn(3, 2, generator=generator(1), **F64)
    return MixtureScore(process, torch.ones(3), means, torch.tensor([0.2, 0.4, 0.1]))


@functools.lru_cache
def well(process):
    return ZeroDimensionalScore(process, ZeroDimensionalPhi4(-1.0, 0.4))


def fields(score, chains=5, seed=2):
    return torch.randn(chains, *score.shape, generator=generator(seed), **F64)


@pytest.mark.parametrize("trace", ["exact", "analytic"])
@pytest.mark.parametrize("make", [free, mixture, well], ids=["free", "mixture", "well"])
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_the_exact_score_gives_the_exact_density(process, make, trace):
    score = make(process)
    phi = fields(score)
    steps = 24 if make is well else 50  # each time of the well costs a table
    found = log_density(score, process, phi, steps=steps, trace=trace, step_error=True,
                        prior=lambda x: score.log_density(x, 1.0))
    true = score.log_density(phi, END)
    assert float(found.step_error.max()) < 2e-3
    # the tables of the well are not smooth to all orders
    assert bool(((found.value - true).abs() < 1.5 * found.step_error + 1e-6).all())
    assert found.error is None and found.evaluations == 4 * 3 * steps
    assert torch.equal(found.fields, phi)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_from_the_wrong_prior(process):
    """The flow stretches each mode from s(1)^2 as it should stretch it from a^2 / K + s^2."""
    score = free(process)
    phi = fields(score)
    ends = [process.marginal(1 / SPECTRUM, t) for t in (END, 1.0)]
    variance = process.variance(1.0) * ends[0] / ends[1]
    modes = torch.fft.fftn(phi, dim=(1, 2)).abs().square() / LATTICE.volume
    true = -0.5 * (modes / variance + (2 * math.pi * variance).log()).sum((1, 2))
    found = log_density(score, process, phi, steps=400, trace="analytic").value
    torch.testing.assert_close(found, true, rtol=0, atol=1e-6)
    assert float((found - score.log_density(phi, END)).abs().max()) > 1e-4


def test_it_is_normalised():
    """The plain prior of the process, and two peaks: the integral over all fields."""
    score = MixtureScore(VE, torch.ones(2), torch.tensor([1.0, -1.0]), torch.full((2,), 0.2))
    phi = torch.linspace(-8, 8, 801, **F64)
    for trace in ("exact", "analytic"):
        value = log_density(score, VE, phi, steps=150, trace=trace).value
        assert float(torch.trapezoid(value.exp(), phi)) == pytest.approx(1, abs=1e-6)
    assert float((value - score.log_density(phi, END)).abs().max()) > 1e-3  # another density


@pytest.mark.parametrize(("method", "order"), [("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize("make", [free, mixture], ids=["free", "mixture"])
def test_order_and_its_estimate(make, method, order):
    score = make(VE)
    phi, errors = fields(score), []
    for steps in (40, 80):
        found = log_density(score, VE, phi, steps=steps, method=method, step_error=True, end=0.1,
                            prior=lambda x: score.log_density(x, 1.0))
        error = (found.value - score.log_density(phi, 0.1)).abs()
        assert float(found.step_error.mean()) == pytest.approx(float(error.mean()), rel=0.3)
        errors.append(float(error.mean()))
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.4


def integrated(kernel):
    """Return the matrix whose trace is the integral: of r / (1/K + r^2), mode by mode."""
    value, basis = torch.linalg.eigh(kernel)
    ends = [1 / value + VE.variance(t) for t in (END, 1.0)]
    return basis @ torch.diag(0.5 * (ends[1] / ends[0]).log()) @ basis.T


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_mean_and_variance(probe):
    """Of one probe: the exact value, and 2 |A_s|^2 over all or over off-diagonal entries."""
    a = torch.randn(6, 6, generator=generator(3), **F64)
    kernel = a @ a.T + torch.eye(6, **F64)
    score = GaussianScore.of_matrix(kernel, VE, (6,))
    matrix = integrated(kernel)
    part = matrix - torch.diag(matrix.diagonal()) if probe == "rademacher" else matrix
    variance = 2 * float(part.square().sum())
    phi = fields(score, 1).expand(6000, 6)
    options = {"steps": 20, "end": END, "trace": "hutchinson", "probe": probe}
    found = log_density(score, VE, phi, probes=4, generator=generator(5), **options)
    true = log_density(score, VE, phi[:1], steps=20).value
    n = len(phi)
    noise = found.value - true
    assert abs(float(noise.mean())) < 3.5 * math.sqrt(variance / 4 / n)
    # the probes' fourth moments are not Gaussian: the error of the variance from the scatter
    for estimate in (noise**2, found.error**2):
        z = (float(estimate.mean()) - variance / 4) / float(estimate.std()) * math.sqrt(n)
        assert abs(z) < 3.5
    assert found.evaluations == 4 * 20
    one = log_density(score, VE, phi[:3], probes=1, generator=generator(4), **options)
    assert bool(one.error.isnan().all())


@pytest.mark.parametrize("skew", [False, True])
def test_a_score_that_is_no_gradient(skew):
    """s = -A phi: the density is that of the prior times exp(tr A (r_1^2 - r^2) / 2)."""
    a = torch.tensor([[0.02, 0.5], [-0.5, 0.03]] if skew else [[0.02, 0.01], [0.01, 0.03]], **F64)

    def score(phi, t):
        return -phi @ a.T

    phi = torch.randn(4, 2, generator=generator(1), **F64)
    process = VarianceExploding(2.0)
    found = log_density(score, process, phi, steps=50)
    area = 0.5 * (process.variance(1.0) - process.variance(END))
    moved = phi @ torch.linalg.matrix_exp(area * a).T  # dx/dr = r A x
    true = process.prior_log_density(moved) + area * float(a.trace())
    torch.testing.assert_close(found.value, true, rtol=0, atol=1e-8)
    noisy = log_density(score, process, phi, steps=50, trace="hutchinson", probes=64,
                        generator=generator(2))
    if skew:  # the antisymmetric part is not seen by any probe
        torch.testing.assert_close(noisy.value, true, rtol=0, atol=1e-8)
        assert float(noisy.error.max()) < 1e-12
    else:
        assert float((noisy.value - true).abs().max()) < 4 * float(noisy.error.max())


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_proposals_know_their_density(process):
    score = free(process)
    found = propose(score, process, LATTICE, 70, steps=40, generator=generator(1), step_error=True,
                    **F64)
    back = log_density(score, process, found.fields, steps=80)
    torch.testing.assert_close(found.value, back.value, rtol=0, atol=1e-5)
    assert float(found.step_error.max()) < 1e-4
    # one line for all fields of a Gaussian: the density falls with the action
    variance = process.variance(1.0) * process.marginal(1 / SPECTRUM, END) / process.marginal(
        1 / SPECTRUM, 1.0)
    power = torch.fft.fftn(found.fields, dim=(1, 2)).abs().square() / LATTICE.volume
    true = -0.5 * (power / variance + (2 * math.pi * variance).log()).sum((1, 2))
    torch.testing.assert_close(found.value, true, rtol=0, atol=1e-4)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_a_prior_with_the_right_spectrum(process):
    """The exact law at time 1 as prior: the exact law at the end, fields and densities."""
    score = free(process)
    found = propose(score, process, LATTICE, 4000, steps=60, generator=generator(1), prior=score,
                    trace="analytic", **F64)
    torch.testing.assert_close(found.value, score.log_density(found.fields, END), rtol=0,
                               atol=1e-3)
    power = torch.fft.fftn(found.fields, dim=(1, 2)).abs().square() / LATTICE.volume
    z = (power.mean(0) - process.marginal(1 / SPECTRUM, END)) / power.std(0) * math.sqrt(4000)
    assert float(z.abs().max()) < 4
    back = log_density(score, process, found.fields[:5], steps=60, prior=score, trace="analytic")
    torch.testing.assert_close(back.value, found.value[:5], rtol=0, atol=1e-3)
    made = generate(score, process, LATTICE, 4000, steps=60, sampler="rk4", last="none",
                    prior=score, generator=generator(1), **F64)
    torch.testing.assert_close(made.fields, found.fields, rtol=0, atol=1e-10)  # the same flow


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_batches_do_not_matter(trace):
    score = free(VE)
    phi = fields(score, 150)

    def run(n, batch):
        return log_density(score, VE, phi[:n], steps=3, trace=trace, probes=3, batch=batch,
                           generator=generator(5)).value

    whole = run(150, 1024)
    torch.testing.assert_close(run(150, 10), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run(20, 10), whole[:20], rtol=1e-12, atol=1e-12)


def test_float32():
    score = free(VE)
    phi = fields(score)
    two = [log_density(score, VE, phi.to(d)).value for d in (torch.float32, torch.float64)]
    assert two[0].dtype == torch.float64
    torch.testing.assert_close(*two, rtol=0, atol=1e-3)


SCORE, PHI = free(VE), torch.zeros(2, 4, 4)


@pytest.mark.parametrize(("options", "kind", "says"), [
    ({"method": "rk45"}, ValueError, "'rk45' is not known"),
    ({"trace": "skilling"}, ValueError, "'skilling' is not known"),
    ({"probe": "sphere"}, ValueError, "'sphere' is not known"),
    ({"trace": "hutchinson"}, ValueError, "pass a generator"),
    ({"trace": "analytic", "score": lambda phi, t: -phi}, ValueError, "method `divergence`"),
    ({"steps": 0}, ValueError, "steps must be"),
    ({"probes": 0}, ValueError, "probes must be"),
    ({"batch": 0}, ValueError, "batch must be"),
    ({"end": 0.0}, ValueError, "end must be"),
    ({"phi": torch.full((2, 4, 4), math.nan)}, ValueError, "phi holds 32 NaN"),
    ({"phi": torch.zeros(2, 4, 5)}, ShapeError, "phi must be"),
    ({"phi": torch.zeros(2, 4, 4).long()}, ShapeError, "floating point"),
])
def test_bad_input(options, kind, says):
    options = {"score": SCORE, "phi": PHI} | options
    with pytest.raises(kind, match=says):
        log_density(options.pop("score"), VE, options.pop("phi"), **options)


def test_the_partition_function_of_a_free_field():
    """ln q - (-S) is -ln Z for the exact score without noise, at every field."""
    score = free(VE)
    phi = fields(score)
    found = log_density(score, VE, phi, steps=150, end=1e-6, trace="analytic",
                        prior=lambda x: score.log_density(x, 1.0)).value
    action = 0.5 * (phi * torch.fft.ifftn(
        SPECTRUM * torch.fft.fftn(phi, dim=(1, 2)), dim=(1, 2)).real).sum((1, 2))
    torch.testing.assert_close(found + action, torch.full((5,), -exact.free_log_z(SPECTRUM), **F64),
                               rtol=0, atol=1e-3)
