"""Networks: the free field they contain, their symmetries to the bit, and how far they see."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from physml.device import generator
from physml.diffusion import (
    GaussianScore,
    OddMLP,
    ScoreModel,
    UNet,
    VarianceExploding,
    VariancePreserving,
    denoiser,
    generate,
    log_density,
)
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice

VE, VP = VarianceExploding(), VariancePreserving()
F64 = {"dtype": torch.float64}
LATTICE = Lattice((8, 8))
SPECTRUM = 1 / LATTICE.free_spectrum(0.3)


def stirred(network, seed=1, size=0.2):
    """Return a network with weights that vanish nowhere, as one that has learned something."""
    g = generator(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(size * torch.randn(p.shape, generator=g).to(p))
    return network.requires_grad_(False)


def unet(channels=(8, 12), blocks=1, **options):
    return UNet(channels, blocks, 16, generator=generator(3), **options)


def model(process=VE, dtype=torch.float64):
    return ScoreModel(stirred(unet()).to(dtype), process, SPECTRUM)


def fields(*shape, seed=2):
    return torch.randn(shape, generator=generator(seed), **F64)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_before_training_it_is_the_free_field(process, dtype):
    one = ScoreModel(unet(), process, SPECTRUM)
    exact = GaussianScore.of_spectrum(1 / SPECTRUM, process)
    phi = fields(5, 8, 8).to(dtype)
    for t in (0.0, 0.3, 1.0, torch.tensor([0.1, 0.2, 0.4, 0.7, 1.0])):
        got = one(phi, t)
        assert got.dtype == dtype and torch.equal(got, exact(phi, t))
        torch.testing.assert_close(one.denoise(phi, t), denoiser(exact, process)(phi, t))
    zero = ScoreModel(OddMLP(generator=generator(1)), process, torch.tensor(0.7))
    exact = GaussianScore.of_spectrum(torch.tensor(1 / 0.7), process)
    torch.testing.assert_close(zero(phi[:, 0, 0], 0.3), exact(phi[:, 0, 0], 0.3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_odd_to_the_bit(dtype):
    phi, level = fields(4, 8, 8).to(dtype), torch.tensor([-1.0, 0.0, 0.4, 0.6], dtype=dtype)
    network = stirred(unet()).to(dtype)
    assert torch.equal(network(-phi, level), -network(phi, level))
    assert float(network(phi, level).abs().mean()) > 1e-2
    mlp = stirred(OddMLP(generator=generator(1))).to(dtype)
    assert torch.equal(mlp(-phi[:, 0, 0], level), -mlp(phi[:, 0, 0], level))
    one = ScoreModel(network, VE, SPECTRUM)
    assert torch.equal(one(-phi, 0.4), -one(phi, 0.4))


@pytest.mark.parametrize("channels", [(6,), (6, 8), (6, 8, 4)])
def test_translations(channels):
    network = stirred(unet(channels)).double()
    phi, level = fields(2, 16, 24), torch.tensor([-0.5, 0.5], **F64)
    out = network(phi, level)
    n = network.factor
    assert n == 2 ** len(channels)
    for shift in [(n, 0), (0, n), (-n, 2 * n)]:
        moved = network(phi.roll(shift, (1, 2)), level)
        torch.testing.assert_close(moved, out.roll(shift, (1, 2)), rtol=1e-11, atol=1e-12)
    half = network(phi.roll(n // 2, 1), level)
    assert float((half - out.roll(n // 2, 1)).abs().max()) > 1e-3  # only by the factor


def test_any_even_size():
    network = stirred(unet((6,)))
    for shape in [(2, 2), (6, 10), (4, 14)]:
        assert network(torch.randn(3, *shape, generator=generator(1)), torch.zeros(3)).shape == (
            3, *shape)


@pytest.mark.parametrize(("channels", "blocks"), [((4,), 1), ((4,), 2), ((4, 5), 1)])
def test_reach(channels, blocks):
    """As far as the gradient of an output goes, and not a site further."""
    network = stirred(unet(channels, blocks)).double()
    size = -(-2 * (network.reach + 4) // network.factor) * network.factor
    x = fields(1, size, size).requires_grad_(True)
    seen = 0
    for shift in range(network.factor):
        at = size // 2 // network.factor * network.factor + shift
        gradient, = torch.autograd.grad(network(x, torch.zeros(1, **F64))[0, at, at], x)
        seen = max(seen, int((gradient[0].nonzero() - at).abs().max()))
    assert seen == network.reach


def test_documented_size():
    network = UNet(generator=generator(1))
    one = ScoreModel(network, VE, 1 / Lattice((32, 32)).free_spectrum(0.1))
    assert one.parameter_count == 308_544 and network.reach == 39
    with FlopCounterMode(display=False) as count, torch.no_grad():  # two for a multiplication
        network(torch.zeros(1, 32, 32), torch.zeros(1))
    assert count.get_total_flops() / 2 / 32**2 == pytest.approx(29_300, rel=0.001)


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_scores_are_finite_at_both_ends(process):
    one = ScoreModel(stirred(unet(), size=0.05).double(), process, SPECTRUM)
    phi = fields(3, 8, 8)
    exact = GaussianScore.of_spectrum(1 / SPECTRUM, process)
    for t in (0.0, 1e-6, 1.0):
        got = one(phi, t)
        assert bool(got.isfinite().all()) and float(got.abs().max()) < 100
    # what the network adds is of the field's own size where there is no noise
    assert 1e-3 < float((one(phi, 0.0) - exact(phi, 0.0)).abs().mean()) * one.scale < 10


def test_each_chain_alone_and_at_its_time():
    one, phi = model(VP), fields(3, 8, 8)
    t = torch.tensor([0.1, 0.5, 0.9], **F64)
    together = one(phi, t)
    for i in range(3):
        alone = one(phi[i : i + 1], float(t[i]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-10)


def test_float32_weights_with_float64_fields():
    phi = fields(3, 8, 8)
    wide, mixed, single = model(), model(dtype=torch.float32), model(dtype=torch.float32)
    got = [wide(phi, 0.3), mixed(phi, 0.3), single(phi.float(), 0.3)]
    assert [g.dtype for g in got] == [torch.float64, torch.float64, torch.float32]
    for g in got[1:]:
        torch.testing.assert_close(g.double(), got[0], rtol=1e-4, atol=1e-4)


def test_every_parameter_is_used():
    one, phi = model().requires_grad_(True), fields(3, 8, 8)
    one(phi, 0.3).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in one.parameters())


def test_exact_likelihood_of_a_network():
    """The trace through FFT and periodic convolutions, against the dense Jacobian."""
    small = Lattice((4, 4))
    one = ScoreModel(stirred(unet()).double(), VE, 1 / small.free_spectrum(0.3))
    phi = fields(2, 4, 4)
    found = log_density(one, VE, phi, steps=1, end=0.9, method="heun").value

    def trace(x, t):
        rows = torch.autograd.functional.jacobian(lambda y: one(y[None], t)[0], x)
        return rows.reshape(16, 16).trace()

    for i in range(2):  # Heun's step, written out
        r, stop = VE.ratio(0.9), VE.ratio(1.0)
        first = -r * one(phi[i : i + 1], 0.9)[0].detach()
        there = phi[i] + (stop - r) * first
        second = -stop * one(there[None], 1.0)[0].detach()
        end = phi[i] + 0.5 * (stop - r) * (first + second)
        change = 0.5 * (stop - r) * -(r * trace(phi[i], 0.9) + stop * trace(there, 1.0))
        expected = VE.prior_log_density(end[None])[0] + change
        assert float(found[i]) == pytest.approx(float(expected), rel=1e-10)


def test_it_drives_a_sampler():
    fresh = ScoreModel(unet(), VE, SPECTRUM)  # a free field still
    phi = generate(fresh, VE, LATTICE, 2000, steps=20, end=1e-4, generator=generator(1)).fields
    v, wide = float(SPECTRUM.mean()), VE.variance(1.0)
    expected = float((wide * SPECTRUM / (wide + SPECTRUM)).mean())  # by the flow from the prior
    means = phi.square().mean((1, 2)).double()
    assert abs(float(means.mean()) - expected) < 3.5 * float(means.std()) / math.sqrt(2000)
    assert expected < v


def test_weights_come_from_the_generator():
    before = torch.get_rng_state()
    one, two = unet(), unet()
    other = UNet((8, 12), 1, 16, generator=generator(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.first.weight, other.first.weight)
    assert bool((OddMLP(generator=generator(1)).first.weight
                 != OddMLP(generator=generator(2)).first.weight).any())


@pytest.mark.parametrize(("call", "kind", "says"), [
    (lambda: unet()(torch.zeros(2, 6, 8), torch.zeros(2)), ShapeError, "multiples of 4"),
    (lambda: unet()(torch.zeros(2, 8), torch.zeros(2)), ShapeError, "multiples of 4"),
    (lambda: unet(()), ValueError, "channels is empty"),
    (lambda: unet((0,)), ValueError, "channels must be"),
    (lambda: unet((4,), 0), ValueError, "blocks must be"),
    (lambda: OddMLP(0, generator=generator(1)), ValueError, "hidden must be"),
    (lambda: ScoreModel(unet(), VE, -SPECTRUM), StabilityError, "all must be positive"),
    (lambda: model()(torch.zeros(2, 4, 4), 0.1), ShapeError, r"\(chains, 8, 8\)"),
    (lambda: model()(torch.zeros(2, 8, 8), 2.0), ValueError, "t must lie in"),
])
def test_bad_input(call, kind, says):
    with pytest.raises(kind, match=says):
        call()
