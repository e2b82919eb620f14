"""Checkpoint files: whole or not at all, and clear about what is wrong with them."""

from __future__ import annotations

import pytest
import torch
from safetensors import torch as safetensors_torch

from physml import checkpoints
from physml.errors import CheckpointError


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

    def interrupted(tensors, part, metadata):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors_torch, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
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
    checkpoints.check_settings("file", {"chains": 3, "new": 1}, {"chains": 3})
    differ = r"\(chains=3 there, 4 here, seed=None there, 1 here\)"
    with pytest.raises(CheckpointError, match=differ):
        checkpoints.check_settings("file", {"chains": 3}, {"chains": 4, "seed": 1})
    checkpoints.check_rates("file", [0.1, 0.05], lambda step: 0.1 / (step + 1))
    with pytest.raises(CheckpointError, match=r"update 2 of 2 had lr=0\.1 there, 0\.05 here"):
        checkpoints.check_rates("file", [0.1, 0.1], lambda step: 0.1 / (step + 1))
