from __future__ import annotations

import copy
import math

import pytest
import torch

from physml import exact
from physml.device import generator
from physml.errors import CheckpointError, ShapeError, StabilityError
from physml.lattice import Lattice
from physml.rbm import ScalarFieldRBM, Target, train
from physml.rbm.training import _Run

F8 = torch.float64
KAPPA = exact.chain_spectrum(10, 4.0)
CASES = [(9, 9.0), (8, 9.0), (7, 9.0), (6, 9.0), (10, 7.8), (10, 7.1), (10, 5.8), (10, 4.8)]


def chain_kernel():
    k = 6 * torch.eye(10, dtype=F8)
    i = torch.arange(10)
    k[i, (i + 1) % 10] -= 1
    k[(i + 1) % 10, i] -= 1
    return k


def start(n_hidden=10, mu2=9.0, sigma=1.0, seed=1, n=10, dtype=F8):
    return ScalarFieldRBM(n, n_hidden, mu2, sigma, init=0.1, generator=generator(seed), dtype=dtype)


def quiet(model, target, **options):
    return train(model, target, progress=False, **options)


def run_of(model, target, method, seed=1, **more):
    options = {"method": method, "sweeps": 1, "chains": 64, "batch_size": 64, "momentum": 0.0,
               "weight_decay": 0.0, "learn_mass": True, "learn_bias": True, "average_from": None}
    return _Run(model, target, options | more, generator(seed))


@pytest.fixture
def biased():
    """A machine with bias, and a target with a mean."""
    model = ScalarFieldRBM(4, 3, 5.0, 0.8, init=0.4, generator=generator(2))
    model.eta.normal_(generator=generator(3))
    mean = torch.tensor([0.3, -0.2, 0.1, 0.5], dtype=F8)
    root = torch.randn(4, 4, dtype=F8, generator=generator(4))
    return model, Target.of_two_point(root @ root.T / 8 + torch.outer(mean, mean), mean)


def test_exact_gradient_is_that_of_the_likelihood(biased):
    model, target = biased
    got = run_of(model, target, "exact").gradient()
    twin = copy.deepcopy(model)
    leaves = {k: getattr(model, k).clone().requires_grad_() for k in ("weight", "eta", "mu2")}
    for name, leaf in leaves.items():
        setattr(twin, name, leaf)
    value = twin.mean_log_likelihood(target.two_point, target.mean)
    want = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    for name in leaves:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-10)


def mean_gradient(run, count):
    draws = [{k: v.clone() for k, v in run.gradient().items()} for _ in range(count)]
    out = {}
    for name in ("weight", "eta", "mu2"):
        x = torch.stack([d[name] for d in draws])
        out[name] = x.mean(0), x.std(0) / math.sqrt(count)
    return out


def test_pcd_gradient_is_unbiased(biased):
    model, target = biased
    want = run_of(model, target, "exact").gradient()
    # 12 sweeps: the chains forget all between two gradients (rho^12 < 1e-3)
    rho = float(model.sigma**2 * model.singular_values()[0] ** 2 / model.mu2)
    assert rho**12 < 1e-3
    for name, (mean, error) in mean_gradient(run_of(model, target, "pcd", sweeps=12), 400).items():
        assert float(((mean - want[name]) / error).abs().max()) < 4, name


def test_cd_gradient_is_unbiased_once_the_chains_forget_their_start(biased):
    model, target = biased
    want = run_of(model, target, "exact").gradient()
    for name, (mean, error) in mean_gradient(run_of(model, target, "cd", sweeps=12), 400).items():
        assert float(((mean - want[name]) / error).abs().max()) < 4, name


def test_cd1_gradient_has_its_known_expectation(biased):
    model, target = biased
    # one sweep maps the mean m to A m + b and the two-point function accordingly
    w, s2, mu2 = model.weight, model.sigma**2, model.mu2
    a, b = s2 * w @ w.T / mu2, w @ model.eta / mu2
    noise = torch.eye(4, dtype=F8) / mu2 + s2 * w @ w.T / mu2**2
    m = a @ target.mean + b
    cross = torch.outer(a @ target.mean, b)
    c = a @ target.two_point @ a.T + cross + cross.T + torch.outer(b, b) + noise
    run = run_of(model, target, "cd")
    want = run.difference(run.exact_phase(target.two_point, target.mean), run.exact_phase(c, m))
    for name, (mean, error) in mean_gradient(run, 400).items():
        assert float(((mean - want[name]) / error).abs().max()) < 4, name


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_minibatch_gradient_is_unbiased(biased, method):
    model, _ = biased
    target = Target.of_data(torch.randn(50, 4, dtype=F8, generator=generator(5)) * 0.5 + 0.2)
    want = run_of(model, target, "exact").gradient()
    run = run_of(model, target, method, sweeps=12, batch_size=32, chains=48)
    for name, (mean, error) in mean_gradient(run, 400).items():
        assert float(((mean - want[name]) / error).abs().max()) < 4, name


@pytest.mark.parametrize(("n_hidden", "mu2"), CASES)
def test_natural_training_reaches_the_closed_form(n_hidden, mu2):
    model, target = start(n_hidden, mu2), Target.of_kernel(chain_kernel())
    history = quiet(model, target, steps=400, lr=0.5, method="natural", record_every=400)
    gap = exact.rbm_kl_gap(KAPPA, mu2, n_hidden)
    assert float(model.kl(target.two_point)) == pytest.approx(gap, abs=1e-9)
    entropy = 5 * (1 + math.log(2 * math.pi)) - 0.5 * float(KAPPA.log().sum())
    assert history.log_likelihood[-1] == pytest.approx(-entropy - gap, abs=1e-9)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("mu2", "n_hidden"), [(100.0, 20), (2000.0, 20), (100.0, 28), (100.0, 35)])
def test_natural_steps_of_one_from_random_weights_on_a_stiff_target(seed, mu2, n_hidden):
    # kappa over four decades; with 28 and 35 hidden units also twelve exact zero modes and learned
    # ones above mu2/2, which a step of 1 in the plain Fisher metric would turn too far
    kappa = torch.logspace(-1, 3, 40, dtype=F8)
    c = torch.where(torch.arange(40) < 28, 1 / kappa, 0.0 if n_hidden > 20 else 1 / kappa)
    q = torch.linalg.qr(torch.randn(40, 40, generator=generator(3), dtype=F8)).Q
    target = Target.of_two_point(q * c @ q.T)
    model = start(n_hidden, mu2, n=40, seed=seed)
    history = quiet(model, target, steps=80, lr=1.0, method="natural", record_every=1)
    best = ScalarFieldRBM.optimum(target.two_point, n_hidden, mu2)
    gap = float(best.mean_log_likelihood(target.two_point)) - history.log_likelihood[-1]
    assert abs(gap) < 1e-8
    assert all(float(s[0]) > 0 for s in history.spectrum)
    learned = [s for s in model.spectrum() if s < mu2 * (1 - 1e-6)]
    want = [k for k in kappa[: min(n_hidden, 28)] if k < mu2 * (1 - 1e-6)]
    torch.testing.assert_close(torch.stack(learned), torch.stack(want), rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_natural_steps_find_a_mode_that_is_missing(seed):
    # 14 modes sit on the cut-off exactly; a hidden unit that settled on one of them must move on
    field = Lattice((8, 8))
    kappa = field.free_spectrum(1.0).flatten().sort().values
    target = Target.of_kernel(field.kinetic_matrix(1.0))
    model = start(25, 5.0, n=64, seed=seed)
    quiet(model, target, steps=100, lr=1.0, method="natural")
    assert float(model.kl(target.two_point)) == pytest.approx(
        exact.rbm_kl_gap(kappa, 5.0, 25), abs=1e-9)


def test_natural_step_where_the_data_turn_no_mode():
    # the learned directions are exact eigenvectors already: nothing of C U lies outside U
    model, target = ScalarFieldRBM(3, 2, 5.0, init=0), Target.of_kernel(2 * torch.eye(3, dtype=F8))
    quiet(model, target, steps=60, lr=0.5, method="natural")
    assert float(model.kl(target.two_point)) == pytest.approx(
        exact.rbm_kl_gap([2.0, 2.0, 2.0], 5.0, 2), abs=1e-9)


@pytest.mark.parametrize(("n_hidden", "mu2"), [(6, 9.0), (10, 5.8)])
def test_pcd_reaches_each_multiplet(n_hidden, mu2):
    model = start(n_hidden, mu2, dtype=torch.float32)
    target = Target.of_kernel(chain_kernel())
    quiet(model, target, steps=6000, lr=lambda s: 0.5 if s < 2000 else 0.5 / (1 + (s - 2000) / 100),
          sweeps=3, chains=128, generator=generator(11), record_every=6000)
    want = torch.full((10,), mu2, dtype=F8)
    kept = [i for i in range(n_hidden) if KAPPA[i] < mu2]
    want[kept] = KAPPA[kept]
    got = model.spectrum().double()
    for value in want.unique():
        group = (want - value).abs() < 1e-9
        assert float(got[group].mean()) == pytest.approx(float(value), rel=0.015)
    gap = exact.rbm_kl_gap(KAPPA, mu2, n_hidden)
    assert gap < float(ScalarFieldRBM.kl(model, target.two_point.float())) + 1e-5
    assert float(model.kl(target.two_point.float())) < gap + 2e-3


def test_minibatches_of_samples():
    samples = ScalarFieldRBM.optimum(torch.linalg.inv(chain_kernel()), 10, 9.0).sample(
        2000, generator(3))
    target = Target.of_data(samples)
    model = start()
    before = float(model.mean_log_likelihood(target.two_point))
    quiet(model, target, steps=1500, lr=lambda s: 0.3 / (1 + s / 150), generator=generator(4),
          record_every=1500)
    best = ScalarFieldRBM.optimum(target.two_point, 10, 9.0)
    top = float(best.mean_log_likelihood(target.two_point))
    after = float(model.mean_log_likelihood(target.two_point))
    assert after <= top
    assert top - after < 0.1 * (top - before)


@pytest.mark.parametrize("n_hidden", [8, 6])
def test_learned_mass_reaches_its_plateau(n_hidden):
    model = ScalarFieldRBM.optimum(torch.linalg.inv(chain_kernel()), n_hidden, 9.0)
    quiet(model, Target.of_kernel(chain_kernel()), steps=3000, lr=1.5, method="exact",
          learn_mass=True, record_every=3000)
    assert float(model.mu2) == pytest.approx(exact.rbm_mass_plateau(KAPPA, n_hidden), rel=1e-6)


def test_learned_bias_reaches_the_mean():
    mean = torch.linspace(-0.3, 0.4, 4, dtype=F8)
    kernel = torch.diag(torch.tensor([1.0, 1.5, 2.0, 2.5], dtype=F8))
    target = Target.of_two_point(torch.linalg.inv(kernel) + torch.outer(mean, mean), mean)
    model = start(6, 4.0, n=4)
    quiet(model, target, steps=4000, lr=0.1, method="exact", learn_bias=True, record_every=4000)
    got = model.covariance() @ model.source()
    torch.testing.assert_close(got, mean, rtol=0, atol=1e-6)
    assert float(model.kl(target.two_point, mean)) == pytest.approx(0, abs=1e-9)


def test_small_steps_follow_the_mode_flow():
    model = ScalarFieldRBM(3, 3, 9.0, init=0)
    kappa = torch.tensor([4.0, 5.5, 7.0], dtype=F8)
    model.weight.copy_(0.1 * torch.eye(3))
    errors = []
    for lr in (0.1, 0.05):
        twin = copy.deepcopy(model)
        n = round(30 / lr)
        history = quiet(twin, Target.of_kernel(torch.diag(kappa)), steps=n, lr=lr,
                        method="exact", record_every=n // 10)
        xi = exact.rbm_mode_flow(torch.full((3,), 0.1), kappa, torch.tensor(history.time), 9.0)
        errors.append(float((torch.stack(history.spectrum) - (9 - xi**2)).abs().max()))
    assert errors[1] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)  # Euler: first order in the step


def test_unstable_step_is_refused_and_the_model_left():
    model = start()
    target = Target.of_kernel(chain_kernel() / 10)
    kept = model.weight.clone()
    with pytest.raises(StabilityError, match=r"kappa_min\^2/\[sigma\^2 .* = 0.0186 .*shorten"):
        quiet(model, target, steps=1, lr=100.0, method="exact")
    assert torch.equal(model.weight, kept)
    history = quiet(model, target, steps=5, lr=100.0, method="exact", on_unstable="shorten",
                    record_every=1)
    assert history.shortened[0] == 0
    assert 1 <= history.shortened[-1] <= 5
    assert history.time[-1] < 500
    assert all(float(s[0]) > 0 for s in history.spectrum)
    model.check_stable()


def test_stable_below_the_bound_and_not_above():
    target = Target.of_kernel(chain_kernel())
    bound = exact.rbm_step_bound(4.0, 9.0)
    distance = []
    for factor in (0.95, 1.05):
        model = ScalarFieldRBM.optimum(target.two_point, 10, 9.0)
        model.weight *= 1.0001
        quiet(model, target, steps=60, lr=factor * bound, method="exact")
        distance.append(abs(float(model.spectrum()[0]) - 4))
    assert distance[0] < 1e-4 < distance[1]


@pytest.mark.parametrize(("options", "word"), [
    ({"method": "adam"}, "method must be one of"), ({"on_unstable": "hope"}, "on_unstable"),
    ({"method": "pcd"}, "pass a generator"), ({"lr": 0.0}, "lr"), ({"lr": math.nan}, "lr"),
    ({"steps": 0}, "steps"), ({"momentum": 1.0}, "momentum"), ({"record_every": 0}, "record_every"),
    ({"method": "natural", "learn_mass": True}, "natural"),
])
def test_bad_options_are_named(options, word):
    model = start()
    kept = model.weight.clone()
    with pytest.raises(ValueError, match=word):
        quiet(model, Target.of_kernel(chain_kernel()),
              **({"steps": 1, "lr": 0.1, "method": "exact"} | options))
    assert torch.equal(model.weight, kept)


def test_bad_targets_are_named():
    with pytest.raises(ValueError, match="samples holds 1 NaN"):
        Target.of_data(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ShapeError, match="two_point"):
        Target.of_two_point(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="mean"):
        Target.of_two_point(torch.eye(3), torch.zeros(2))
    with pytest.raises(ShapeError, match=r"target\.two_point"):
        quiet(start(), Target.of_two_point(torch.eye(3, dtype=F8)), steps=1, lr=0.1,
              method="exact")


PCD = {"lr": 0.2, "sweeps": 2, "chains": 16, "momentum": 0.5, "weight_decay": 1e-4,
       "learn_mass": True, "learn_bias": True, "record_every": 7, "average_from": 20}


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    target = Target.of_kernel(chain_kernel())
    whole = start(6)
    history = quiet(whole, target, steps=60, generator=generator(5), **PCD)
    path = tmp_path / "run.safetensors"

    class Stop(Exception):
        pass

    def killed(step):
        if step == 33:
            raise Stop
        return 0.2

    first, second = start(6), start(6)
    with pytest.raises(Stop):
        quiet(first, target, steps=60, generator=generator(5), checkpoint=path,
              checkpoint_every=10, **(PCD | {"lr": killed}))
    again = quiet(second, target, steps=60, generator=generator(5), checkpoint=path,
                  checkpoint_every=10, **PCD)
    for name in ("weight", "eta", "mu2"):
        assert torch.equal(getattr(whole, name), getattr(second, name)), name
    for name, value in history.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def test_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    target, path = Target.of_kernel(chain_kernel()), tmp_path / "run.safetensors"
    options = {"steps": 3, "method": "exact", "checkpoint": path}
    quiet(start(), target, lr=0.1, **options)
    model = start()
    kept = model.weight.clone()
    with pytest.raises(CheckpointError, match=r"update 1 of 3 had lr=0\.1 there, 0\.2 here"):
        quiet(model, target, lr=0.2, **options)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        quiet(model, target, lr=0.1, **options)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        quiet(model, target, lr=0.1, **options)
    assert torch.equal(model.weight, kept)


def test_resumed_schedule_must_agree_where_it_was_used(tmp_path):
    target, path = Target.of_kernel(chain_kernel()), tmp_path / "run.safetensors"
    options = {"method": "exact", "checkpoint": path}
    quiet(start(), target, steps=6, lr=lambda step: 0.1 / (1 + step), **options)
    model = start()
    kept = model.weight.clone()
    with pytest.raises(CheckpointError, match=r"update 4 of 6 had lr=0\.025 there, 0\.05 here"):
        quiet(model, target, steps=9, lr=lambda step: max(0.1 / (1 + step), 0.1 / 3 if step < 3
                                                          else 0.05), **options)
    assert torch.equal(model.weight, kept)
    # another course from here on is the reader's to choose
    later = quiet(model, target, steps=9, lr=lambda step: 0.1 / (1 + step) if step < 6 else 0.3,
                  **options)
    assert later.time[-1] == pytest.approx(0.1 * (1 + 1/2 + 1/3 + 1/4 + 1/5 + 1/6) + 0.9)
    with pytest.raises(CheckpointError, match="update 2 of 9 had"):
        quiet(start(), target, steps=12, lr=0.1, **options)


def test_history_holds_first_and_last():
    model, target = start(6), Target.of_kernel(chain_kernel())
    first = model.spectrum()
    history = quiet(model, target, steps=25, lr=0.1, method="exact", record_every=10)
    assert history.steps == [0, 10, 20, 25]
    assert history.time == pytest.approx([0, 1, 2, 2.5])
    assert torch.equal(history.spectrum[0], first)
    assert torch.equal(history.spectrum[-1], model.spectrum())
    assert history.log_likelihood[-1] == float(model.mean_log_likelihood(target.two_point))
    assert all(b > a for a, b in zip(history.log_likelihood, history.log_likelihood[1:],
                                     strict=False))
    assert history.mu2 == [9.0] * 4
    assert history.shortened == [0] * 4


def test_average_is_that_of_the_updates():
    target, seen = Target.of_kernel(chain_kernel()), []
    model, averaged = start(), start()

    def watch(step):
        seen.append(model.weight.clone())
        return 0.1

    quiet(model, target, steps=10, lr=watch, generator=generator(1))
    seen.append(model.weight.clone())
    quiet(averaged, target, steps=10, lr=0.1, generator=generator(1), average_from=6)
    torch.testing.assert_close(averaged.weight, torch.stack(seen[6:]).mean(0))


def test_single_precision_follows_double():
    target = Target.of_kernel(chain_kernel())
    double = start(6)
    single = ScalarFieldRBM(10, 6, 9.0, init=0, dtype=torch.float32)
    single.weight.copy_(double.weight)
    for model in (double, single):
        quiet(model, target, steps=50, lr=0.5, method="exact")
    assert single.weight.dtype == torch.float32
    torch.testing.assert_close(single.spectrum().double(), double.spectrum(), rtol=1e-5, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu():
    model = ScalarFieldRBM(10, 6, 9.0, generator=generator(1, "cuda"), device="cuda")
    target = Target.of_kernel(chain_kernel())
    quiet(model, target, steps=20, lr=0.2, generator=generator(2, "cuda"))
    assert model.weight.device.type == "cuda"
    quiet(model, target, steps=400, lr=0.5, method="natural")
    got = model.kl(target.two_point.cuda())
    assert float(got) == pytest.approx(exact.rbm_kl_gap(KAPPA, 9.0, 6), abs=1e-9)
