"""What can be taken away: the site with all its downloads, and notebooks where only Python is."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from visits import serve

import course
import publish
import slides
from check_links import Site
from physml_book.downloads import fill, size
from physml_book.notebooks import install_cell

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = slides.chapters(ROOT)
PDF = b"%PDF-1.7 stands for the book"


@pytest.fixture(scope="module")
def site(built: Path, decks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make site` makes, but for the PDF and for running the course."""
    scratch = tmp_path_factory.mktemp("published")
    assert course.main(["--write-only", "--to", str(scratch / "course")]) == 0
    (scratch / "book.pdf").write_bytes(PDF)
    target = scratch / "site"
    parts = {"course": scratch / "course", "pdf": scratch / "book.pdf"}
    assert publish.assemble(built, CHAPTERS, target, **parts) == []
    return target


@pytest.fixture(scope="module")
def archive(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, unpacked."""
    (packed,) = (site / "files").glob("*.zip")
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(packed) as file:
        file.extractall(folder)
    (inside,) = folder.iterdir()
    assert inside.name == packed.stem
    return inside


def soup(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


# ---------------------------------------------------------------- the site and its archive


def test_site_has_all_that_there_is(site: Path, root: Path) -> None:
    import physml

    version = physml.__version__
    expected = {f"physml-{version}-py3-none-any.whl"}
    expected |= {f"physml-book-{version}.{suffix}" for suffix in ("zip", "pdf")}
    assert {path.name for path in (site / "files").iterdir()} == expected
    linked = {link["href"] for link in soup(site, "downloads").select(".physml-downloads a")}
    wanted = {f"files/{name}" for name in expected}
    for name in CHAPTERS:
        wanted |= {f"slides/{name.replace('/', '-')}.html", f"notebooks/{name}.ipynb"}
        wanted |= {f"course/{edition}/{name}.ipynb" for edition in ("student", "solutions")}
    assert linked == wanted


def test_downloads_say_their_size(site: Path) -> None:
    cells = [c for c in soup(site, "downloads").select(".physml-downloads td") if c.select("a")]
    assert len(cells) == 3 + 4 * len(CHAPTERS)
    for cell in cells:
        (link,) = cell.select("a")
        assert f"({size((site / link['href']).stat().st_size)})" in cell.get_text()


@pytest.mark.parametrize("whole", ["site", "archive"])
def test_links_lead_somewhere(whole: str, request: pytest.FixtureRequest) -> None:
    """Within the folder, as files: also to slides, notebooks, wheel, PDF and archive."""
    pages = Site(request.getfixturevalue(whole))
    assert len(pages.names()) > len(CHAPTERS) + len(CHAPTERS)
    assert {name: found for name in pages.names() if (found := pages.broken(name))} == {}


def test_archive_is_the_site_without_itself(site: Path, archive: Path) -> None:
    files = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    packed = {path.relative_to(archive) for path in archive.rglob("*") if path.is_file()}
    assert {path.suffix for path in files - packed} == {".zip"}
    assert packed <= files
    assert ".zip" not in str(soup(archive, "downloads").select_one(".physml-downloads"))


def test_book_alone_names_what_it_has_not(built: Path) -> None:
    """`make book`: its downloads lead somewhere, and the rest is named without a link."""
    downloads = soup(built / "html", "downloads").select_one(".physml-downloads")
    linked = [link["href"] for link in downloads.select("a")]
    assert [f"notebooks/{name}.ipynb" for name in CHAPTERS] == linked[1:]
    assert re.fullmatch(r"files/physml-[\d.]+-py3-none-any\.whl", linked[0])
    said = downloads.get_text()
    for word in ("slides", "students' notebooks", "solutions", "PDF", "archive", "make site"):
        assert word in said


def test_part_that_is_gone_is_named_and_not_linked(tmp_path: Path) -> None:
    page = '<div class="physml-downloads" data-show="all"></div>'
    (tmp_path / "downloads.html").write_text(page)
    (tmp_path / "one.html").write_text('<h1>1. One <i>x</i><a class="headerlink">#</a></h1>')
    assert "the library" in fill(tmp_path, ["one"])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "physml-1-py3-none-any.whl").write_text("x" * 1234)
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "one.html").write_text("")
    assert "the library" not in fill(tmp_path, ["one"])
    made = soup(tmp_path, "downloads")
    assert [a["href"] for a in made.select("a")] == [
        "files/physml-1-py3-none-any.whl", "slides/one.html",
    ]  # fmt: skip
    assert "1 kB" in made.get_text()
    assert "1. One x" in made.get_text()
    assert "students' notebooks" in made.get_text()


@pytest.mark.browser
def test_every_download_arrives(chromium, site: Path) -> None:
    """Pressed one by one on the page of downloads, from a server."""

    with serve(site) as address:
        page = chromium.new_page()
        try:
            page.goto(f"{address}downloads.html")
            links = page.locator(".physml-downloads a[download]")
            assert links.count() == 3 + 3 * len(CHAPTERS)
            for index in range(3 + 3 * len(CHAPTERS)):
                if index % 5 == 0:  # Chromium lets one tab have ten downloads
                    page.close()
                    page = chromium.new_page()
                    page.goto(f"{address}downloads.html")
                    links = page.locator(".physml-downloads a[download]")
                with page.expect_download() as arriving:
                    links.nth(index).click()
                arrived = Path(arriving.value.path()).read_bytes()
                assert arrived == (site / links.nth(index).get_attribute("href")).read_bytes()
            page.locator(".physml-downloads a:not([download])").first.click()
            page.wait_for_selector("html[data-ready]", timeout=60_000)  # a deck
        finally:
            page.close()


def test_lecturers_see_a_slide_and_find_the_rest(site: Path) -> None:
    page = soup(site, "teaching")
    links = {link["href"] for link in page.select(".physml-downloads a")}
    for name in CHAPTERS:
        assert f"slides/{name.replace('/', '-')}.html" in links
        assert {f"course/{e}/{name}.ipynb" for e in ("student", "solutions")} <= links
    (picture,) = [image for image in page.select("img") if "slide" in image["src"]]
    assert len(picture["alt"].split()) > 5
    from PIL import Image

    with Image.open(site / picture["src"]) as image:
        assert image.width >= 1200
        assert len(image.convert("RGB").getcolors(2**20)) > 20  # it is not empty


def test_lecture_is_mapped_to_sections(built: Path) -> None:
    tables = soup(built / "html", "teaching").select("table")
    (map_,) = [t for t in tables if "slide of the lecture" in t.get_text()]
    rows = [row.select("td") for row in map_.select("tbody tr")]
    assert len(rows) >= 12
    linked = {a["href"].split("#")[0] for row in rows for a in row[1].select("a")}
    assert linked == {f"{name}.html" for name in CHAPTERS}
    assert all(row[1].select("a[href*='#']") and row[2].select("a") for row in rows)


def test_publishing_stops_where_a_part_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    def part(name: str, status: int) -> Callable[[list[str]], int]:
        return lambda arguments: (done.append(" ".join([name, *arguments[2:]])), status)[1]

    monkeypatch.setattr(publish.build_book, "main", part("book", 0))
    monkeypatch.setattr(publish.slides, "main", part("slides", 0))
    monkeypatch.setattr(publish.course, "main", part("course", 3))
    assert publish.main(["--root", str(tmp_path)]) == 3
    assert done == ["book", "slides", "course"]


def test_publishing_without_latex_says_that_the_pdf_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "index.html").write_text("<h1>A</h1>")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text("root: index\nparts: []\n")
    for module in (publish.build_book, publish.slides, publish.course):
        monkeypatch.setattr(module, "main", lambda _arguments: 0)
    monkeypatch.setattr(publish.shutil, "which", lambda _name: None)
    assert publish.main(["--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "no LaTeX here, so the site has no PDF" in said
    assert (tmp_path / "_build" / "site" / "index.html").exists()


# ---------------------------------------------------------------- where only Python is


class Bare:
    """An environment with the packages that are here, but neither `physml` nor a way to the clone.

    Parameters
    ----------
    folder
        Where it is made.
    packages
        Whether it has the packages that the library requires.
    """

    def __init__(self, folder: Path, packages: bool = True) -> None:
        self.venv = folder / "venv"
        command = [sys.executable, "-m", "venv", "--without-pip", str(self.venv)]
        subprocess.run(command, check=True)
        self.python = self.venv / "bin" / "python"
        if packages:
            # each package by a link, for a folder on the path would bring all of them
            others = folder / "others"
            others.mkdir()
            for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
                for path in Path(place).iterdir():
                    if not re.match(r"physml|__editable__|.*\.pth$", path.name):
                        (others / path.name).symlink_to(path)
            (inside,) = self.venv.glob("lib/python*/site-packages")
            (inside / "others.pth").write_text(f"{others}\n")

    def run(self, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run code in a folder, as a kernel would; pip cannot fetch anything."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
        environ |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "no_proxy": "*"}
        environ |= {"MPLBACKEND": "Agg", "HOME": str(folder)}
        return subprocess.run(
            [str(self.python), "-c", code], cwd=folder, env=environ, capture_output=True, text=True
        )

    def start(self, notebook: Path, cells: int) -> subprocess.CompletedProcess[str]:
        """Run the first code cells of a notebook, and say where `physml` comes from."""
        code = [c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
        parts = [*code[:cells], "import physml; print('physml is', physml.__file__)"]
        return self.run("\n\n".join(parts), notebook.parent)


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


@pytest.fixture
def wheel(built: Path) -> Path:
    return next((built / "html" / "files").glob("*.whl"))


def test_bare_environment_is_bare(bare: Bare, tmp_path: Path) -> None:
    """It has torch, and no `physml`, neither installed nor by way of this clone."""
    code = "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('torch', 'physml')])"
    assert bare.run(code, tmp_path).stdout.strip() == "[True, False]"


def test_notebook_runs_with_the_wheel_beside_it(
    bare: Bare, built: Path, wheel: Path, tmp_path: Path
) -> None:
    """As downloaded: two files in a folder, and nothing else of the book."""
    here = tmp_path / "here"
    here.mkdir()
    notebook = here / "chapter.ipynb"
    notebook.write_bytes((built / "html" / "notebooks" / f"{CHAPTERS[0]}.ipynb").read_bytes())
    alone = bare.start(notebook, 2)
    assert alone.returncode != 0
    assert f"Put {wheel.name}, which the book's page of downloads has, beside" in alone.stderr
    (here / wheel.name).write_bytes(wheel.read_bytes())
    done = bare.start(notebook, 3)
    assert done.returncode == 0, done.stderr
    assert f"physml is {bare.venv}" in done.stdout


def test_notebook_of_the_archive_runs_and_the_library_as_its_page_says(
    bare: Bare, archive: Path
) -> None:
    """The wheel is found where the archive has it; then the ten lines of the library's page run."""
    done = bare.start(archive / "course" / "student" / f"{CHAPTERS[2]}.ipynb", 2)
    assert done.returncode == 0, done.stderr
    assert f"physml is {bare.venv}" in done.stdout
    page = (ROOT / "book" / "library.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(lines.strip().splitlines()) <= 12
    ran = bare.run(lines, archive)
    found = re.fullmatch(r"<phi\^2> = ([\d.]+)\((\d+)\), exactly ([\d.]+)\n", ran.stdout)
    assert found, ran.stderr
    assert abs(float(found[1]) - float(found[3])) < 4e-4 * int(found[2]) + 1e-4


def test_notebook_takes_the_wheel_from_the_site(bare: Bare, wheel: Path, tmp_path: Path) -> None:
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(wheel.parents[1])
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        cell = install_cell(wheel=wheel.name, site=address)
        done = bare.run(f"{cell}\nimport physml; print(physml.__file__)", tmp_path)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(bare.venv))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository that is not installed, called as the package is."""
    folder = tmp_path / "physml"
    (folder / "physml").mkdir(parents=True)
    for name in ("pyproject.toml", "physml/__init__.py", "physml/device.py", "physml/errors.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.mark.parametrize("inside", [True, False], ids=["in it", "beside it"])
def test_copy_that_is_not_installed_is_no_package_and_is_named(
    copy: Path, tmp_path: Path, inside: bool
) -> None:
    """In it Python finds the package, whose imports fail; beside it a mere folder of that name."""
    poor = Bare(tmp_path, packages=False)
    where = copy if inside else tmp_path
    found = poor.run("import physml; print(hasattr(physml, '__version__'))", where)
    assert found.stdout == f"{inside}\n"  # both could be mistaken for the library
    done = poor.run(install_cell(wheel="physml-1-py3-none-any.whl"), where)
    assert done.returncode != 0
    assert done.stderr.strip().endswith(f"pip install {copy}")


def test_folder_of_the_name_is_no_reason_to_do_nothing(
    bare: Bare, copy: Path, wheel: Path, tmp_path: Path
) -> None:
    """Beside a copy, with all that the library requires: the wheel is installed and found."""
    (tmp_path / wheel.name).write_bytes(wheel.read_bytes())
    cell = install_cell(wheel=wheel.name)
    done = bare.run(f"{cell}\nimport physml; print(physml.__file__)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(bare.venv))
    again = bare.run(f"import subprocess\nsubprocess.run = None\n{cell}", tmp_path)
    assert again.returncode == 0, again.stderr  # now it is there, and pip is not called
