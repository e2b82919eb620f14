"""Checkpoint files: whole or not at all, and clear about what is wrong with them."""

from __future__ import annotations

import datetime
import fractions
import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from physml import checkpoints
from physml.actions import FreeField, InhomogeneousPhi4, Phi4
from physml.device import generator
from physml.diffusion import UNet
from physml.errors import CheckpointError
from physml.lattice import Lattice
from physml.sampling import HMC, FourierKernel


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new folder" / "run.safetensors"
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(2, dtype=torch.int64)}
    checkpoints.write(path, tensors, {"step": "3"})
    read, meta = checkpoints.read(path)
    assert meta == {"step": "3"}
    assert all(torch.equal(read[k], v) and read[k].dtype == v.dtype for k, v in tensors.items())
    checkpoints.write(path, {"a": torch.zeros(1)}, {})
    assert list(checkpoints.read(path)[0]) == ["a"] and checkpoints.read(path)[1] == {}
    assert [p.name for p in path.parent.iterdir()] == ["run.safetensors"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, {"a": torch.ones(2)}, {})

    def interrupted(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", interrupted)
        checkpoints.write(path, {"a": torch.zeros(2)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert bool((checkpoints.read(path)[0]["a"] == 1).all())


@pytest.mark.parametrize("content", [None, b"", b"too short", b"no safetensors header here"])
def test_files_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "run.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read .*: do this instead"):
        checkpoints.read(path, mend="do this instead")


def test_truncated_file(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, {"a": torch.ones(1000)}, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.read(path)


def test_a_folder_in_the_way_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        checkpoints.write(tmp_path / "file" / "run.safetensors", {"a": torch.ones(1)}, {})


def test_another_run_is_refused():
    checkpoints.check_settings("file", {"chains": 3, "on": True}, {"on": 1, "chains": 3.0})
    with pytest.raises(CheckpointError, match=r"\(new=1 there, None here\)"):
        checkpoints.check_settings("file", {"chains": 3, "new": 1}, {"chains": 3})
    differ = r"\(chains=3 there, 4 here, seed=None there, 1 here\)"
    with pytest.raises(CheckpointError, match=differ):
        checkpoints.check_settings("file", {"chains": 3}, {"chains": 4, "seed": 1})
    checkpoints.check_rates("file", [0.1, 0.05], lambda step: 0.1 / (step + 1))
    with pytest.raises(CheckpointError, match=r"update 2 of 2 had lr=0\.1 there, 0\.05 here"):
        checkpoints.check_rates("file", [0.1, 0.1], lambda step: 0.1 / (step + 1))


# --- which run it is ----------------------------------------------------------------------------


def different(one, two, **options):
    """Whether two values are told apart, after a way through JSON as in a file."""
    there = json.loads(json.dumps(checkpoints.identity(value=one, **options)))
    here = checkpoints.identity(value=two, **options)
    apart = there != here
    assert apart == (checkpoints.digest(one) != checkpoints.digest(two))
    return apart


class Plain:
    """An object without a repr of its own."""

    def __init__(self, kappa, extra=None):
        self.kappa, self.extra = kappa, extra

    def __call__(self, phi):
        return self.kappa * phi


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def matrix(n=40, change=None):
    out = torch.full((n, n), 0.5, dtype=torch.float64)
    if change is not None:
        out[n // 2, n // 3] = change
    return out


def test_equal_runs_are_one():
    for one, two in (
        (Phi4(0.2, 0.5), Phi4(np.float64(0.2), np.float64(0.5))),
        (Plain(0.2), Plain(np.float64(0.2))),
        (Slotted(1), Slotted(1.0)),
        (1, 1.0), (True, 1), (math.nan, math.nan), (math.inf, math.inf), (None, None),
        ([1, "a"], (1, "a")), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1, 2}, {2, 1}),
        (Path("a"), Path("a")), (datetime.timedelta(3), datetime.timedelta(3)),
        (fractions.Fraction(1, 3), fractions.Fraction(1, 3)),
        (generator(1), generator(1)), (matrix(), matrix().T), (np.ones(3), np.ones(3)),
        (UNet((4,), 1, 4, generator=generator(1)), UNet((4,), 1, 4, generator=generator(1))),
        (lambda x, a=(1, 2): x + a, lambda x, a=(1, 2): x + a),
        (functools.partial(torch.add, alpha=2), functools.partial(torch.add, alpha=2.0)),
        (torch.mean, torch.mean), (math.sin, math.sin), (Plain(1).__call__, Plain(1).__call__),
    ):
        assert not different(one, two), one


def test_other_runs_are_told_apart():
    used, unused = FourierKernel(Lattice((4,)), 1.0), FourierKernel(Lattice((4,)), 1.0)
    used.apply(torch.randn(2, 4))
    assert not different(used, unused)  # what is only remembered does not count
    for one, two in (
        (Phi4(0.2, 0.5), Phi4(0.2, 0.5 + 1e-15)), (Phi4(0.2, 0.5), FreeField(0.2, 2)),
        (matrix(), matrix(change=50.0)), (matrix(), matrix(change=0.5 + 1e-13)),
        (matrix(), matrix().float()), (torch.zeros(2, 3), torch.zeros(3, 2)),
        (np.zeros(3), np.zeros(3, dtype=np.float32)),
        (Plain(0.2), Plain(0.2, matrix())), (Plain(0.2, matrix()), Plain(0.2, matrix(change=1.0))),
        (Slotted(1), Slotted(2)), (0.0, -0.0), (1, "1"), (None, 0), ({"a": 1}, {"b": 1}),
        (generator(1), generator(2)),
        (nn.Linear(2, 2), nn.Linear(2, 2)),  # with other random weights
        (functools.partial(torch.add, alpha=2), functools.partial(torch.add, alpha=3)),
        (torch.mean, torch.sum), (math.sin, math.cos),
        (Plain(1).__call__, Plain(2).__call__),
        (fractions.Fraction(1, 3), fractions.Fraction(2, 3)),
        (datetime.timedelta(3), datetime.timedelta(4)),
    ):
        assert different(one, two), one


def test_functions_by_code_and_by_what_they_close_over():
    def scaled(by, power=2):
        def observe(phi, *, shift=0.0):
            return (by * phi + shift) ** power
        return observe

    assert not different(scaled(2.0), scaled(2.0))
    assert different(scaled(2.0), scaled(3.0)) and different(scaled(2.0), scaled(2.0, 3))
    assert not different(scaled(matrix()), scaled(matrix()))
    assert different(scaled(matrix()), scaled(matrix(change=2.0)))
    assert different(lambda phi: phi**2, lambda phi: phi**4)
    assert different(lambda phi: phi.sin(), lambda phi: phi.cos())
    one, two = ({}, {})
    for names, factor in ((one, 2.0), (two, 3.0)):
        exec("def helper(x):\n    return FACTOR * x\n"
             "def observe(phi):\n    return (lambda x: helper(x))(phi)\n", names)
        names |= {"FACTOR": factor, "unused": object()}
    assert different(one["observe"], two["observe"])  # a global, by way of another function
    two["FACTOR"] = 2.0
    assert not different(one["observe"], two["observe"])

    def wrapped(by):
        return functools.wraps(torch.mean)(lambda phi: by * phi)

    assert different(wrapped(2.0), wrapped(3.0))

    warm, cold = scaled(2.0), scaled(2.0)
    for _ in range(1000):  # Python rewrites the code of functions that are called often
        warm(1.0)
    assert not different(warm, cold)

    def again(n):
        return n and again(n - 1)  # it closes over itself

    assert not different(again, again)


def test_methods_of_a_class_of_ones_own_count():
    def made(power):
        class Action:
            def __init__(self):
                self.kappa = 0.2

            if power == 2:
                def __call__(self, phi):
                    return phi**2
            else:
                def __call__(self, phi):
                    return phi**4

        class Heir(Action):
            pass

        return Action(), Heir()

    for one, two in zip(made(2), made(4), strict=True):
        assert different(one, two)
    for one, two in zip(made(2), made(2), strict=True):
        assert not different(one, two)


def test_weights_may_be_set_apart():
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    there, here = (checkpoints.identity(apart=m.parameters(), model=m) for m in (one, two))
    assert there == here and there["model.weight"] == "float32 (2, 2)"
    two.bias.requires_grad_(False)
    assert checkpoints.identity(apart=two.parameters(), model=two) != here


def test_the_error_names_what_differs():
    def told(one, two):
        with pytest.raises(CheckpointError) as caught:
            checkpoints.check_settings("f", checkpoints.identity(sampler=one),
                                       checkpoints.identity(sampler=two))
        return str(caught.value)

    quadratic = [InhomogeneousPhi4(matrix(4).expand(2, 4, 4), matrix(4, c), matrix(4), None)
                 for c in (0.5, 50.0)]
    message = told(*(HMC(action, 0.1) for action in quadratic))
    assert "sampler.action.quadratic=float64 (4, 4) #" in message and "hopping" not in message
    assert told(HMC(Phi4(0.2, 0.5), 0.1), HMC(Phi4(0.2, 0.5), 0.2)).count("there") == 1
    assert "(sampler='HMC' there, 'Phi4' here)" in told(HMC(Phi4(0.2, 0.5)), Phi4(0.2, 0.5))
    many = [{f"n{i}": i + shift for i in range(9)} for shift in (0, 1)]
    assert "and 3 more" in told(*many)
