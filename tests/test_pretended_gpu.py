"""The library on a pretended GPU, derivatives included: what it finds is what the CPU finds."""

import pytest
import torch
from pretended_gpu import CUDA, pretended_gpu

from physml import device, diffusion, sampling, statistics
from physml.actions import Phi4
from physml.lattice import Lattice

BOX, ACTION = Lattice((8, 8)), Phi4(0.27, 0.022)


@pytest.fixture
def away(monkeypatch):
    with pretended_gpu(monkeypatch) as found:
        yield found


FIELDS = torch.randn(256, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(where):
    """Train a model for some steps there, and draw from it with densities and an accept step."""
    fields = FIELDS.to(where)
    residual = diffusion.ResidualForce.measure(ACTION, fields)
    network = diffusion.UNet((4, 8), 1, 8, inputs=2, generator=device.generator(2)).to(where)
    model = diffusion.InteractionModel(network, diffusion.VarianceExploding(60.0), residual)
    history = diffusion.train(model, fields, validation=fields[:64], steps=10, lr=2e-3,
                              generator=device.generator(3, where), progress=False)
    drawn = diffusion.flow(model, 8, dilution=2, repeats=2, generator=device.generator(4, where),
                           device=where)
    log_w = diffusion.log_weights(ACTION, drawn.fields, drawn.value)
    chain = diffusion.independence_metropolis(log_w, chains=2, generator=device.generator(5, where))
    plain = diffusion.flow(model, 8, generator=device.generator(4, where), device=where)
    return history, drawn, chain, plain


def test_a_diffusion_model(away):
    (history, drawn, chain, plain), here = trained(away), trained("cpu")
    assert history.loss == pytest.approx(here[0].loss, rel=1e-4)
    assert history.validation == pytest.approx(here[0].validation, rel=1e-4)
    back = drawn.to("cpu")
    assert back.step_error is None and back.evaluations == drawn.evaluations
    for name in ("fields", "value", "error"):
        one, two, three = (getattr(found, name) for found in (drawn, here[1], back))
        assert one.device == CUDA and {two.device.type, three.device.type} == {"cpu"}
        assert torch.allclose(one.cpu(), two, atol=1e-4) and torch.equal(one.cpu(), three)
    assert chain.acceptance == here[2].acceptance
    assert plain.fields.device == CUDA
    assert torch.allclose(plain.fields.cpu(), here[3].fields, atol=1e-5)


def test_a_markov_chain_and_its_statistics(away):
    g = device.generator(1, away)
    phi = sampling.start(ACTION, BOX, 16, generator=g, device=away)
    run = sampling.sample(sampling.HMC(ACTION, 0.2), phi, 200, burn_in=50, generator=g,
                          progress=False)
    assert run.phi.device == CUDA and run.series["phi2"].device == CUDA
    back = run.to("cpu")
    assert back.phi.device.type == back.series["m"].device.type == "cpu" and back.fields is None
    assert torch.equal(back.phi, run.phi.cpu()) and back.acceptance == run.acceptance
    found = statistics.mean(run.series["phi2"])
    other = sampling.sample(sampling.HMC(ACTION, 0.2), phi.cpu(), 200, burn_in=50,
                            generator=device.generator(2), progress=False)
    assert abs(found.z(statistics.mean(other.series["phi2"]))) < 4


@pytest.mark.parametrize(("mixed", "says"), [
    (lambda d: torch.ones(3, device=d) + torch.ones(3), "two devices"),
    (lambda d: torch.ones(3, 3).to(d) @ torch.ones(3), "two devices"),
    (lambda d: torch.randn(3, device=d, generator=device.generator(1)), "generator"),
    (lambda d: torch.randn(3, generator=device.generator(1, d)), "generator"),
    (lambda d: torch.nn.Linear(3, 3).to(d)(torch.ones(2, 3)), "two devices"),
    (lambda d: torch.ones(3)[torch.zeros(1, dtype=torch.long, device=d)], "two devices"),
])
def test_what_a_gpu_would_refuse_is_refused(away, mixed, says):
    with pytest.raises(RuntimeError, match=says):
        mixed(away)


def test_what_a_gpu_allows_is_allowed(away):
    x = torch.arange(4.0, device=away)
    assert (x * torch.tensor(2.0)).device == CUDA  # a number
    assert x[torch.tensor([1, 2])].device == CUDA  # an index from the CPU
    assert x.cpu().device.type == "cpu" and x.to("cpu").numpy().sum() == 6
    with pytest.raises(TypeError, match="cuda"):
        x.numpy()
    y = x.clone().requires_grad_()
    (y**2).sum().backward()
    assert y.grad.device == CUDA and torch.equal(y.grad.cpu(), 2 * x.cpu())
