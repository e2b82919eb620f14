"""Denoising score matching: its least value, its nats, what is learned, and exact resume."""

from __future__ import annotations

import math

import pytest
import torch

from physml import exact
from physml.actions import Phi4, ZeroDimensionalPhi4
from physml.device import generator
from physml.diffusion import (
    GaussianScore,
    OddMLP,
    ScoreModel,
    UNet,
    VarianceExploding,
    VariancePreserving,
    ZeroDimensionalScore,
    generate,
    loss,
    train,
    training,
    validation_loss,
)
from physml.errors import CheckpointError, ShapeError, StabilityError
from physml.lattice import Lattice

VE, VP = VarianceExploding(), VariancePreserving()
F64 = {"dtype": torch.float64}
LATTICE = Lattice((8, 8))
KERNEL = LATTICE.free_spectrum(0.4)


def free_fields(n, seed=1):
    white = torch.randn(n, 8, 8, generator=generator(seed), **F64)
    return torch.fft.ifftn(torch.fft.fftn(white, dim=(1, 2)) / KERNEL.sqrt(), dim=(1, 2)).real


@pytest.mark.parametrize("weighting", training.WEIGHTINGS)
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_least_loss_of_a_free_field(process, weighting):
    """P / (P + r^2), averaged over modes."""
    score = GaussianScore.of_spectrum(KERNEL, process)
    phi, g = free_fields(4000), generator(2)
    for t in (0.05, 0.3, 0.9):
        noise = torch.randn(phi.shape, generator=g, **F64)
        found = loss(score, process, phi, t, noise, weighting=weighting, scale=0.7)
        least = float((1 / (1 + KERNEL * process.ratio(t) ** 2)).mean())
        if weighting == "field":
            least *= 1 + process.ratio(t) ** 2 / 0.49
        z = (float(found.mean()) - least) / float(found.std()) * math.sqrt(len(phi))
        assert abs(z) < 3.5


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_what_a_wrong_score_costs(process):
    """r^2 [1/(P+r^2) - 1/(P'+r^2)]^2 (P + r^2) more, from the same noise."""
    right = GaussianScore.of_spectrum(KERNEL, process)
    wrong = GaussianScore.of_spectrum(0.5 * KERNEL, process)
    phi = free_fields(4000)
    for t in (0.1, 0.4):
        noise = torch.randn(phi.shape, generator=generator(3), **F64)
        more = (loss(wrong, process, phi, t, noise) - loss(right, process, phi, t, noise))
        r2, p = process.ratio(t) ** 2, 1 / KERNEL
        cost = float((r2 * (1 / (p + r2) - 1 / (2 * p + r2)) ** 2 * (p + r2)).mean())
        assert abs(float(more.mean()) - cost) < 3.5 * float(more.std()) / math.sqrt(len(phi))
        assert cost > 5 * float(more.std()) / math.sqrt(len(phi))


def test_nats_bound_the_divergence_of_the_fields():
    """The integral over ln r of what a wrong score costs, against exact Gaussian laws.

    Both reverse processes start from the right law at time 1. The wrong one stays Gaussian: its
    variance by its own moment equation, its divergence from the right one at most the integral.
    """
    p, q = 2.0, 1.0
    r = torch.logspace(math.log10(VE.ratio(1e-3)), math.log10(VE.ratio(1.0)), 20001, **F64)
    cost = r**2 * (1 / (p + r**2) - 1 / (q + r**2)) ** 2 * (p + r**2)
    bound = float(torch.trapezoid(cost, r.log()))
    # dv/d(r^2) = 2 v / (q + r^2) - 1, downwards: v = c (q + r^2)^2 + (q + r^2)
    top, bottom = float(r[-1]) ** 2, float(r[0]) ** 2
    v = ((p + top) - (q + top)) / (q + top) ** 2 * (q + bottom) ** 2 + (q + bottom)
    ratio = (p + bottom) / v
    divergence = 0.5 * (ratio - 1 - math.log(ratio))
    assert 0 < divergence < bound < 2 * divergence


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_noise_is_spread_over_its_logarithm(process):
    t, noise = training._draw(torch.zeros(1000, 3, **F64), process, 1e-3, generator(1))
    place = process.ratio(t).log()
    ends = math.log(process.ratio(1e-3)), math.log(process.ratio(1.0))
    share = (place - ends[0]) / (ends[1] - ends[0]) * 1000
    assert torch.equal(share.floor(), torch.arange(1000, **F64))  # one in each part
    assert noise.shape == (1000, 3) and abs(float(noise.mean())) < 0.07


def test_augmentation_is_a_symmetry():
    action, phi, g = Phi4(0.2, 0.1), torch.randn(3, 6, 6, generator=generator(1), **F64), (
        generator(2))
    seen = {tuple(training._moved(phi, g)[0].flatten().tolist()) for _ in range(400)}
    assert len(seen) > 150  # of 36 shifts times 8 rotations and reflections
    moved = training._moved(phi, g)
    torch.testing.assert_close(action(moved), action(phi))
    assert training._moved(phi[:, 0, 0], g).shape == (3,)
    assert training._moved(phi[:, :4], g).shape == (3, 4, 6)  # not transposed


def test_a_double_well_is_learned():
    """Most of the way from the free field's loss to that of the exact score; and its moments."""
    action = ZeroDimensionalPhi4(-1.0, 0.4)
    law, g = exact.quadrature(action), generator(1)
    place = torch.searchsorted(law.weight.cumsum(0), torch.rand(6000, generator=g, **F64))
    data = law.x[place.clamp(max=len(law.x) - 1)].float()
    model = ScoreModel(OddMLP(generator=g), VP, torch.tensor(law.moment(2)))
    truth = ZeroDimensionalScore(VP, action)

    def check(score):
        return validation_loss(score, VP, data[:2000], generator=generator(5)).value

    before = check(model)
    state = torch.get_rng_state()
    history = train(model, data, steps=500, lr=3e-3, batch_size=256, ema=0.98, generator=g,
                    progress=False, validation=data[:500], record_every=200)
    assert torch.equal(torch.get_rng_state(), state)
    after, least = check(model), check(truth)
    assert after - least < 0.15 * (before - least)
    assert history.steps == [200, 400, 500] and history.validation[2] < history.validation[0] * 1.1
    phi = generate(model, VP, (), 4000, steps=40, generator=g).fields
    assert float(phi.square().mean()) == pytest.approx(law.moment(2), rel=0.08)
    assert float((phi**4).mean()) < 0.6 * 3 * law.moment(2) ** 2  # far from a Gaussian's


def small(seed=1):
    g = generator(seed)
    return ScoreModel(UNet((4, 6), 1, 8, generator=g), VE, 1 / KERNEL), g


def go(model, g, **options):
    options = {"steps": 12, "lr": 1e-3, "batch_size": 8, "record_every": 5,
               "progress": False} | options
    return train(model, free_fields(50).float(), generator=g,
                 validation=free_fields(9, 2).float(), **options)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_resume_is_exact(tmp_path):
    whole, g = small()
    history = go(whole, g)
    assert history.steps == [5, 10, 12] and all(map(math.isfinite, history.validation))
    for stop in (5, 7):  # at a record, and between two
        path = tmp_path / f"{stop}.safetensors"
        go(*small(), steps=stop, checkpoint=path)
        model, g = small()
        rest = go(model, g, checkpoint=path)
        assert same(model, whole)
        assert (rest.steps, rest.loss, rest.validation) == (
            history.steps, history.loss, history.validation)
    other, _ = small()
    assert not same(other, whole)


def test_an_interrupted_run_goes_on(tmp_path):
    whole, g = small()
    go(whole, g)
    calls = []

    def lr(step):
        calls.append(step)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return 1e-3

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        go(*small(), lr=lr, checkpoint=path, checkpoint_every=3)
    model, g = small()
    go(model, g, checkpoint=path)
    assert same(model, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def test_bad_checkpoints(tmp_path):
    path = tmp_path / "run.safetensors"
    go(*small(), steps=3, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"other settings \(ema=[^,]* there, [^,]* here\)"):
        go(*small(), checkpoint=path, ema=0.9)
    with pytest.raises(CheckpointError, match="other step sizes"):
        go(*small(), checkpoint=path, lr=2e-3)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="cannot be read"):
        go(*small(), checkpoint=path)


def test_time_is_up():
    history = go(*small(), steps=10**6, seconds=0.2)
    assert 0 < history.steps[-1] < 10**5 and history.seconds[-1] < 10


def test_progress_bar(capsys):
    go(*small(), progress=True)
    assert "training" in capsys.readouterr().err


def test_the_free_field_is_not_unlearned():
    """With the exact spectrum there is nothing to learn: the loss stays where it was."""
    model, g = small()
    phi = free_fields(2000, 3).float()
    before = validation_loss(model, VE, phi, generator=generator(4))
    train(model, free_fields(2000).float(), steps=60, lr=1e-3, generator=g, progress=False)
    after = validation_loss(model, VE, phi, generator=generator(4))
    assert after.value == pytest.approx(before.value, rel=0.01)
    assert after.value != before.value


@pytest.mark.parametrize(("options", "kind", "says"), [
    ({"lr": 0.0}, ValueError, "lr must be"),
    ({"lr": lambda step: math.nan}, ValueError, "lr must be"),
    ({"steps": 0}, ValueError, "steps must be"),
    ({"batch_size": 1.5}, ValueError, "batch_size must be"),
    ({"weighting": "snr"}, ValueError, "'snr' is not known"),
    ({"ema": 1.0}, ValueError, "ema must lie"),
    ({"end": 1.0}, ValueError, "end must lie"),
    ({"clip": -1.0}, ValueError, "clip must be"),
    ({"data": torch.zeros(4, 8, 6)}, ShapeError, r"\(chains, 8, 8\)"),
    ({"data": torch.full((4, 8, 8), math.nan)}, ValueError, "data holds 256 NaN"),
    ({"validation": torch.zeros(4, 8)}, ShapeError, r"\(chains, 8, 8\)"),
    ({"lr": 1e30, "clip": None, "steps": 50}, StabilityError, "lower it"),
])
def test_bad_input(options, kind, says):
    model, g = small()
    options = {"data": torch.ones(4, 8, 8), "steps": 2, "lr": 1e-3, "progress": False} | options
    with pytest.raises(kind, match=says):
        train(model, options.pop("data"), generator=g, **options)


def test_bad_weighting_of_the_loss():
    with pytest.raises(ValueError, match="'snr' is not known"):
        loss(GaussianScore.of_spectrum(KERNEL, VE), VE, torch.zeros(1, 8, 8), 0.1,
             torch.zeros(1, 8, 8), weighting="snr")
