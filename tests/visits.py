"""The pages of the book, and visits to them in a browser. The fixtures are in `conftest`."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PHONE = {"width": 390, "height": 844}
TABLET = {"width": 768, "height": 1024}
DESK = {"width": 1280, "height": 900}


def pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


PAGES = pages()
CHAPTERS = [name for name in PAGES if "/" in name]
MADE = ["genindex", "py-modindex", "search"]  # Sphinx's own pages


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A folder at an address of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


class Visit:
    """A page in the browser: what it logged, and what it asked of the network in vain."""

    def __init__(self, browser, address: str, **context: object) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.outside: list[str] = []
        here = address.split("/", 3)[:3]

        def gate(route) -> None:
            url = route.request.url
            if url.startswith(("data:", "blob:")) or url.split("/", 3)[:3] == here:
                route.continue_()
            else:
                self.outside.append(url)
                route.abort()

        self.page.route("**/*", gate)
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address, wait_until="load")
        self.page.evaluate(
            "() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null"
        )
