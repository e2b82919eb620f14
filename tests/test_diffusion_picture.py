"""The interaction picture: fields of a free theory exactly, densities with a known Jacobian."""

import math

import pytest
import torch
from torch import nn

from physml.actions import FreeField, Phi4
from physml.device import generator
from physml.diffusion import (
    DPM,
    Distilled,
    Interaction,
    InteractionModel,
    ResidualForce,
    UNet,
    VarianceExploding,
    VariancePreserving,
    expected_acceptance,
    flow,
    flow_from,
    generate,
    log_density,
    log_weights,
    train,
)
from physml.diffusion.training import warmup_cosine
from physml.ensembles import phi4_ensemble
from physml.errors import CheckpointError, ShapeError
from physml.lattice import Lattice

VE = VarianceExploding(60.0)
LATTICE = Lattice((8, 8))
KERNEL = LATTICE.free_spectrum(0.4)


class Linear(nn.Module):
    """A network that is linear, so that the model is another free field."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x, level):
        return self.slope * x[:, 1]


class Cubic(Linear):
    """A local cubic of the denoised field: what first order in the coupling gives."""

    def forward(self, x, level):
        return self.slope * torch.tanh(x[:, 1]) ** 3


def free_fields(n):
    """Draw fields with the kernel `KERNEL`."""
    white = torch.empty(n, 8, 8, dtype=torch.float64).normal_(generator=generator(4))
    return torch.fft.ifftn(torch.fft.fftn(white, dim=(1, 2)) * KERNEL**-0.5, dim=(1, 2)).real


def linear(slope, process=VE):
    residual = ResidualForce(FreeField(0.4, dim=2), 1 / KERNEL, torch.full_like(KERNEL, 0.3))
    return InteractionModel(Linear(slope), process, residual)


def test_a_free_field_is_drawn_exactly_in_one_step():
    drawn = flow(linear(0.0), 2000, dilution=4, generator=generator(1), dtype=torch.float64)
    one = flow(linear(0.0), 2000, steps=1, generator=generator(1), dtype=torch.float64)
    assert torch.allclose(one.fields, drawn.fields, atol=1e-12)
    assert one.value is None and one.error is None
    kernel = torch.fft.ifftn(torch.fft.fftn(drawn.fields, dim=(1, 2)) * KERNEL, dim=(1, 2)).real
    action = 0.5 * (drawn.fields * kernel).sum((1, 2))
    exact = -action + 0.5 * float(KERNEL.log().sum()) - 32 * math.log(2 * math.pi)
    assert torch.allclose(drawn.value, exact, atol=1e-9)
    assert abs(float((action - 32).mean() / math.sqrt(32 / 2000))) < 4


@pytest.mark.parametrize("process", [VE, VariancePreserving()], ids=["ve", "vp"])
def test_a_linear_network_gives_a_known_law(process):
    """Each mode is multiplied by a number, found from two fields; so is the density's Jacobian."""
    model = linear(0.5, process)
    options = {"steps": 24, "generator": generator(2)}
    drawn = flow(model, 3, dilution=8, dtype=torch.float64, **options)
    back = flow_from(model, drawn.fields, dilution=8, **options)
    # each site its own probe: the trace is exact, and there and back agree
    assert torch.allclose(back.value, drawn.value, atol=2e-5)
    again = flow_from(model, torch.cat([drawn.fields[:1], 2 * drawn.fields[:1]]), dilution=8,
                      **options)
    assert torch.allclose(2 * again.fields[0], again.fields[1], atol=1e-9)
    # the law is Gaussian: ln q(2 phi) - ln q(phi) is that of the white noise
    white = again.fields[0].square().sum()
    assert float(again.value[1] - again.value[0] + 1.5 * white) == pytest.approx(0, abs=1e-8)


def test_it_is_the_flow_of_the_same_score():
    """The density agrees with that of the general code, with an exact trace, on a small lattice."""
    residual = ResidualForce(FreeField(0.4, dim=2), 1 / KERNEL, torch.full_like(KERNEL, 0.3))
    model = InteractionModel(Cubic(0.4), VE, residual)
    phi = flow(model, 4, steps=16, generator=generator(5), dtype=torch.float64).fields
    mine = flow_from(model, phi, steps=24, dilution=8, generator=generator(6))
    plain = log_density(model, VE, phi, steps=192, end=1e-6, grid="geometric",
                        prior=model.free)
    assert torch.allclose(mine.value, plain.value, atol=2e-3)
    fields = generate(model, VE, LATTICE, 64, steps=64, sampler=DPM(), prior=model.free,
                      generator=generator(1)).fields
    assert fields.shape == (64, 8, 8)


def test_the_density_converges_with_the_fourth_order():
    residual = ResidualForce(FreeField(0.4, dim=2), 1 / KERNEL, torch.full_like(KERNEL, 0.3))
    model = InteractionModel(Cubic(0.4), VE, residual)
    phi = flow(model, 8, steps=16, generator=generator(5), dtype=torch.float64).fields
    value = {n: flow_from(model, phi, steps=n, dilution=8, generator=generator(6)).value
             for n in (12, 24, 48)}
    first, second = (float((value[n] - value[48]).abs().max()) for n in (12, 24))
    assert second < first / 8 and second < 2e-3


def test_dilution_has_no_bias_and_less_noise():
    residual = ResidualForce(FreeField(0.4, dim=2), 1 / KERNEL, torch.full_like(KERNEL, 0.3))
    model = InteractionModel(Cubic(0.4), VE, residual)
    phi = flow(model, 64, generator=generator(5), dtype=torch.float64).fields
    exact = flow_from(model, phi, dilution=8, generator=generator(6)).value
    noise = []
    for spacing in (1, 2, 4):
        found = flow_from(model, phi, dilution=spacing, repeats=4, generator=generator(7))
        z = (found.value - exact) / found.error
        assert abs(float(z.mean())) < 4 * float(z.std()) / 8
        noise.append(float(found.error.square().mean()) ** 0.5)
    assert noise[0] > 2 * noise[1] > 4 * noise[2]


def test_training_makes_the_model_better_than_the_free_field():
    ensemble = phi4_ensemble(8, 0.27, 0.022, 4096, seed=5, progress=False)
    action, fields = Phi4(0.27, 0.022), ensemble.fields
    residual = ResidualForce.measure(action, fields)
    model = InteractionModel(UNet((8, 16), 1, 16, inputs=2, generator=generator(1)),
                             VE, residual)

    def acceptance():
        drawn = flow(model, 256, dilution=4, generator=generator(2))
        return expected_acceptance(log_weights(action, drawn.fields, drawn.value))

    before = acceptance()
    history = train(model, fields[256:], steps=300, lr=warmup_cosine(5e-3, 300), clip=20.0,
                    generator=generator(3), validation=fields[:256], progress=False)
    assert history.validation[-1] < history.validation[0]
    assert acceptance() > before + 0.1
    phi = flow(model, 4, generator=generator(9)).fields
    assert torch.equal(model(-phi, 0.3), -model(phi, 0.3))  # odd, to the last bit


def test_the_loss_of_a_pupil_is_its_distance_from_the_teacher_in_nats():
    """Of two linear networks on a free field: mode by mode, by quadrature."""
    teacher = linear(0.5)
    pupil = Distilled(Linear(0.2), teacher)
    residual, fields = teacher.residual, free_fields(40_000)
    t = pupil.levels(40_000, generator(1)).double()
    noise = torch.empty_like(fields).normal_(generator=generator(2))
    found = torch.cat([pupil.loss(*part) for part in zip(
        fields.split(4000), t.split(4000), noise.split(4000), strict=True)]).detach()
    ratio = torch.logspace(math.log10(0.02), math.log10(VE.ratio(1.0)), 4001, dtype=torch.float64)
    split = Interaction(residual, VE, VE.time_of(ratio))
    cost = split.share * split.spread * split.scale**2
    power = split.share * residual.spectrum  # of D, and its mean is the width of the second input
    each = 0.3**2 * (cost * power).flatten(1).sum(1) / power.flatten(1).mean(1)
    exact = float(torch.trapezoid(each, ratio.log()))
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / 200
    assert float(found.std()) / 200 < 0.01 * exact
    twin = Distilled(Linear(0.5), teacher)
    assert float(twin.loss(fields[:9], t[:9], noise[:9]).detach().abs().max()) == 0
    # the teacher is none of its own, and stays as it was
    assert [p.item() for p in pupil.parameters()] == [0.2]
    train(pupil, fields, steps=150, lr=0.01, ema=0.9, generator=generator(3), progress=False)
    assert pupil.network.slope.item() == pytest.approx(0.5, abs=0.01)
    assert teacher.network.slope.item() == 0.5 and teacher.network.slope.grad is None


def test_a_training_does_not_go_on_with_another_teacher(tmp_path):
    fields = free_fields(64)

    def go(slope, steps):
        return train(Distilled(Linear(0.2), linear(slope)), fields, steps=steps, lr=0.01,
                     generator=generator(3), progress=False, checkpoint=tmp_path / "a.safetensors")

    go(0.5, 2)
    assert go(0.5, 4).steps[-1] == 4
    with pytest.raises(CheckpointError, match="teacher"):
        go(0.6, 6)


def test_a_background_is_a_symmetric_law_of_two_peaks():
    ensemble = phi4_ensemble(8, 0.5, 0.022, 2048, seed=5, progress=False)
    action, fields = Phi4(0.5, 0.022), ensemble.fields.double()
    mean = float(fields.mean((1, 2)).abs().mean())
    residual = ResidualForce.measure(action, fields, background=mean)
    model = InteractionModel(UNet((8,), 1, 8, inputs=3, generator=generator(1)).double(), VE,
                             residual)
    drawn = flow(model, 512, dilution=2, generator=generator(1), dtype=torch.float64)
    m = drawn.fields.mean((1, 2))
    assert 0.4 < float((m > 0).double().mean()) < 0.6
    assert abs(float(m.abs().mean()) - mean) < 4 * float(m.abs().std()) / 512**0.5
    weights = log_weights(action, drawn.fields, drawn.value)
    assert expected_acceptance(weights) > 0.5  # nearly free about each minimum
    found = flow_from(model, -drawn.fields, dilution=2, generator=generator(1))
    assert torch.allclose(found.value, drawn.value, atol=0.05)


@pytest.mark.parametrize(("options", "kind", "says"), [
    ({"steps": 0}, ValueError, "steps"), ({"steps": 5, "dilution": 2}, ValueError, "6 at least"),
    ({"dilution": 3}, ShapeError, "dilution=3"),
    ({"repeats": 0}, ValueError, "repeats"), ({"knee": -1.0}, ValueError, "knee"),
    ({"batch": 0}, ValueError, "batch"),
])
def test_bad_options(options, kind, says):
    with pytest.raises(kind, match=says):
        flow(linear(0.1), 4, generator=generator(1), dtype=torch.float64, **options)


def test_results_do_not_depend_on_batch_or_threads():
    model = linear(0.2)
    one, two = (flow(model, 130, dilution=2, batch=b, threads=n, generator=generator(1),
                     dtype=torch.float64) for b, n in ((64, 2), (256, 1)))
    assert torch.allclose(one.fields, two.fields, atol=1e-12)
    assert torch.allclose(one.value, two.value, atol=1e-9)


def test_schedule():
    rate = warmup_cosine(1.0, 1000, 10)
    assert rate(0) == pytest.approx(0.1, rel=1e-3)
    assert max(rate(n) for n in range(1000)) <= 1
    assert rate(500) == pytest.approx(0.5, abs=0.01)
    assert rate(1000) == rate(2000) == pytest.approx(1e-3)
