"""The library on a pretended GPU, derivatives included: what it finds is what the CPU finds."""

import pytest
import torch
from pretended_gpu import CUDA, pretended_gpu

from physml import (
    device,
    diffusion,
    ensembles,
    exact,
    observables,
    phi4_learning,
    rbm,
    sampling,
    spectra,
    statistics,
)
from physml.actions import InhomogeneousPhi4, Phi4, ZeroDimensionalPhi4
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


LAWS = {
    "zero-dimensional": (lambda process: diffusion.ZeroDimensionalScore(process, WELL), ()),
    "Gaussian": (lambda process: diffusion.GaussianScore.of_spectrum(
        BOX.free_spectrum(0.5), process), (8, 8)),
    "dense": (lambda process: diffusion.GaussianScore.of_matrix(
        BOX.kinetic_matrix(0.5), process, BOX), (8, 8)),
    "mixture": (lambda process: diffusion.MixtureScore(
        process, torch.ones(2), torch.zeros(2, 8, 8), torch.ones(2)), (8, 8)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("process", [diffusion.VarianceExploding(5.0),
                                     diffusion.VariancePreserving()])
def test_exact_scores_at_one_time_and_at_a_time_for_each_chain(away, law, process):
    make, shape = LAWS[law]
    made, phi = make(process), torch.randn(5, *shape, generator=device.generator(1))
    many = torch.linspace(0.1, 0.9, 5)
    for t in (0.3, torch.tensor(0.3), many):
        there = t.to(away) if isinstance(t, torch.Tensor) else t
        for f in (made, made.log_density, made.divergence, diffusion.denoiser(made, process)):
            found = f(phi.to(away), there)
            assert found.device == CUDA and torch.allclose(found.cpu(), f(phi, t), atol=1e-5)


# --- torch's default device -------------------------------------------------------------------

WELL, SMALL, F8 = ZeroDimensionalPhi4(-1.0, 2.0), Lattice((4, 4)), torch.float64


def made(*shape, seed=1, dtype=F8):
    return torch.randn(shape, generator=device.generator(seed), dtype=dtype, device="cpu")


def spectrum_of(method):
    found = exact.fokker_planck_spectrum(WELL, 5, method=method)
    return [found.energies, found.relaxation(lambda x: x, 1.0, [0.5, 1.0]), found.modes([0.1])]


def network_trained():
    net = phi4_learning.Phi4Network(4, 2, b=0.1, hidden="binary", generator=device.generator(1))
    phi4_learning.train_network(net, made(50, 4), steps=3, lr=0.01, generator=device.generator(2),
                                progress=False)
    return [net.weight, net.log_z(), net.annealed_log_z(10, 4, device.generator(3)).value]


def machine_trained():
    model = rbm.ScalarFieldRBM(4, 2, 4.0, generator=device.generator(1))
    rbm.train(model, rbm.Target.of_data(made(50, 4)), steps=3, lr=0.01,
              generator=device.generator(2), progress=False)
    return model.weight


def chain():
    g = device.generator(1)
    phi = sampling.start(ACTION, SMALL, 8, generator=g)
    run = sampling.sample(sampling.HMC(ACTION), phi, 20, burn_in=100, tune=0.8, generator=g,
                          progress=False)
    return [run.phi, run.series["phi2"], run.series["delta_h"]]


DEFAULT_DEVICE = {
    "mean": lambda: vars(statistics.mean(made(4, 300))),
    "mean of a list": lambda: vars(statistics.mean([1.1, 2.0, 3.5] * 50)),
    "function_of_means": lambda: vars(statistics.function_of_means(lambda a: a**2, made(4, 300))),
    "jackknife": lambda: vars(statistics.jackknife(lambda a: a**2, made(4, 300))),
    "split_rhat": lambda: statistics.split_rhat(made(4, 300)),
    "autocorrelation": lambda: statistics.autocorrelation(made(4, 300), 5),
    "phi4_moments": lambda: exact.phi4_moments(-1.0, 2.0, 4),
    "phi4_log_z": lambda: [exact.phi4_log_z(m, 2.0) for m in (1.0, -1.0, -100.0)],
    "cumulants": lambda: exact.quadrature(WELL).cumulants(),
    "noised_action": lambda: exact.noised_action(WELL, made(5), 0.3),
    "fokker_planck_spectrum": lambda: [spectrum_of(m) for m in ("grid", "polynomials")],
    "phi4_ring": lambda: exact.phi4_ring(5, 0.2, 0.1).correlator,
    "ising_finite": lambda: vars(exact.ising_finite(0.4, (4, 4))),
    "rbm_kl_gap": lambda: exact.rbm_kl_gap([1.0, 2.0, 3.0], 2.5),
    "rbm_mode_flow": lambda: exact.rbm_mode_flow([0.1, 0.2], [1.0, 2.0], [0.0, 1.0], 9.0),
    "sample": chain,
    "CheckerboardGibbs": lambda: sampling.CheckerboardGibbs(ACTION).step(
        sampling.State(made(2, 4, 4)), device.generator(2))[0].phi,
    "SwendsenWang": lambda: sampling.SwendsenWang(ACTION).step(
        sampling.State(made(2, 4, 4)), device.generator(2))[0].phi,
    "phi4_ensemble": lambda: ensembles.phi4_ensemble(4, 0.2, 0.1, 64, progress=False).fields,
    "summary": lambda: vars(observables.summary(
        observables.measure(made(4, 200, 4, 4), SMALL), SMALL, 0.2, 0.5).xi),
    "spectrum": lambda: spectra.spectrum(made(3, 3) @ made(3, 3).T).variance,
    "ProductGrid": lambda: phi4_learning.ProductGrid(Lattice((3,)), 3.0, 8).log_z(ACTION),
    "strip_log_z": lambda: phi4_learning.strip_log_z(ACTION, Lattice((3, 2)), 3.0, 8),
    "fit_action": lambda: phi4_learning.fit_action(
        InhomogeneousPhi4.homogeneous(ACTION, SMALL, device="cpu", dtype=F8), ACTION, steps=3,
        chains=200, lr=0.1, generator=device.generator(1)).couplings,
    "Phi4Network": network_trained,
    "ScalarFieldRBM": machine_trained,
    "ZeroDimensionalScore": lambda: [
        f(made(5), t) for law in [diffusion.ZeroDimensionalScore(diffusion.VariancePreserving(),
                                                                 WELL)]
        for f in (law, law.log_density)
        for t in (0.3, torch.full((5,), 0.3, dtype=F8, device="cpu"))],
    "diffusion": lambda: [trained("cpu")[1].fields, trained("cpu")[1].value],
}


def flat(found):
    if isinstance(found, dict):
        found = list(found.values())
    return [v for x in found for v in flat(x)] if isinstance(found, list | tuple) else [found]


@pytest.mark.parametrize("name", DEFAULT_DEVICE)
@pytest.mark.filterwarnings("ignore::physml.statistics.ShortChainWarning")
def test_torchs_default_device_changes_nothing(away, name):
    """What is computed on the CPU stays there, and devices do not mix."""
    here = flat(DEFAULT_DEVICE[name]())
    with torch.device(away):  # what torch.set_default_device does
        there = flat(DEFAULT_DEVICE[name]())
    for one, two in zip(here, there, strict=True):
        if isinstance(one, torch.Tensor):
            assert two.device.type == "cpu" and torch.equal(one, two)
        else:
            assert one == two


@pytest.mark.parametrize("name", sorted(set(DEFAULT_DEVICE) - {"Phi4Network", "diffusion"}))
@pytest.mark.filterwarnings("ignore::physml.statistics.ShortChainWarning")
def test_torchs_default_type_changes_nothing(name):
    here = flat(DEFAULT_DEVICE[name]())
    torch.set_default_dtype(F8)
    try:
        there = flat(DEFAULT_DEVICE[name]())
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
               for a, b in zip(here, there, strict=True))


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
    assert torch.ones(2).to(x).device == CUDA and x.to(torch.ones(2)).device.type == "cpu"
    here = torch.ones(2)
    assert torch.as_tensor(here, device=away).device == CUDA and here.device.type == "cpu"
    y = x.clone().requires_grad_()
    (y**2).sum().backward()
    assert y.grad.device == CUDA and torch.equal(y.grad.cpu(), 2 * x.cpu())
