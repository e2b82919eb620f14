"""Errors and results travel between processes: what is pickled comes back whole.

The classes are found by walking through the library. A new one without an example below fails.
"""

from __future__ import annotations

import importlib
import inspect
import io
import math
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from PIL import Image

import physml
from physml import (
    diffusion,
    ensembles,
    exact,
    exercises,
    flipbook,
    graphs,
    observables,
    phi4_learning,
    pretrained,
    rbm,
    sampling,
    spectra,
    statistics,
    tables,
)
from physml.actions import (
    AutogradAction,
    FreeField,
    InhomogeneousPhi4,
    LocalAction,
    Phi4,
    ZeroDimensionalPhi4,
)
from physml.datasets import Images
from physml.device import generator
from physml.lattice import Lattice
from physml.statistics import Estimate
from physml.training import Records, Training

BOX, PHI4, VE = Lattice((4, 4)), Phi4(0.2, 0.1), diffusion.VarianceExploding(5.0)
WELL = ZeroDimensionalPhi4(-1.0, 2.0)


def found() -> list[type]:
    """Return all public classes of the library, and all its exceptions."""
    classes = []
    for module in pkgutil.walk_packages(physml.__path__, "physml."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and value.__module__ == module.name and (
                    issubclass(value, BaseException) or not name.startswith("_")):
                if not getattr(value, "_is_protocol", False) and value not in (Records, Training):
                    classes.append(value)  # the others are for subclasses
    return classes


def fields(n: int = 3) -> torch.Tensor:
    return torch.randn(n, *BOX.shape, generator=generator(1))


def unit(visible: str = "real") -> phi4_learning.Phi4Network:
    return phi4_learning.Phi4Network(3, 2, b=0.1, n=0.1, visible=visible, generator=generator(1))


def wells(phi: torch.Tensor) -> torch.Tensor:
    return (phi**2 - 1).square().flatten(1).sum(1)


def run() -> sampling.Run:
    return sampling.sample(sampling.HMC(PHI4), fields(), 4, generator=generator(1),
                           keep_fields=True, progress=False)


def flow() -> diffusion.LogDensity:
    score = diffusion.GaussianScore.of_spectrum(BOX.free_spectrum(0.5), VE)
    return diffusion.log_density(score, VE, fields(), steps=2, trace="analytic", step_error=True)


def generated() -> diffusion.Generated:
    score = diffusion.GaussianScore.of_spectrum(BOX.free_spectrum(0.5), VE)
    return diffusion.generate(score, VE, BOX, 2, steps=2, generator=generator(1))


def residual() -> diffusion.ResidualForce:
    return diffusion.ResidualForce.measure(PHI4, fields(64))


def network(inputs: int = 1) -> diffusion.UNet:
    return diffusion.UNet((2,), 1, 4, inputs=inputs, generator=generator(1))


def interaction() -> diffusion.InteractionModel:
    return diffusion.InteractionModel(network(2), VE, residual())


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 2)).save(stream, format="png")
    return stream.getvalue()


ESTIMATE = statistics.MeanEstimate(1.0, 0.1, 0.01, 0.5, 0.1, 1, 100)
#: Arguments of exceptions that take more than a message.
ARGUMENTS = {
    statistics.ShortChainError: ("too short", ESTIMATE),
    statistics.ShortChainWarning: ("too short", Estimate(1.0, 0.1)),
    statistics._WithEstimate: ("too short", Estimate(1.0, 0.1)),
}
#: How to come by an object of each other class.
EXAMPLES = {
    LocalAction: LocalAction,
    AutogradAction: lambda: AutogradAction(wells, components=()),
    FreeField: lambda: FreeField(0.5, 2),
    Phi4: lambda: PHI4,
    ZeroDimensionalPhi4: lambda: WELL,
    InhomogeneousPhi4: lambda: InhomogeneousPhi4.homogeneous(PHI4, BOX),
    Images: lambda: Images(torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2), "mnist",
                           "test", "nowhere", "0"),
    diffusion.IndependenceChain: lambda: diffusion.independence_metropolis(
        torch.arange(8.0), generator=generator(1)),
    diffusion.ResidualForce: residual,
    diffusion.Interaction: lambda: diffusion.Interaction(residual(), VE, 0.5),
    diffusion.InteractionModel: interaction,
    diffusion.Distilled: lambda: diffusion.Distilled(network(2), interaction()),
    diffusion.LogDensity: flow,
    diffusion.ScoreModel: lambda: diffusion.ScoreModel(
        network(), VE, 1 / BOX.free_spectrum(0.5)),
    diffusion.OddMLP: lambda: diffusion.OddMLP(4, 1, generator=generator(1)),
    diffusion.UNet: network,
    diffusion.EulerMaruyama: diffusion.EulerMaruyama,
    diffusion.PredictorCorrector: diffusion.PredictorCorrector,
    diffusion.Heun: diffusion.Heun,
    diffusion.RK4: diffusion.RK4,
    diffusion.DPM: diffusion.DPM,
    diffusion.Generated: generated,
    diffusion.GaussianScore: lambda: diffusion.GaussianScore.of_spectrum(
        BOX.free_spectrum(0.5), VE),
    diffusion.MixtureScore: lambda: diffusion.MixtureScore(
        VE, torch.ones(2), torch.zeros(2, 4, 4), torch.ones(2)),
    diffusion.ZeroDimensionalScore: lambda: diffusion.ZeroDimensionalScore(VE, WELL),
    diffusion.Process: diffusion.Process,
    diffusion.VarianceExploding: lambda: VE,
    diffusion.VariancePreserving: diffusion.VariancePreserving,
    diffusion.Reverse: lambda: diffusion.Reverse(VE),
    diffusion.History: lambda: diffusion.History([1], [0.5], [math.nan], [0.1]),
    ensembles.Ensemble: lambda: ensembles.Ensemble(
        fields(), PHI4, BOX, 1, 3, 10, 2, 0.7, {"m": 1.0}, {"m": 0.1}),
    exact.FokkerPlanck: lambda: exact.fokker_planck_spectrum(WELL, 4),
    exact.CriticalPoint: lambda: exact.CriticalPoint(0.022, 0.27, "a source"),
    exact.IsingState: lambda: exact.IsingState(1.0, 1.0, 1.0, 1.0, 1.0),
    exact.Phi4Ring: lambda: exact.phi4_ring(4, 0.2, 0.1),
    exact.Quadrature: lambda: exact.quadrature(WELL),
    exercises.Result: lambda: exercises.Result(True, "it is"),
    flipbook.Flipbook: lambda: flipbook.Flipbook([png()], ["1"], ["black"], "shade"),
    graphs.Violation: lambda: graphs.Violation((0,), (1,), (2,), 0.5),
    graphs.Enumeration: lambda: graphs.enumerate_action(PHI4, Lattice((3,))),
    Lattice: lambda: BOX,
    observables.Measurement: lambda: observables.measure(fields(), BOX),
    observables.Summary: lambda: observables.Summary(*[ESTIMATE] * 9),
    phi4_learning.NextNearestPhi4: lambda: phi4_learning.NextNearestPhi4(1.0, 0.5, 1.0, 0.2),
    phi4_learning.ComplexAction: lambda: phi4_learning.ComplexAction(
        PHI4, FreeField(0.5, 2)),
    phi4_learning.BlockGibbs: lambda: phi4_learning.BlockGibbs(
        phi4_learning.NextNearestPhi4(1.0, 0.5, 1.0, 0.2)),
    phi4_learning.Fit: lambda: phi4_learning.Fit(
        InhomogeneousPhi4.homogeneous(PHI4, BOX), fields(), torch.ones(2), torch.ones(2),
        torch.ones(2), torch.ones(2), 0),
    phi4_learning.Phi4Network: unit,
    phi4_learning.ProductGrid: lambda: phi4_learning.ProductGrid(Lattice((2,)), 3.0, 8),
    phi4_learning.Reweighted: lambda: phi4_learning.Reweighted(
        ESTIMATE, None, 10.0, 0.5, 1.0, Estimate(0.0, 0.1)),
    phi4_learning.NetworkHistory: lambda: phi4_learning.NetworkHistory([1], [0.5], [1.0], [0]),
    pretrained.Settings: lambda: pretrained.SETTINGS[0.27],
    pretrained.Pretrained: lambda: pretrained.Pretrained(
        interaction(), pretrained.SETTINGS[0.27], {"losses": [1.0]}),
    rbm.ScalarFieldRBM: lambda: rbm.ScalarFieldRBM(3, 2, 4.0, generator=generator(1)),
    rbm.Target: lambda: rbm.Target.of_two_point(torch.eye(3)),
    rbm.History: lambda: rbm.History([1], [0.1], [-1.0], [torch.ones(3)], [4.0], [0]),
    sampling.Run: run,
    sampling.Equilibration: lambda: sampling.Equilibration({"m": 1.0}, {"m": 0.5}),
    sampling.Info: lambda: sampling.Info(torch.ones(2)),
    sampling.State: lambda: sampling.State(fields()),
    sampling.HMCState: lambda: sampling.HMCState(fields(), torch.ones(3)),
    sampling.LangevinState: lambda: sampling.LangevinState(fields(), fields()),
    sampling.MALAState: lambda: sampling.MALAState(fields(), torch.ones(3), fields()),
    sampling.FourierKernel: lambda: sampling.FourierKernel(BOX, 0.5),
    sampling.CheckerboardGibbs: lambda: sampling.CheckerboardGibbs(PHI4),
    sampling.HMC: lambda: sampling.HMC(PHI4),
    sampling.Langevin: lambda: sampling.Langevin(PHI4, 0.1),
    sampling.MALA: lambda: sampling.MALA(PHI4, 0.1),
    sampling.Metropolis: lambda: sampling.Metropolis(PHI4),
    sampling.GlobalFlip: lambda: sampling.GlobalFlip(PHI4),
    sampling.SwendsenWang: lambda: sampling.SwendsenWang(PHI4),
    sampling.Sequence: lambda: sampling.Sequence((sampling.HMC(PHI4),)),
    spectra.Spectrum: lambda: spectra.spectrum(torch.eye(3)),
    spectra.NoiseFloor: lambda: spectra.noise_floor(torch.eye(3), torch.eye(3)),
    spectra.Level: lambda: spectra.Level(1.0, (0, 1), ESTIMATE),
    statistics.Estimate: lambda: Estimate(1.0, 0.1),
    statistics.MeanEstimate: lambda: ESTIMATE,
    statistics.JackknifeEstimate: lambda: statistics.JackknifeEstimate(1, 0.1, 0.01, 0.0, 10, 5),
    tables.Table: lambda: tables.Table({"a": [1.0]}),
}


def same(one: object, two: object) -> bool:
    """Whether two objects hold the same, through and through."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, torch.nn.Module):
        a, b = one.state_dict(), two.state_dict()
        return type(one) is type(two) and same(dict(a), dict(b))
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float):
        return one == two or (math.isnan(one) and math.isnan(two))
    if hasattr(one, "__dict__") and not inspect.isroutine(one) and not inspect.isclass(one):
        return same(vars(one), vars(two))
    return one == two


ALL = found()
ERRORS = [c for c in ALL if issubclass(c, BaseException)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda c: c.__name__)
def test_errors_survive_pickling(kind):
    error = kind(*ARGUMENTS.get(kind, ("what is wrong",)))
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and str(back) == str(error) and same(vars(back), vars(error))


@pytest.mark.parametrize("kind", [c for c in ALL if c not in ERRORS], ids=lambda c: c.__name__)
def test_results_survive_pickling(kind):
    assert kind in EXAMPLES, f"give an example of {kind.__qualname__} in EXAMPLES"
    one = EXAMPLES[kind]()
    two = pickle.loads(pickle.dumps(one))
    assert type(one) is kind and same(one, two)


def raised(kind: type) -> None:
    raise kind(*ARGUMENTS.get(kind, ("what is wrong",)))


def test_errors_arrive_from_another_process():
    """Where they could not be unpickled a pool waited for ever, and an executor broke."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for kind in ERRORS:
            with pytest.raises(kind):
                pool.submit(raised, kind).result(timeout=60)
    with get_context("spawn").Pool(1) as pool:
        for kind in ERRORS:
            with pytest.raises(kind):
                pool.apply_async(raised, (kind,)).get(timeout=60)


def short_mean(_: int) -> statistics.MeanEstimate:
    return statistics.mean(torch.arange(5.0), strict=True)


def test_what_a_worker_measured_comes_with_its_error():
    with get_context("spawn").Pool(1) as pool, pytest.raises(statistics.ShortChainError) as caught:
        pool.apply_async(short_mean, (1,)).get(timeout=60)
    assert caught.value.estimate.value == 2.0


def test_an_exact_result_works_after_its_journey():
    law, modes = exact.quadrature(WELL, source=0.3), exact.fokker_planck_spectrum(WELL, 6)
    other = exact.fokker_planck_spectrum(WELL, 6, method="polynomials")
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert torch.equal(pickle.loads(pickle.dumps(law)).density(x), law.density(x))
    for one in (modes, other):
        assert torch.equal(pickle.loads(pickle.dumps(one)).modes(x), one.modes(x))
