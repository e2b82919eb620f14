"""What all tests share: their order, what they need, and the book, built once."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"  # no test opens a window
# Threads that spin while they wait take the cores from those that they wait for: ten times slower
# where more than one process works. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from background import Background, Done
from visits import DESK, Visit, serve

import build_book
from colab import Colab

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
MISSING_FOR_PDF = [
    name for name in ("make", *build_book._LATEX, "pdftotext") if shutil.which(name) is None
]
_NOTES = pytest.StashKey[list[str]]()
_BESIDE = pytest.StashKey[Background]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_NOTES] = []
    config.stash[_BESIDE] = Background(ROOT)
    if not config.option.collectonly:
        import torch

        torch.set_num_threads(1)  # the other core has the book to build


def checks_only(program: str) -> str:
    """Return a solution's code up to its last check: the rest draws, and the course runs it."""
    tree = ast.parse(program)
    asked = [n for n, node in enumerate(tree.body) if "check_" in ast.unparse(node)]
    return ast.unparse(ast.Module(tree.body[: asked[-1] + 1], [])) if asked else ""


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    """No test finds the figures of another."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The book's tests come last, and those that need what is not here are skipped."""
    for item in items:
        if ROOT / "tests" / "book" in item.path.parents:
            item.add_marker("book")
        if item.get_closest_marker("browser") and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="needs a browser: install Debian's chromium"))
        if item.get_closest_marker("gpu") and not _cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    # what the book's tests wait for is made beside the library's; the second runs are ready last
    items.sort(
        key=lambda item: (
            item.get_closest_marker("book") is not None,
            item.path.name == "test_second_run.py",
        )
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what takes minutes: the book, Colab's packages, each notebook a second time."""
    if session.config.option.collectonly:
        return
    here = [item for item in session.items if not any(item.iter_markers("skip"))]
    asked = {name for item in here for name in getattr(item, "fixturenames", ())}
    again = [i.callspec.params["docname"] for i in here if "second_run" in i.fixturenames]
    first = []
    if "built" in asked:
        first.append(("the book", ["tools/build_book.py"]))
    if "colab" in asked:
        first.append(("Colab's packages", ["tools/colab.py"]))
    second = [(name, ["tools/second_run.py", name]) for name in again]
    if "printed" in asked and not MISSING_FOR_PDF:
        second.insert(0, ("the PDF", ["tools/build_book.py", "--pdf"]))
    session.config.stash[_BESIDE].start([first, second])


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_BESIDE].stop()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_NOTES]:
        terminalreporter.section("what was tested")
        for note in config.stash[_NOTES]:
            terminalreporter.line(note)


@pytest.fixture(scope="session")
def note(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Add a line to what is said after the tests."""
    return pytestconfig.stash[_NOTES].append


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def beside(pytestconfig: pytest.Config) -> Callable[[str], Done]:
    """Wait for what is made beside the tests, and show meanwhile what it says."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def wait(name: str) -> Done:
        with capture.global_and_fixture_disabled():
            print(f"\n[waiting for {name}]", flush=True)
            return pytestconfig.stash[_BESIDE].wait(name, lambda said: print(said, flush=True))

    return wait


@pytest.fixture(scope="session")
def built(beside: Callable[[str], Done], note: Callable[[str], None]) -> Path:
    """The book, built strictly from a clean tree; its build folder."""
    made = beside("the book")
    if made.status:
        pytest.fail(f"the book does not build strictly:\n{made.said}", pytrace=False)
    note(f"The book was built strictly in {made.seconds:.0f} s: _build/html/index.html")
    return ROOT / "_build"


@pytest.fixture(scope="session")
def html(built: Path) -> Path:
    """The folder of the site."""
    return built / "html"


@pytest.fixture(scope="session")
def server(html: Path) -> Iterator[str]:
    """The site at an address of this machine."""
    with serve(html) as address:
        yield address


@pytest.fixture
def visit(chromium, html: Path, server: str) -> Iterator[Callable[..., Visit]]:
    """Open a page, from the server or as a file."""
    visits: list[Visit] = []

    def open_page(
        name: str, as_file: bool = False, query: str = "", **context: object
    ) -> Visit:
        base = html.as_uri() + "/" if as_file else server
        visits.append(Visit(chromium, f"{base}{name}.html{query}", **{"viewport": DESK, **context}))
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.context.close()


@pytest.fixture(scope="session")
def decks(built: Path) -> Path:
    """The decks of the book; their folder."""
    import slides

    assert slides.main([]) == 0
    return built / "slides"


@pytest.fixture(scope="session")
def colab(beside: Callable[[str], Done]) -> Colab:
    """The environment with Colab's packages and physml from its wheel."""
    made = beside("Colab's packages")
    if made.status:
        pytest.fail(f"Colab's packages cannot be installed:\n{made.said}", pytrace=False)
    colab = Colab(ROOT)
    colab.make()  # everything is there
    return colab


@pytest.fixture
def second_run(beside: Callable[[str], Done], colab: Colab, built: Path, docname: str) -> Done:
    """What the second run of a page gave."""
    return beside(docname)


class TinyBook:
    """A book of a few lines, with the real configuration and extension, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in ("_config.yml", "book/_ext", "book/_static"):
            target = folder / name
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, target, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, target)
        self.write("physml/__init__.py", '__version__ = "0"\n')
        self.write("book/references.bib", "")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def build(self, **environ: str) -> tuple[int, str]:
        """Build as `make book` does; return the exit status and what was said."""
        command = [sys.executable, str(ROOT / "tools" / "build_book.py"), "--root", str(self.root)]
        return self.run(command, **environ)

    def run(self, command: list[str], **environ: str) -> tuple[int, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "PHYSML_"))}
        done = subprocess.run(
            command,
            cwd=self.root,
            env=base | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyBook:
    """A tiny book for a module's tests, without pages yet."""
    return TinyBook(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless browser, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
