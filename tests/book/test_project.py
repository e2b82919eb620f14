"""The files around the book and the library agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from colab import requirements

EXTRAS = ("data", "book", "test")


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def wanted(project: dict, *extras: str) -> dict[str, Requirement]:
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return {req.name: req for req in found if req.name != project["name"]}


def test_environment_has_the_requirements_of_pyproject(root: Path, project: dict) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text())
    assert f"python{project['requires-python']}" in environment["dependencies"]
    (pip,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip[0] == "-e ."
    listed = {req.name: req.specifier for req in map(Requirement, pip[1:])}
    assert listed == {name: r.specifier for name, r in wanted(project, *EXTRAS).items()}


def test_colab_satisfies_the_requirements(root: Path, project: dict) -> None:
    """Nothing that Colab ships is replaced: each lower bound lies below its version."""
    pins = requirements(root)
    for name, requirement in wanted(project, "data").items():
        assert name in pins, f"{name} is not in the list of Colab's packages"
        assert Version(pins[name]) in requirement.specifier, name


def test_torchvision_comes_with_torch_where_the_book_is_built(project: dict) -> None:
    assert "physml[data]" in project["optional-dependencies"]["book"]
    assert "torchvision" in wanted(project, "data")


def test_versions_agree(root: Path) -> None:
    import physml

    assert f"version: {physml.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"## {physml.__version__}\n" in (root / "CHANGELOG.md").read_text()


def test_commands_of_the_readme_are_targets(root: Path) -> None:
    """README starts with the two commands; every `make` word in it is a target."""
    readme = (root / "README.md").read_text()
    first = readme.split("```")[1]
    assert re.findall(r"^make (\w+)", first, re.MULTILINE) == ["book", "test"]
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)[ `\n]", readme)) - {"sure"} <= targets


def test_make_knows_its_targets(root: Path) -> None:
    """Each documented target is one that make can plan (nothing is run)."""
    help_text = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True)
    names = re.findall(r"^  make (\w+)", help_text.stdout, re.MULTILINE)
    assert {"book", "notebooks", "test", "clean"} <= set(names)
    plan = subprocess.run(
        ["make", "--dry-run", *names], cwd=root, capture_output=True, text=True, check=False
    )
    assert plan.returncode == 0, plan.stderr


def test_paths_in_the_readme_exist(root: Path) -> None:
    readme = (root / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    code = re.findall(r"^\| `([\w/]+/)`", readme, re.MULTILINE)
    missing = [path for path in links + code if not (root / path).exists()]
    assert not missing


def test_workflows_use_the_make_targets(root: Path) -> None:
    folder = root / ".github" / "workflows"
    test = yaml.safe_load((folder / "test.yml").read_text())
    assert [step.get("run") for step in test["jobs"]["test"]["steps"]][-1] == ".ci/run"
    publish = (folder / "publish.yml").read_text()
    assert yaml.safe_load(publish)["jobs"].keys() == {"build", "deploy"}
    assert "run: make site\n" in publish
    assert "path: _build/site\n" in publish
    ci = (root / ".ci" / "run").read_text()
    assert "set -euo pipefail" in ci
    assert ci.rstrip().endswith("exec make test")


def tracked(root: Path) -> list[Path]:
    """Files that git has, or would have."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this copy of the project is not in git")
    return [root / name for name in done.stdout.split("\0") if name]


def test_no_notebooks_or_outputs_are_kept(root: Path) -> None:
    files = tracked(root)
    assert not [path for path in files if path.suffix == ".ipynb"]
    for path in files:
        if path.suffix == ".md" and path.is_relative_to(root / "book"):
            assert "{code-cell-output}" not in path.read_text(encoding="utf-8")
            assert not re.search(r"data:image/\w+;base64", path.read_text(encoding="utf-8"))


def test_chapters_are_jupytext_notebooks(root: Path) -> None:
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text())
    names = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert len(names) == len(set(names))
    chapters = [name for name in names if "/" in name]
    assert chapters
    for name in chapters:
        top = (root / "book" / f"{name}.md").read_text(encoding="utf-8").split("---")[1]
        matter = yaml.safe_load(top)
        assert matter["jupytext"]["text_representation"]["format_name"] == "myst"
        assert matter["kernelspec"]["name"] == "python3"


def test_bibliography_says_where_to_read(root: Path) -> None:
    """Each entry has a DOI, the number of an arXiv e-print or an address, unless unpublished."""
    from pybtex.database import parse_file

    entries = parse_file(str(root / "book" / "references.bib")).entries
    assert entries
    for key, entry in entries.items():
        where = {"doi", "eprint", "url"} & set(entry.fields)
        assert where or entry.type == "unpublished", key
        if "doi" in entry.fields:  # the number itself, without an address before it
            assert re.fullmatch(r"10\.\d{4,}/\S+", entry.fields["doi"]), key


def test_notebooks_are_pushed_to_the_branch_that_the_buttons_name(root: Path) -> None:
    from physml_book.address import NOTEBOOKS_BRANCH

    publish = (root / ".github" / "workflows" / "publish.yml").read_text()
    assert f"--initial-branch {NOTEBOOKS_BRANCH}" in publish
    assert f'" {NOTEBOOKS_BRANCH}\n' in publish


def test_ruff_finds_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "."], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_codespell_finds_nothing(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "."], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_pdf_without_latex_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import build_book

    monkeypatch.setattr(build_book.shutil, "which", lambda _name: None)
    monkeypatch.setattr(build_book, "build", lambda *_args: pytest.fail("nothing is to be built"))
    assert build_book.main(["--pdf"]) == 1
    said = capsys.readouterr().out
    assert "latexmk" in said
    assert "texlive" in said
