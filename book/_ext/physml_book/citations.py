"""The bibliography as the text cites it: in the order of authors, labelled by author and year.

In print nothing leads from "Wang et al., 2024" to an entry but these words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from unicodedata import normalize

import pybtex.plugin
from pybtex.database import Entry
from pybtex.style.formatting.unsrt import Style as Unsorted
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting import BaseSortingStyle
from sphinxcontrib.bibtex.style.referencing import PersonStyle

__all__ = ["AuthorYear", "connect", "label"]

NAME = "physml"  # of the style, in `_config.yml`


class _Sorting(BaseSortingStyle):
    """By label, which is what a reader looks for; accents do not count."""

    def sorting_key(self, entry: Entry) -> str:
        return normalize("NFKD", label(entry)).encode("ascii", "ignore").decode().casefold()


class _Labels(BaseLabelStyle):
    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        yield from map(label, sorted_entries)


class AuthorYear(Unsorted):
    """The entries of the style `unsrt`, with the labels and the order of this module."""

    default_sorting_style = _Sorting
    default_label_style = _Labels


def label(entry: Entry) -> str:
    """Return the words by which the text cites an entry: `Wang et al., 2024`."""
    style = SimpleNamespace(person=PersonStyle())
    names = style.person.author_or_editor_or_title(full=False)
    words = names.format_data({"entry": entry, "style": style}).render_as("text")
    return f"{words}, {entry.fields['year']}"


def connect(_app: object) -> None:
    """Give the style its name."""
    pybtex.plugin.register_plugin("pybtex.style.formatting", NAME, AuthorYear)
