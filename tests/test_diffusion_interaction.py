"""The split of a score into a free field's and the interaction's, on equilibrium ensembles."""

import pytest
import torch

from physml.actions import FreeField, Phi4
from physml.diffusion import (
    GaussianScore,
    Interaction,
    ResidualForce,
    VarianceExploding,
    VariancePreserving,
)
from physml.ensembles import phi4_ensemble
from physml.errors import ShapeError
from physml.lattice import Lattice

PROCESSES = [VarianceExploding(25.0), VariancePreserving()]


@pytest.fixture(scope="module")
def phi4():
    ensemble = phi4_ensemble(8, 0.21, 0.022, 20_000, seed=5, progress=False)
    action, fields = Phi4(0.21, 0.022), ensemble.fields.double()
    return ResidualForce.measure(action, fields), fields


def noised(fields, process, t, seed=0):
    noise = torch.empty_like(fields).normal_(generator=torch.Generator().manual_seed(seed))
    return process.perturb(fields, t, noise), noise


def z_score(values):
    """Mean over its error, of values from (almost) independent fields."""
    return float(values.mean() / values.std() * len(values) ** 0.5)


def test_residual_is_uncorrelated_and_has_the_variance_of_the_mean_hessian(phi4):
    residual, fields = phi4
    dyson = (-fields * residual.action.force(fields)).mean((1, 2))
    assert abs(z_score(dyson - 1)) < 4
    # with P of the same fields the overlap is what <phi S'> has above 1, by algebra
    overlap = (fields * residual.force(fields)).mean()
    assert abs(float(overlap - (dyson.mean() - 1))) < 1e-10
    # <R S'> = <S''> - 1/P for any P, here that of other fields; so rho is this without the errors
    half = ResidualForce.measure(residual.action, fields[:10_000])
    rest = fields[10_000:]
    product = -half.force(rest) * residual.action.force(rest)
    hessian = 2 * (1 - 2 * 0.022) + 12 * 0.022 * rest**2
    excess = (product - hessian).mean((1, 2)) + (1 / half.spectrum).mean()
    assert abs(z_score(excess)) < 4
    assert float(excess.std()) < 0.5  # the free field's 1/P alone is 2 at a site


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.05, 0.3, 0.7])
def test_target_and_noise_give_the_same_score(phi4, process, t):
    residual, fields = phi4
    phi, noise = noised(fields, process, t)
    split = Interaction(residual, process, t)
    found = split.score(phi, split.target(fields, phi))
    plain = -noise / process.variance(t) ** 0.5
    # equal given phi: equal when weighted with any function of it
    for test in (phi, phi**3, split.denoise(phi) ** 3, phi * phi.square().mean((1, 2), True)):
        assert abs(z_score(((found - plain) * test).mean((1, 2)))) < 4
    # and far less noisy than noise
    assert found.var() < plain.var()


@pytest.mark.parametrize("t", [0.05, 0.3, 0.7])
def test_target_has_the_promised_variance(phi4, t):
    residual, fields = phi4
    process = PROCESSES[0]
    phi, _ = noised(fields, process, t)
    split = Interaction(residual, process, t)
    modes = torch.fft.fftn(split.target(fields, phi), dim=(1, 2))
    power = (modes.abs().square() / 64 / split.scale**2).mean((1, 2))
    assert abs(z_score(power - 1)) < 4


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_a_free_field_leaves_nothing(process):
    lattice = Lattice((8, 8))
    action, kernel = FreeField(0.5, dim=2), lattice.free_spectrum(0.5)
    residual = ResidualForce(action, 1 / kernel, torch.zeros_like(kernel))
    fields = torch.randn(4, 8, 8, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(1))
    assert residual.force(fields).abs().max() < 1e-12
    t = torch.tensor([0.1, 0.2, 0.5, 1.0], dtype=torch.float64)
    phi, _ = noised(fields, process, t)
    split = Interaction(residual, process, t)
    target = split.target(fields, phi)
    assert target.abs().max() < 1e-12
    exact = GaussianScore.of_spectrum(kernel, process)(phi, t)
    assert torch.allclose(split.score(phi, target), exact, rtol=1e-10, atol=1e-12)


def test_without_noise_the_score_is_the_force(phi4):
    residual, fields = phi4
    process, some = PROCESSES[0], fields[:4]
    split = Interaction(residual, process, 1e-9)
    score = split.score(some, residual.force(some))
    assert torch.allclose(score, residual.action.force(some), atol=1e-6)


def test_bad_fields_are_refused(phi4):
    residual, fields = phi4
    split = Interaction(residual, PROCESSES[0], 0.5)
    with pytest.raises(ShapeError, match="start"):
        split.target(fields[:2], fields[:3])
    with pytest.raises(ShapeError, match="phi"):
        split.denoise(fields[:2, :4])
    with pytest.raises(ShapeError, match="lattice"):
        ResidualForce.measure(residual.action, fields[:, 0, 0])


def test_spectra_on_a_larger_lattice():
    """A free field that is short of correlations: its spectrum there is known."""
    small, large = Lattice((16, 16)), Lattice((32, 24))
    residual = ResidualForce(FreeField(4.0, dim=2), 1 / small.free_spectrum(4.0),
                             2 / small.free_spectrum(6.0))
    wide = residual.on((32, 24))
    assert torch.allclose(wide.spectrum, 1 / large.free_spectrum(4.0), rtol=1e-6)
    assert torch.allclose(wide.variance, 2 / large.free_spectrum(6.0), rtol=1e-6)
    assert torch.equal(residual.on((16, 16)).spectrum, residual.spectrum)
    for shape in ((8, 16), (16,)):
        with pytest.raises(ShapeError, match="no length below"):
            residual.on(shape)
    light = ResidualForce(FreeField(1e-3, dim=2), 1 / small.free_spectrum(1e-3),
                          residual.variance)
    with pytest.raises(ValueError, match="too small"):
        light.on((64, 64))
