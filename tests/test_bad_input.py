"""What comes to the wrong door is told so: by the name of the argument, and with the mend."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from physml import (
    diffusion,
    exact,
    graphs,
    observables,
    phi4_learning,
    rbm,
    sampling,
    spectra,
    statistics,
)
from physml.actions import FreeField, InhomogeneousPhi4, Phi4, ZeroDimensionalPhi4
from physml.device import generator
from physml.errors import ShapeError
from physml.lattice import Lattice

BOX, PHI4, VE = Lattice((4, 4)), Phi4(0.2, 0.5), diffusion.VarianceExploding(5.0)
F8 = torch.float64
ACTIONS = [PHI4, FreeField(1.0, 2), InhomogeneousPhi4.homogeneous(PHI4, BOX),
           phi4_learning.NextNearestPhi4(1.0, 0.5, 1.0, 0.2)]
EXACT_MOVES = [sampling.Metropolis(PHI4, 2.0), sampling.CheckerboardGibbs(PHI4),
               phi4_learning.BlockGibbs(PHI4), sampling.GlobalFlip(PHI4),
               sampling.SwendsenWang(PHI4)]
SMALL_STEPS = [sampling.HMC(PHI4), sampling.Langevin(PHI4, 0.1), sampling.MALA(PHI4, 0.1)]
SAMPLERS = EXACT_MOVES + SMALL_STEPS + [sampling.Sequence((sampling.Metropolis(PHI4),))]


def name(x: object) -> str:
    return type(x).__name__


def score(phi):
    return diffusion.GaussianScore.of_spectrum(BOX.free_spectrum(0.5), VE)(phi, 0.5)


def machine(**options) -> rbm.ScalarFieldRBM:
    return rbm.ScalarFieldRBM(16, 2, 4.0, init=0, **options)


def network(**options) -> phi4_learning.Phi4Network:
    return phi4_learning.Phi4Network(16, 2, init=0.1, generator=generator(1), **options)


def train(net, data):
    return phi4_learning.train_network(net, data, steps=2, lr=0.01, generator=generator(1),
                                       progress=False)


#: Functions of fields ``(chains, 4, 4)`` throughout the library.
TAKES_FIELDS = {
    **{f"{name(a)}": a for a in ACTIONS},
    **{f"{name(a)}.force": a.force for a in ACTIONS},
    **{f"{name(a)}.local_field": a.local_field for a in ACTIONS},
    **{f"{name(s)}.init": s.init for s in SAMPLERS},
    "sample": lambda x: sampling.sample(EXACT_MOVES[0], x, 2, generator=generator(1),
                                        progress=False),
    "FourierKernel": lambda x: sampling.FourierKernel(BOX, 0.5).apply(x),
    "quartic_normal": lambda x: sampling.quartic_normal(x, 1.0, 1.0, generator(1)),
    "measure": lambda x: observables.measure(x, BOX),
    "structure_factor": lambda x: observables.structure_factor(x, BOX),
    "two_point": lambda x: spectra.two_point(x.reshape(len(x), -1)),
    "sufficient_statistics": phi4_learning.sufficient_statistics,
    "site_log_z": lambda x: phi4_learning.site_log_z(x, 1.0, 1.0),
    "Target.of_data": lambda x: rbm.Target.of_data(x.reshape(len(x), -1)),
    "log_likelihood": lambda x: machine().log_likelihood(x.reshape(len(x), -1)),
    "free_action": lambda x: network().free_action(x.reshape(len(x), -1)),
    "train_network": lambda x: train(network(), x.reshape(len(x), -1)),
    "ResidualForce": lambda x: diffusion.ResidualForce.measure(PHI4, x),
    "GaussianScore": score,
    "log_weights": lambda x: diffusion.log_weights(PHI4, x, torch.zeros(len(x))),
}


@pytest.mark.parametrize("door", TAKES_FIELDS)
def test_complex_fields_are_refused(door):
    phi = torch.ones(2, 4, 4) * (1 + 1j)
    with pytest.raises(ValueError, match=r"^(phi|h|field|samples|data) must be .* not .*complex64"):
        TAKES_FIELDS[door](phi)


@pytest.mark.parametrize("door", TAKES_FIELDS)
def test_arrays_are_refused_in_one_sentence(door):
    with pytest.raises(TypeError, match=r"^(phi|h|field|samples|data) must be a torch tensor, not "
                                        r"ndarray: convert it with torch.as_tensor\(\w+\)$"):
        TAKES_FIELDS[door](np.ones((2, 4, 4)))


def test_statistics_take_arrays():
    x = np.random.default_rng(1).normal(size=(4, 200))
    assert statistics.mean(x) == statistics.mean(torch.as_tensor(x))
    assert statistics.split_rhat(x.tolist()) == statistics.split_rhat(torch.as_tensor(x))


@pytest.mark.parametrize("door", [
    "sample", "two_point", "Target.of_data", "train_network", "ResidualForce"])
def test_data_without_rows_are_refused(door):
    empty = torch.ones(0, 4, 4)
    empty.reshape = lambda *shape: empty.view(0, 16)  # a dimension of -1 would be ambiguous
    with pytest.raises(ShapeError, match=r"^(phi|samples|data) of shape .* has no rows"):
        TAKES_FIELDS[door](empty)


# --- couplings --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["2e-1", b"1", 0.2 + 0.1j, None, torch.ones(2), math.nan])
@pytest.mark.parametrize("make", [
    lambda x: Phi4(x, 0.5), lambda x: Phi4(0.2, x), lambda x: FreeField(x, 2),
    lambda x: ZeroDimensionalPhi4(x, 1.0), lambda x: ZeroDimensionalPhi4(1.0, x),
    lambda x: phi4_learning.NextNearestPhi4(x, 0.5, 1.0, 0.2), lambda x: BOX.free_spectrum(x),
    lambda x: exact.phi4_quadrature(x, 1.0), lambda x: exact.phi4_ring(4, x, 0.1),
    lambda x: setattr(machine(), "mu2", x) if not isinstance(x, torch.Tensor) else Phi4(x, 1.0),
])
def test_couplings_are_numbers(make, bad):
    with pytest.raises(ValueError, match=r"^\w+ must be a finite (real|positive) number, not "):
        make(bad)


@pytest.mark.parametrize("good", [0.2, np.float32(0.2), torch.tensor(0.2), np.array(0.2),
                                  torch.tensor(0.2, requires_grad=True)])
def test_scalars_of_all_kinds_are_numbers(good):
    assert float(torch.as_tensor(Phi4(good, good).kappa).detach()) == pytest.approx(0.2)


def test_couplings_of_sites_are_real_tensors():
    ones = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"^hopping must be real, not torch.complex64"):
        InhomogeneousPhi4(torch.ones(2, 4, 4) + 0j, ones, ones)
    with pytest.raises(TypeError, match=r"^quartic must be a torch tensor, not ndarray"):
        InhomogeneousPhi4(torch.ones(2, 4, 4), ones, ones.numpy())


# --- half precision ---------------------------------------------------------------------------

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("action", ACTIONS, ids=name)
def test_actions_of_half_precision_fields_are_those_in_float32(action, dtype):
    phi = (20 * torch.randn(3, 4, 4, generator=generator(1))).to(dtype)  # phi^4 > 65504
    assert torch.equal(action(phi), action(phi.float()))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("sampler", EXACT_MOVES[:3], ids=name)
def test_moves_of_half_precision_fields_sample_the_action(sampler, dtype):
    """On its grid a uniform number of bfloat16 has the mean 0.498: m was -0.020(3) here."""
    phi = sampling.start(PHI4, BOX, 400, "hot", generator=generator(1), dtype=dtype)
    run = sampling.sample(sampler, phi, 200, burn_in=100, generator=generator(2), progress=False,
                          observe=lambda x: {"m": x.double().mean((1, 2)),
                                             "phi2": x.double().square().mean((1, 2))})
    assert run.phi.dtype == dtype
    assert abs(run.mean("m").z(0.0)) < 4
    wide = sampling.sample(sampling.CheckerboardGibbs(PHI4), phi.float(), 100, burn_in=50,
                           generator=generator(3), progress=False)
    assert abs(run.mean("phi2").z(wide.mean("phi2"))) < 4


@pytest.mark.parametrize("sampler", EXACT_MOVES[3:], ids=name)
def test_signs_of_half_precision_fields_are_even(sampler):
    phi = torch.ones(20_000, 2, 2, dtype=torch.bfloat16)
    new = sampler.step(sampler.init(phi), generator(1))[0].phi
    assert new.dtype == phi.dtype
    m = new.double().mean((1, 2))
    assert abs(float(m.mean())) < 4 * float(m.std()) / math.sqrt(20_000)


@pytest.mark.parametrize("refuses", [
    *(s.init for s in SMALL_STEPS), TAKES_FIELDS["FourierKernel"], score,
    TAKES_FIELDS["ResidualForce"], TAKES_FIELDS["site_log_z"],
    lambda x: machine(dtype=x.dtype), lambda x: machine().to(x.dtype),
    lambda x: network(dtype=x.dtype),
    lambda x: diffusion.generate(lambda phi, t: score(phi), VE, BOX, 2, dtype=x.dtype,
                                 generator=generator(1)),
])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_refused_where_it_would_be_lost(refuses, dtype):
    with pytest.raises(ValueError, match=r"^(phi|field|dtype) must be torch.float32 or "
                                         r"torch.float64, not torch.b?float16"):
        refuses(torch.ones(2, 4, 4, dtype=dtype))


# --- fields that require gradients ------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS, ids=name)
def test_forces_are_differentiable(action):
    phi = torch.randn(2, 4, 4, dtype=F8, generator=generator(1))
    leaf = phi.clone().requires_grad_(True)
    force = action.force(leaf)
    assert torch.allclose(force, action.force(phi), atol=1e-6)
    direction = torch.randn(2, 4, 4, dtype=F8, generator=generator(2))
    slope, = torch.autograd.grad((force * direction).sum(), leaf)
    h = 1e-5
    finite = (action.force(phi + h * direction) - action.force(phi - h * direction)) / (2 * h)
    assert torch.allclose(slope, finite, atol=1e-5)  # the Hessian is symmetric


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
def test_samplers_start_from_fields_that_require_gradients(sampler):
    phi = torch.randn(3, 4, 4, generator=generator(1))
    leaf = phi.clone().requires_grad_(True)
    new, old = (sampler.step(sampler.init(x), generator(2))[0].phi for x in (leaf, phi))
    assert torch.equal(new, old) and not new.requires_grad


# --- torch.inference_mode ---------------------------------------------------------------------


def interaction_model():
    lattice, fields = Lattice((8, 8)), torch.randn(64, 8, 8, generator=generator(1))
    assert fields.shape[1:] == lattice.shape
    residual = diffusion.ResidualForce.measure(PHI4, fields)
    net = diffusion.UNet((4,), 1, 8, inputs=2, generator=generator(2))
    return diffusion.InteractionModel(net, VE, residual), fields


@functools.cache
def once() -> diffusion.InteractionModel:
    """Return a model that is made outside of the mode."""
    return interaction_model()[0]


INFERENCE = {
    "function_of_means": lambda: statistics.function_of_means(
        lambda a: a**2, torch.randn(4, 300, generator=generator(1))),
    "summary": lambda: observables.summary(observables.measure(
        torch.randn(4, 300, 4, 4, generator=generator(1)), BOX), BOX).binder,
    "hidden_mean": lambda: network(n=0.1).hidden_mean(torch.ones(2, 16, dtype=F8)),
    "ising_finite": lambda: exact.ising_finite(0.4, (4, 4)).energy,
    "fokker_planck_spectrum": lambda: exact.fokker_planck_spectrum(
        ZeroDimensionalPhi4(-1.0, 2.0), 5).energies,
    "hessian": lambda: graphs.interactions(PHI4, torch.ones(1, 3, 3, dtype=F8)),
    "log_density": lambda: diffusion.log_density(lambda phi, t: -phi, VE, torch.ones(2, 4, 4),
                                                 steps=2).value,
    "flow": lambda: diffusion.flow(once(), 4, dilution=2, steps=6,
                                   generator=generator(1)).value,
    "sample": lambda: sampling.sample(
        sampling.HMC(PHI4), torch.ones(3, 4, 4), 5, generator=generator(1), progress=False).phi,
}


@pytest.mark.parametrize("name", INFERENCE)
@pytest.mark.filterwarnings("ignore::physml.statistics.ShortChainWarning")
def test_inference_mode_changes_nothing(name):
    plain = INFERENCE[name]()
    with torch.inference_mode():
        found = INFERENCE[name]()
    assert torch.equal(found, plain) if isinstance(plain, torch.Tensor) else found == plain


def test_training_names_the_mode_that_forbids_it():
    model, fields = interaction_model()
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"torch.inference_mode forbids"):
        diffusion.train(model, fields, steps=1, lr=1e-3, generator=generator(1), progress=False)


# --- models of diffusion ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"weighting": "field"}, {"end": 0.5},
                                     {"weighting": "likelihood", "end": 1e-3}])
def test_no_argument_is_ignored_in_silence(options):
    model, fields = interaction_model()
    with pytest.raises(ValueError, match=r"^weighting and end are for a ScoreModel"):
        diffusion.train(model, fields, steps=1, lr=1e-3, generator=generator(1), progress=False,
                        **options)


def test_a_flow_without_densities_says_so():
    model, _ = interaction_model()
    drawn = diffusion.flow(model, 4, generator=generator(1))
    assert drawn.value is None and drawn.error is None and drawn.to("cpu").value is None
    with pytest.raises(ValueError, match=r"^log_q is None: .* with dilution=4"):
        diffusion.log_weights(PHI4, drawn.fields, drawn.value)
    with pytest.raises(ValueError, match=r"^dilution must be an integer of at least 1"):
        diffusion.flow_from(model, drawn.fields, dilution=0, generator=generator(1))


class Small(torch.nn.Module):
    """A convolution over the first of the fields it is given."""

    def __init__(self, bias: bool, channels: bool, at_zero: bool = False):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=bias)
        self.channels = channels
        torch.nn.init.constant_(self.layer.weight, 0.0 if at_zero else 0.1)
        if bias:
            torch.nn.init.constant_(self.layer.bias, 0.0 if at_zero else 0.2)

    def forward(self, x, level):
        out = self.layer(x[:, :1] if x.ndim == 4 else x[:, None])
        return out if self.channels else out[:, 0]


@pytest.mark.parametrize("at_zero", [False, True])
def test_a_network_is_tried_at_the_door(at_zero):
    """A field with an axis of channels was broadcast, and learned nonsense: a loss of 478."""
    whole, fields = interaction_model()
    spectrum = whole.residual.spectrum

    def learn(make, *options, action=PHI4):
        net = Small(*options, at_zero)
        residual = diffusion.ResidualForce.measure(action, fields)
        model = (diffusion.ScoreModel(net, VE, spectrum) if make == "score" else
                 diffusion.InteractionModel(net, VE, residual))
        return diffusion.train(model, fields, steps=3, lr=1e-2, generator=generator(1),
                               progress=False)

    for make in ("score", "interaction"):
        learn(make, False, False)
        with pytest.raises(ShapeError, match=r"must return one field for each chain, \(2, 8, 8\), "
                                             r"not \(2, 1, 8, 8\): drop an axis"):
            learn(make, False, True)
    with pytest.raises(ValueError, match=r"^the network is not odd"):
        learn("interaction", True, False)
    learn("score", True, False)  # no action is known, and its law need not be even
    tilted = InhomogeneousPhi4(*(torch.full(shape, v) for shape, v in (
        ((2, 8, 8), 0.4), ((8, 8), 0.5), ((8, 8), 0.5), ((8, 8), 0.1))))
    learn("interaction", True, False, action=tilted)


def test_trying_a_network_leaves_its_modes():
    model, fields = interaction_model()
    model.network.first.eval()
    model.check_network(fields[:2])
    assert model.network.training and not model.network.first.training


# --- machines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "good", "bad"), [("binary", (0, 1), (0, 255)),
                                                   ("spin", (-1, 1), (0, 1))])
def test_two_valued_units_take_their_two_values(kind, good, bad):
    net = network(visible=kind, hidden=kind)
    right, wrong = (torch.tensor(v, dtype=F8).repeat(3, 8) for v in (good, bad))
    doors = [net.free_action, lambda x: net.sample_hidden(x, generator(1)), lambda x: train(net, x),
             lambda x: net.gibbs(x, 1, generator(1)), lambda x: net.action(x, right[:, :2])]
    for door in doors:
        door(right)
        with pytest.raises(ValueError, match=rf"^(phi|data) holds .* these units are {kind}: each "
                                             rf"must be {good[0]} or {good[1]}"):
            door(wrong)
    with pytest.raises(ValueError, match=f"^h holds .* these units are {kind}"):
        net.action(right, wrong[:, :2])
    net.visible_mean(right[:, :2] / 2)  # a mean of units may lie between


def test_numbers_may_be_assigned():
    model = rbm.ScalarFieldRBM(3, 2, 4.0, generator=generator(1))
    model.mu2 = 9.1
    assert model.mu2.dtype == F8 and float(model.mu2) == 9.1
    assert model.sample(4, generator(1)).shape == (4, 3)
    net = network()
    net.a, net.n = 0.3, 0.1
    assert torch.equal(net.a, torch.full((16,), 0.3, dtype=F8))
    assert torch.equal(net.n, torch.full((2,), 0.1, dtype=F8))
    for owner, attribute, value in ((model, "weight", torch.ones(3)), (net, "r", torch.ones(3)),
                                    (model, "eta", 1.0), (net, "weight", torch.ones(3))):
        with pytest.raises((ShapeError, TypeError), match=f"^{attribute} must "):
            setattr(owner, attribute, value)


def test_machines_name_their_type():
    for door in (machine().log_likelihood, network().free_action, network().hidden_mean):
        with pytest.raises(ValueError, match=r"^phi must be torch.float64, the .* type, not "
                                             r"torch.float32"):
            door(torch.zeros(2, 16))
