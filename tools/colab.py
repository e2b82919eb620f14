"""An environment like Colab's: its pinned packages, and `physml` from its built wheel.

    python tools/colab.py

It is made once, under `_build/colab`, and made anew when the pins change. The wheel is built and
installed again when the library changes, without its dependencies: they are Colab's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["Colab", "build_wheel", "requirements"]

ROOT = Path(__file__).resolve().parents[1]
KERNEL = "physml-colab"
_PINS = "tools/colab-requirements.txt"
_PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "physml")


def requirements(root: Path = ROOT) -> dict[str, str]:
    """Return Colab's version of each package that a chapter touches."""
    lines = (root / _PINS).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: version.strip() for name, version in pins}


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """Build the wheel of `physml` from a copy of its sources, so that nothing old gets into it."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for name in _PACKAGED:
            path = root / name
            if path.is_dir():
                shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(path, source / name)
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        _run([*command, "--wheel-dir", str(folder), str(source)])
    return next(folder.glob("physml-*.whl"))


class Colab:
    """The environment, made or refreshed on request.

    Parameters
    ----------
    root
        The project's folder.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.folder = root / "_build" / "colab"
        self.venv = self.folder / "venv"
        self.python = self.venv / "bin" / "python"
        self.jupyter = self.folder / "jupyter"  # where Jupyter finds the kernel
        self.wheel: Path | None = None

    def ready(self) -> bool:
        """Whether the packages are installed as pinned."""
        stamp = self.folder / "installed"
        return stamp.exists() and stamp.read_text() == self._key()

    def make(self) -> None:
        """Install the pinned packages (this takes minutes, once) and then the library."""
        if not self.ready():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            _run([sys.executable, "-m", "venv", str(self.venv)])
            install = [str(self.python), "-m", "pip", "install", "--quiet", "--no-compile"]
            _run([*install, "-r", str(self.root / _PINS)])
            self._write_kernel()
            (self.folder / "installed").write_text(self._key())
        self._install_library()

    def _key(self) -> str:
        pins = (self.root / _PINS).read_bytes()
        return hashlib.sha256(pins + sys.version.encode()).hexdigest()

    def _library(self) -> str:
        total = hashlib.sha256((self.root / "pyproject.toml").read_bytes())
        for path in sorted((self.root / "physml").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(str(path.relative_to(self.root)).encode() + path.read_bytes())
        return total.hexdigest()

    def _install_library(self) -> None:
        stamp, wheels = self.folder / "library", self.folder / "wheels"
        key = self._library()
        if not (stamp.exists() and stamp.read_text() == key):
            stamp.unlink(missing_ok=True)
            wheel = build_wheel(wheels, self.root)
            install = [str(self.python), "-m", "pip", "install", "--quiet", "--no-deps"]
            _run([*install, "--force-reinstall", str(wheel)])
            stamp.write_text(key)
        self.wheel = next(wheels.glob("physml-*.whl"))

    def _write_kernel(self) -> None:
        kernel = {
            "argv": [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3 (Colab's packages)",
            "language": "python",
        }
        folder = self.jupyter / "kernels" / KERNEL
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(kernel))


def _run(command: list[str]) -> None:
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def main() -> int:
    """Make the environment and say where it is."""
    start = time.monotonic()
    colab = Colab()
    if not colab.ready():
        print("Installing Colab's packages; this takes minutes, once ...", flush=True)
    colab.make()
    took = time.monotonic() - start
    print(f"Colab's packages and {colab.wheel.name} are in {colab.venv} ({took:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
