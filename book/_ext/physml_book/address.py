"""Where the repository and the site live, if the build can know it. Nothing is guessed.

The repository's address comes from `GITHUB_REPOSITORY` (set where GitHub runs the build) or from
the git remote `origin`; the site's from `PHYSML_BOOK_URL` (set by the publishing workflow). Without
them the book has no repository, Colab or absolute links.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NOTEBOOKS_BRANCH", "Address", "find"]

NOTEBOOKS_BRANCH = "notebooks"

_REMOTE = re.compile(
    r"(?:https?://(?:[^@/]+@)?|ssh://git@|git@)github\.com[:/]"
    r"(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?"
)


@dataclass(frozen=True)
class Address:
    """A repository on GitHub.

    Attributes
    ----------
    name
        `owner/repository`.
    revision
        The commit, branch or tag that is being built.
    """

    name: str
    revision: str = "main"

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"https://github.com/{self.name}"

    @property
    def requirement(self) -> str:
        """What pip installs to get the `physml` of this revision."""
        return f"physml @ git+{self.url}@{self.revision}"

    def colab(self, docname: str) -> str:
        """The address that opens the published notebook of a page in Colab."""
        return (
            f"https://colab.research.google.com/github/{self.name}"
            f"/blob/{NOTEBOOKS_BRANCH}/{docname}.ipynb"
        )


def find(root: Path, environ: Mapping[str, str] = os.environ) -> Address | None:
    """Return the repository's address, or None if neither the environment nor git knows it."""
    name = environ.get("GITHUB_REPOSITORY", "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return Address(name, environ.get("GITHUB_SHA") or "main")
    if not (root / ".git").exists():
        return None
    git = subprocess.run(
        ["git", "-C", str(root), "remote", "get-url", "origin"],
        capture_output=True,
        text=True,
        check=False,
    )
    match = _REMOTE.fullmatch(git.stdout.strip())
    return Address(match["name"]) if match else None
