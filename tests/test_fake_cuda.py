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
from collections.abc import Callable, Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from physml import observables, phi4_learning
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


LATTICE = Lattice((4, 6))

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
}
REAL_CASES: dict[str, Callable[[torch.device], object]] = {
    "statistics.function_of_means": lambda d: function_of_means(lambda m: m[0] / m[1], positive(d)),
    "observables.summary": lambda d: observables.summary(
        observables.measure(torch.randn(3, 40, *LATTICE.shape, device=d), LATTICE), LATTICE
    ),
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
