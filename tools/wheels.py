"""The wheel of `physml`: what the site carries, what Colab's environment installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

__all__ = ["build_wheel", "run"]

ROOT = Path(__file__).resolve().parents[1]
_PACKAGED = ("pyproject.toml", "README.md", "LICENSE", "physml")
_SETUPTOOLS = 77  # as pyproject.toml asks


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """Build the wheel of `physml` from a copy of its sources, so that nothing old gets into it.

    Where setuptools is new enough here, no network is needed; else pip fetches it.

    Parameters
    ----------
    folder
        Where the wheel is put; what lies there is removed.
    root
        The project's folder.

    Raises
    ------
    RuntimeError
        If pip cannot build it, with what pip says.
    """
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
        command += ["--disable-pip-version-check"]
        command += ["--no-build-isolation"] if _can_build() else []
        run([*command, "--wheel-dir", str(folder), str(source)])
    return next(folder.glob("physml-*.whl"))


def run(command: list[str]) -> None:
    """Run a command without this environment's own paths; raise RuntimeError if it fails."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def _can_build() -> bool:
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= _SETUPTOOLS
    except metadata.PackageNotFoundError:
        return False
