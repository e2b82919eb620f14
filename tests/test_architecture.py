"""The layers of the library: a module imports only from those before it, and the page says so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import physml

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "physml"


def imported(path: Path, package: Path = LIBRARY) -> set[str]:
    """The modules of the package that a file imports, also inside its functions."""
    inside = [package.name, *path.relative_to(package).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            name = [*base, *(node.module.split(".") if node.module else ())]
            found += [[*name, alias.name] for alias in node.names]
    return {name[1] for name in found if name[0] == package.name and len(name) > 1}


def upward(package: Path, order: list[str]) -> list[str]:
    """The imports that lead from a module to one that does not stand before it."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        if own == "__init__":  # the names it has are loaded on first use
            continue
        for name in sorted(imported(path, package) - {own}):
            if order.index(name) > order.index(own):
                wrong.append(f"{path.relative_to(package)} imports {name}")
    return wrong


def test_every_module_has_its_place():
    found = {p.stem for p in LIBRARY.glob("*.py")}
    found |= {p.parent.name for p in LIBRARY.glob("*/__init__.py")}
    assert sorted(physml._MODULES) == sorted(found - {"__init__"})


def test_imports_lead_down():
    assert upward(LIBRARY, list(physml._MODULES)) == []


@pytest.mark.parametrize(
    "line",
    [
        "from .high import x",
        "from . import high",
        "import toy.high",
        "def f():\n    from toy.high import x",
        "from toy import high",
    ],
)
def test_an_import_that_leads_up_is_seen(tmp_path, line):
    toy = tmp_path / "toy"
    (toy / "low").mkdir(parents=True)
    (toy / "__init__.py").write_text("from .high import x\n")
    (toy / "high.py").write_text("from .low import y\n")
    (toy / "low" / "__init__.py").write_text("")
    (toy / "low" / "part.py").write_text(line.replace("from .", "from ..", 1) + "\n")
    assert upward(toy, ["low", "high"]) == ["low/part.py imports high"]


def test_the_pages_and_the_docstring_have_the_same_order():
    order = list(physml._MODULES)
    table = (ROOT / "book" / "library.md").read_text(encoding="utf-8").split("| layer |")[1]
    table = table.split("\n\n")[0]
    assert re.findall(r"`~physml\.(\w+)`", table) == order
    pages = re.findall(r"<(library_\w+)>", table)
    shown = [
        name
        for page in pages
        for name in re.findall(
            r"library:: (\w+)", (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
        )
    ]
    assert shown == order
    listed = physml.__doc__.split("before it:")[1].split("What one types")[0]
    heads = re.findall(r"\* (.*?) --", listed, re.S)
    names = [name for head in heads for name in re.findall(r"`(\w+)`", head)]
    assert names == order


def test_what_one_types_most_is_at_the_top():
    """Each name is the module's own, and editors are told the same names."""
    for name, module in physml._NAMES.items():
        assert getattr(physml, name) is getattr(getattr(physml, module), name), name
        assert name in dir(physml)
    tree = ast.parse((LIBRARY / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == physml._NAMES
    assert (LIBRARY / "py.typed").is_file()
