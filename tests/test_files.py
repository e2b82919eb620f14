"""Files: whole or not at all, with the right permissions, and without remains."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from physml import checkpoints, files
from physml.errors import CheckpointError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_the_umask_is_respected(mask, tmp_path):
    before = os.umask(mask)
    try:
        files.write(tmp_path / "a", [b"x", bytearray(b"y")])
        checkpoints.write(tmp_path / "b", {"a": torch.ones(3)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"xy"
    assert mode(tmp_path / "a") == mode(tmp_path / "b") == 0o666 & ~mask
    (tmp_path / "a").chmod(0o640)  # what its owner chose stays
    files.write(tmp_path / "a", [b"z"])
    assert mode(tmp_path / "a") == 0o640 and (tmp_path / "a").read_bytes() == b"z"


def test_of_a_link_the_target_is_replaced(tmp_path):
    real, link = tmp_path / "disk" / "run", tmp_path / "link"
    link.symlink_to("disk/run")
    for content in (b"first", b"second"):  # where there is no target yet, and where there is one
        files.write(link, [content])
        assert link.is_symlink() and real.read_bytes() == content
    assert names(tmp_path / "disk") == ["run"] and names(tmp_path) == ["disk", "link"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        files.write(tmp_path / "loop", [b"x"])


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        files.write(tmp_path / "pipe", [b"x"])
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path, [b"x"])
    assert names(tmp_path) == ["pipe"]


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    checkpoints.write("~/runs/a.safetensors", {"a": torch.ones(2)}, {"b": "c"})
    assert names(tmp_path) == ["runs"] and names(tmp_path / "runs") == ["a.safetensors"]
    assert checkpoints.read("~/runs/a.safetensors")[1] == {"b": "c"}
    with pytest.raises(ValueError, match="write the folder out"):
        files.write("~nobody-of-this-name/a", [b"x"])


def test_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"na\xefve.safetensors")
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(True)}
    checkpoints.write(path, tensors, {"c": "d"})
    read, meta = checkpoints.read(path)
    assert meta == {"c": "d"} and all(torch.equal(read[k], v) for k, v in tensors.items())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.read(path)


def test_a_file_of_another_user_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "run"
    checkpoints.write(path, {"a": torch.ones(2)}, {})

    def denied(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", denied)  # the superuser may read everything
    with pytest.raises(CheckpointError, match=r"may not be read by this user .*: ask its owner"):
        checkpoints.read(path)


def test_the_order_in_memory_is_kept(tmp_path):
    wanted = {"row by row": torch.randn(3, 4), "permuted": torch.randn(4, 5, 3).permute(2, 0, 1),
              "with gaps": torch.randn(6, 8)[::2, ::2], "one": torch.tensor(1.5),
              "empty": torch.empty(0, 3), "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
              "short": torch.ones(5, dtype=torch.bfloat16), "yes": torch.tensor([True, False])}
    checkpoints.write(tmp_path / "a", wanted, {})
    read, meta = checkpoints.read(tmp_path / "a")
    assert not meta and set(read) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype, name
    assert read["permuted"].stride() == wanted["permuted"].stride()
    with pytest.raises(ValueError, match=r"c has the type torch\.complex128"):
        checkpoints.write(tmp_path / "b", {"c": torch.ones(1, dtype=torch.complex128)}, {})
    assert names(tmp_path) == ["a"]


KILLED = """
    import sys, time
    from physml import files

    def pieces():
        yield b"half"
        print("writing", flush=True)
        time.sleep(60)

    sys.stdout.flush()
    files.write(sys.argv[1], pieces())
"""


def test_killed_in_the_middle_of_a_write(tmp_path):
    """The old file stays, and the next write takes away what is left: not while it is written to.
    """
    path = tmp_path / "run"
    files.write(path, [b"old"])
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), path],
                              stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"writing\n"
        left = [name for name in names(tmp_path) if name != "run"]
        assert len(left) == 1
        files.write(path, [b"another's"])
        assert names(tmp_path) == sorted([*left, "run"])  # its writer is alive
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert path.read_bytes() == b"another's" and names(tmp_path) == sorted([*left, "run"])
    files.write(path, [b"new"])
    assert path.read_bytes() == b"new" and names(tmp_path) == ["run"]


def test_without_locks_only_old_remains_go(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for name, age in ((".run.1.part", 2 * files._OLD), (".run.2.part", 60), (".else.3.part", 1e6)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    files.write(tmp_path / "run", [b"new"])
    assert names(tmp_path) == [".else.3.part", ".run.2.part", "run"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    files.write(tmp_path / "run", [b"old"])

    def pieces():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "run", pieces())
    assert names(tmp_path) == ["run"] and (tmp_path / "run").read_bytes() == b"old"
