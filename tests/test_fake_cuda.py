"""Device hygiene without a GPU: the library runs on pretended CUDA tensors.

Torch's fake tensors have a shape, a dtype and a device but no data; an operation on two devices
raises as it would on the real machine. To put a function under this test, add a line to `CASES`: a
function of the device that makes its own tensors there, runs the library, and returns what came
out. All tensors in what it returns must be on that device.

Three things fake tensors do not see: a generator on the wrong device (any will do here), numbers
read from a tensor (there are none, so the run ends there; say so with `reads_numbers`), and
automatic differentiation, which asks the driver for the device: that waits for a real GPU.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from physml import diffusion, observables, phi4_learning, sampling
from physml.actions import FreeField, InhomogeneousPhi4, Phi4, ZeroDimensionalPhi4, neighbour_sum
from physml.device import generator
from physml.errors import check_finite
from physml.lattice import Lattice
from physml.statistics import autocorrelation, function_of_means, jackknife, mean, split_rhat


def run_on_fake_cuda(
    run: Callable[[torch.device], object], *, reads_numbers: bool = False
) -> object:
    """Call `run` with a CUDA device that is not there; return what it returns.

    Parameters
    ----------
    run
        Makes its tensors on the device it is given, and calls what is to be tested.
    reads_numbers
        Whether `run` must end by reading a number off a tensor (`float`, `tolist`, a branch): all
        that it did up to there has then been checked.
    """
    with FakeTensorMode():
        try:
            result = run(torch.device("cuda"))
        except DataDependentOutputException:
            if not reads_numbers:
                raise
            return None
    assert not reads_numbers, "the run was to end by reading a number, but came to its end"
    found = list(_tensors(result))
    assert found, "the run returned no tensor: nothing was checked"
    strays = [tuple(t.shape) for t in found if t.device.type != "cuda"]
    assert not strays, f"tensors of the shapes {strays} were left on another device"
    return result


def _tensors(result: object) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from _tensors(getattr(result, field.name))


def chains(device: torch.device) -> torch.Tensor:
    return torch.randn(3, 40, device=device)


def fields(device: torch.device) -> torch.Tensor:
    return torch.randn(3, *LATTICE.shape, device=device)


def positive(device: torch.device) -> torch.Tensor:
    return torch.rand(3, 40, 2, device=device) + 1


def rng(device: torch.device) -> torch.Generator:
    """Return a generator on the device, or where there is none, on the CPU: nobody will see it."""
    return generator(1, device if torch.cuda.is_available() else "cpu")


def kernel() -> sampling.FourierKernel:
    return sampling.FourierKernel(LATTICE, 0.5)  # a new one each time: it keeps tensors


def step(sampler: Callable[[], object], steps: int = 2) -> Callable[[torch.device], object]:
    """Return a run of some steps of a sampler: its fields, and all that it tells of itself."""
    def run(device: torch.device) -> object:
        made, g, out = sampler(), rng(device), []
        state = made.init(fields(device))
        for _ in range(steps):
            state, info = made.step(state, g)
            out.append((state, info))
        return out
    return run


def sample(sampler: Callable[[], object], **options) -> Callable[[torch.device], object]:
    def run(device: torch.device) -> object:
        made, g = sampler(), rng(device)
        phi = sampling.start(made.action, LATTICE, 6, generator=g, device=device)
        return sampling.sample(made, phi, 5, generator=g, progress=False, **options)
    return run


LATTICE = Lattice((4, 6))
PHI4 = Phi4(0.2, 0.1)



def kicked(action: object, device: torch.device) -> torch.Tensor:
    momentum, phi = fields(device), fields(device)
    action.kick(momentum, phi)(0.5)
    return momentum


def inhomogeneous(device: torch.device) -> InhomogeneousPhi4:
    return InhomogeneousPhi4.homogeneous(PHI4, LATTICE, device=device)


def times(device: torch.device) -> torch.Tensor:
    return torch.rand(3, device=device)


def scored(law: Callable[[], object], shape: tuple[int, ...]) -> Callable[[torch.device], object]:
    """Return a run of all that an exact law knows, at one time and at a time for each chain."""
    def run(device: torch.device) -> object:
        made, phi = law(), torch.randn(3, *shape, device=device)
        extra = [made.sample(phi, 0.3)] if isinstance(made, diffusion.GaussianScore) else []
        calls = (made, made.log_density, made.divergence, diffusion.denoiser(made, made.process))
        return extra + [f(phi, t) for f in calls for t in (0.3, times(device))]
    return run


def process(made: diffusion.Process, device: torch.device) -> object:
    phi, reverse = fields(device), diffusion.Reverse(made)
    return [made.perturb(phi, 0.3, phi), made.perturb(phi, times(device), phi), made.prior(phi),
            made.prior_log_density(phi), made.marginal(phi**2, 0.3), reverse.drift(phi, phi, 0.3)]


def denoised(sampler: object, device: torch.device) -> object:
    """Return fields after some steps back, with noise from the device."""
    score = diffusion.GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VP)
    g = rng(device)
    return [diffusion.integrate(score, VP, fields(device), [1.0, 0.6, 0.3], sampler,
                                lambda: sampling.noise_like(fields(device), g), last=last)
            for last in diffusion.LAST]


def generated(device: torch.device) -> object:
    score = diffusion.GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VP)
    return diffusion.generate(score, VP, LATTICE, 70, steps=4, sampler="euler-maruyama",
                              film=[0.5], generator=rng(device), device=device)


def likelihood(device: torch.device) -> object:
    score = diffusion.GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VP)
    options = {"steps": 3, "generator": rng(device), "step_error": True}
    found = diffusion.propose(score, VP, LATTICE, 70, device=device, **options)
    return [found] + [diffusion.log_density(score, VP, found.fields, trace=trace, **options)
                      for trace in ("exact", "hutchinson", "analytic")]


def network(device: torch.device) -> object:
    net = diffusion.UNet((4, 4), 1, 8, generator=generator(1))
    model = diffusion.ScoreModel(net, VP, 1 / Lattice((4, 8)).free_spectrum(0.5)).to(device)
    phi = torch.randn(3, 4, 8, device=device)
    return [model(phi, 0.3), model(phi, times(device)), model.denoise(phi, 0.3),
            diffusion.log_density(model, VP, phi, steps=2)]


def trained(device: torch.device) -> object:
    net = diffusion.UNet((4, 4), 1, 8, generator=generator(1))
    model = diffusion.ScoreModel(net, VP, 1 / Lattice((4, 8)).free_spectrum(0.5)).to(device)
    data = torch.randn(20, 4, 8, device=device)
    diffusion.train(model, data, steps=3, lr=1e-3, batch_size=4, generator=rng(device),
                    validation=data, progress=False)
    return list(model.parameters())


def interaction(device: torch.device) -> object:
    phi = fields(device)
    residual = diffusion.ResidualForce.measure(Phi4(0.2, 0.02), phi)
    split = diffusion.Interaction(residual, VP, torch.full((len(phi),), 0.3, device=device))
    return [residual.force(phi), split.denoise(phi), split.target(phi, phi),
            split.score(phi, phi)]


class Mixed(torch.nn.Module):
    """A network that draws no first weights, which would read a number."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones((), device=device))

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return self.weight * x.mean(1) * level[:, None, None]


def interaction_model(device: torch.device) -> object:
    phi = fields(device).repeat(1, 2, 1)[:, :4, :4].contiguous()
    residual = diffusion.ResidualForce.measure(Phi4(0.2, 0.02), phi)
    model = diffusion.InteractionModel(Mixed(device), VP, residual)
    times = model.levels(len(phi), rng(device)).to(device)
    return [model(phi, 0.3), times, model.loss(phi, times, torch.randn_like(phi)),
            model.mean_residual(phi, 0.3)]


def distilled(device: torch.device) -> object:
    residual = diffusion.ResidualForce.measure(Phi4(0.2, 0.02), torch.randn(50, 4, 4))
    teacher = diffusion.InteractionModel(Mixed(device), VP, residual)
    model = diffusion.Distilled(Mixed(device), teacher)
    phi = torch.randn(5, 4, 4, device=device)
    return model.loss(phi, model.levels(5, rng(device)).to(device), torch.randn_like(phi))


def interaction_flow(device: torch.device) -> object:
    residual = diffusion.ResidualForce.measure(Phi4(0.2, 0.02), torch.randn(50, 4, 4))
    model = diffusion.InteractionModel(Mixed(device), VP, residual)
    drawn = diffusion.flow(model, 3, steps=6, dilution=2, generator=rng(device), device=device)
    back = diffusion.flow_from(model, drawn.fields, steps=6, generator=rng(device))
    return [drawn.fields, drawn.value, back.fields, back.value]


VE, VP = diffusion.VarianceExploding(), diffusion.VariancePreserving()


# name: what to run; what ends by reading numbers is in the second table
CASES: dict[str, Callable[[torch.device], object]] = {
    "lattice.sites": lambda d: LATTICE.sites(d),
    "lattice.neighbours": lambda d: LATTICE.neighbours(d),
    "lattice.parity": lambda d: LATTICE.parity(d),
    "lattice.momenta": lambda d: LATTICE.momenta(torch.float32, d),
    "lattice.p_hat_squared": lambda d: LATTICE.p_hat_squared(device=d),
    "lattice.free_spectrum": lambda d: LATTICE.free_spectrum(0.5, device=d),
    "lattice.free_propagator": lambda d: LATTICE.free_propagator(0.5, device=d),
    "lattice.kinetic_matrix": lambda d: LATTICE.kinetic_matrix(0.5, device=d),
    "lattice: a field through its neighbours": lambda d: torch.randn(24, device=d)[
        LATTICE.neighbours(d)
    ].sum(-1),
    "statistics.autocorrelation": lambda d: autocorrelation(chains(d)),
    "statistics.autocorrelation in blocks": lambda d: autocorrelation(chains(d), 5),
    "statistics.autocorrelation of observables": lambda d: autocorrelation(positive(d), 5),
    "errors.check_finite": lambda d: check_finite("x", chains(d)),
    "observables.measure": lambda d: observables.measure(fields(d), LATTICE),
    "observables.magnetisation": lambda d: observables.magnetisation(fields(d), LATTICE),
    "observables.field_moment": lambda d: observables.field_moment(fields(d), LATTICE, 4),
    "observables.hopping": lambda d: observables.hopping(fields(d), LATTICE),
    "observables.action_density": lambda d: observables.action_density(
        observables.measure(fields(d), LATTICE), 0.2, 0.02
    ),
    "observables.structure_factor": lambda d: observables.structure_factor(fields(d), LATTICE)
    * observables.rfft_multiplicity(LATTICE, d),
    "observables.rfft_momenta": lambda d: observables.rfft_momenta(LATTICE, torch.float32, d),
    "observables.two_point": lambda d: observables.two_point(fields(d), LATTICE),
    "observables.time_slice_correlator": lambda d: observables.time_slice_correlator(
        fields(d), LATTICE, 1
    ),
    "actions.Phi4": lambda d: PHI4(fields(d)),
    "actions.Phi4.force": lambda d: PHI4.force(fields(d)),
    "actions.Phi4.kick": lambda d: kicked(PHI4, d),
    "actions.Phi4.local_field": lambda d: PHI4.site_action(fields(d), PHI4.local_field(fields(d))),
    "actions.FreeField.force": lambda d: FreeField(0.5, 2).force(fields(d)),
    "actions.neighbour_sum": lambda d: neighbour_sum(fields(d)),
    "actions.InhomogeneousPhi4": lambda d: inhomogeneous(d)(fields(d)),
    "actions.InhomogeneousPhi4.kick": lambda d: kicked(inhomogeneous(d), d),
    "sampling.start": lambda d: [
        sampling.start(PHI4, LATTICE, 4, kind, generator=rng(d), device=d)
        for kind in ("hot", "cold", "mixed")
    ],
    "sampling.noise_like": lambda d: sampling.noise_like(fields(d), rng(d)),
    "sampling.FourierKernel": lambda d: kernel().apply(fields(d), -0.5),
    "sampling.HMC": step(lambda: sampling.HMC(PHI4)),
    "sampling.HMC, minimum norm": step(lambda: sampling.HMC(PHI4, integrator="minimum-norm")),
    "sampling.HMC, accelerated": step(lambda: sampling.HMC(PHI4, kernel=kernel())),
    "sampling.HMC, unadjusted": step(lambda: sampling.HMC(PHI4).unadjusted()),
    "sampling.Langevin": step(lambda: sampling.Langevin(PHI4, 0.1)),
    "sampling.Langevin, second order": step(
        lambda: sampling.Langevin(PHI4, 0.1, "leimkuhler-matthews")
    ),
    "sampling.Langevin, accelerated": step(lambda: sampling.Langevin(PHI4, 0.1, kernel=kernel())),
    "sampling.MALA": step(lambda: sampling.MALA(PHI4, 0.1)),
    "sampling.Metropolis": step(lambda: sampling.Metropolis(PHI4)),
    "sampling.GlobalFlip": step(lambda: sampling.GlobalFlip(PHI4)),
    "sampling.Sequence": step(
        lambda: sampling.Sequence((sampling.HMC(PHI4), sampling.GlobalFlip(PHI4)))
    ),
    "sampling.relax": lambda d: sampling.relax(
        sampling.Langevin(PHI4, 0.1), fields(d), 4, rng(d), every=2
    ),
    "diffusion.Interaction": interaction,
    "diffusion.InteractionModel": interaction_model,
    "diffusion.Distilled": distilled,
    "diffusion.VarianceExploding": lambda d: process(VE, d),
    "diffusion.VariancePreserving": lambda d: process(VP, d),
    **{f"diffusion.integrate, {name}": lambda d, made=made: denoised(made, d)
       for name, made in [*diffusion.SAMPLERS.items(),
                          ("snr", diffusion.PredictorCorrector("snr", 0.1)),
                          ("churn", diffusion.Heun(0.5))]},
    "diffusion.log_density": lambda d: diffusion.log_density(
        diffusion.GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VP), VP, fields(d),
        steps=2, trace="analytic", step_error=True
    ),
    "diffusion.log_weights": lambda d: diffusion.log_weights(
        PHI4, fields(d), torch.zeros(3, device=d)
    ),
    "diffusion.independence_metropolis": lambda d: diffusion.independence_metropolis(
        torch.randn(40, device=d), chains=2, generator=rng(d)
    ),
    "diffusion.GaussianScore": scored(
        lambda: diffusion.GaussianScore.of_spectrum(LATTICE.free_spectrum(0.5), VE), (4, 6)
    ),
    "diffusion.GaussianScore, dense": scored(
        lambda: diffusion.GaussianScore.of_matrix(LATTICE.kinetic_matrix(0.5), VP, LATTICE), (4, 6)
    ),
    "diffusion.MixtureScore": scored(
        lambda: diffusion.MixtureScore(VP, torch.ones(2), torch.zeros(2, 4, 6), torch.ones(2)),
        (4, 6),
    ),
    "phi4_learning.sufficient_statistics": lambda d: phi4_learning.sufficient_statistics(
        fields(d), source=True
    ),
    "phi4_learning.NextNearestPhi4": lambda d: [
        f(fields(d))
        for action in [phi4_learning.NextNearestPhi4(1.0, 0.5, 1.0, 0.2)]
        for f in (action, action.force, action.local_field)
    ],
    "phi4_learning.free_energy_gradient": lambda d: phi4_learning.free_energy_gradient(
        chains(d)[0], positive(d)[0]
    ),
    "phi4_learning.gaussian_moments": lambda d: phi4_learning.gaussian_moments(fields(d)[0], 0.5),
    "phi4_learning.site_log_z": lambda d: phi4_learning.site_log_z(chains(d), 0.5, 0.1),
    "phi4_learning.Phi4Network": lambda d: [
        phi4_learning.Phi4Network(40, 5, b=0.1, n=0.1, init=0, device=d, hidden=kind).free_action(
            chains(d).double()
        )
        for kind in ("real", "binary", "spin")
    ],
}
READING_CASES: dict[str, Callable[[torch.device], object]] = {
    "statistics.mean": lambda d: mean(chains(d)),
    "statistics.jackknife": lambda d: jackknife(
        lambda m, x: m[0] / m[1] + x, positive(d), chains(d), bin_size=5
    ),
    "statistics.split_rhat": lambda d: split_rhat(chains(d)),
    "diffusion.effective_sample_size": lambda d: diffusion.effective_sample_size(chains(d)[0]),
    "diffusion.expected_acceptance": lambda d: diffusion.expected_acceptance(chains(d)[0]),
    "diffusion.log_partition": lambda d: diffusion.log_partition(chains(d)[0]),
    "diffusion.reweight": lambda d: diffusion.reweight(chains(d)[0], log_weight=chains(d)[1]),
    # whether all labels are found
    "sampling.SwendsenWang": step(lambda: sampling.SwendsenWang(PHI4)),
    # the length is drawn with the device's generator
    "sampling.HMC, random lengths": step(lambda: sampling.HMC(PHI4, spread=0.3)),
}
REAL_CASES: dict[str, Callable[[torch.device], object]] = {
    "statistics.function_of_means": lambda d: function_of_means(lambda m: m[0] / m[1], positive(d)),
    "observables.summary": lambda d: observables.summary(
        observables.measure(torch.randn(3, 40, *LATTICE.shape, device=d), LATTICE), LATTICE
    ),
    "sampling.sample": sample(
        lambda: sampling.Sequence((sampling.HMC(PHI4), sampling.SwendsenWang(PHI4))),
        burn_in=100, tune=0.8, thin=2, keep_fields=True,
    ),
    "diffusion.generate": generated,
    "diffusion.flow": interaction_flow,
    "diffusion.UNet": network,
    "diffusion.train": trained,
    "diffusion.propose and log_density": likelihood,
    "diffusion.ZeroDimensionalScore": scored(
        lambda: diffusion.ZeroDimensionalScore(VE, ZeroDimensionalPhi4(-1.0, 0.4)), ()
    ),
    "sampling.sample, Langevin": sample(lambda: sampling.Langevin(PHI4, 0.1)),
}


@pytest.mark.parametrize("name", CASES)
def test_results_stay_on_the_device(name):
    run_on_fake_cuda(CASES[name])


@pytest.mark.parametrize("name", READING_CASES)
def test_no_devices_are_mixed_before_numbers_are_read(name):
    run_on_fake_cuda(READING_CASES[name], reads_numbers=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*CASES, *READING_CASES, *REAL_CASES])
@pytest.mark.filterwarnings("ignore::physml.statistics.ShortChainWarning")
def test_the_same_on_a_real_gpu(name):
    result = (CASES | READING_CASES | REAL_CASES)[name](torch.device("cuda"))
    assert all(t.device.type == "cuda" for t in _tensors(result))


@pytest.mark.gpu
def test_a_run_goes_on_from_its_checkpoint_on_a_real_gpu(tmp_path):
    """The random stream of the device is stored, and taken up again, bit for bit."""
    device = torch.device("cuda")

    def run(checkpoint=None, observe=None):
        g = rng(device)
        phi = sampling.start(PHI4, LATTICE, 6, generator=g, device=device)
        return sampling.sample(sampling.HMC(PHI4), phi, 8, generator=g, progress=False,
                               observe=observe, checkpoint=checkpoint, checkpoint_every=0)

    def observe(phi):
        return {"phi2": phi.square().mean((1, 2))}

    rounds, original = itertools.count(), sampling.chain._Runner.round

    def interrupted(self, runner):
        if next(rounds) == 5:
            raise KeyboardInterrupt
        return original(self, runner)

    whole, path = run(observe=observe), tmp_path / "run.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling.chain, "_ROUND", 1.0)  # a look at the clock after every step
        patch.setattr(sampling.chain._Runner, "round", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(path, observe)
    assert path.exists()
    again = run(path, observe)
    assert torch.equal(again.phi, whole.phi)
    assert torch.equal(again.series["phi2"], whole.series["phi2"])


# --- the test bites ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mixed",
    [
        lambda d: torch.ones(3, device=d) + torch.ones(3),
        lambda d: torch.eye(3) @ torch.ones(3, device=d),
        lambda d: torch.cat([torch.ones(3), torch.ones(3, device=d)]),
        lambda d: LATTICE.kinetic_matrix(1.0) @ torch.ones(24, device=d).double(),
    ],
)
def test_mixed_devices_raise(mixed):
    with pytest.raises(RuntimeError, match=r"two devices|different devices|same device"):
        run_on_fake_cuda(mixed)


def test_a_result_left_on_the_cpu_is_found():
    @dataclasses.dataclass
    class Result:
        good: torch.Tensor
        more: dict

    def run(d):
        return Result(torch.ones(2, device=d), {"deep": [torch.ones(2, 7)]})

    with pytest.raises(AssertionError, match=r"shapes \[\(2, 7\)\] were left"):
        run_on_fake_cuda(run)


def test_empty_and_wrongly_declared_runs_are_found():
    with pytest.raises(AssertionError, match="nothing was checked"):
        run_on_fake_cuda(lambda d: None)
    with pytest.raises(AssertionError, match="came to its end"):
        run_on_fake_cuda(lambda d: torch.ones(2, device=d), reads_numbers=True)
    with pytest.raises(DataDependentOutputException):
        run_on_fake_cuda(lambda d: float(torch.ones(2, device=d).sum()))


def test_a_forgotten_device_in_the_library_would_be_found(monkeypatch):
    """Were the table of lags made on the CPU, as is easily forgotten, this would fail."""
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda *a, device=None, **k: arange(*a, **k))
    with pytest.raises(RuntimeError, match="same device"):
        run_on_fake_cuda(CASES["statistics.autocorrelation"])
