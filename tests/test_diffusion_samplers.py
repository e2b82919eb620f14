"""Samplers of diffusion models: exact recursions, orders of convergence, exact moments."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from physml import exact
from physml.actions import ZeroDimensionalPhi4
from physml.device import generator
from physml.diffusion import (
    SAMPLERS,
    EulerMaruyama,
    GaussianScore,
    Heun,
    MixtureScore,
    PredictorCorrector,
    VarianceExploding,
    VariancePreserving,
    ZeroDimensionalScore,
    generate,
    integrate,
    time_grid,
)
from physml.errors import ShapeError, StabilityError
from physml.lattice import Lattice

VE, VP = VarianceExploding(), VariancePreserving()
ONE = torch.tensor(1.0, dtype=torch.float64)
F64 = {"dtype": torch.float64}
LATTICE = Lattice((4, 4))
ALL = SAMPLERS | {"heun, churn": Heun(0.5), "zeta = 1/2": EulerMaruyama(0.5),
                  "two corrections": PredictorCorrector("schedule", 1.0, 2)}
ORDERS = {"euler-maruyama": 1, "predictor-corrector": 1, "euler-flow": 1, "heun": 2, "rk4": 4,
          "dpm": 2, "heun, churn": 2, "zeta = 1/2": 1, "two corrections": 1}


def variance(sampler, process, times, start, kernel=1.0, last="none"):
    """Return the exact variance that a sampler gives to one mode of a free field.

    All is linear: each chain gets one of the random numbers as 1 and all others as 0.
    """
    score = GaussianScore.of_spectrum(torch.tensor(kernel, **F64), process)
    calls = []

    def count():
        calls.append(None)
        return torch.zeros(1, **F64)

    integrate(score, process, torch.zeros(1, **F64), times, sampler, count)
    phi, noise = torch.zeros(1 + len(calls), **F64), iter(torch.eye(1 + len(calls), **F64)[1:])
    phi[0] = math.sqrt(start)
    phi = integrate(score, process, phi, times, sampler, lambda: next(noise), last=last)
    return float(phi.square().sum())


@pytest.mark.parametrize(("evaluations", "known"), [(200, 0.993310), (500, 0.997840),
                                                    (2000, 1.000131)])
def test_euler_maruyama_recursion(evaluations, known):
    """v' = (1 - g^2 h / (1/K + s^2))^2 v + g^2 h from the prior, the last one without noise."""
    times = time_grid(VE, evaluations - 1, "uniform", end=1e-3)
    got = variance(SAMPLERS["euler-maruyama"], VE, times, VE.variance(1.0), last="drift")
    v = VE.variance(1.0)
    h = times[0] - times[1]
    for t in times:
        g2 = 25 ** (2 * t)
        kept = (1 - g2 * h / (1 + (25 ** (2 * t) - 1) / (2 * math.log(25)))) ** 2 * v
        v = kept + g2 * h
    assert got == pytest.approx(kept, rel=1e-10)
    assert got == pytest.approx(known, abs=6e-7)


def test_euler_maruyama_recursion_is_measured():
    """The same for all modes of a free field, as generated."""
    kernel = exact.hopping_spectrum(LATTICE, 0.2)
    score = GaussianScore.of_spectrum(kernel, VE)
    found = generate(score, VE, LATTICE, 20000, steps=99, sampler="euler-maruyama",
                     grid="uniform", last="drift", generator=generator(1))
    assert found.evaluations == 100 and found.fields.dtype == torch.float32
    power = torch.fft.fftn(found.fields.double(), dim=(1, 2)).abs().square() / LATTICE.volume
    error = power.std(0) / math.sqrt(len(power))
    for mode in [(0, 0), (0, 1), (1, 1), (2, 2), (0, 2)]:
        expected = variance(SAMPLERS["euler-maruyama"], VE, found.times, VE.variance(1.0),
                            float(kernel[mode]), "drift")
        assert abs(expected * kernel[mode] - 1) > 1e-3  # the error of the step is there
        assert abs(float(power.mean(0)[mode] - expected) / float(error[mode])) < 3.5


@pytest.mark.parametrize("kernel", [1.0, 0.2])
def test_flow_from_the_wrong_prior(kernel):
    """v_0 = s^2 v / (v + s^2) for the prior N(0, s^2): 0.989788 for K = 1."""
    v, s2 = 1 / kernel, VE.variance(1.0)
    times = time_grid(VE, 800, end=1e-5)
    got = variance(SAMPLERS["rk4"], VE, times, s2, kernel, last="flow")
    assert got == pytest.approx(s2 * v / (v + s2), rel=1e-8)
    if kernel == 1:
        assert got == pytest.approx(0.989788, abs=5e-7)


@pytest.mark.parametrize("grid", ["karras", "geometric", "uniform"])
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
@pytest.mark.parametrize("name", ALL)
def test_order_of_convergence_on_a_free_field(name, process, grid):
    errors = []
    for steps in (512, 1024) if ORDERS[name] == 1 else (64, 128):
        times = time_grid(process, steps, grid, end=0.1)
        got = variance(ALL[name], process, times, process.marginal(2.5, 1.0), 0.4)
        errors.append(got / process.marginal(2.5, 0.1) - 1)
    order = math.log2(abs(errors[0] / errors[1]))
    assert abs(order - ORDERS[name]) < 0.4, errors


@pytest.mark.parametrize("name", ["euler-flow", "heun", "rk4", "dpm"])
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_order_of_convergence_on_two_peaks(name, process):
    """Along the paths of a law that is no Gaussian."""
    score = MixtureScore(process, torch.ones(2), torch.tensor([1.0, -1.0]), torch.full((2,), 0.2))
    start = torch.linspace(-2, 2, 9, **F64) * math.sqrt(process.marginal(1.2, 1.0))

    def end(sampler, steps):
        return integrate(score, process, start, time_grid(process, steps, end=0.1), sampler, None)

    true = end(SAMPLERS["rk4"], 1024)
    errors = [float((end(SAMPLERS[name], n) - true).abs().mean()) for n in (64, 128)]
    assert abs(math.log2(errors[0] / errors[1]) - ORDERS[name]) < 0.4, errors


@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_what_the_last_step_leaves(process):
    """On a field of variance v, with V = a^2 v + s^2: V, (a v)^2 / V, and v up to O(s^4)."""
    v, errors = 2.0, []
    for end in (0.02, 0.01):
        times, wide = time_grid(process, 600, end=end), process.marginal(v, end)
        a, s2 = process.mean_factor(end), process.variance(end)
        got = {last: variance(SAMPLERS["rk4"], process, times, process.marginal(v, 1.0), 1 / v,
                              last) for last in ("none", "denoise", "flow")}
        assert got["none"] == pytest.approx(wide, rel=1e-9)
        assert got["denoise"] == pytest.approx((a * v) ** 2 / wide, rel=1e-9)
        assert got["flow"] == pytest.approx(wide * (1 - s2 / wide / 2) ** 2 / a**2, rel=1e-9)
        errors.append([process.ratio(end)] + [abs(got[k] - v) for k in ("denoise", "flow")])
    shrunk = [math.log(x / y) for x, y in zip(*errors, strict=True)]
    assert shrunk[1] / shrunk[0] == pytest.approx(2, abs=0.1)
    assert shrunk[2] / shrunk[0] == pytest.approx(4, abs=0.1)


@functools.lru_cache
def well(process, mu2):
    """Return the score of phi^4, which keeps its tables for all samplers."""
    return ZeroDimensionalScore(process, ZeroDimensionalPhi4(mu2, 0.4))


def noised(process, action, chains, seed):
    """Return fields of the exact law at time 1, by the inverse of the distribution function."""
    law, g = exact.quadrature(action, panels=512), generator(seed)
    place = torch.searchsorted(law.weight.cumsum(0), torch.rand(chains, generator=g, **F64))
    phi = law.x[place.clamp(max=len(law.x) - 1)]
    return process.perturb(phi, 1.0, torch.randn(chains, generator=g, **F64))


@pytest.mark.parametrize("name", ["heun", "rk4", "dpm", "euler-maruyama", "predictor-corrector",
                                  "heun, churn"])
@pytest.mark.parametrize("mu2", [1.0, -1.0])
@pytest.mark.parametrize("process", [VE, VP], ids=["ve", "vp"])
def test_moments_of_one_degree_of_freedom(process, mu2, name):
    """Against quadrature; the step is chosen such that its error is below the statistical one."""
    action = ZeroDimensionalPhi4(mu2, 0.4)
    score = well(process, mu2)
    law = exact.quadrature(action)
    steps = {"rk4": 24, "heun": 40, "heun, churn": 60, "dpm": 80}.get(name, 200)
    phi = generate(score, process, (), 6000, steps=steps, sampler=ALL[name], end=1e-4,
                   start=noised(process, action, 6000, 2), generator=generator(3)).fields
    for f in (torch.square, lambda x: x**4, torch.abs, lambda x: x):
        values = f(phi)
        z = (float(values.mean()) - law.mean(f)) / float(values.std()) * math.sqrt(len(phi))
        assert abs(z) < 3.5


def test_snr_corrector_samples_a_free_field():
    """Its bias is the step of the corrector at the end, which is of the order of the noise left."""
    score = GaussianScore.of_spectrum(torch.full((4, 4), 1.0), VE)
    phi = generate(score, VE, (4, 4), 4000, steps=200, sampler=PredictorCorrector("snr", 0.1),
                   start=math.sqrt(VE.marginal(1.0, 1.0)) * torch.randn(
                       4000, 4, 4, generator=generator(2)),
                   grid="karras", generator=generator(1)).fields
    assert float(phi.square().mean()) == pytest.approx(1, abs=0.03)
    # no other test would see a corrector that does nothing
    times = time_grid(VE, 20, end=0.1)
    off = variance(SAMPLERS["euler-maruyama"], VE, times, 200.0)
    assert abs(variance(PredictorCorrector("schedule", 2.0, 3), VE, times, 200.0)
               - VE.marginal(1.0, 0.1)) < abs(off - VE.marginal(1.0, 0.1))


@pytest.mark.parametrize("name", ["heun", "euler-maruyama", "predictor-corrector"])
def test_chains_do_not_depend_on_how_many_there_are(name):
    score = MixtureScore(VE, torch.ones(2), torch.tensor([1.0, -1.0]), torch.full((2,), 0.2))

    def run(chains, **options):
        return generate(score, VE, (), chains, steps=8, sampler=name, generator=generator(7),
                        **options).fields

    many = run(300)
    assert torch.equal(run(70), many[:70]) and torch.equal(run(1), many[:1])
    assert torch.equal(run(300, batch=100), many) and torch.equal(run(300, batch=1), many)
    assert len(many.unique()) == 300


def test_film_and_evaluations():
    score = GaussianScore.of_spectrum(LATTICE.free_spectrum(1.0), VE)
    cost = {"euler-maruyama": 1, "predictor-corrector": 2, "euler-flow": 1, "heun": 2, "rk4": 4,
            "dpm": 1}
    for name, each in cost.items():
        for last in ("none", "drift", "denoise", "flow"):
            got = generate(score, VE, LATTICE, 3, steps=6, sampler=name, last=last,
                           film=(1.0, 0.5, 0.0), generator=generator(1), **F64)
            assert got.evaluations == 6 * each + (last != "none")
            assert got.film.shape == (3, 3, 4, 4) and got.film_times[0] == 1.0
            assert got.film_times[1] <= 0.5 and got.film_times[1] in got.times
            assert got.film_times[2] == got.times[-1] == 1e-3
            if last == "none":
                assert torch.equal(got.film[2], got.fields)
    whole = generate(score, VE, LATTICE, 100, steps=6, film=(1.0,), batch=64,
                     generator=generator(1), **F64)
    assert torch.equal(whole.film[0, :3], got.film[0])


def test_progress_bar(capsys):
    score = GaussianScore.of_spectrum(ONE, VE)
    generate(score, VE, (), 200, steps=4, batch=64, generator=generator(1), progress=True,
             label="denoising")
    assert "denoising" in capsys.readouterr().err


def test_float32_follows_float64():
    score = GaussianScore.of_spectrum(LATTICE.free_spectrum(1.0), VP)
    start = torch.randn(5, 4, 4, generator=generator(1), **F64)
    two = [generate(score, VP, LATTICE, 5, start=start.to(d), generator=generator(2)).fields
           for d in (torch.float32, torch.float64)]
    assert two[0].dtype == torch.float32
    torch.testing.assert_close(two[0].double(), two[1], rtol=1e-4, atol=1e-4)


SCORE = GaussianScore.of_spectrum(LATTICE.free_spectrum(1.0), VE)


def go(**options):
    options = {"lattice": LATTICE, "chains": 3, "generator": generator(1)} | options
    return generate(options.pop("score", SCORE), VE, options.pop("lattice"),
                    options.pop("chains"), **options)


@pytest.mark.parametrize(("options", "kind", "says"), [
    ({"sampler": "rk45"}, ValueError, "'rk45' is not known"),
    ({"last": "tweedie"}, ValueError, "'tweedie' is not known"),
    ({"grid": "cosine"}, ValueError, "'cosine' is not known"),
    ({"chains": 0}, ValueError, "chains must be"),
    ({"steps": -1}, ValueError, "steps must be"),
    ({"batch": 0}, ValueError, "batch must be"),
    ({"times": [0.1, 0.5]}, ValueError, "numbers that fall"),
    ({"times": [1.0, 0.5, 0.0]}, ValueError, "numbers that fall"),
    ({"film": [1.5]}, ValueError, "film must hold"),
    ({"start": torch.zeros(3, 4)}, ShapeError, r"\(chains, 4, 4\)"),
    ({"start": torch.zeros(4, 4, 4)}, ShapeError, "4 fields for 3"),
    ({"start": torch.full((3, 4, 4), math.nan)}, ValueError, "start holds 48 NaN"),
    ({"start": torch.zeros(3, 4, 4), "prior": SCORE}, ValueError, "both given"),
    ({"lattice": (4, 5)}, ShapeError, "phi must be"),
    ({"score": lambda phi, t: phi * math.nan}, StabilityError, "3 of 3 fields are not finite"),
])
def test_bad_input(options, kind, says):
    with pytest.raises(kind, match=says):
        go(**options)


@pytest.mark.parametrize("make", [
    lambda: EulerMaruyama(-1.0).step(SCORE, VE, torch.zeros(1, 4, 4), 0.5, 0.4, None, ()),
    lambda: PredictorCorrector("other"), lambda: PredictorCorrector("snr", 0.0),
    lambda: PredictorCorrector(corrections=0), lambda: Heun(-0.1), lambda: Heun(math.nan)])
def test_bad_samplers(make):
    with pytest.raises(ValueError, match=r"zeta|rule|strength|corrections|churn"):
        make()
