"""Who made the book, how to cite it, what was wrong in it, and how an answer is checked."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from pybtex.database import parse_string

import slides
from physml_book.stubs import checks
from physml_book.trust import authors, bibtex

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = slides.chapters(ROOT)


def pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


@pytest.fixture(scope="module")
def soups(built: Path) -> dict[str, BeautifulSoup]:
    read = {name: (built / "html" / f"{name}.html").read_text("utf-8") for name in pages()}
    return {name: BeautifulSoup(text, "html.parser") for name, text in read.items()}


# ---------------------------------------------------------------- how to cite


def test_citation_is_one_entry_of_bibtex() -> None:
    people = [
        {"family-names": "Noether", "given-names": "Emmy"},
        {"name": "The physml authors"},
    ]
    citation = {"title": "physml: fields", "version": "0.1.0", "authors": people}
    made = bibtex(citation, "2026", "https://example.org")
    (entry,) = parse_string(made, "bibtex").entries.values()
    assert entry.type == "software"
    assert [" ".join(p.last_names) for p in entry.persons["author"]] == [
        "Noether", "{The physml authors}",
    ]  # fmt: skip
    assert (entry.fields["year"], entry.fields["url"]) == ("2026", "https://example.org")
    released = citation | {"date-released": date(2027, 1, 2), "url": "https://b.org"}
    (entry,) = parse_string(bibtex(released, "2026"), "bibtex").entries.values()
    assert (entry.fields["year"], entry.fields["url"]) == ("2027", "https://b.org")


def test_page_cites_as_the_file_does(soups: dict[str, BeautifulSoup]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = soups["about"].select_one("article")
    (entry,) = parse_string(page.select_one("pre").get_text(), "bibtex").entries.values()
    assert entry.fields["title"] == citation["title"]
    assert entry.fields["version"] == str(citation["version"])
    for name in authors(citation):
        assert name.strip("{}") in page.get_text()


def test_licences_are_named_and_there(soups: dict[str, BeautifulSoup], root: Path) -> None:
    page, readme = soups["about"].get_text(), (root / "README.md").read_text(encoding="utf-8")
    for text in (page, readme):
        assert "MIT" in text
        assert "CC BY 4.0" in text
    assert (root / "LICENSE").read_text(encoding="utf-8").startswith("MIT")
    assert "creativecommons.org/licenses/by/4.0" in (root / "LICENSE-text").read_text("utf-8")
    for name in ("CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "LICENSE-text"):
        assert f"]({name})" in readme
    assert {"Contributing", "Code of conduct"} <= {
        heading.get_text().rstrip("#") for heading in soups["about"].select("h2")
    }


# ---------------------------------------------------------------- errors


def test_every_page_says_how_to_report_an_error(soups: dict[str, BeautifulSoup]) -> None:
    for name, page in soups.items():
        foot = page.select_one("p.physml-foot")
        assert "Found an error?" in foot.get_text(), name
        ends = {link["href"].split("#")[0].split("/")[-1] for link in foot.select("a")}
        assert {"errata.html", "about.html", "downloads.html"} - {f"{name}.html"} <= ends, name
    errata = soups["errata"].select_one("#how-to-report-an-error")
    assert len(errata.get_text().split()) > 50


def test_errata_have_date_page_fault_and_state(soups: dict[str, BeautifulSoup]) -> None:
    sections = soups["errata"].select("article section section")
    ledgers = [section for section in sections if section.select("table")]
    assert len(ledgers) >= len(CHAPTERS)
    for section in ledgers:
        assert section.select("p a.reference.internal")  # the page
        for row in section.select("tbody tr"):
            known, fault, since, state = (cell.get_text(strip=True) for cell in row.select("td"))
            assert date.fromisoformat(since) <= date.fromisoformat(known)
            assert len(fault.split()) > 8
            assert re.fullmatch(r"open|mended on \d{4}-\d\d-\d\d", state)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_says_how_far_numbers_may_differ(
    soups: dict[str, BeautifulSoup], name: str
) -> None:
    (line,) = soups[name].select("p.physml-differ")
    for word in ("versions", "threads", "GPU"):
        assert word in line.get_text()
    (link,) = line.select("a")
    assert link["href"] == "../status.html#how-far-may-your-numbers-differ"
    assert soups["status"].select("#how-far-may-your-numbers-differ")


# ---------------------------------------------------------------- exercises


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercise_shows_its_call_and_has_a_cell_to_start_from(
    built: Path, soups: dict[str, BeautifulSoup], name: str
) -> None:
    """The box says how to call the check, and the notebook has the stub, before each solution."""
    published = nbformat.read(built / "notebooks" / f"{name}.ipynb", as_version=4)
    solved = nbformat.read(built / "solved" / f"{name}.ipynb", as_version=4)
    labels = dict.fromkeys(c.metadata.exercise for c in solved.cells if "exercise" in c.metadata)
    stubs = {c.metadata.exercise: c.source for c in published.cells if "exercise" in c.metadata}
    assert list(stubs) == list(labels)
    boxes = soups[name].select("div.exercise")
    called = [p.get_text() for box in boxes for p in box.select("p.physml-check")]
    calls = [call for source in stubs.values() for call in checks(source)]
    assert len(called) == len(calls) >= 4
    pattern = re.compile(r"Check your (?:answer|function) .+ with exercises\.(check_\w+)\(.+\)\.")
    found = [pattern.fullmatch(words)[1] for words in called]
    assert sorted(found) == sorted(call.func.attr for call in calls)
    links = [a["href"] for box in boxes for a in box.select("p.physml-check a")]
    assert len(links) == len(called)
    assert all("#physml.exercises.check_" in link for link in links)
    code = [cell for cell in published.cells if cell.cell_type == "code"]
    for cell in (cell for cell in code if "exercise" in cell.metadata):
        assert cell.source.startswith("from physml import exercises") or not checks(cell.source)
        after = published.cells[published.cells.index(cell) + 1].source
        assert "Solution" in after
