"""What a reader starts an exercise from: the solution's own call of a check, without its answer.

The stub is made from the solution, so the two cannot drift apart. It stands in the published
notebooks, in those for students (`tools/course.py`), and as a line in the exercise's box.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["IMPORT", "bound", "checks", "connect", "start", "stub"]

LOGGER = logging.getLogger(__name__)

IMPORT = "from physml import exercises"
_OPEN = "# Your work here."


def checks(solution: str) -> list[ast.Call]:
    """Return the calls `exercises.check_...(...)` of a solution, in order."""
    calls = [node for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.Call)]
    names = [c.func.attr if isinstance(c.func, ast.Attribute) else "" for c in calls]
    found = [c for c, name in zip(calls, names, strict=True) if name.startswith("check_")]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def stub(solution: str) -> str:
    """Return the code that a student starts from: each check of the solution, without its answer.

    A function to write has the solution's arguments and no body; a number is an ellipsis. Both are
    named after the check, and say what it asks for.
    """
    parts = []
    for name, arguments, test in _asked(solution):
        from physml import exercises

        asked = (getattr(exercises, f"check_{name}").__doc__ or "").strip().split("\n\n")[0]
        if arguments is not None:
            text = f'    """{asked}"""\n' if asked else ""
            parts.append(
                f"def {name}({arguments}):\n{text}    return ...  # your answer\n\n\nprint({test})"
            )
        else:
            text = f"# {asked}\n" if asked else ""
            parts.append(f"{text}{name} = ...  # your answer\nprint({test})")
    return "\n\n".join(parts) or _OPEN


def start(solution: str) -> str:
    """Return the stub as a cell that needs no other: it imports the checks where it has one."""
    made = stub(solution)
    return made if made == _OPEN else f"{IMPORT}\n\n{made}"


def bound(sources: Iterable[str]) -> set[str]:
    """Return the names that code binds at the top level of a module."""
    found: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:  # text
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(a.asname or a.name).split(".")[0] for a in node.names}
            else:
                inner = ast.walk(node)
                found |= {
                    n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
    return found


def _asked(solution: str) -> list[tuple[str, str | None, str]]:
    """Return of each check the answer's name, its arguments if it is a function, and the call."""
    functions = {f.name: f for f in ast.parse(solution).body if isinstance(f, ast.FunctionDef)}
    found = []
    for call in checks(solution):
        check = call.func.attr
        name, (answer, *given) = check.removeprefix("check_"), call.args
        if isinstance(answer, ast.Name):
            answer = functions.get(answer.id, answer)
        parts = [name, *map(ast.unparse, given)]
        parts += [f"{k.arg}={ast.unparse(k.value)}" for k in call.keywords]
        is_function = isinstance(answer, ast.Lambda | ast.FunctionDef)
        names = ", ".join(a.arg for a in answer.args.args) if is_function else None
        found.append((name, names, f"exercises.{check}({', '.join(parts)})"))
    return found


# ------------------------------------------------------------------------- on the page


def connect(app: Sphinx) -> None:
    """Show the call in each exercise's box, after the notebooks, which have cells, are written."""
    app.connect("doctree-resolved", _show_calls, priority=950)


def _show_calls(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    boxes = {n["label"]: n for n in doctree.findall(nodes.Admonition) if "exercise" in _kind(n)}
    for solution in doctree.findall(nodes.Admonition):
        box = boxes.get(solution.get("target_label"))
        if box is None or "solution" not in _kind(solution):
            continue
        code = [b.astext() for b in solution.findall(nodes.literal_block) if _is_python(b)]
        try:
            asked = _asked("\n\n".join(code))
        except SyntaxError:
            LOGGER.warning("the code of this solution is no Python", location=solution)
            continue
        for name, arguments, call in asked:
            box += _call(app, docname, name, arguments, call)


def _call(app: Sphinx, docname: str, name: str, arguments: str | None, call: str) -> nodes.Node:
    """Return the line "Check your function f(x) with exercises.check_f(f)", with a link."""
    what, answer = ("answer", name) if arguments is None else ("function", f"{name}({arguments})")
    shown: nodes.Node = nodes.literal("", call)
    entry = app.env.get_domain("py").objects.get(f"physml.exercises.check_{name}")
    if entry is not None:
        address = f"{app.builder.get_relative_uri(docname, entry.docname)}#{entry.node_id}"
        shown = nodes.reference("", "", shown, refuri=address, internal=True)
    words = (nodes.Text(f"Check your {what} "), nodes.literal("", answer), nodes.Text(" with "))
    return nodes.paragraph("", "", *words, shown, nodes.Text("."), classes=["physml-check"])


def _kind(node: nodes.Node) -> str:
    return type(node).__name__


def _is_python(block: nodes.literal_block) -> bool:
    return block.get("language") in ("python", "ipython3", "ipython")
