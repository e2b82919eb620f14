"""An environment like Colab's: its pinned packages, and `physml` from its built wheel.

    python tools/colab.py

It is made once, under `_build/colab`, and made anew when the pins change. The wheel is built and
installed again when the library changes, without its dependencies: they are Colab's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from wheels import build_wheel, run

__all__ = ["Colab", "requirements"]

ROOT = Path(__file__).resolve().parents[1]
KERNEL = "physml-colab"
_PINS = "tools/colab-requirements.txt"


def requirements(root: Path = ROOT) -> dict[str, str]:
    """Return Colab's version of each package that a chapter touches."""
    lines = (root / _PINS).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: version.strip() for name, version in pins}


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
            run([sys.executable, "-m", "venv", str(self.venv)])
            install = [str(self.python), "-m", "pip", "install", "--quiet", "--no-compile"]
            run([*install, "-r", str(self.root / _PINS)])
            # matplotlib lists the fonts when it is first used, and a notebook would say so
            run([str(self.python), "-c", "import matplotlib.font_manager"])
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
            run([*install, "--force-reinstall", str(wheel)])
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
