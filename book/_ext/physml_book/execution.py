"""When a chapter is executed again: the part of the answer that jupyter-cache does not know.

jupyter-cache runs a chapter anew when its code cells change. What the code stands on changes too:
the library, the data, the installed packages. Their hash is the *execution key*. Each key has its
own cache, so a change of the key executes every chapter, a change of a chapter's code executes that
chapter, and a change of prose executes nothing.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["cache_folder", "execution_key", "fail_if_a_chapter_failed", "packages"]

LOGGER = logging.getLogger(__name__)

# What runs the cells and turns their results into outputs, besides what physml itself requires.
_EXECUTION = ("ipykernel", "ipython", "matplotlib-inline", "myst-nb", "nbclient")


def packages(pyproject: Path) -> dict[str, str]:
    """Return the installed versions of what the outputs of a chapter depend on.

    Parameters
    ----------
    pyproject
        The file that names what the library requires.
    """
    names = set(_EXECUTION)
    if pyproject.exists():
        requires = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
        names |= {re.match(r"[\w.-]+", line)[0] for line in requires}
    return {name: _version(name) for name in sorted(names)}


def execution_key(library: Path, versions: dict[str, str]) -> str:
    """Return the hash of all that the outputs depend on, apart from the chapters themselves.

    The data are in it by way of the library, which holds the checksum of each file and reads no
    other.

    Parameters
    ----------
    library
        The folder of the package; its files are hashed with their relative paths.
    versions
        The versions of the installed packages, by name.
    """
    total = hashlib.sha256(f"{platform.machine()} {sys.version}\n".encode())
    for name, version in sorted(versions.items()):
        total.update(f"{name}=={version}\n".encode())
    for path in sorted(library.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(library).as_posix()} {digest}\n".encode())
    return total.hexdigest()[:16]


def cache_folder(build: Path, key: str) -> Path:
    """Return the cache of this key under `build`, and remove those of other keys."""
    folder = build / ".jupyter_cache"
    if folder.is_dir():
        for other in folder.iterdir():
            if other.name != key:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return folder / key


def fail_if_a_chapter_failed(app: Sphinx, _error: Exception | None) -> None:
    """Fail a build by hand too, where a failing cell is only a warning (`build-finished`)."""
    pages = getattr(app.env, "nb_metadata", {})
    results = {name: found.get("exec_data", {}) for name, found in pages.items()}
    failed = sorted(name for name, result in results.items() if not result.get("succeeded", True))
    if failed:
        LOGGER.error("these pages have a cell that fails: %s", ", ".join(failed))
        app.statuscode = 1


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
