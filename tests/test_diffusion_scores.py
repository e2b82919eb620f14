"""Exact scores against the gradients of exact log densities, and those against other formulas."""

from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.actions import FreeField, ZeroDimensionalPhi4
from physml.device import generator
from physml.diffusion import (
    GaussianScore,
    MixtureScore,
    VarianceExploding,
    VariancePreserving,
    ZeroDimensionalScore,
    denoiser,
    score_of,
)
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice

VE, VP = VarianceExploding(), VariancePreserving()
LATTICE = Lattice((4, 5))
HOPPING = exact.hopping_spectrum(LATTICE, 0.2)
DOUBLE = ZeroDimensionalPhi4(-1.0, 0.4)
SINGLE = ZeroDimensionalPhi4(1.0, 0.4)


def mixture(process, shape, per_site=False):
    g = generator(5)
    means = torch.randn(3, *shape, generator=g, dtype=torch.float64)
    spread = means.shape if per_site else (3,)
    variances = 0.1 + torch.rand(spread, generator=g, dtype=torch.float64)
    return MixtureScore(process, torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), means,
                        variances)


def dense(process):
    g = generator(6)
    a = torch.randn(6, 6, generator=g, dtype=torch.float64)
    return GaussianScore.of_matrix(a @ a.T + torch.eye(6), process, (2, 3))


LAWS = {
    "free": lambda p: GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), p),
    "hopping": lambda p: GaussianScore.of_spectrum(HOPPING, p),
    "ring": lambda p: GaussianScore.of_spectrum(Lattice(7).free_spectrum(1.0), p),
    "one mode": lambda p: GaussianScore.of_spectrum(torch.tensor(2.5), p),
    "dense": dense,
    "mixture": lambda p: mixture(p, (2, 3)),
    "mixture, each site": lambda p: mixture(p, (2, 3), True),
    "mixture in 0-d": lambda p: mixture(p, ()),
    "single well": lambda p: ZeroDimensionalScore(p, SINGLE),
    "double well": lambda p: ZeroDimensionalScore(p, DOUBLE),
}


def fields(law, process, t, chains=6, seed=2):
    """Return fields of about the width of the noised law."""
    z = torch.randn(chains, *law.shape, generator=generator(seed), dtype=torch.float64)
    return z * math.sqrt(process.marginal(1.5, t))


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
@pytest.mark.parametrize("name", LAWS)
def test_score_is_the_gradient_of_the_log_density(name, process):
    """And the divergence is the trace of the Jacobian."""
    law = LAWS[name](process)
    for t in (0.05, 0.5, 1.0):
        phi = fields(law, process, t).requires_grad_(True)
        score = law(phi, t)
        if isinstance(law, ZeroDimensionalScore):  # its integrals know no automatic derivative
            h = 1e-3
            there = [law.log_density(phi.detach() + k * h, t) for k in (-2, -1, 1, 2)]
            gradient = (there[0] - 8 * there[1] + 8 * there[2] - there[3]) / (12 * h)
            rtol, atol = 1e-6, 1e-6
        else:
            gradient = torch.autograd.grad(law.log_density(phi, t).sum(), phi)[0]
            rtol, atol = 1e-10, 1e-10
        torch.testing.assert_close(score.detach(), gradient, rtol=rtol, atol=atol)
        trace = 0
        flat = score.flatten(1) if score.ndim > 1 else score[:, None]
        for i in range(flat.shape[1]):
            row = torch.autograd.grad(flat[:, i].sum(), phi, retain_graph=True)[0]
            trace = trace + row.reshape(len(phi), -1)[:, i]
        torch.testing.assert_close(law.divergence(phi, t).detach(), trace, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_a_time_for_each_chain(name):
    law, t = LAWS[name](VP), torch.tensor([0.02, 0.3, 1.0], dtype=torch.float64)
    phi = fields(law, VP, 0.5, 3)
    for f in (law, law.log_density, law.divergence):
        one = torch.cat([f(phi[i : i + 1], float(t[i])) for i in range(3)])
        # a degree of freedom is tabulated for one time, and integrated for many
        loose = 1e-5 if isinstance(law, ZeroDimensionalScore) else 1e-12
        torch.testing.assert_close(f(phi, t), one, rtol=loose, atol=loose)


@pytest.mark.parametrize("name", LAWS)
def test_float32(name):
    law = LAWS[name](VE)
    phi = fields(law, VE, 0.3)
    single = law(phi.float(), 0.3)
    assert single.dtype == torch.float32 and law.log_density(phi.float(), 0.3).dtype == phi.dtype
    torch.testing.assert_close(single.double(), law(phi, 0.3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(law.log_density(phi.float(), 0.3), law.log_density(phi, 0.3),
                               rtol=1e-5, atol=1e-5)


def test_free_field_without_noise_is_its_action():
    law = GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VE)
    phi, action = fields(law, VE, 0.0), FreeField(0.5, 2)
    torch.testing.assert_close(law(phi, 0.0), action.force(phi))
    log_z = exact.free_log_z(LATTICE.free_spectrum(0.5))
    torch.testing.assert_close(law.log_density(phi, 0.0), -action(phi) - log_z)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_dense_and_fourier_kernels_agree(process):
    fourier = GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), process)
    matrix = GaussianScore.of_matrix(LATTICE.kinetic_matrix(0.5), process, LATTICE)
    phi = fields(fourier, process, 0.4)
    torch.testing.assert_close(fourier(phi, 0.4), matrix(phi, 0.4))
    torch.testing.assert_close(fourier.log_density(phi, 0.4), matrix.log_density(phi, 0.4))
    torch.testing.assert_close(fourier.divergence(phi, 0.4), matrix.divergence(phi, 0.4))


@pytest.mark.parametrize("name", ["free", "ring", "one mode", "dense"])
def test_gaussian_fields_from_white_noise(name):
    """The map is linear: what it does to all unit vectors gives the covariance exactly."""
    law = LAWS[name](VP)
    volume = math.prod(law.shape)
    units = torch.eye(volume, dtype=torch.float64).reshape(volume, *law.shape)
    covariance = law.sample(units, 0.4).reshape(volume, volume)
    covariance = covariance.T @ covariance
    kernel = -law(units, 0.4).reshape(volume, volume)
    torch.testing.assert_close(covariance @ kernel, torch.eye(volume, dtype=torch.float64))


def test_a_mixture_of_one_is_a_gaussian():
    law = GaussianScore.of_spectrum(torch.full((4, 5), 2.0), VE)
    one = MixtureScore(VE, torch.ones(1), torch.zeros(1, 4, 5), torch.tensor([0.5]))
    phi = fields(law, VE, 0.4)
    torch.testing.assert_close(one(phi, 0.4), law(phi, 0.4))
    torch.testing.assert_close(one.log_density(phi, 0.4), law.log_density(phi, 0.4))


def test_two_peaks_in_closed_form():
    """arXiv:2410.21212: [-x + mu tanh(mu x / s^2)] / s^2 for 1/2 [N(mu, v) + N(-mu, v)]."""
    law = MixtureScore(VE, torch.ones(2), torch.tensor([1.0, -1.0]), torch.full((2,), 1 / 16))
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    for t in (0.0, 0.2, 0.9):
        s2 = 1 / 16 + VE.variance(t)
        torch.testing.assert_close(law(x, t), (-x + torch.tanh(x / s2)) / s2)


@pytest.mark.parametrize("action", [SINGLE, DOUBLE], ids=["single", "double"])
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_one_degree_of_freedom_against_quadrature(process, action):
    """To the accuracy that the docstring states, where exp(-S_t) is above e^-30 of its maximum."""
    law = ZeroDimensionalScore(process, action)
    for t in (1e-5, 1e-3, 0.02, 0.1, 0.3, 0.45, 0.8, 1.0):
        reach = 7 + 5 * math.sqrt(process.variance(t))
        phi = torch.linspace(-reach, reach, 801, dtype=torch.float64)
        noised, score = exact.noised_action(action, phi, process.variance(t),
                                            process.mean_factor(t))
        seen = noised < noised.min() + 30
        largest = float(score[seen].abs().max())
        assert float((law(phi, t) - score)[seen].abs().max()) < 1e-7 * largest
        direct = law(phi, torch.full_like(phi, t))
        assert float((direct - score)[seen].abs().max()) < 1e-12 * largest
        error = law.log_density(phi, t) + noised + law._law.log_z
        assert float(error[seen].abs().max()) < 1e-12


def test_one_degree_of_freedom_without_noise():
    law = ZeroDimensionalScore(VE, DOUBLE)
    phi = torch.linspace(-7, 7, 101, dtype=torch.float64)
    torch.testing.assert_close(law(phi, 0.0), DOUBLE.force(phi), rtol=0, atol=1e-6)
    torch.testing.assert_close(law.log_density(phi, 0.0),
                               -DOUBLE(phi) - math.log(exact.phi4_z(-1.0, 0.4)), rtol=0, atol=1e-6)


def test_a_gaussian_by_quadrature():
    """Also far outside of the table, where the score goes on straight."""
    law = ZeroDimensionalScore(VE, lambda x: 3 * (x - 1) ** 2)
    phi = torch.linspace(-300, 300, 1001, dtype=torch.float64)
    for t in (0.0, 0.1, 1.0):
        score = -(phi - 1) / (1 / 6 + VE.variance(t))
        torch.testing.assert_close(law(phi, t), score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
@pytest.mark.parametrize("name", ["hopping", "mixture", "double well"])
def test_denoiser_and_score_are_inverses(name, process):
    law = LAWS[name](process)
    back = score_of(denoiser(law, process), process)
    for t in (0.3, torch.tensor([0.1, 0.2, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)):
        phi = fields(law, process, 0.3)
        torch.testing.assert_close(back(phi, t), law(phi, t))


def test_the_denoiser_is_the_mean_of_the_field_before():
    """For a free field in closed form: a v / (a^2 v + s^2) of each mode."""
    law = GaussianScore.of_spectrum(HOPPING, VP)
    phi = fields(law, VP, 0.4)
    a, s2, v = VP.mean_factor(0.4), VP.variance(0.4), 1 / HOPPING
    modes = torch.fft.fftn(phi, dim=(1, 2)) * a * v / (a * a * v + s2)
    torch.testing.assert_close(denoiser(law, VP)(phi, 0.4), torch.fft.ifftn(modes, dim=(1, 2)).real)


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: GaussianScore.of_spectrum(LATTICE.free_spectrum(-1.0), VE), StabilityError,
     "all must be positive"),
    (lambda: GaussianScore.of_spectrum(torch.full((4, 4), math.nan), VE), ValueError, "NaN"),
    (lambda: GaussianScore.of_spectrum(torch.arange(1.0, 6.0), VE), ValueError, "k and -k"),
    (lambda: GaussianScore.of_matrix(-torch.eye(6), VE, (2, 3)), StabilityError, "positive"),
    (lambda: GaussianScore.of_matrix(torch.eye(5), VE, (2, 3)), ShapeError, r"shape \(6, 6\)"),
    (lambda: GaussianScore.of_matrix(torch.eye(6).cumsum(0), VE, (2, 3)), ValueError,
     "not symmetric"),
    (lambda: LAWS["free"](VE)(torch.zeros(3, 4, 4), 0.1), ShapeError, r"\(chains, 4, 5\)"),
    (lambda: LAWS["free"](VE)(torch.zeros(3, 4, 5).long(), 0.1), ShapeError, "floating point"),
    (lambda: LAWS["free"](VE)(torch.zeros(3, 4, 5), 1.2), ValueError, "t must lie in"),
    (lambda: LAWS["free"](VE).log_density(torch.full((3, 4, 5), math.nan), 0.2), ValueError,
     "NaN"),
    (lambda: MixtureScore(VE, torch.ones(2), torch.zeros(3), torch.ones(2)), ShapeError, "means"),
    (lambda: MixtureScore(VE, torch.ones(2), torch.zeros(2), torch.ones(3)), ShapeError,
     "variances"),
    (lambda: MixtureScore(VE, torch.ones(2), torch.zeros(2), torch.zeros(2)), StabilityError,
     "variances"),
    (lambda: ZeroDimensionalScore(VE, lambda x: -(x**2)), StabilityError, "does not fall off"),
    (lambda: LAWS["double well"](VE)(torch.zeros(3, 4), 0.1), ShapeError, "phi must be"),
    (lambda: LAWS["double well"](VE)(torch.zeros(3), -0.1), ValueError, "t must lie in"),
    (lambda: LAWS["double well"](VE).log_density(torch.tensor([math.inf]), 0.1), ValueError,
     "infinite"),
])
def test_bad_input(call, kind, says):
    with pytest.raises(kind, match=says):
        call()
