"""The loop of all trainings: records, stops, checkpoints, and which run a checkpoint belongs to."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from torch import nn

from physml import checkpoints, diffusion, rbm, sampling
from physml.actions import InhomogeneousPhi4, Phi4
from physml.device import generator
from physml.diffusion import InteractionModel, ResidualForce, ScoreModel, UNet, VarianceExploding
from physml.errors import CheckpointError
from physml.lattice import Lattice
from physml.phi4_learning import Phi4Network, fit_action, fit_data, train_network
from physml.sampling import chain
from physml.training import Training

F8 = torch.float64


def normal(*shape, seed=1, dtype=F8):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


# --- every training, made anew by each call: what it made, and its records ----------------------


def of_rbm(steps, method="pcd", data=None, seed=5, keep=None, **options):
    model = keep or rbm.ScalarFieldRBM(6, 4, 9.0, init=0.1, generator=generator(1), dtype=F8)
    target = rbm.Target.of_data(0.3 * normal(50, 6) if data is None else data)
    if method in ("pcd", "cd"):
        options = {"momentum": 0.5, "learn_mass": True, "learn_bias": True} | options
    options = {"lr": 0.05, "chains": 8, "batch_size": 8, "record_every": 4} | options
    history = rbm.train(model, target, steps=steps, method=method, generator=generator(seed),
                        average_from=2, progress=False, **options)
    return ([model.weight, model.eta, model.mu2], history.steps[1:],
            [x for name, x in history.tensors().items()])


def of_network(steps, method="adam", data=None, seed=5, dtype=F8, **options):
    network = Phi4Network(6, 2, b=0.2, n=0.2, init=0.1, generator=generator(1), dtype=dtype)
    options = {"lr": 0.01, "chains": 8, "batch_size": 8, "record_every": 4} | options
    history = train_network(network, normal(50, 6) if data is None else data, steps=steps,
                            method=method, generator=generator(seed), average_from=2,
                            progress=False, **options)
    return list(network.parameters().values()), history.steps, list(vars(history).values())


def start_of_fit():
    one = torch.ones(4, 4, dtype=F8)
    return InhomogeneousPhi4(0 * one.expand(2, 4, 4), 0.5 * one, 0.1 * one, None)


def of_fit(steps, method="natural", target=None, data=None, seed=5, **options):
    shortens = method == "natural" and "lr" not in options and steps > 9
    options = {"steps": steps, "lr": 0.2 if method == "natural" else 1e-3, "method": method,
               "chains": 128, "burn_in": 5, "max_kl": 0.02, "generator": generator(seed)} | options
    fit = (fit_action(start_of_fit(), target or Phi4(0.1, 0.2), **options) if data is None
           else fit_data(start_of_fit(), data, **options))
    assert fit.shortened or not shortens  # so that a count is there to be kept
    found = [fit.phi, fit.couplings, fit.gradient_norm, fit.action.quadratic, fit.shortened]
    return found + ([] if fit.mean is None else [fit.mean, fit.variance]), None, []


def of_fit_data(steps, **options):
    return of_fit(steps, **{"data": 0.8 * normal(60, 4, 4)} | options)


SPECTRUM = 0.7 / Lattice((4, 4)).free_spectrum(0.4)


class WithNorm(nn.Module):
    """A small network with buffers that training changes, and a parameter that is frozen."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(3), nn.Tanh(),
            nn.Conv2d(3, 1, 3, padding=1, padding_mode="circular")).to(dtype)
        with torch.no_grad():
            for n, parameter in enumerate(self.parameters()):
                parameter.copy_(0.3 * normal(*parameter.shape, seed=n))
        self.layers[0].bias.requires_grad_(False)

    def forward(self, x, level):
        return self.layers(x[:, None] if x.ndim == 3 else x)[:, 0]


def score_model(spectrum=SPECTRUM, dtype=torch.float32, network=None):
    return ScoreModel(network or WithNorm(dtype), VarianceExploding(), spectrum)


def of_diffusion(steps, model=None, seed=5, **options):
    model = model or score_model()
    options = {"lr": 1e-2, "batch_size": 8, "record_every": 4,
               "validation": normal(9, 4, 4, seed=3, dtype=torch.float32)} | options
    data = options.pop("data", normal(40, 4, 4, dtype=torch.float32))
    history = diffusion.train(model, data, steps=steps, generator=generator(seed), progress=False,
                              **options)
    return ([*model.parameters(), *model.buffers()], history.steps,
            [history.loss, history.validation])


def of_interaction(steps, **options):
    residual = ResidualForce.measure(Phi4(0.1, 0.02), normal(40, 4, 4))
    network = UNet((4,), 1, 4, inputs=2, generator=generator(1))
    return of_diffusion(steps, InteractionModel(network, VarianceExploding(), residual), **options)


TRAININGS = {
    **{f"rbm, {method}": lambda steps, method=method, **options: of_rbm(steps, method, **options)
       for method in ("pcd", "cd", "exact", "natural")},
    "network, adam": of_network,
    "network, sgd": lambda steps, **options: of_network(steps, "sgd", **options),
    "fit to an action": of_fit,
    "fit by gradient": lambda steps, **options: of_fit(steps, "gradient", **options),
    "fit to data": of_fit_data,
    "diffusion": of_diffusion,
    "diffusion, interaction": of_interaction,
}


def equal(one, two):
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return True


# --- stop and go on ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAININGS)
def test_a_stop_does_not_show(name, tmp_path):
    train, path = TRAININGS[name], tmp_path / "run.safetensors"
    result, steps, records = train(20)
    stopped = train(10, checkpoint=path)
    assert equal(stopped[0], train(10)[0])
    done = train(10, checkpoint=path)  # already
    assert equal(done[0], stopped[0]) and equal(done[2], stopped[2])
    again, steps_again, records_again = train(20, checkpoint=path)
    if steps is not None:
        assert steps == steps_again == [4, 8, 12, 16, 20] and stopped[1] == [4, 8, 10]
    assert equal(again, result) and equal(records_again, records)
    with pytest.raises(CheckpointError, match="has made 20 updates, more than steps=10"):
        train(10, checkpoint=path)


@pytest.mark.parametrize("name", TRAININGS)
def test_an_interruption_does_not_show(name, tmp_path):
    train, path, seen = TRAININGS[name], tmp_path / "run.safetensors", []
    result, _, records = train(14, lr=lambda step: 0.01 / (1 + step))

    def killed(step):
        seen.append(step)
        if len(seen) == 10:
            raise KeyboardInterrupt
        return 0.01 / (1 + step)

    with pytest.raises(KeyboardInterrupt):
        train(14, lr=killed, checkpoint=path, checkpoint_every=3)
    assert len(checkpoints.read(path)[0]["rates"]) == 9
    again, _, records_again = train(14, lr=lambda step: 0.01 / (1 + step), checkpoint=path)
    assert equal(again, result) and equal(records_again, records)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", TRAININGS)
def test_time_is_up(name, tmp_path):
    train, path = TRAININGS[name], tmp_path / "run.safetensors"
    train(10**6, seconds=0.05, checkpoint=path)
    done = len(checkpoints.read(path)[0]["rates"])
    assert 0 < done < 10**5
    assert equal(train(done + 1, checkpoint=path)[0], train(done + 1)[0])


def test_what_training_left_may_go_on(tmp_path):
    """The model and the generator of a finished call, with the same checkpoint, go on."""
    def go(model, g, steps, **options):
        diffusion.train(model, normal(40, 4, 4, dtype=torch.float32), steps=steps, lr=1e-2,
                        generator=g, progress=False, batch_size=8, **options)
        return [*model.parameters(), *model.buffers()]

    path, model, g = tmp_path / "run.safetensors", score_model(), generator(5)
    whole = go(score_model(), generator(5), 20)
    go(model, g, 10, checkpoint=path)
    assert equal(go(copy.deepcopy(model), g.clone_state(), 20, checkpoint=path), whole)
    go(model, g, 10)
    for one, two in ((model, generator(5)), (score_model(), g)):  # which have gone on elsewhere
        with pytest.raises(CheckpointError, match="other settings"):
            go(one, two, 20, checkpoint=path)


def test_frozen_parameters_stay_and_buffers_move(tmp_path):
    fresh, model = score_model(), score_model()
    of_diffusion(10, model)
    assert torch.equal(fresh.network.layers[0].bias, model.network.layers[0].bias)
    assert not torch.equal(fresh.network.layers[1].running_mean,
                           model.network.layers[1].running_mean)


KILLED = """
    import sys
    sys.path.insert(0, {tests!r})
    import test_training
    import torch

    torch.set_num_threads(1)
    test_training.KILLED_RUNS[sys.argv[1]](checkpoint=sys.argv[2])
"""


def long_chain(**options):
    g = generator(3)
    action = Phi4(0.2, 0.1)
    phi = sampling.start(action, Lattice((4, 4)), 8, generator=g)
    sampler = sampling.Sequence((sampling.HMC(action, 0.3), sampling.GlobalFlip(action)))
    run = sampling.sample(sampler, phi, 500, burn_in=200, tune=0.8, generator=g, progress=False,
                          processes=1, checkpoint_every=0, **options)
    return [run.phi, *run.series.values()]


KILLED_RUNS = {
    "network": lambda **options: of_network(300, checkpoint_every=5, **options)[0],
    "chain": long_chain,
}


@pytest.mark.parametrize("name", KILLED_RUNS)
def test_a_killed_process_goes_on(name, tmp_path):
    path = tmp_path / "run.safetensors"
    program = textwrap.dedent(KILLED).format(tests=os.path.dirname(__file__))
    process = subprocess.Popen([sys.executable, "-c", program, name, path])
    try:
        for _ in range(3000):
            if path.exists() or process.poll() is not None:
                break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was not done
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert equal(KILLED_RUNS[name](checkpoint=path), KILLED_RUNS[name](checkpoint=None))
    finally:
        torch.set_num_threads(before)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# --- whose checkpoint it is ----------------------------------------------------------------------


def shuffled(data):
    return data[:, torch.randperm(data.shape[1], generator=generator(9))]


@pytest.mark.parametrize("name", TRAININGS)
def test_equal_trainings_are_not_refused(name, tmp_path):
    train, path = TRAININGS[name], tmp_path / "run.safetensors"
    rate = 0.01
    train(3, checkpoint=path, lr=rate)
    train(4, checkpoint=path, lr=np.float64(rate))
    train(5, checkpoint=path, lr=lambda step: rate)  # the same step sizes
    for lr in (0.02, lambda step: 0.5):
        with pytest.raises(CheckpointError, match=r"update 1 of 5 had lr=0\.01 there"):
            train(6, checkpoint=path, lr=lr)
    with pytest.raises(CheckpointError, match="generator"):
        train(6, checkpoint=path, lr=rate, seed=6)


def refused(train, match, tmp_path, first, second, steps=3):
    path = tmp_path / "run.safetensors"
    train(steps, checkpoint=path, **first)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=match):
        train(steps + 1, checkpoint=path, **second)
    assert path.read_bytes() == content
    train(steps + 1, checkpoint=path, **first)


def test_shuffled_pixels_are_other_data(tmp_path):
    """The trace of their two-point function and their sum are the same."""
    data = 0.3 * normal(50, 6)
    refused(of_rbm, r"target\.two_point=float64 \(6, 6\) #", tmp_path / "1", {"data": data},
            {"data": shuffled(data)})
    refused(of_network, "data=float64", tmp_path / "2", {"data": data}, {"data": shuffled(data)})


@pytest.mark.parametrize(("train", "options"), [
    (of_rbm, {"momentum": 0.6}), (of_rbm, {"record_every": 5}), (of_rbm, {"chains": 9}),
    (of_network, {"sweeps": 2}), (of_network, {"train": ["weight"]}), (of_network, {"floor": 0.1}),
    (of_network, {"dtype": torch.float32}),
    (of_fit, {"target": Phi4(0.1, 0.2 + 1e-12)}), (of_fit, {"max_kl": 0.4}),
    (of_fit, {"phi": normal(128, 4, 4)}), (of_fit, {"train": ("quadratic",)}),
    (of_fit, {"target": lambda phi: Phi4(0.1, 0.2)(phi)}),
    (of_fit_data, {"data": normal(60, 4, 4)}), (of_fit_data, {"burn_in": 9}),
    (of_diffusion, {"data": normal(40, 4, 4, seed=9, dtype=torch.float32)}),
    (of_diffusion, {"ema": 0.9}), (of_diffusion, {"validation": None}),
    (of_diffusion, {"autocast": torch.bfloat16}),
])
def test_other_settings_are_refused(train, options, tmp_path):
    name = next(iter(options))
    refused(train, {"train": "free|train", "dtype": "float32", "data": "data|target"}
            .get(name, name), tmp_path, {}, options)


@pytest.mark.parametrize(("other", "match"), [
    (lambda: score_model(SPECTRUM * 1.001), r"model\.gaussian\.[a-z]*=float64 \(4, 4\)"),
    (lambda: score_model(dtype=F8), "float64"),
    (lambda: score_model(network=UNet((4,), 1, 4, generator=generator(1))), r"model\.network"),
])
def test_another_spectrum_or_type_of_the_model_is_refused(other, match, tmp_path):
    path = tmp_path / "run.safetensors"
    of_diffusion(3, checkpoint=path)
    with pytest.raises(CheckpointError, match=match):
        of_diffusion(4, other(), checkpoint=path)


def test_other_weights_to_start_from_are_refused(tmp_path):
    path, model = tmp_path / "run.safetensors", score_model()
    of_diffusion(3, checkpoint=path)
    with torch.no_grad():
        model.network.layers[3].weight[0, 0, 0, 0] += 1e-6
    with pytest.raises(CheckpointError, match=r"start\.network\.layers\.3\.weight="):
        of_diffusion(4, model, checkpoint=path)


def test_raise_does_not_go_on_from_shortened_updates(tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"lr": 500.0, "checkpoint": path}
    of_rbm(3, "exact", on_unstable="shorten", **options)
    with pytest.raises(CheckpointError, match="on_unstable='raise' would have refused"):
        of_rbm(4, "exact", **options)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, {"a": torch.ones(2)}, {"options": "{}"})
    with pytest.raises(CheckpointError, match="holds no training of this version"):
        of_network(3, checkpoint=path)


def test_weights_are_compared_also_where_they_are_all_there_is(tmp_path):
    """The machine's parameters do not count as settings, but they do as the start."""
    path = tmp_path / "run.safetensors"
    of_rbm(3, "exact", checkpoint=path)
    other = rbm.ScalarFieldRBM(6, 4, 9.0, init=0.1, generator=generator(2), dtype=F8)
    with pytest.raises(CheckpointError, match=r"\(start\.weight=float64 \(6, 4\) #"):
        of_rbm(4, "exact", keep=other, checkpoint=path)


# --- chains --------------------------------------------------------------------------------------


def site(value):
    """An action on 32 x 32 sites with another quadratic coupling on one of them."""
    one = torch.ones(32, 32, dtype=F8)
    quadratic = 0.5 * one
    quadratic[17, 23] = value
    return InhomogeneousPhi4(0.1 * one.expand(2, 32, 32), quadratic, 0.1 * one, None)


class OwnSampler:
    """A sampler and an action without a repr of their own."""

    def __init__(self, action):
        self.action = action

    def init(self, phi):
        return sampling.HMC(self.action, 0.2).init(phi)

    def step(self, state, generator):
        return sampling.HMC(self.action, 0.2).step(state, generator)


def interrupt_chain(after, sampler, **options):
    """Run a chain whose user interrupts it after some rounds."""
    rounds, original = itertools.count(), chain._Runner.round

    def interrupted(self, runner):
        if next(rounds) == after:
            raise KeyboardInterrupt
        return original(self, runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_ROUND", 1.0)
        patch.setattr(chain._Runner, "round", interrupted)
        with pytest.raises(KeyboardInterrupt):
            chain_of(sampler, **options)


def chain_of(sampler, lattice=(4, 4), **options):
    g = generator(4)
    phi = normal(8, *lattice, seed=4)
    run = sampling.sample(sampler, phi, 6, generator=g, progress=False, processes=1, **options)
    return [run.phi, *run.series.values()]


def test_a_tensor_of_the_action_counts_to_the_last_site(tmp_path):
    path = tmp_path / "run.safetensors"
    assert repr(site(0.5)) == repr(site(50.0))  # which is why no repr is looked at
    options = {"lattice": (32, 32), "checkpoint": path}
    chain_of(sampling.HMC(site(0.5), 0.1), **options)
    with pytest.raises(CheckpointError, match=r"\(sampler\.action\.quadratic=float64 \(32, 32\) #"):
        chain_of(sampling.HMC(site(50.0), 0.1), **options)


@pytest.mark.parametrize(("first", "second"), [
    (lambda: sampling.HMC(Phi4(0.2, 0.1), 0.2),
     lambda: sampling.HMC(Phi4(np.float64(0.2), 0.1), np.float64(0.2))),
    (lambda: OwnSampler(Phi4(0.2, 0.1)), lambda: OwnSampler(Phi4(np.float64(0.2), 0.1))),
])
def test_an_equal_chain_is_not_refused(first, second, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = chain_of(first(), checkpoint=path)
    assert equal(chain_of(second(), checkpoint=path), whole)
    with pytest.raises(CheckpointError, match=r"kappa=0\.2 there, 0\.21 here"):
        other = second()
        object.__setattr__(other, "action", Phi4(0.21, 0.1))
        chain_of(other, checkpoint=path)


def test_another_observable_is_refused(tmp_path):
    """Of a finished run, and of one that was interrupted."""
    def a(phi):
        return {"x": phi.mean((1, 2))}

    def b(phi):
        return {"x": phi.square().mean((1, 2))}

    sampler, path = sampling.HMC(Phi4(0.2, 0.1), 0.2), tmp_path / "run.safetensors"
    interrupt_chain(3, sampler, checkpoint=path, checkpoint_every=0, observe=a)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="observe="):
            chain_of(sampler, checkpoint=path, observe=b)
        with pytest.raises(CheckpointError, match="observe="):
            chain_of(sampler, checkpoint=path)
        assert equal(chain_of(sampler, checkpoint=path, observe=a), chain_of(sampler, observe=a))


class Remembering:
    """A sampler whose state holds another state and a tensor in an order of its own in memory."""

    def __init__(self):
        self.hmc = sampling.HMC(Phi4(0.2, 0.1), 0.2)
        self.action = self.hmc.action

    def init(self, phi):
        return (phi, self.hmc.init(phi), None)

    def step(self, state, generator):
        inner, info = self.hmc.step(state[1], generator)
        phi = inner.phi.transpose(1, 2).contiguous().transpose(1, 2)
        return (phi, inner._replace(phi=phi), (phi * 2,)), info


@pytest.mark.parametrize("sampler", [
    Remembering(), sampling.Langevin(Phi4(0.2, 0.1), 0.02, "leimkuhler-matthews"),
    sampling.Langevin(Phi4(0.2, 0.1), 0.02, kernel=sampling.FourierKernel(Lattice((4, 4)), 1.0)),
    sampling.Sequence((sampling.HMC(Phi4(0.2, 0.1), 0.2), sampling.SwendsenWang(Phi4(0.2, 0.1)))),
])
@pytest.mark.parametrize("after", [1, 4])
def test_states_are_kept_with_their_order_in_memory(sampler, after, tmp_path):
    path = tmp_path / "run.safetensors"
    interrupt_chain(after, sampler, burn_in=2, checkpoint=path, checkpoint_every=0)
    assert equal(chain_of(sampler, burn_in=2, checkpoint=path), chain_of(sampler, burn_in=2))


def test_the_first_checkpoint_is_written_soon(tmp_path):
    """Of a run whose steps take longer than the number of sites would say."""
    path = tmp_path / "run.safetensors"

    class Slow(OwnSampler):
        def step(self, state, generator):
            time.sleep(0.002)
            if time.monotonic() - begin > 1.5:
                raise KeyboardInterrupt
            return super().step(state, generator)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        chain_of(Slow(Phi4(0.2, 0.1)), burn_in=10**5, checkpoint=path, checkpoint_every=0.3)
    assert json.loads(checkpoints.read(path)[1]["progress"])["burnt"] > 10


# --- the loop by itself --------------------------------------------------------------------------


class Counting(Training):
    def __init__(self):
        super().__init__(None)
        self.total, self.records = 0.0, []

    def update(self, rate):
        self.step += 1
        self.total += rate

    def record(self):
        self.records.append((self.step, self.total))

    def state(self):
        return {}, {"total": self.total, "records": self.records}

    def restore(self, tensors, facts):
        self.total, self.records = facts["total"], [tuple(r) for r in facts["records"]]


def test_the_loop(tmp_path, capsys):
    def go(steps, **options):
        run = Counting()
        run.train(steps, lr=0.5, record_every=4, progress_bar=False, checkpoint=tmp_path / "run",
               identity={}, **options)
        return run

    assert go(6, checkpoint_every=2).records == [(4, 2.0), (6, 3.0)]
    assert go(9, checkpoint_every=2).records == [(4, 2.0), (8, 4.0), (9, 4.5)]
    assert capsys.readouterr().err == ""
    shown = Counting()
    shown.train(3, lr=lambda step: step + 1.0, record_every=4, progress_bar=True)
    assert shown.rates == [1.0, 2.0, 3.0] and shown.records == [(3, 6.0)]
    assert "training" in capsys.readouterr().err
    with pytest.raises(ValueError, match="lr must be a finite positive number"):
        Counting().train(3, lr=lambda step: -1.0, record_every=1, progress_bar=False)


def test_a_history_prints_as_its_last_entries():
    made = rbm.History([1, 2], [0.1, 0.2], [-1.0, -0.5], [torch.ones(3)] * 2, [4.0] * 2, [0, 1])
    assert repr(made) == (
        "History(2 records, the last, steps=2, time=0.2, log_likelihood=-0.5, "
        "spectrum=tensor of shape (3,), mu2=4, shortened=1)"
    )
    assert repr(diffusion.History()) == "History(0 records)"
    long = diffusion.History(list(range(2500)), [0.5] * 2500, [0.25] * 2500, [0.1] * 2500)
    assert len(repr(long)) < 120
