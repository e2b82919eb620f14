"""The course: stubs made from solutions, what they hold back, and what the checks answer."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
import torch
from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import course
import slides
from physml import exercises
from physml_book.minutes import minutes

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = slides.chapters(ROOT)


def solution(source: str, label: str = "ex:a", text: bool = False) -> NotebookNode:
    cell = new_markdown_cell if text else new_code_cell
    return cell(source, metadata={"tags": ["solution"], "exercise": label})


def chapter(*cells: NotebookNode) -> NotebookNode:
    return new_notebook(cells=[new_code_cell("from physml import exercises"), *cells])


# ---------------------------------------------------------------- a stub from a solution


def test_function_becomes_one_without_a_body() -> None:
    made = course.stub(
        "def mine(weight, mu2):\n    return weight.sum() * mu2\n\n\n"
        "print(exercises.check_hidden_kernel(mine))\nprint(mine(x, 2))\n"
    )
    assert "def hidden_kernel(weight, mu2):" in made
    assert "print(exercises.check_hidden_kernel(hidden_kernel))" in made
    assert exercises.check_hidden_kernel.__doc__ in made
    assert "sum" not in made
    compile(made, "stub", "exec")


def test_expression_becomes_an_ellipsis_and_what_is_given_stays() -> None:
    made = course.stub("print(exercises.check_modes_that_count(2 + 3, full.variance, 0.05))")
    assert "modes_that_count = ...  # your answer" in made
    assert "exercises.check_modes_that_count(modes_that_count, full.variance, 0.05)" in made
    assert "2 + 3" not in made


def test_lambda_becomes_a_function_and_a_project_an_open_cell() -> None:
    made = course.stub("print(exercises.check_gap_equation(lambda lam: lam / 7), 7)")
    assert "def gap_equation(lam):" in made
    assert "7" not in made
    assert course.stub("field = train()\n") == "# Your work here."


def test_student_gets_no_part_of_a_solution() -> None:
    solved = chapter(
        new_markdown_cell("> **Exercise 1** What is it?"),
        solution("**Solution**\n\nIt is the secret of the sea.", text=True),
        solution("answer = secret_number()\nprint(exercises.check_step_order(answer))"),
        new_markdown_cell("The end."),
    )
    made = course.student(solved, {"ex:a": ["iVBORw0KGgo="]})
    text = nbformat.writes(made)
    assert "secret" not in text
    assert [cell.source.split("\n")[0] for cell in made.cells] == [
        "from physml import exercises",
        "> **Exercise 1** What is it?",
        "# " + exercises.check_step_order.__doc__,
        "The figure to expect:",
        "The end.",
    ]
    nbformat.validate(made)
    leaky = course.student(solved)
    leaky.cells[1].metadata["note"] = "It is the secret of the sea."
    assert course.leaks(leaky, solved) == ["It is the secret of the sea."]


def test_leaking_or_shadowing_notebook_is_refused() -> None:
    told = "print(exercises.check_step_order(answer, given=[secret_number, 2]))"
    with pytest.raises(course.NotACourse, match="part of a solution"):
        # what is "given" to the check goes into the stub, and here it is the solution itself
        course.student(chapter(solution(f"{told}\nstep_order, given=[secret_number, 2]")))
    taken = chapter(new_code_cell("step_order = 3"), solution("exercises.check_step_order(1)"))
    with pytest.raises(course.NotACourse, match="step_order"):
        course.student(taken)


def test_checks_are_imported_where_the_chapter_does_not() -> None:
    solved = new_notebook(cells=[new_code_cell("x = 1"), solution("exercises.check_step_order(1)")])
    for made in (course.student(solved), course.solutions(solved)):
        assert [c.source for c in made.cells[:2]] == ["x = 1", "from physml import exercises"]


# ---------------------------------------------------------------- run from top to bottom


def test_run_is_kept_and_its_verdict_read(tmp_path: Path) -> None:
    solved = chapter(
        solution("print(exercises.check_step_order(1))"),
        solution("raise type('DataUnavailable', (Exception,), {})('no clothes')", "ex:b"),
    )
    full, took = course.run(course.solutions(solved), tmp_path)
    assert took > 0
    course.refuse(full, "Correct")
    again, took = course.run(course.solutions(solved), tmp_path)
    assert took == 0
    assert again == full
    with pytest.raises(course.NotACourse, match="ex:a should say 'Not yet'"):
        course.refuse(full, "Not yet")
    tried, _ = course.run(course.student(solved), tmp_path, "another key")
    course.refuse(tried, "Not yet")
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_data_are_a_fault_anywhere_but_in_a_project() -> None:
    failed = new_code_cell("load()", outputs=[new_output("error", ename="DataUnavailable")])
    with pytest.raises(course.NotACourse, match="lacks its data"):
        course.refuse(new_notebook(cells=[failed]), "Correct")
    failed.metadata |= {"tags": ["solution"], "exercise": "ex:a"}
    course.refuse(new_notebook(cells=[failed]), "Correct")


# ---------------------------------------------------------------- the chapters' exercises


def solved(built: Path, name: str) -> NotebookNode:
    return nbformat.read(built / "solved" / f"{name}.ipynb", as_version=4)


def code_of(notebook: NotebookNode) -> dict[str, str]:
    """The code of each solution, by exercise."""
    cells = [c for c in notebook.cells if "exercise" in c.metadata and c.cell_type == "code"]
    groups = groupby(cells, key=lambda cell: cell.metadata["exercise"])
    return {label: "\n\n".join(cell.source for cell in group) for label, group in groups}


def answers(notebook: NotebookNode) -> list[tuple[str, object, list]]:
    """The name of each check, its answer and what else it is given, where this can be evaluated.

    What needs the chapter's own results is left to `make course`, which runs the whole notebook.
    """
    scope: dict = {}
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        body = ast.parse(cell.source).body
        kept = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        if "exercise" in cell.metadata:
            kept += [n for n in body if isinstance(n, ast.FunctionDef)]
        exec(compile(ast.Module(kept, []), "chapter", "exec"), scope)
        for call in course.checks(cell.source) if "exercise" in cell.metadata else ():
            try:
                values = [
                    eval(compile(ast.Expression(a), "answer", "eval"), scope) for a in call.args
                ]
            except NameError:
                continue
            found.append((call.func.attr, values[0], values[1:]))
    return found


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_exercises_with_solutions_and_figures(built: Path, name: str) -> None:
    notebook = solved(built, name)
    labels = {c.metadata["exercise"] for c in notebook.cells if "exercise" in c.metadata}
    stated = re.findall(r"^> \*\*Exercise ", "\n".join(c.source for c in notebook.cells), re.M)
    assert len(labels) == len(stated) >= 6
    assert sum("plotting.show(" in code for code in code_of(notebook).values()) >= 2


@pytest.mark.parametrize("name", CHAPTERS)
def test_students_notebook_holds_no_solution(built: Path, name: str) -> None:
    notebook = solved(built, name)
    made = course.student(notebook)
    nbformat.validate(made)
    assert course.leaks(made, notebook) == []
    text = "\n".join(cell.source for cell in made.cells)
    assert "**Solution**" not in text
    assert "colab.research" not in text  # it would lead to the notebook with solutions
    for cell in made.cells:
        if cell.cell_type == "code":
            compile(cell.source, name, "exec")
    # the check of a notebook with solutions finds them
    assert course.leaks(course.solutions(notebook), notebook)


@pytest.mark.parametrize("name", CHAPTERS)
def test_checks_tell_right_from_wrong_and_keep_the_secret(built: Path, name: str) -> None:
    found = answers(solved(built, name))
    assert len(found) >= 4
    for check, answer, given in found:
        assert getattr(exercises, check)(answer, *given), check
        wrong = off(answer)
        result = getattr(exercises, check)(wrong, *given)
        assert not result, check
        assert len(result.message.split()) >= 6, result
        if callable(answer):
            assert re.search(r"\b(for|in case) ", result.message), result
        else:
            numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", result.message)]
            assert not [n for n in numbers if abs(n - answer) < 2e-3 * abs(answer)], result


def off(answer: object) -> object:
    """An answer that is wrong by no simple factor."""
    if not callable(answer):
        return 1.37 * answer

    def function(*arguments: object) -> object:
        value = answer(*arguments)
        if isinstance(value, tuple):
            return tuple(1.37 * torch.as_tensor(v) + 0.11 for v in value)
        return 1.37 * value + 0.11

    return function


@pytest.mark.parametrize("name", CHAPTERS)
def test_stubs_are_answered_with_not_yet(built: Path, name: str) -> None:
    notebook = solved(built, name)
    given = {check: rest for check, _, rest in answers(notebook)}
    tried = 0
    for code in code_of(notebook).values():
        body = ast.parse(course.stub(code)).body
        scope: dict = {"exercises": exercises}
        exec(compile(ast.Module(body[:-1], []), "stub", "exec"), scope)
        for call in course.checks(course.stub(code)):
            check = call.func.attr
            if check in given:
                assert not getattr(exercises, check)(scope[call.args[0].id], *given[check])
                tried += 1
    assert tried >= 4


# ---------------------------------------------------------------- the page for lecturers


def section(*children: nodes.Node) -> nodes.section:
    return nodes.section("", nodes.title("", "Title"), *children)


def words(count: int) -> nodes.paragraph:
    return nodes.paragraph("", " ".join(["word"] * count))


@pytest.mark.parametrize(
    ("children", "time"),
    [
        ([words(100)], 5),
        ([words(1000)], 10),
        ([words(500), *(nodes.math_block("", "x") for _ in range(6))], 15),
        ([words(500), nodes.admonition("", words(5000), classes=["dropdown"])], 5),
        ([nodes.admonition("", words(9), classes=["exercise"]) for _ in range(4)], 60),
    ],
)
def test_minutes_are_counted(children: list[nodes.Node], time: int) -> None:
    assert minutes(section(*children)) == time


def test_every_chapter_is_on_the_lecturers_page(root: Path, built: Path) -> None:
    page = (root / "book" / "teaching.md").read_text(encoding="utf-8")
    planned = re.findall(r"\{lecture-minutes\} (\S+)", page)
    assert set(CHAPTERS) <= set(planned)
    html = (built / "html" / "teaching.html").read_text(encoding="utf-8")
    missing = html.count("not in this edition of the book yet")
    assert missing == len(set(planned) - set(CHAPTERS))
    for name in CHAPTERS:
        text = (root / "book" / f"{name}.md").read_text(encoding="utf-8")
        linked = re.findall(rf'href="{name}.html#[\w-]+"', html)
        assert len(linked) >= len(re.findall("^## ", text, re.M))
