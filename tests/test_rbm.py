from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from physml import exact
from physml.device import generator
from physml.errors import ShapeError, StabilityError
from physml.rbm import ScalarFieldRBM, Target

F8 = torch.float64


def machine(n=4, m=3, mu2=5.0, sigma=0.8, seed=1, init=0.5, bias=True):
    model = ScalarFieldRBM(n, m, mu2, sigma, init=init, generator=generator(seed))
    if bias:
        model.eta.normal_(generator=generator(seed + 1))
    return model


def normal(model):
    covariance = torch.linalg.inv(
        model.mu2 * torch.eye(model.n_visible, dtype=F8)
        - model.sigma**2 * model.weight @ model.weight.T)
    return MultivariateNormal(covariance @ (model.weight @ model.eta), covariance)


def test_conditionals_are_those_of_the_action():
    model = machine()
    g = generator(3)
    phi, h = torch.randn(6, 4, dtype=F8, generator=g), torch.randn(6, 3, dtype=F8, generator=g)
    h2, phi2 = h.flip(0), phi.flip(0)

    def log_p(x, mean, variance):
        return -((x - mean) ** 2).sum(-1) / (2 * variance)

    mean = model.hidden_mean(phi)
    want = log_p(h, mean, model.sigma**2) - log_p(h2, mean, model.sigma**2)
    torch.testing.assert_close(model.action(phi, h2) - model.action(phi, h), want,
                               rtol=0, atol=1e-12)
    mean = model.visible_mean(h)
    want = log_p(phi, mean, 1 / model.mu2) - log_p(phi2, mean, 1 / model.mu2)
    torch.testing.assert_close(model.action(phi2, h) - model.action(phi, h), want,
                               rtol=0, atol=1e-12)


def test_density_by_quadrature_over_h_and_phi():
    model = ScalarFieldRBM(1, 1, 3.0, 0.7, init=0)
    model.weight.fill_(1.3)
    model.eta.fill_(0.4)
    x = torch.linspace(-12, 12, 1201, dtype=F8)
    step = 0.02
    phi, h = torch.meshgrid(x, x, indexing="ij")
    weight = (-model.action(phi.reshape(-1, 1), h.reshape(-1, 1))).exp().reshape(1201, 1201)
    density = weight.sum(1) / (weight.sum() * step)
    # the trapezoid rule on a Gaussian converges faster than any power: rounding is left
    torch.testing.assert_close(model.log_likelihood(x[:, None]).exp(), density,
                               rtol=0, atol=1e-12)
    assert float(model.log_likelihood(x[:, None]).exp().sum() * step) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 5), (4, 4)])
def test_gaussian_distribution(n, m):
    model = machine(n, m)
    p = normal(model)
    phi = torch.randn(7, n, dtype=F8, generator=generator(4))
    torch.testing.assert_close(model.log_likelihood(phi), p.log_prob(phi), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.kernel(), p.precision_matrix, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.covariance(), p.covariance_matrix, rtol=1e-12, atol=1e-12)
    other = machine(n, m, mu2=7.0, seed=9)
    q = normal(other)
    two_point = q.covariance_matrix + torch.outer(q.mean, q.mean)
    assert float(model.kl(two_point, q.mean)) == pytest.approx(float(kl_divergence(q, p)),
                                                              rel=1e-11)
    want = -q.entropy() - kl_divergence(q, p)
    assert float(model.mean_log_likelihood(two_point, q.mean)) == pytest.approx(float(want))
    torch.testing.assert_close(
        model.mean_log_likelihood(phi.T @ phi / 7, phi.mean(0)), model.log_likelihood(phi).mean())


@pytest.mark.parametrize(("n", "m"), [(6, 3), (3, 6), (4, 4)])
def test_modes_rebuild_the_kernel(n, m):
    model = machine(n, m, init=0.4)
    lam, u = model.modes()
    torch.testing.assert_close(u * lam @ u.T, model.kernel(), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.T @ u, torch.eye(n, dtype=F8), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.spectrum(), torch.linalg.eigvalsh(model.kernel()),
                               rtol=0, atol=1e-12)
    assert bool((lam.diff() >= 0).all())
    xi = model.singular_values()
    torch.testing.assert_close(lam[: len(xi)], model.mu2 - model.sigma**2 * xi**2)


def assert_moments(phi, p, bound=4.5):
    """z-scores of all means and covariances of independent samples (20 numbers here)."""
    n = len(phi)
    c = p.covariance_matrix
    z = (phi.mean(0) - p.mean) / (c.diagonal() / n).sqrt()
    assert float(z.abs().max()) < bound
    d = phi - p.mean
    error = ((c**2 + torch.outer(c.diagonal(), c.diagonal())) / n).sqrt()  # Wick
    z = (d.T @ d / n - c) / error
    assert float(z.abs().max()) < bound


def test_exact_samples():
    model = machine()
    assert_moments(model.sample(100_000, generator(5)), normal(model))


def test_long_gibbs_chains():
    model = machine()
    # independent chains, one measurement each; the start is forgotten to rho^40
    rho = float(model.sigma**2 * model.singular_values()[0] ** 2 / model.mu2)
    assert rho**40 < 1e-8
    phi = torch.full((50_000, 4), 3.0, dtype=F8)
    assert_moments(model.gibbs(phi, 40, generator(6)), normal(model))


def test_gibbs_autocorrelation_of_each_mode():
    kernel = torch.diag(torch.tensor([1.0, 2.0, 4.0, 6.0], dtype=F8))
    model = ScalarFieldRBM.optimum(torch.linalg.inv(kernel), 4, 5.0)
    n = 100_000
    phi = model.sample(n, generator(7))
    after = model.gibbs(phi, 1, generator(8))
    lam = model.kernel().diagonal()
    rho = exact.rbm_gibbs_correlation(kernel.diagonal(), 5.0)
    assert rho.tolist() == pytest.approx([0.8, 0.6, 0.2, 0.0])
    z = ((phi * after).mean(0) * lam - rho) / ((1 + rho**2) / n).sqrt()
    assert float(z.abs().max()) < 4


@pytest.mark.parametrize(("n_hidden", "mu2"), [(9, 9.0), (8, 9.0), (7, 9.0), (6, 9.0), (10, 7.8),
                                               (10, 7.1), (10, 5.8), (10, 4.8)])
@pytest.mark.parametrize("sigma", [1.0, 0.5])
def test_optimum_has_the_gap_in_closed_form(n_hidden, mu2, sigma):
    kappa = exact.chain_spectrum(10, 4.0)
    basis = torch.linalg.qr(torch.randn(10, 10, dtype=F8, generator=generator(1))).Q
    two_point = basis / kappa @ basis.T
    two_point = (two_point + two_point.T) / 2
    model = ScalarFieldRBM.optimum(two_point, n_hidden, mu2, sigma)
    assert float(model.kl(two_point)) == pytest.approx(
        exact.rbm_kl_gap(kappa, mu2, n_hidden), abs=1e-12)
    slope = sigma**2 * (two_point - model.covariance()) @ model.weight
    assert float(slope.abs().max()) < 1e-13


def test_optimum_with_learned_mass_is_probabilistic_pca():
    kappa = exact.chain_spectrum(10, 4.0)
    model = ScalarFieldRBM.optimum(torch.diag(1 / kappa), 8)
    assert float(model.mu2) == pytest.approx(exact.rbm_mass_plateau(kappa, 8), rel=1e-13)
    with pytest.raises(ValueError, match="n_hidden < n_visible"):
        ScalarFieldRBM.optimum(torch.diag(1 / kappa), 10)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="mu2"):
        ScalarFieldRBM(2, 2, 0.0, init=0)
    with pytest.raises(ValueError, match="mu2"):
        ScalarFieldRBM(2, 2, math.nan, init=0)
    with pytest.raises(ValueError, match="generator"):
        ScalarFieldRBM(2, 2, 1.0)
    with pytest.raises(ValueError, match="n_visible"):
        ScalarFieldRBM(0, 2, 1.0, init=0)
    with pytest.raises(StabilityError, match=r"mu2=0\.1 must exceed"):
        ScalarFieldRBM(8, 8, 0.1, init=1.0, generator=generator(1))
    model = machine()
    with pytest.raises(ShapeError, match="phi"):
        model.hidden_mean(torch.zeros(2, 5, dtype=F8))
    with pytest.raises(ShapeError, match="h must"):
        model.visible_mean(torch.zeros(2, 4, dtype=F8))
    with pytest.raises(ShapeError, match="two_point"):
        model.mean_log_likelihood(torch.eye(3, dtype=F8))
    with pytest.raises(StabilityError, match="two_point"):
        model.kl(torch.zeros(4, 4, dtype=F8))
    with pytest.raises(ValueError, match="two_point holds 1 NaN"):
        two_point = torch.eye(3)
        two_point[0, 0] = math.nan
        ScalarFieldRBM.optimum(two_point, 2, 3.0)
    model.weight *= 100
    for call in (model.check_stable, model.covariance, lambda: model.sample(2, generator(1))):
        with pytest.raises(StabilityError, match="sigma\\^2 xi_max\\^2"):
            call()
    model.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="weight holds 1 NaN"):
        model.check_stable()
    with pytest.raises(StabilityError, match="kernel"):
        Target.of_kernel(-torch.eye(2))


def test_single_precision_stays_and_agrees():
    double = machine(10, 8, init=0.2)
    single = ScalarFieldRBM(10, 8, 5.0, 0.8, init=0, dtype=torch.float32)
    single.weight.copy_(double.weight)
    single.eta.copy_(double.eta)
    phi = double.sample(20, generator(1))
    for name in ("hidden_mean", "log_likelihood"):
        got = getattr(single, name)(phi.float())
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), getattr(double, name)(phi), rtol=1e-5, atol=1e-4)
    for name in ("kernel", "source", "spectrum", "covariance"):
        got = getattr(single, name)()
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), getattr(double, name)(), rtol=1e-5, atol=1e-5)
    assert single.sample(3, generator(1)).dtype == torch.float32
    assert single.gibbs(phi.float(), 1, generator(1)).dtype == torch.float32


def test_forward_paths_on_fake_cuda_tensors():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=False):
        model = ScalarFieldRBM(5, 3, 4.0, init=0, device="cuda")
        phi, h = torch.empty(7, 5, dtype=F8, device="cuda"), torch.empty(7, 3, dtype=F8,
                                                                         device="cuda")
        two_point = torch.empty(5, 5, dtype=F8, device="cuda")
        got = {"hidden_mean": model.hidden_mean(phi), "visible_mean": model.visible_mean(h),
               "action": model.action(phi, h), "kernel": model.kernel(),
               "log_likelihood": model.log_likelihood(phi),
               "mean_log_likelihood": model.mean_log_likelihood(two_point)}
        want = {"hidden_mean": (7, 3), "visible_mean": (7, 5), "action": (7,), "kernel": (5, 5),
                "log_likelihood": (7,), "mean_log_likelihood": ()}
        assert {k: tuple(v.shape) for k, v in got.items()} == want
        assert {v.device.type for v in got.values()} == {"cuda"}
        host = torch.empty(7, 5, dtype=F8)
        for call in (model.hidden_mean, model.log_likelihood, lambda x: model.action(x, h)):
            with pytest.raises(RuntimeError, match="device"):
                call(host)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu():
    host = machine()
    model = ScalarFieldRBM(4, 3, 5.0, 0.8, init=0, device="cuda")
    model.weight.copy_(host.weight)
    model.eta.copy_(host.eta)
    phi = host.sample(10, generator(1))
    torch.testing.assert_close(model.log_likelihood(phi.cuda()).cpu(), host.log_likelihood(phi))
    assert_moments(model.sample(100_000, generator(1, "cuda")).cpu(), normal(host))
