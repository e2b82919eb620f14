"""The parts of the book's Sphinx extension, one by one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from pybtex.database import parse_file, parse_string
from sphinx import addnodes
from sphinx_exercise.nodes import solution_node

from physml_book.address import Address, find
from physml_book.citations import AuthorYear, label
from physml_book.codelinks import imported, link_names
from physml_book.execution import cache_folder, execution_key, packages
from physml_book.gathered import statement
from physml_book.indexed import GATHERED, GatherChecks
from physml_book.markdown import Code, Page, Snippet, Solution, Stub, Text, convert
from physml_book.mathjax import keep_with_punctuation
from physml_book.notebooks import REQUIRED, assemble, install_cell
from physml_book.reference import source
from physml_book.runs import Run

# ---------------------------------------------------------------- the repository's address


def test_address_comes_from_the_environment(tmp_path: Path) -> None:
    address = find(tmp_path, {"GITHUB_REPOSITORY": "a-b/c.d", "GITHUB_SHA": "abc123"})
    assert address == Address("a-b/c.d", "abc123")
    assert address.url == "https://github.com/a-b/c.d"
    assert address.requirement == "physml @ git+https://github.com/a-b/c.d@abc123"
    assert address.colab("x/y") == (
        "https://colab.research.google.com/github/a-b/c.d/blob/notebooks/x/y.ipynb"
    )


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("https://github.com/owner/repo.git", "owner/repo"),
        ("https://github.com/owner/repo", "owner/repo"),
        ("https://user:secret@github.com/owner/repo.git", "owner/repo"),
        ("git@github.com:owner/re.po.git", "owner/re.po"),
        ("ssh://git@github.com/owner/repo.git", "owner/repo"),
        ("https://example.org/owner/repo.git", None),
        ("https://example.org/github.com/owner/repo", None),
        ("/srv/git/repo.git", None),
    ],
)
def test_address_comes_from_the_remote(tmp_path: Path, remote: str, name: str | None) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", remote], check=True)
    address = find(tmp_path, {})
    assert (address and address.name) == name


def test_address_is_not_invented(tmp_path: Path) -> None:
    assert find(tmp_path, {}) is None
    assert find(tmp_path, {"GITHUB_REPOSITORY": "not an address"}) is None


# ---------------------------------------------------------------- when chapters run again


def library(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    (folder / "sub" / "b.py").write_text("b = 1\n")
    return folder


def test_key_changes_with_the_library_and_the_packages(tmp_path: Path) -> None:
    folder = library(tmp_path / "lib")
    first = execution_key(folder, {"torch": "2.0"})
    assert execution_key(library(tmp_path / "copy"), {"torch": "2.0"}) == first
    assert execution_key(folder, {"torch": "2.1"}) != first
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("compiled")
    assert execution_key(folder, {"torch": "2.0"}) == first
    (folder / "sub" / "b.py").write_text("b = 2\n")
    second = execution_key(folder, {"torch": "2.0"})
    assert second != first
    (folder / "sub" / "b.py").rename(folder / "sub" / "c.py")
    assert execution_key(folder, {"torch": "2.0"}) not in (first, second)


def test_key_knows_the_packages_of_the_project(root: Path) -> None:
    versions = packages(root / "pyproject.toml")
    assert {"numpy", "torch", "matplotlib", "ipykernel"} <= set(versions)
    assert not {"pytest", "ruff", "jupyter-book"} & set(versions)
    assert "absent" not in versions.values()


def test_old_caches_are_removed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / ".jupyter_cache" / name).mkdir(parents=True)
    assert cache_folder(tmp_path, "new") == tmp_path / ".jupyter_cache" / "new"
    assert [path.name for path in (tmp_path / ".jupyter_cache").iterdir()] == ["new"]


# ---------------------------------------------------------------- a page as Markdown


def text_of(*children: nodes.Node, page: Page | None = None) -> str:
    document = nodes.section("", *children)
    pieces = convert(document, page or Page())
    return "\n\n".join(piece.source for piece in pieces if isinstance(piece, Text))


def paragraph(*children: nodes.Node | str) -> nodes.paragraph:
    inside = [nodes.Text(c) if isinstance(c, str) else c for c in children]
    return nodes.paragraph("", "", *inside)


def test_what_markdown_would_read_as_a_mark_is_escaped() -> None:
    # dollars, stars, backticks and tags; underscores inside words are safe
    assert text_of(paragraph("5$ a*b `c` <d> a_b _e_")) == r"5\$ a\*b \`c\` \<d> a_b \_e\_"


def test_equations_carry_their_numbers() -> None:
    page = Page(figure_numbers={"displaymath": {"equation-a": (2, 3)}})
    block = nodes.math_block("", "a = b % a comment\n\n", ids=["equation-a"])
    assert text_of(block, page=page) == "$$\na = b\n\\tag{2.3}\n$$"


def test_open_solution_has_its_code_in_cells() -> None:
    code = nodes.literal_block("x = 1", "x = 1", language="python")
    inside = nodes.section("", paragraph("Done."), code)
    box = solution_node("", nodes.title("", "Solution"), inside, target_label="ex:a")
    stub, closed = convert(nodes.section("", box.deepcopy()), Page())
    assert stub == Stub("ex:a", (Text("**Solution**"), Text("Done."), Snippet("x = 1")))
    assert "<summary><b>Solution</b></summary>\n\nDone.\n\n```python\nx = 1" in closed.source
    (found,) = convert(nodes.section("", box), Page(open_solutions=True))
    assert found == Solution("ex:a", (Text("**Solution**"), Text("Done."), Snippet("x = 1")))
    notebook = assemble([Text("# A"), found, Text("After.")], nbformat.v4.new_notebook(), "a")
    solution = [cell for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in solution] == ["**Solution**\n\nDone.", "x = 1"]
    assert [cell.metadata["exercise"] for cell in solution] == ["ex:a", "ex:a"]
    assert notebook.cells[-1].source == "After."


def test_lines_of_an_equation_are_split_and_align_loses_its_counter() -> None:
    assert "\\begin{split}" in text_of(nodes.math_block("", r"a &= b \\ c &= d"))
    page = Page(figure_numbers={"displaymath": {"e": (1, 1)}})
    align = nodes.math_block("", "\\begin{align}\na &= b\n\\end{align}", ids=["e"])
    expected = "$$\n\\begin{align*}\na &= b \\tag{1.1}\n\\end{align*}\n$$"
    assert text_of(align, page=page) == expected
    matrix = nodes.math_block("", r"\begin{pmatrix} a \\ b \end{pmatrix}")
    assert "split" not in text_of(matrix)


def test_an_equation_in_a_quotation_stays_on_its_line() -> None:
    """A mark of quotation inside an equation would be read as a relation."""
    quote = nodes.block_quote("", paragraph("so"), nodes.math_block("", "a\n= b"))
    assert text_of(quote) == "> so\n>\n> $$a = b$$"


def test_lists_and_tables() -> None:
    items = [nodes.list_item("", paragraph("one")), nodes.list_item("", paragraph("two"))]
    assert text_of(nodes.enumerated_list("", *items, start=3)) == "3. one\n4. two"
    nested = nodes.list_item("", paragraph("in"), nodes.bullet_list("", items[0].deepcopy()))
    assert text_of(nodes.bullet_list("", nested)) == "- in\n\n  - one"

    def row(*cells: str) -> nodes.row:
        return nodes.row("", *(nodes.entry("", paragraph(cell)) for cell in cells))

    group = nodes.tgroup("", nodes.thead("", row("a", "b")), nodes.tbody("", row("x|y", "z")))
    assert text_of(nodes.table("", group)) == "| a | b |\n| --- | --- |\n| x\\|y | z |"


def test_links_are_kept_or_become_words() -> None:
    outside = nodes.reference("", "there", refuri="https://example.org/a_b")
    inside = nodes.reference("", "Theorem 1.1", refuri="#thm", internal=True)
    other = nodes.reference("", "next", refuri="other.html#x", internal=True)
    page = Page(link=lambda uri: "other.ipynb" if uri.startswith("other.html") else None)
    line = paragraph(outside, ", ", inside, ", ", other)
    assert text_of(line, page=page) == (
        "[there](https://example.org/a_b), Theorem 1.1, [next](other.ipynb)"
    )


def test_pictures_come_with_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG")
    image = nodes.image("", uri="p.png", alt="a line")
    assert text_of(image, page=Page(folder=tmp_path)) == "![a line](data:image/png;base64,iVBORw==)"


def test_folded_text_and_code_cells() -> None:
    cell = nodes.container("", nb_element="cell_code", cell_index=4)
    title = nodes.title("", "Solution")
    solution = type("solution_node", (nodes.Admonition, nodes.Element), {})
    words = nodes.section("", solution("", title.deepcopy(), paragraph("It is.")))
    (piece,) = convert(words, Page())
    assert piece.source == ("<details>\n<summary><b>Solution</b></summary>\n\nIt is.\n\n</details>")
    code = nodes.section("", solution("", title, paragraph("So:"), cell))
    assert convert(code, Page()) == [Text("> **Solution**"), Text("So:"), Code(4, folded=True)]


# ---------------------------------------------------------------- cells put together


def chapter() -> nbformat.NotebookNode:
    tags = [["remove-cell"], ["hide-input", "nbval-skip"], ["skip-execution"], []]
    cells = [nbformat.v4.new_markdown_cell("# T")]
    cells += [
        nbformat.v4.new_code_cell(f"x = {count}", metadata={"tags": tag})
        for count, tag in enumerate(tags)
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_all_code_is_there_in_order() -> None:
    """The page shows cells 2 and 3 (0 is removed, the last comes after the end of the page)."""
    pieces = [Text("# T"), Text("words"), Code(2), Code(3), Text("## S"), Text("end")]
    notebook = assemble(pieces, chapter(), "part/page")
    nbformat.validate(notebook)
    kinds = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert kinds == [
        ("markdown", "# T"),
        ("code", install_cell(None)),
        ("markdown", "words"),
        ("code", "x = 0"),
        ("code", "x = 1"),
        ("code", "x = 2"),
        ("markdown", "## S\n\nend"),
        ("code", "x = 3"),
    ]
    assert all(not c.outputs for c in notebook.cells if c.cell_type == "code")
    assert notebook.cells[4].metadata.tags == ["hide-input", "nbval-skip"]
    assert notebook.cells[4].metadata.jupyter.source_hidden
    assert "tags" not in notebook.cells[5].metadata  # what the book skips, a notebook runs
    assert notebook.metadata.kernelspec.name == "python3"
    assert assemble(pieces, chapter(), "part/page") == notebook


def test_exercise_has_a_cell_to_start_from_without_the_answer() -> None:
    solution = (Text("secret"), Snippet("print(exercises.check_step_order(1 + 1))"))
    pieces = [Text("# T"), Stub("ex:a", solution), Stub("ex:b", (Text("open"),)), Code(4)]
    cells = [c for c in assemble(pieces, chapter(), "p").cells if "exercise" in c.metadata]
    assert [cell.metadata.exercise for cell in cells] == ["ex:a", "ex:b"]
    first, second = (cell.source for cell in cells)
    assert first.startswith("from physml import exercises\n")
    assert first.endswith("print(exercises.check_step_order(step_order))")
    assert "1 + 1" not in first + second
    assert second == "# Your work here."


def test_only_a_page_that_uses_a_gpu_asks_for_one() -> None:
    pieces, page = [Text("# T"), Code(4)], chapter()
    assert "accelerator" not in assemble(pieces, page, "part/page").metadata
    page.cells[4].source = "where = device.choose(double=True)"
    asked = assemble(pieces, page, "part/page").metadata
    assert (asked.accelerator, asked.colab.gpuType) == ("GPU", "T4")


def test_colab_badge_only_with_an_address() -> None:
    pieces = [Text("# T"), Code(4)]
    assert "colab" not in nbformat.writes(assemble(pieces, chapter(), "p")).split('"cells"')[0]
    address = Address("owner/repo", "abc")
    first, second = assemble(pieces, chapter(), "part/page", address).cells[:2]
    assert f"]({address.colab('part/page')})" in first.source
    assert address.requirement in second.source


WHEEL = "physml-1.0-py3-none-any.whl"


def run_install(cell: str, monkeypatch: pytest.MonkeyPatch, origin: str | None) -> list:
    """Run an install cell with pip replaced, where each package is found at `origin`."""
    import importlib.util
    from importlib.machinery import ModuleSpec

    calls: list = []
    spec = ModuleSpec("found", None, origin=origin)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    exec(cell, {})
    return calls


def test_install_cell_leaves_an_existing_physml_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in (install_cell(Address("owner/repo")), install_cell()):
        assert run_install(cell, monkeypatch, origin="/site-packages/x/__init__.py") == []


@pytest.mark.parametrize(
    ("known", "source"),
    [
        ({"address": Address("a/b", "abc")}, "physml @ git+https://github.com/a/b@abc"),
        ({"wheel": WHEEL, "site": "https://b.org/s"}, f"https://b.org/s/files/{WHEEL}"),
        # the site's own wheel comes before the repository
        (
            {"wheel": WHEEL, "site": "https://b.org/s/", "address": Address("a/b")},
            f"https://b.org/s/files/{WHEEL}",
        ),
        ({"site": "https://b.org", "address": Address("a/b")}, Address("a/b").requirement),
    ],
)
def test_install_cell_installs(
    known: dict, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = run_install(install_cell(**known), monkeypatch, origin=None)
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-1] == source
    assert not {"-U", "--upgrade", "--force-reinstall"} & set(command)


@pytest.mark.parametrize("place", ["part", "files", "part/page/files"])
def test_install_cell_takes_the_wheel_that_lies_with_it(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beside the notebook, or where the site and its archive have it."""
    (tmp_path / "part" / "page").mkdir(parents=True)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / WHEEL).write_text("")
    monkeypatch.chdir(tmp_path / "part" / "page")
    for site in ("", "https://book.example.org"):
        (command,) = run_install(install_cell(wheel=WHEEL, site=site), monkeypatch, origin=None)
        assert command[-1] == str(tmp_path / place / WHEEL)


@pytest.mark.parametrize("beside", ["copy", "copy/notebooks", "."])
def test_install_cell_says_what_to_do_and_names_a_copy_of_the_repository(
    beside: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the copy, deeper in it, or beside it where it is called `physml` like the package."""
    copy = tmp_path / ("physml" if beside == "." else "copy")
    (copy / "physml").mkdir(parents=True)
    (copy / "physml" / "__init__.py").write_text("")
    (copy / "pyproject.toml").write_text("")
    (tmp_path / beside).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / beside)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install {re.escape(str(copy))}$"):
        run_install(install_cell(wheel=WHEEL), monkeypatch, origin=None)


def test_install_cell_says_what_to_do_where_there_is_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=rf"Put {WHEEL}.*beside this notebook") as error:
        run_install(install_cell(wheel=WHEEL), monkeypatch, origin=None)
    assert "pip install PATH/TO/THE/COPY" in str(error.value)


def test_install_cell_looks_for_all_that_the_library_requires(root: Path) -> None:
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert {"pillow" if name == "PIL" else name for name in REQUIRED} == names


def test_install_cell_is_short_enough_to_read() -> None:
    lines = install_cell(Address("owner/repo"), WHEEL, "https://book.example.org").splitlines()
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 100


# ---------------------------------------------------------------- the library's reference


def highlighted(code: str) -> str:
    """Code as a page has it."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    inside = highlight(code, get_lexer_by_name("ipython3"), HtmlFormatter())
    return f'<div class="highlight-ipython3 notranslate">{inside}</div>'


def linked(code: str) -> list[tuple[str, str]]:
    """The links on some code, in a library where only `lib` things are documented."""
    known = ("exact.gap", "rbm.Machine", "rbm.Machine.of", "lattice.Box")
    address = {f"physml.{name}": f"lib.html#physml.{name}" for name in known}.get
    html = link_names(highlighted(code), imported([code]), address)
    found = re.findall(r'<a tabindex="-1" class="physml-code" href="([^"]+)">(.*?)</a>', html)
    assert re.sub("<[^>]+>", "", html) == re.sub("<[^>]+>", "", highlighted(code))
    return [(href.split("#")[1], re.sub("<[^>]+>", "", text)) for href, text in found]


def test_names_in_code_lead_to_the_reference() -> None:
    code = "import physml\nfrom physml import exact, rbm as r\nfrom physml.lattice import Box\n"
    assert linked(code) == [("physml.lattice.Box", "Box")]
    assert linked(code + "exact.gap(1)\nexact.gap(2)")[1:] == [("physml.exact.gap", "exact.gap")]
    assert linked(code + "m = r.Machine.of(3).x")[1:] == [("physml.rbm.Machine.of", "r.Machine.of")]
    assert linked(code + "r.Machine.unknown")[1:] == [("physml.rbm.Machine", "r.Machine")]
    assert linked(code + "physml.exact.gap")[1:] == [("physml.exact.gap", "physml.exact.gap")]


@pytest.mark.parametrize("line", ["a.exact.gap(1)", "f(Box=1)", "exact.other()", "gap(1)", "exact"])
def test_what_only_looks_like_a_name_of_the_library_is_left_alone(line: str) -> None:
    assert linked(f"from physml import exact\n{line}") == []
    assert linked(f"from physml.lattice import Box\n{line}") == [("physml.lattice.Box", "Box")]


def test_code_that_is_no_python_is_left_alone() -> None:
    assert imported(["%matplotlib inline\nfrom physml import exact", "import physml.rbm"]) == {}


def test_every_public_name_is_in_the_reference(root: Path) -> None:
    """Each module has its place on a page, and each name in its `__all__` a directive there."""
    import importlib

    import physml

    pages = "\n".join(path.read_text() for path in (root / "book").glob("library_*.md"))
    placed = re.findall(r"^\.\. library:: (\w+)$", pages, re.MULTILINE)
    assert sorted(placed) == sorted(physml._MODULES)
    for name in placed:
        module, text = importlib.import_module(f"physml.{name}"), source(name)
        described = re.findall(r"^\.\. (?:auto|py:)(?!module)\w+:: ([\w.]+)$", text, re.MULTILINE)
        public = [member for member in module.__all__ if not member.startswith("__")]
        assert sorted(entry.rsplit(".", 1)[-1] for entry in described) == sorted(public)


# ---------------------------------------------------------------- what a run cost


def test_run_says_what_it_cost() -> None:
    run = Run(42.4, "2026-03-01", 940_000_000, "2 cores")
    assert run.sentence() == (
        "The run that made this page took 42 s and 0.9 GB of memory (2 cores, 1 March 2026)."
    )
    assert Run(200.0, "2026-03-01").sentence() == (
        "The run that made this page took 3.3 min (1 March 2026)."
    )


# ---------------------------------------------------------------- how to find what is cited


def test_bibliography_has_the_words_of_the_text_in_the_order_of_the_alphabet() -> None:
    entries = parse_string(
        """
        @misc{a, author={Zeta, A. and Other, B.}, title={A title}, year={1999}}
        @misc{b, author={{\\'E}t{\\'e}, C.}, title={A title}, year={2001}}
        @misc{c, author={Eta, D. and E, F. and G, H.}, title={A title}, year={2000}}
        @misc{d, author={De Bortoli, I.}, title={A title}, year={2024}}
        """,
        "bibtex",
    )
    shown = AuthorYear().format_bibliography(entries)
    assert [entry.label.replace("\N{NO-BREAK SPACE}", " ") for entry in shown] == [
        "De Bortoli, 2024", "Eta et al., 2000", "Été, 2001", "Zeta and Other, 1999"
    ]


def test_no_two_entries_are_cited_by_the_same_words(root: Path) -> None:
    entries = parse_file(str(root / "book" / "references.bib"), "bibtex").entries.values()
    labels = [label(entry) for entry in entries]
    assert sorted(set(labels)) == sorted(labels)


def test_checks_stand_together_in_the_index() -> None:
    document = new_document("page")
    checks = ("single", "check_gap() (in module physml.exercises)", "id1", "", None)
    concept = ("single", "check of a proof", "id2", "", None)
    document += addnodes.index(entries=[checks, concept])
    GatherChecks(document).apply()
    (node,) = document.findall(addnodes.index)
    assert [entry[1] for entry in node["entries"]] == [f"{GATHERED}; check_gap()", concept[1]]
    assert [entry[2] for entry in node["entries"]] == ["id1", "id2"]


@pytest.mark.parametrize(
    ("title", "paragraph", "said"),
    [
        (" (A name)", [nodes.Text("It is so.")], "A name"),
        ("", [nodes.Text("If "), nodes.math("", "p>0"), nodes.Text(" it is. Or not.")],
         "If p>0 it is."),
        ("", [nodes.Text("For all "), nodes.math("", "x"), nodes.Text(" there is")],
         "For all x there is …"),
    ],
)
def test_theorem_without_a_name_is_listed_by_what_it_says(
    title: str, paragraph: list[nodes.Node], said: str
) -> None:
    theorem = nodes.container("", nodes.title("", title), nodes.paragraph("", "", *paragraph))
    assert "".join(node.astext() for node in statement(theorem)) == said


# ---------------------------------------------------------------- formulas


def test_formula_and_the_comma_behind_it_stay_together() -> None:
    one, two, three = (nodes.math("", x) for x in "xyz")
    line = nodes.paragraph("", "", nodes.Text("As "), one, nodes.Text(", then "), two)
    line += [nodes.Text(" (or "), three, nodes.Text("). End")]
    before = line.astext()
    keep_with_punctuation(line)
    assert line.astext() == before
    assert [w.astext() for w in line.findall(nodes.inline)] == ["x,", "z)."]
    assert all(w["classes"] == ["physml-unbroken"] for w in line.findall(nodes.inline))
    assert two.parent is line


def test_only_the_sign_behind_the_formula_is_moved() -> None:
    """Another text of the paragraph may say the same."""
    line = nodes.paragraph("", "", nodes.emphasis("", "So"), nodes.Text("."), nodes.math("", "x"))
    line += [nodes.Text("."), nodes.math("", "y"), nodes.Text("."), nodes.math("", "z")]
    keep_with_punctuation(line)
    assert line.astext() == "So.x.y.z"
