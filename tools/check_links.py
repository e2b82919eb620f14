"""Check the links of the built book, and of the files around it.

    python tools/check_links.py [--root FOLDER]

Within the site, each link, picture and script must be a file of the site, and an anchor must be on
the page that the link names. Addresses outside it, those of the pages, of README, CHANGELOG and
CITATION and those in the bibliography, are asked for once each, where a network answers. One is

* good if it answers. Of a DOI, doi.org is asked alone: it leads on from a number that it knows, and
  where to is a publisher's page, which many a publisher keeps from programs;
* refused if the server does not want to tell a program (401, 403, 429);
* unclear if there is no answer, or one of a server in trouble;
* broken if there is no such page (404, 410), no such name, or no sense in it.

Only broken links are an error: status 1, and 2 if there is no book. Sphinx's linkcheck would read
the sources again, not the pages that a reader gets, with their anchors and the links that the
extension sets; it calls a link broken that is refused, and every link where there is no network.
This file needs nothing but Python.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html.parser import HTMLParser
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urldefrag, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

__all__ = ["Answer", "Page", "Site", "addresses", "ask", "ask_all", "bibliography", "main", "text"]

ROOT = Path(__file__).resolve().parents[1]
_TEXTS = ("README.md", "CHANGELOG.md", "CITATION.cff")
_NO_BOOK = "There is no book yet: run 'make book' first."
# Where a page names other files; an address elsewhere is only a link if it is in an `a`.
_NAMES = {"a": "href", "img": "src", "link": "href", "script": "src"}
_FIELDS = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
_RESOLVERS = ("doi.org", "dx.doi.org", "www.doi.org")
_SAFE = "%/:=&?~+!$,;'@()*[]"  # what an address may contain as it is, and what is quoted already
_REFUSED, _BROKEN = (401, 403, 429), (404, 410)
_HEADERS = {"User-Agent": "physml-check-links (asks for each link once)", "Accept": "*/*"}
_TOGETHER = 8  # requests under way


# ---------------------------------------------------------------------------- within the site


class Page(HTMLParser):
    """What a page names, and what can be named on it.

    Attributes
    ----------
    links
        The addresses of its links.
    parts
        The addresses of its pictures, styles and scripts, and of the page that it leads on to.
    anchors
        The names that can stand behind `#`.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.anchors: set[str] = set()
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        address = found.get(_NAMES.get(tag))
        if tag == "meta" and (found.get("http-equiv") or "").lower() == "refresh":
            address = (found.get("content") or "").partition("url=")[2]  # leads on
        if address is not None:
            (self.links if tag == "a" else self.parts).append(address.strip())
        anchors = (found.get("id"), found.get("name") if tag == "a" else None)
        self.anchors.update(filter(None, anchors))


class Site:
    """The built pages of a folder; each is read once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._read: dict[Path, Page] = {}

    def names(self) -> list[str]:
        """Return the names of all pages, without `.html`; Sphinx's own folders have none."""
        files = (path.relative_to(self.folder) for path in self.folder.rglob("*.html"))
        pages = (path for path in files if not path.parts[0].startswith("_"))
        return sorted(path.with_suffix("").as_posix() for path in pages)

    def page(self, name: str) -> Page:
        """Return the page of this name."""
        return self._page(self.folder / f"{name}.html")

    def named(self, name: str) -> list[str]:
        """Return the addresses within the site that a page names."""
        page = self.page(name)
        return [a for a in page.links + page.parts if not any(urlsplit(a)[:2])]

    def broken(self, name: str) -> list[str]:
        """Return those whose file is not in the site, or whose anchor is not on its page."""
        return [address for address in self.named(name) if not self._leads(name, address)]

    def _leads(self, name: str, address: str) -> bool:
        parts = urlsplit(address)
        here = self.folder / f"{name}.html"
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if target.is_dir():
            target /= "index.html"
        # what is outside of the folder is here, but not where the site is published
        if not target.is_relative_to(self.folder) or not target.is_file():
            return False
        if not parts.fragment or target.suffix != ".html":
            return True
        return unquote(parts.fragment) in self._page(target).anchors

    def _page(self, path: Path) -> Page:
        if path not in self._read:
            self._read[path] = Page(path.read_text(encoding="utf-8"))
        return self._read[path]


# ---------------------------------------------------------------------------- outside of it


def text(source: str) -> Iterator[str]:
    """Yield the addresses in a text, without the punctuation around them."""
    for found in re.findall(r"https?://[^\s<>\"'`\]|]+", source):
        address = found.rstrip(".,;:!?*")
        while address.endswith(")") and address.count(")") > address.count("("):
            address = address[:-1].rstrip(".,;:!?*")
        yield address


def bibliography(source: str) -> Iterator[str]:
    """Yield the addresses of a BibTeX file's entries: their DOIs, e-prints and addresses."""
    for field, value in re.findall(r"^\s*(\w+)\s*=\s*[{\"](.*?)[}\"],?\s*$", source, re.MULTILINE):
        if field.lower() in _FIELDS:
            yield _FIELDS[field.lower()] + value


def addresses(root: Path, site: Site) -> dict[str, list[str]]:
    """Return all addresses outside of the site, each with the pages and files that name it.

    Parameters
    ----------
    root
        The project's folder: its texts and its bibliography are read, those that are there.
    site
        The built pages.
    """
    named: dict[str, list[str]] = {}

    def add(where: str, found: Iterable[str]) -> None:
        for address in found:
            if urlsplit(address).scheme in ("http", "https"):
                parts = urlsplit(urldefrag(address).url)  # no server sees the fragment
                path, query = (quote(part, safe=_SAFE) for part in (parts.path, parts.query))
                clean = parts._replace(path=path, query=query).geturl()
                if where not in named.setdefault(clean, []):
                    named[clean].append(where)

    for name in site.names():
        add(f"{name}.html", site.page(name).links)
    readers: dict[str, Callable[[str], Iterable[str]]] = dict.fromkeys(_TEXTS, text)
    for name, read in {**readers, "book/references.bib": bibliography}.items():
        if (root / name).is_file():
            add(name, read((root / name).read_text(encoding="utf-8")))
    # `make serve` is on the reader's machine
    return {a: where for a, where in named.items() if urlsplit(a).hostname != "localhost"}


class Answer(NamedTuple):
    """What became of a request.

    Attributes
    ----------
    kind
        `good`, `refused`, `unclear` or `broken`.
    why
        The status, or what went wrong.
    answered
        Whether a server has said something.
    """

    kind: str
    why: str
    answered: bool


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but not those of a resolver: they are its answer."""

    def redirect_request(self, req: Request, *args: object) -> Request | None:
        if urlsplit(req.full_url).hostname in _RESOLVERS:
            return None
        return super().redirect_request(req, *args)


def ask(address: str, timeout: float = 10.0) -> Answer:
    """Ask for an address: its head, and if that is not good, for servers that know none, itself.

    Parameters
    ----------
    address
        An address with http or https.
    timeout
        For how many seconds a server may be silent.
    """
    answer = _request("HEAD", address, timeout)
    return answer if answer.kind == "good" else _request("GET", address, timeout)


def _request(method: str, address: str, timeout: float) -> Answer:
    request = Request(address, method=method, headers=_HEADERS)
    try:
        with build_opener(_Redirects).open(request, timeout=timeout) as response:
            return Answer("good", str(response.status), True)
    except HTTPError as error:
        with error:
            known = error.code // 100 == 3 and urlsplit(error.url).hostname in _RESOLVERS
            good = known and "Location" in error.headers
        kind = "refused" if error.code in _REFUSED else "unclear"
        kind = "broken" if error.code in _BROKEN else "good" if good else kind
        return Answer(kind, str(error.code), True)
    except (InvalidURL, ValueError) as error:
        return Answer("broken", str(error), False)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        unknown = isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN
        return Answer("broken" if unknown else "unclear", str(reason) or repr(reason), False)


def ask_all(asked: Iterable[str], timeout: float = 10.0) -> dict[str, Answer]:
    """Ask for all addresses, several at a time; return nothing if no network answers.

    One address of each server is asked for first. If none of them answers, it is not their fault.
    """
    asked, asking = list(asked), partial(ask, timeout=timeout)
    first = list({urlsplit(address).netloc: address for address in asked}.values())
    with ThreadPoolExecutor(_TOGETHER) as pool:
        said = dict(zip(first, pool.map(asking, first), strict=True))
        if not any(answer.answered for answer in said.values()):
            return {}
        rest = [address for address in asked if address not in said]
        said.update(zip(rest, pool.map(asking, rest), strict=True))
    return said


def main(arguments: list[str] | None = None) -> int:
    """Check all links, and say which are broken."""
    parser = argparse.ArgumentParser(description="Check the links of the built book.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with _config.yml")
    root = parser.parse_args(arguments).root.resolve()
    site = Site(root / "_build" / "html")
    names = site.names()
    if not names:
        print(_NO_BOOK)
        return 2

    total = sum(len(site.named(name)) for name in names)
    lost = [(name, address) for name in names for address in site.broken(name)]
    for name, address in lost:
        print(f"  broken: {address}, in {name}.html")
    print(f"Within the site, {total} links on {len(names)} pages: {len(lost)} broken.", flush=True)

    named = addresses(root, site)
    said = ask_all(named)
    if named and not said:
        print(f"No network answers: addresses outside ({len(named)}) were not asked for.")
        return 1 if lost else 0
    kinds = {kind: [] for kind in ("good", "refused", "unclear", "broken")}
    for address, answer in said.items():
        kinds[answer.kind].append(address)
    for kind in ("refused", "unclear", "broken"):
        for address in kinds[kind]:
            print(f"  {kind}: {address} ({said[address].why}), in {', '.join(named[address])}")
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items())
    print(f"Outside of it, {len(named)} addresses: {counts}.")
    return 1 if lost or kinds["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
