"""A tiny book, built as the real one is: what is published, what fails, what is executed again."""

from __future__ import annotations

import json
import re
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import TinyBook

TOP = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---

"""
TOC = """\
format: jb-book
root: intro
parts:
  - caption: Part
    numbered: true
    chapters:
      - file: part/one
      - file: part/two
  - caption: Reference
    chapters:
      - file: bibliography
"""
BIB = """\
@article{Someone2000,
  author = {Someone, A. and Other, B.},
  title = {A title},
  journal = {A Journal},
  volume = {1},
  pages = {2--3},
  year = {2000},
  doi = {10.1000/x.y}
}
"""
ONE = (
    TOP
    + r"""
# Chapter one

*Cost: a second.*

```{goals}
:skip: You may skip the proof.

- do $x$;
- do more.
```

See {eq}`eq-a`, {numref}`fig-a`, {prf:ref}`thm-a`, {ref}`ex-a`, {doc}`two` and {cite}`Someone2000`.

$$
a = b
$$ (eq-a)

```{code-cell} ipython3
:tags: [remove-cell]
import library
```

```{prf:theorem} A name
:label: thm-a

It is so.

$$
c = d
$$ (eq-c)
```

```{prf:proof}
By {eq}`eq-c`.
```

```{note}
Mind this.
```

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A picture of $x$.
    name: fig-a
  image:
    alt: A red square.
---
from PIL import Image

Image.new("RGB", (4, 4), "red")
```

```{exercise} Its title
:label: ex-a

Do it.
```

```{solution} ex-a
:class: dropdown

It is done.
```

```{code-cell} ipython3
:tags: [skip-execution]
raise RuntimeError("only a reader runs this")
```

```{code-cell} ipython3
:tags: [hide-input]
# The answer: a check
print("the answer is", library.answer())
```
"""
)
INTRO = """\
# A tiny book

```{picture-of} fig-a
```

```{run-table}
```

```{theorem-list}
```

```{goals-of} part/one
```
"""
TWO = (
    TOP
    + """
# Chapter two

Back to {prf:ref}`thm-a`.

```{code-cell} ipython3
---
tags: [remove-input, picture-only]
mystnb:
  image:
    classes: small
    alt: A blue square.
---
from PIL import Image

Image.new("RGB", (4, 4), "blue")
```

::::{grid} 1
:::{grid-item-card} A card
```{picture-of} small
```
:::
::::

```{code-cell} ipython3
print(2)
```
"""
)


@pytest.fixture(scope="module")
def book(tiny: TinyBook) -> TinyBook:
    tiny.write("book/_toc.yml", TOC)
    tiny.write("book/references.bib", BIB)
    tiny.write("book/intro.md", INTRO)
    tiny.write("book/bibliography.md", "# Bibliography\n\n```{bibliography}\n```\n")
    tiny.write("book/part/one.md", ONE)
    tiny.write("book/part/two.md", TWO)
    tiny.write("physml/__init__.py", "def answer():\n    return 42\n")
    tiny.write("path/library.py", "from physml import answer\n")
    status, said = build(tiny)
    assert status == 0, said
    return tiny


def build(book: TinyBook, **environ: str) -> tuple[int, str]:
    path = f"{book.root}:{book.root / 'path'}"
    return book.build(PYTHONPATH=path, **environ)


def read(book: TinyBook, name: str) -> nbformat.NotebookNode:
    path = book.root / "_build" / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def buttons(book: TinyBook, page: str) -> str:
    html = (book.root / "_build" / "html" / f"{page}.html").read_text(encoding="utf-8")
    return html.split('<div class="article-header-buttons">')[1].split("</article>")[0]


# The tests of this file run in order, each from the state that the one before it left.


def test_notebook_is_readable_without_the_book(book: TinyBook) -> None:
    notebook = read(book, "part/one")
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert text.startswith("# 1. Chapter one\n\n")
    assert re.search(r"^\*Cost: a second\.\* \*The run .* took \d+ s.*\.\*$", text, re.MULTILINE)
    assert (
        "See (1.1), Fig. 1.1, Theorem 1.1, Exercise 1.1, [Chapter two](two.ipynb) and "
        "[Someone and Other, 2000]." in text
    )
    assert "$$\na = b\n\\tag{1.1}\n$$" in text
    assert "> **Theorem 1.1** (A name)\n>\n> It is so.\n>\n> $$c = d \\tag{1.2}$$" in text
    assert "> Proof. By (1.2)." in text
    assert "> **Note**\n>\n> Mind this." in text
    assert "**Fig. 1.1** A picture of $x$." in text
    assert "> **Exercise 1.1** (Its title)\n>\n> Do it." in text
    assert "<summary><b>Solution</b></summary>\n\nIt is done.\n\n</details>" in text
    assert "## References\n\nA. Someone and B. Other." in text
    assert "https://doi.org/10.1000/x.y" in text
    assert not re.search(r"\{(\w+:)?\w+\}`|^```\{|^:::", text, re.MULTILINE)


def test_notebook_has_the_code_and_no_outputs(book: TinyBook) -> None:
    cells = [cell for cell in read(book, "part/one").cells if cell.cell_type == "code"]
    assert [cell.source.splitlines()[0] for cell in cells[1:]] == [
        "import library",
        "from PIL import Image",
        "# Your work here.",
        'raise RuntimeError("only a reader runs this")',
        "# The answer: a check",
    ]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert cells[1].metadata.tags == ["remove-cell"]
    assert cells[3].metadata.exercise == "ex-a"
    assert cells[5].metadata.tags == ["hide-input"]


def page(book: TinyBook, name: str) -> BeautifulSoup:
    html = (book.root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser").select_one("article")


def test_page_says_what_its_run_cost_and_the_front_page_has_all(book: TinyBook) -> None:
    """Time, memory and device are measured, and kept with the outputs over builds."""
    (kept,) = (book.root / "_build" / ".jupyter_cache").glob("*/physml-runs.json")
    runs = json.loads(kept.read_text())
    assert set(runs) == {"part/one", "part/two"}
    # a kernel needs some tens of megabytes
    assert all(run["seconds"] > 0.1 and 2e7 < run["memory"] < 2e9 for run in runs.values())
    said = page(book, "part/one").get_text()
    assert re.search(r"Cost: a second\. The run that made this page took \d+ s and 0\.\d GB", said)
    (differ,) = page(book, "part/one").select("p.physml-differ")
    assert "a GPU add numbers in another order" in differ.get_text()
    runs_table, theorems = page(book, "intro").select("table")
    rows = [[cell.get_text(strip=True) for cell in r.select("td")] for r in runs_table.select("tr")]
    assert [row[0] for row in rows[1:]] == ["Chapter one", "Chapter two"]
    assert all(row[1].endswith("s") and row[2].endswith("GB") and row[3] for row in rows[1:])
    (link, *_) = theorems.select("td a")
    assert (link.get_text(), link["href"]) == ("Theorem 1.1", "part/one.html#thm-a")
    assert "A name" in [cell.get_text() for cell in theorems.select("td")]


def test_picture_of_a_figure_comes_with_its_words(book: TinyBook) -> None:
    (image,) = page(book, "intro").select("img")
    assert image["alt"] == "A red square."
    assert (book.root / "_build" / "html" / image["src"]).read_bytes().startswith(b"\x89PNG")


def test_picture_of_a_cell_stands_only_where_it_is_asked_for(book: TinyBook) -> None:
    (image,) = page(book, "part/two").select("img")
    assert image["alt"] == "A blue square."
    assert image.find_parent(class_="sd-card") is not None
    assert len([c for c in read(book, "part/two").cells if "Image.new" in c.source]) == 1


def test_goals_stand_in_the_chapter_and_where_they_are_asked_for(book: TinyBook) -> None:
    box = page(book, "part/one").select_one(".physml-goals")
    items = [item.get_text().replace("\\(x\\)", "x") for item in box.select("li")]
    assert items == ["do x;", "do more."]
    last = box.select("p")[-1].get_text()
    time = r"Reading it takes about \d+ minutes, without the exercises\."
    assert re.fullmatch(time + r" You may skip the proof\.", last)
    there = [item.get_text() for item in page(book, "intro").select("li")]
    assert len(there) == 2 and there[1] == "do more."
    text = "\n".join(c.source for c in read(book, "part/one").cells)
    assert "> **After this chapter you can**\n>\n> - do $x$;\n> - do more." in text


def test_folded_cell_says_what_it_holds(book: TinyBook) -> None:
    (summary,) = page(book, "part/one").select("details.hide > summary")
    assert set(summary.get_text("|", strip=True).split("|")) == {"Code: the answer: a check"}


def test_site_has_the_notebook_behind_its_button_and_no_sources(book: TinyBook) -> None:
    html = book.root / "_build" / "html"
    (link,) = re.findall(r'href="([^"]+\.ipynb)"', buttons(book, "part/one"))
    target = (html / "part" / link).resolve()
    published = book.root / "_build" / "notebooks" / "part" / "one.ipynb"
    assert target.read_bytes() == published.read_bytes()
    assert "_sources" not in buttons(book, "part/one")
    assert ".ipynb" not in buttons(book, "intro")


def test_without_an_address_nothing_leads_to_a_repository(book: TinyBook) -> None:
    for path in (book.root / "_build" / "html").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "colab" not in text.lower(), path
        assert "github.com" not in text, path
    assert "colab.research" not in nbformat.writes(read(book, "part/one"))


def test_first_build_by_hand_is_the_same(book: TinyBook) -> None:
    """`jupyter-book build book` finds the same cache, and executes nothing again."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    path = f"{book.root}:{book.root / 'path'}"
    status, said = book.run([*command, "build", "book", "--all"], PYTHONPATH=path)
    assert status == 0, said
    assert said.count("Using cached notebook") == 2
    assert "Executing notebook" not in said


def test_with_an_address_the_buttons_lead_there(book: TinyBook) -> None:
    environ = {"GITHUB_REPOSITORY": "owner/repo", "GITHUB_SHA": "abc123"}
    status, said = build(book, **environ, PHYSML_BOOK_URL="https://owner.example.org/repo")
    assert status == 0, said
    colab = "https://colab.research.google.com/github/owner/repo/blob/notebooks/part/one.ipynb"
    here = buttons(book, "part/one")
    assert f'href="{colab}"' in here
    assert 'href="https://github.com/owner/repo"' in here
    assert "https://github.com/owner/repo/edit/main/book/part/one.md" in here
    assert "https://github.com/owner/repo/issues/new" in here
    assert "colab" not in buttons(book, "intro")
    whole = (book.root / "_build" / "html" / "part" / "one.html").read_text(encoding="utf-8")
    foot = BeautifulSoup(whole, "html.parser").select_one("p.physml-foot")
    assert foot.select_one("a")["href"] == (
        "https://github.com/owner/repo/issues/new?title=An%20error%20on%20the%20page%20part/one"
    )
    first, install = read(book, "part/one").cells[:2]
    assert f"]({colab})" in first.source
    assert "physml @ git+https://github.com/owner/repo@abc123" in install.source
    # each button in the site leads to a file of the tree that is published, and to each leads one
    site, tree = book.root / "_build" / "html", book.root / "_build" / "notebooks"
    branch = "https://colab.research.google.com/github/owner/repo/blob/notebooks/"
    leads = {
        link.removeprefix(branch)
        for path in site.rglob("*.html")
        for link in re.findall(r'href="(https://colab[^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert leads == {path.relative_to(tree).as_posix() for path in tree.rglob("*.ipynb")}
    text = nbformat.writes(read(book, "part/two"))
    assert "[Theorem 1.1](https://owner.example.org/repo/part/one.html#thm-a)" in text


def executions(said: str) -> dict[str, str]:
    return dict(re.findall(r"^  (part/\w+): (executed|unchanged|FAILED)", said, re.MULTILINE))


def test_prose_is_changed_without_executing(book: TinyBook) -> None:
    book.edit("book/part/one.md", "Mind this.", "Mind that.")
    status, said = build(book)
    assert status == 0, said
    assert executions(said) == {"part/one": "unchanged", "part/two": "unchanged"}
    html = (book.root / "_build" / "html" / "part" / "one.html").read_text(encoding="utf-8")
    assert "Mind that." in html
    assert "the answer is 42" in html


def test_code_is_changed_and_its_chapter_executed(book: TinyBook) -> None:
    book.edit("book/part/two.md", "print(2)", "print(2 + 1)")
    status, said = build(book)
    assert status == 0, said
    assert executions(said) == {"part/one": "unchanged", "part/two": "executed"}


def test_library_is_changed_and_every_chapter_executed(book: TinyBook) -> None:
    book.edit("physml/__init__.py", "42", "43")
    status, said = build(book)
    assert status == 0, said
    assert executions(said) == {"part/one": "executed", "part/two": "executed"}
    html = (book.root / "_build" / "html" / "part" / "one.html").read_text(encoding="utf-8")
    assert "the answer is 43" in html
    assert len(list((book.root / "_build" / ".jupyter_cache").iterdir())) == 1


def test_gone_page_leaves_nothing_behind(book: TinyBook) -> None:
    book.edit("book/_toc.yml", "      - file: part/two\n", "")
    book.edit("book/part/one.md", "{doc}`two`", "no more")
    status, said = build(book)
    assert status == 0, said
    left = [path.name for path in (book.root / "_build").rglob("two.*")]
    assert left == []


def test_failing_cell_and_broken_reference_fail_the_build(book: TinyBook) -> None:
    """Both are reported in one build, with the traceback, and the exit status says so."""
    book.edit("book/part/one.md", 'print("the', '1 / 0\nprint("the')
    book.edit("book/part/one.md", "Mind that.", "Mind {ref}`what-is-not-there`.")
    book.edit("book/intro.md", "{picture-of} fig-a", "{picture-of} fig-gone")
    book.edit("book/intro.md", "{goals-of} part/one", "{goals-of} part/none")
    status, said = build(book)
    assert status == 1
    assert "there is no figure 'fig-gone' with a picture" in said
    assert "there are no goals of a chapter 'part/none'" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "1 / 0" in said
    assert "what-is-not-there" in said
    assert "The book was NOT built" in said.splitlines()[-1]


def test_failing_cell_fails_a_build_by_hand(book: TinyBook) -> None:
    """Without -W, and again when Sphinx does not read the page a second time."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    path = f"{book.root}:{book.root / 'path'}"
    for _ in range(2):
        status, said = book.run([*command, "build", "book"], PYTHONPATH=path)
        assert status != 0
        assert "these pages have a cell that fails: part/one" in said
