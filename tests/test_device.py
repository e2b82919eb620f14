"""`physml.device`: the order of devices, what is said about them, and seeded generators.

The accelerators are pretended where there is none; the tests marked `gpu` use a real one.
"""

from __future__ import annotations

import pytest
import torch

from physml import device


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine with so many CUDA devices, with or without MPS."""

    def pretend(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d=None: "Tensor Mill 9000")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("have", "first"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": 1}, "cuda"),
        ({"cuda": 1, "mps": True}, "cuda"),
    ],
)
def test_cuda_comes_before_mps_before_cpu(machine, have, first):
    machine(**have)
    assert device.choose() == torch.device(first)


def test_a_preferred_device_is_taken_if_there(machine):
    machine(cuda=2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:1"):
        assert device.choose(name) == torch.device(name)
    assert device.choose(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("prefer", "message"),
    [
        ("cuda", r"prefer='cuda' is not available here; this machine has \['cpu'\]"),
        ("mps", "leave `prefer` out to take the first"),
        ("abacus", "prefer='abacus' names no device"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(machine, prefer, message):
    machine()
    with pytest.raises(ValueError, match=message):
        device.choose(prefer)


def test_where_float64_is_needed_mps_is_passed_over(machine):
    machine(mps=True)
    assert device.choose(double=True) == torch.device("cpu")
    with pytest.raises(ValueError, match=r"prefer='mps' has no float64: .* another of \['cpu'\]"):
        device.choose("mps", double=True)
    machine(cuda=1, mps=True)
    assert device.choose(double=True) == torch.device("cuda")


def test_the_number_of_gpus_counts(machine):
    machine(cuda=1)
    with pytest.raises(ValueError, match="prefer='cuda:1' is not available"):
        device.choose("cuda:1")


def test_the_choice_is_described(machine):
    machine()
    threads = torch.get_num_threads()
    assert device.describe() == f"Running on the CPU ({threads} threads); no GPU was found."
    machine(mps=True)
    assert device.describe("cpu").endswith("no GPU was asked for.")
    assert device.describe() == ("Running on the Apple GPU (MPS); float64 is not available there.")
    machine(cuda=1)
    assert device.describe() == "Running on the GPU Tensor Mill 9000."


def test_a_seed_gives_one_stream_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    one, again, other = (torch.randn(100, generator=device.generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert device.generator(1).device == torch.device("cpu")


@pytest.mark.gpu
def test_on_a_real_gpu():
    chosen = device.choose()
    assert chosen.type == "cuda"
    one, again = (
        torch.randn(9, generator=device.generator(1, chosen), device=chosen) for _ in "ab"
    )
    assert torch.equal(one, again)
    assert torch.cuda.get_device_name() in device.describe()
