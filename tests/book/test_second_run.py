"""Each published notebook, run a second time against the book's outputs; and that this bites."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from background import Done
from nbformat import NotebookNode

from colab import Colab
from second_run import NotComparable, compare, reference

ROOT = Path(__file__).resolve().parents[2]


def chapters() -> list[str]:
    """The pages that are published as notebooks, from the table of contents."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    names = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [name for name in names if "/" in name]


def notebook(*sources: str, tags: tuple[str, ...] = ()) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for cell in cells:
        cell.metadata.tags = list(tags)
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


def with_outputs(source: str, *outputs: NotebookNode) -> NotebookNode:
    """A notebook of one cell, with outputs as if it had been executed."""
    book = notebook(source)
    book.cells[0].execution_count = 1
    book.cells[0].outputs = list(outputs)
    return book


def printed(text: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", name="stdout", text=text)


# ---------------------------------------------------------------- the comparison itself


def test_same_output_passes_and_changed_output_fails() -> None:
    """The two notebooks differ in one digit of what they are said to print."""
    same = compare(with_outputs("print(0.762)", printed("0.762\n")), "python3")
    assert same.passed
    assert same.cells == 1
    changed = compare(with_outputs("print(0.762)", printed("0.763\n")), "python3")
    assert not changed.passed
    assert changed.cells == 1
    assert "0.763" in changed.report
    assert "Cell outputs differ" in changed.report


def test_warning_or_missing_output_fails() -> None:
    noisy = "import warnings; warnings.warn('beware'); print(1)"
    assert not compare(with_outputs(noisy, printed("1\n")), "python3").passed


def test_pictures_are_not_compared_but_the_words_around_them_are() -> None:
    def html(picture: str, caption: str) -> NotebookNode:
        source = f"<img src='data:image/png;base64,{picture}'><p>{caption}</p>"
        return nbformat.v4.new_output("display_data", {"text/html": source, "text/plain": "x"})

    code = (
        "from IPython.display import display\n"
        "display({'text/html': \"<img src='data:image/png;base64,AAAA'><p>one</p>\", "
        "'text/plain': 'x'}, raw=True)"
    )
    assert compare(with_outputs(code, html("BBBB+/==", "one")), "python3").passed
    assert not compare(with_outputs(code, html("AAAA", "two")), "python3").passed


def test_drawings_are_not_compared_but_must_be_there() -> None:
    def shown(**data: str) -> NotebookNode:
        return nbformat.v4.new_output("display_data", {"text/plain": "x", **data})

    svg = "<?xml version='1.0'?>\\n<svg><path d='M 1 1'/>\\n</svg>\\n"
    code = (
        "from IPython.display import display\n"
        f"display({{'image/svg+xml': \"{svg}\", 'text/plain': 'x'}}, raw=True)"
    )
    other = "<?xml version='1.0'?>\n<svg>\n<path d='M 2 2'/></svg>"
    assert compare(with_outputs(code, shown(**{"image/svg+xml": other})), "python3").passed
    assert not compare(with_outputs(code, shown()), "python3").passed


def test_notebook_that_was_never_run_is_refused() -> None:
    """nbval would pass it, for it compares nothing where there is no execution count."""
    with pytest.raises(NotComparable, match="never run"):
        compare(notebook("print(1)"), "python3")
    with pytest.raises(NotComparable, match="no cell"):
        compare(notebook("print(1)", tags=("nbval-ignore-output",)), "python3")


def test_reference_joins_the_published_cells_with_the_books_outputs() -> None:
    published = notebook("install()", "x = 1", "live()")
    published.cells[0].metadata.tags = ["install"]
    executed = notebook("x = 1", "live()")
    executed.cells[0] |= {"execution_count": 7, "outputs": [printed("out")]}
    executed.cells[1].metadata.tags = ["skip-execution"]
    joined = reference(published, executed)
    assert [cell.execution_count for cell in joined.cells] == [1, 7, None]
    assert joined.cells[1].outputs == [printed("out")]
    assert joined.cells[2].metadata.tags == ["nbval-ignore-output"]  # run, but not compared
    assert published.cells[1].outputs == []


def test_stub_of_an_exercise_is_run_and_not_compared() -> None:
    """The book has no output of it."""
    published = notebook("x = 1", "print(check(...))")
    published.cells[1].metadata.exercise = "ex:a"
    executed = notebook("x = 1")
    executed.cells[0].execution_count = 1
    joined = reference(published, executed)
    assert [cell.metadata.tags for cell in joined.cells] == [[], ["nbval-ignore-output"]]


@pytest.mark.parametrize("executed", [("x = 2",), (), ("x = 1", "y = 1")])
def test_reference_refuses_other_code(executed: tuple[str, ...]) -> None:
    with pytest.raises(NotComparable):
        reference(notebook("x = 1"), notebook(*executed))


# ---------------------------------------------------------------- Colab's environment


def test_colab_packages_are_as_pinned(colab: Colab) -> None:
    from colab import requirements

    listed = subprocess.run(
        [str(colab.python), "-m", "pip", "list", "--format=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    versions = {
        p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(listed.stdout)
    }
    for name, pin in requirements(ROOT).items():
        # a build of torch for one kind of hardware adds a label to its version
        assert versions[name.lower().replace("_", "-")].split("+")[0] == pin
    assert not {"jupyter-book", "myst-nb", "scipy", "pytest"} & set(versions)


def test_installing_physml_there_replaces_nothing(colab: Colab, tmp_path: Path) -> None:
    """pip is asked what it would do for the wheel and all that it requires.

    Nothing can be fetched, so a requirement that Colab's packages do not meet is an error.
    """
    report = tmp_path / "report.json"
    ask = [str(colab.python), "-m", "pip", "install", "--dry-run", "--no-index", "--quiet"]
    done = subprocess.run(
        [*ask, "--report", str(report), str(colab.wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    changed = {entry["metadata"]["name"] for entry in json.loads(report.read_text())["install"]}
    assert changed <= {"physml"}
    unmet = subprocess.run([*ask, "numpy>=99"], capture_output=True, text=True)
    assert unmet.returncode != 0


def test_library_there_is_the_wheel(colab: Colab, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(colab.python), "-c", "import physml; print(physml.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": ""},
    )
    assert Path(done.stdout.strip()).is_relative_to(colab.venv)


# ---------------------------------------------------------------- the chapters


def test_every_chapter_is_published(built: Path) -> None:
    folder = built / "notebooks"
    found = {p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.ipynb")}
    assert found == set(chapters())


@pytest.mark.parametrize("docname", chapters())
def test_published_notebook_has_no_raw_directives(docname: str, built: Path) -> None:
    published = nbformat.read(built / "notebooks" / f"{docname}.ipynb", as_version=4)
    nbformat.validate(published)
    for cell in published.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
        else:
            assert not re.search(r"\{[\w:]+\}`|^:::|^```\{", cell.source, re.MULTILINE), cell.source
            assert cell.source.count("<details>") == cell.source.count("</details>")


@pytest.mark.parametrize("docname", chapters())
def test_second_run_agrees(docname: str, second_run: Done, note: Callable[[str], None]) -> None:
    if second_run.status:
        pytest.fail(second_run.said, pytrace=False)
    found = re.search(rf"^{docname}: agrees \((\d+) cells, (.*)\)$", second_run.said, re.MULTILINE)
    assert int(found[1]) > 10
    note(f"{docname}: {found[1]} cells agree in a second run with Colab's packages ({found[2]})")
