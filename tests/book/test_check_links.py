"""What the link check calls good and broken, with servers and a network of this machine's own."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pybtex.database import parse_file

import check_links
from check_links import Site, addresses, ask, ask_all, bibliography, text

ROOT = Path(__file__).resolve().parents[2]
REPLIES = {
    "/good": 200,
    "/good(2024)": 200,
    "/missing": 404,
    "/gone": 410,
    "/closed": 403,
    "/busy": 429,
    "/ill": 500,
    "/moved": (302, "/good"),
    "/moved-away": (301, "/missing"),
    "/round": (302, "/round"),
    "/10.1000/known": (302, "https://publisher.example.org/refuses/programs"),
    "/10.1000/unknown": 404,
}


class Server(http.server.ThreadingHTTPServer):
    """Answers as `REPLIES` says, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Replies)
        self.asked: list[tuple[str, str, str]] = []

    def at(self, path: str, host: str = "site.example.org") -> str:
        return f"http://{host}:{self.server_port}{path}"


class Replies(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["User-Agent"]))
        if self.path == "/slow":
            return self.server.free.wait(10) and None
        reply = REPLIES.get(self.path, 405 if self.command == "HEAD" else 200)
        status, *where = reply if isinstance(reply, tuple) else (reply,)
        self.send_response(status)
        for location in where:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The only names there are; all are this machine."""
    known = {"site.example.org", "doi.org"}
    real = socket.getaddrinfo

    def look_up(host: str, *args: object, **kwargs: object) -> list:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("no_proxy", "*")
    return known


@pytest.fixture
def server(hosts: set[str]) -> Iterator[Server]:
    with Server() as running:
        running.free = threading.Event()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.free.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A project with two pages, whose links all lead somewhere."""
    write(tmp_path, "_build/html/index.html", '<p id="top"></p><a href="part/one.html#a%20b">1</a>')
    write(tmp_path, "_build/html/part/one.html", '<a name="a b" href="../index.html#top">0</a>')
    write(tmp_path, "_build/html/_static/macros.html", '<a href="{{ template }}">not a page</a>')
    return tmp_path


def write(root: Path, name: str, said: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said, encoding="utf-8")


def add(root: Path, said: str) -> None:
    with (root / "_build/html/index.html").open("a", encoding="utf-8") as page:
        page.write(said)


def run(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = check_links.main(["--root", str(root)])
    return status, capsys.readouterr().out


# ---------------------------------------------------------------- within the site


def test_links_that_lead_somewhere(book: Path) -> None:
    write(book, "_build/html/a picture.png", "")
    good = ["", "#", "#top", "part/one.html", "part/", "a%20picture.png", "?q=1#top"]
    write(book, "_build/html/part/index.html", "")
    add(book, "".join(f'<a href="{address}">x</a>' for address in good))
    site = Site(book / "_build" / "html")
    assert site.names() == ["index", "part/index", "part/one"]
    assert set(good) < set(site.named("index"))
    assert [site.broken(name) for name in site.names()] == [[], [], []]


@pytest.mark.parametrize(
    "address",
    ["two.html", "#bottom", "part/one.html#top", "/index.html", "../../README.md", "part"],
)
def test_links_that_lead_nowhere(book: Path, address: str) -> None:
    """A file that is not published is nowhere, and so is an anchor on another page."""
    write(book, "README.md", "")
    add(book, f'<a href="{address}">x</a>')
    assert Site(book / "_build" / "html").broken("index") == [address]


def test_pictures_and_scripts_are_looked_for_too(book: Path) -> None:
    add(book, '<img src="x.png" alt=""><script src="x.js"></script><img src="data:," alt="">')
    add(book, '<link rel="stylesheet" href="x.css">')
    add(book, '<meta http-equiv="Refresh" content="0; url=x.html" />')
    assert Site(book / "_build" / "html").broken("index") == ["x.png", "x.js", "x.css", "x.html"]


# ---------------------------------------------------------------- addresses


def test_addresses_in_a_text() -> None:
    said = """See https://a.org/b_(c), [this](https://doi.org/10.1/JHEP05(2024)060). <http://d.org>
    `make serve` is at "http://localhost:8000" (https://e.org/f?g=h#i)."""
    assert list(text(said)) == [
        "https://a.org/b_(c)",
        "https://doi.org/10.1/JHEP05(2024)060",
        "http://d.org",
        "http://localhost:8000",
        "https://e.org/f?g=h#i",
    ]


def test_addresses_in_the_bibliography_are_those_that_pybtex_finds() -> None:
    path = ROOT / "book" / "references.bib"
    made = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
    entries = parse_file(str(path)).entries.values()
    want = {made[k] + v for entry in entries for k, v in entry.fields.items() if k in made}
    found = list(bibliography(path.read_text(encoding="utf-8")))
    assert len(found) >= len(entries) - 1
    assert set(found) == want


def test_each_address_is_kept_once_with_those_who_name_it(book: Path) -> None:
    add(book, '<a href="https://a.org/b#c">x</a><a href="mailto:me@a.org">x</a>')
    write(book, "README.md", "https://a.org/b and https://ü.org/é, http://localhost:8000")
    write(book, "book/references.bib", "@misc{a,\n  doi = {10.1/x<y>z}\n}")
    assert addresses(book, Site(book / "_build" / "html")) == {
        "https://a.org/b": ["index.html", "README.md"],
        "https://ü.org/%C3%A9": ["README.md"],
        "https://doi.org/10.1/x%3Cy%3Ez": ["book/references.bib"],
    }


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/good", "good"),
        ("/good(2024)", "good"),
        ("/knows-no-head", "good"),
        ("/moved", "good"),
        ("/moved-away", "broken"),
        ("/missing", "broken"),
        ("/gone", "broken"),
        ("/closed", "refused"),
        ("/busy", "refused"),
        ("/ill", "unclear"),
        ("/round", "unclear"),
    ],
)
def test_answer(server: Server, path: str, kind: str) -> None:
    answer = ask(server.at(path))
    assert answer.kind == kind
    assert answer.answered
    assert {agent.split()[0] for *_, agent in server.asked} == {"physml-check-links"}


def test_doi_is_good_if_the_resolver_knows_it_and_the_publisher_is_not_asked(
    server: Server,
) -> None:
    assert ask(server.at("/10.1000/known", "doi.org")).kind == "good"
    assert [method for method, *_ in server.asked] == ["HEAD"]
    assert ask(server.at("/10.1000/unknown", "doi.org")).kind == "broken"
    # elsewhere a redirect to a name that does not exist is a broken link
    assert ask(server.at("/10.1000/known")).kind == "broken"


def test_no_such_name_or_port_is_broken_and_a_silent_server_unclear(server: Server) -> None:
    nowhere = ask("http://nowhere.example.org/")
    assert (nowhere.kind, nowhere.answered) == ("broken", False)
    assert ask("http://site.example.org:port/").kind == "broken"
    slow = ask(server.at("/slow"), timeout=0.1)
    assert (slow.kind, slow.answered) == ("unclear", False)


def test_resolver_that_is_out_of_reach_is_unclear(
    hosts: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert ask("http://site.example.org/").kind == "unclear"


def test_each_address_is_asked_for_once(server: Server) -> None:
    asked = [server.at(path) for path in ("/good", "/moved", "/good(2024)")]
    said = ask_all([*asked, "http://nowhere.example.org/"])
    assert [said[address].kind for address in asked] == ["good"] * 3
    assert said["http://nowhere.example.org/"].kind == "broken"
    paths = [path for _, path, _ in server.asked]
    assert sorted(paths) == ["/good", "/good", "/good(2024)", "/moved"]  # one was moved to


def test_without_a_network_nothing_is_said_of_the_addresses(server: Server, hosts: set) -> None:
    hosts.clear()
    assert ask_all([server.at("/good"), server.at("/missing", "doi.org")]) == {}


# ---------------------------------------------------------------- the program


def test_no_book_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(tmp_path, capsys)
    assert (status, said) == (2, "There is no book yet: run 'make book' first.\n")


def test_all_good_or_refused(
    book: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    add(book, f'<a href="{server.at("/good")}">x</a><a href="{server.at("/closed")}">x</a>')
    add(book, f'<a href="{server.at("/ill")}">x</a>')
    status, said = run(book, capsys)
    assert status == 0
    assert f"refused: {server.at('/closed')} (403), in index.html" in said
    assert "2 pages: 0 broken" in said
    assert "3 addresses: 1 good, 1 refused, 1 unclear, 0 broken" in said


def test_broken_address(book: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    write(book, "CHANGELOG.md", f"See {server.at('/missing')}.")
    add(book, f'<a href="{server.at("/good")}">x</a>')
    status, said = run(book, capsys)
    assert status == 1
    assert f"broken: {server.at('/missing')} (404), in CHANGELOG.md" in said


def test_no_network_is_said_in_a_line_and_the_rest_is_checked(
    book: Path, hosts: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.clear()
    add(book, '<a href="http://site.example.org/">x</a>')
    status, said = run(book, capsys)
    assert status == 0
    assert "No network answers: addresses outside (1) were not asked for." in said
    add(book, '<a href="#nowhere">x</a>')
    status, said = run(book, capsys)
    assert status == 1
    assert "broken: #nowhere, in index.html" in said
