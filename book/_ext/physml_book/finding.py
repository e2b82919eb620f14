"""What a search of the site finds, and what it shows of it. The index and its search are Sphinx's.

* Words are stemmed as Sphinx does, after American spellings are made British, on both sides.
* Index entries of the chapters count as main ones, and lead to their section; so do the other names
  in `book/other_names.yml`, which a reader may bring along. Library names come after the text.
* Titles are plain characters, and each page has one.
* Excerpts are sentences of the page, from `searchtexts.js`, which works without a server too;
  Sphinx would fetch whole pages, buttons, menus and TeX included (see `static/finding.js`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.search import languages
from sphinx.search.en import SearchEnglish
from sphinx.util import logging

from .plain import plain, words

__all__ = ["British", "british", "connect", "sentences"]

LOGGER = logging.getLogger(__name__)

OTHER_NAMES = "other_names.yml"
TEXTS = "searchtexts.js"

# American to British, in the syntax that Python and JavaScript share. That a word is spelled
# wrongly by them does no harm, for it is so in the index and in the query.
_SPELLINGS = [
    (r"(\w{3})(i|y)z(?=(?:e[ds]?|ers?|ing|ations?|ational|able)\b)", r"\1\2s"),
    (r"\b(neighb|behavi|col|fav|harb|lab)or", r"\1our"),
    (r"\b(cent|fib|lit|met)er\b", r"\1re"),
    (r"\b(model|label|travel|signal)l(?=ed|ing|er)", r"\1"),
    (r"\bgray", "grey"),
    ("[\u2013\u2014]", "-"),
]

_JAVASCRIPT = """
var british = (word) => {
  for (const [pattern, spelling] of %s) word = word.replace(new RegExp(pattern, "g"), spelling);
  return word;
};
var Stemmer = ((Porter) => function () {
  const porter = new Porter();
  this.stemWord = (word) => porter.stemWord(british(word.toLowerCase()));
})(Stemmer);
"""

# What is no sentence: code and what it prints, and what is not seen.
_SILENT = (
    nodes.literal_block,
    nodes.raw,
    nodes.comment,
    nodes.title,
    nodes.image,
    nodes.system_message,
    nodes.Invisible,
    addnodes.toctree,
    addnodes.index,
    addnodes.desc_signature,
)
_END = re.compile(r"(?<=[.!?:])\s+(?=[^\W\d_a-z])")


def british(text: str) -> str:
    """Return a text with the American spellings in it made British."""
    for pattern, spelling in _SPELLINGS:
        text = re.sub(pattern, spelling, text)
    return text


class British(SearchEnglish):
    """Sphinx's English, for which `quantization` and `quantisation` are one word."""

    js_stemmer_code = SearchEnglish.js_stemmer_code + _JAVASCRIPT % json.dumps(
        [(pattern, re.sub(r"\\(\d)", r"$\1", spelling)) for pattern, spelling in _SPELLINGS]
    )

    def stem(self, word: str) -> str:
        return super().stem(british(word.lower()))


def sentences(node: nodes.Node) -> Iterator[str]:
    """The sentences of a part of a page, without its code, titles and sections within it."""
    if isinstance(node, _SILENT):
        return
    if isinstance(node, nodes.paragraph) and [*map(type, node.children)] == [nodes.emphasis]:
        return  # a remark on the page, as what it costs
    if isinstance(node, nodes.definition_list_item):
        terms = ", ".join(words(term) for term in node.findall(nodes.term))
        said = [each for part in node.findall(nodes.definition) for each in sentences(part)]
        yield ": ".join([terms, *said[:1]])
        yield from said[1:]
        return
    if isinstance(node, nodes.TextElement):
        text = re.sub(r"\s+", " ", words(node)).strip()
        yield from (part for part in _END.split(text) if part)
        return
    for child in node.children:
        if not isinstance(child, nodes.section | addnodes.desc):
            yield from sentences(child)


def connect(app: Sphinx) -> None:
    """Take part in reading titles and in writing the index."""
    app.add_search_language(British)
    languages["en"] = British  # `add_search_language` is too late for what was asked for already
    app.connect("doctree-read", _plain_titles, priority=900)
    app.connect("env-check-consistency", _place_names)
    app.connect("doctree-resolved", _read_page, priority=950)
    app.connect("html-collect-pages", _write_texts)


# ------------------------------------------------------------------------------ titles, anywhere


def _plain_titles(app: Sphinx, _doctree: nodes.document) -> None:
    """Write the formulas in a page's titles in plain characters, outside the page itself."""
    env = app.env
    for titles in (env.titles, env.longtitles, env.tocs):
        for formula in list(titles[env.docname].findall(nodes.math)):
            formula.replace_self(nodes.Text(plain(formula.astext())))


# -------------------------------------------------------------------------------- the index


def _place_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Find where each other name leads: the section of a label, or of an entry of the index."""
    path = Path(app.srcdir) / OTHER_NAMES
    table = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    labels = env.get_domain("std").anonlabels
    places: dict[str, list[tuple[str, str]]] = {}
    entries: dict[str, tuple[str, str]] = {}
    for name in _in_order(app):
        for node in env.get_domain("index").entries.get(name, []):
            for part in _parts(node):
                entries.setdefault(part.lower(), (name, node[2]))
    for key, others in table.items():
        if key in labels:
            place = labels[key][:2]
        elif key.lower() in entries:
            place = entries[key.lower()]
            others = [*others, key]
        else:
            LOGGER.warning("%s: there is no label or index entry %r", OTHER_NAMES, key)
            continue
        places.setdefault(place[0], []).extend((name, place[1]) for name in others)
    app.env.physml_other_names = places


def _in_order(app: Sphinx) -> Iterator[str]:
    waiting, known = [app.config.root_doc], set()
    while waiting:
        name = waiting.pop(0)
        if name not in known:
            known.add(name)
            waiting[:0] = app.env.toctree_includes.get(name, [])
            yield name


def _parts(entry: tuple) -> list[str]:
    """The names of an index entry: of `Markov property; local`, the first."""
    kind, value = entry[:2]
    if kind == "pair":
        return [part.strip() for part in value.split(";")]
    return [value.split(";")[0].strip()]


def _read_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Note the page's sentences, and give its index entries the form in which they are searched."""
    if app.builder.format != "html" or getattr(app.builder, "indexer", None) is None:
        return
    app.env.physml_texts = getattr(app.env, "physml_texts", {})
    sections = list(doctree.findall(lambda n: isinstance(n, nodes.section | addnodes.desc)))
    texts = []
    holder: dict[str, str] = {}
    for section in sections:
        anchor = _anchor(section)
        for node in section.findall(nodes.Element):
            holder |= dict.fromkeys(node["ids"], anchor)  # a section within comes later, and stays
        title = next(iter(section.findall(nodes.title)), None)
        said = list(sentences(section))
        if isinstance(section, nodes.section) and (said or title):
            texts.append([anchor, words(title) if title else "", said])
        elif said:
            texts.append([anchor, "", said])
    app.env.physml_texts[docname] = texts

    names = [("single", name, anchor, "main", None) for name, anchor in _names_of(app, docname)]
    if "/" in docname:  # of the chapters, not of the library's pages
        for node in list(doctree.findall(addnodes.index)):
            for entry in node["entries"]:
                names += [("single", part, entry[2], "main", None) for part in _parts(entry)]
            node.parent.remove(node)
    if names and sections:
        entries = [(k, british(n.lower()), holder.get(a, a), m, c) for k, n, a, m, c in names]
        sections[0].append(addnodes.index(entries=entries))


def _names_of(app: Sphinx, docname: str) -> list[tuple[str, str]]:
    return getattr(app.env, "physml_other_names", {}).get(docname, [])


def _anchor(section: nodes.Element) -> str:
    if isinstance(section, addnodes.desc):
        signature = next(iter(section.findall(addnodes.desc_signature)), section)
        return next(iter(signature["ids"]), "")
    return next(iter(section["ids"]), "")


def _write_texts(app: Sphinx) -> list:
    """Write the sentences beside the index, and mend its titles (`html-collect-pages`)."""
    indexer = getattr(app.builder, "indexer", None)
    if indexer is None:
        return []
    for docname, titles in indexer._all_titles.items():
        # its number is in an element of its own there, which would count as a part of its words
        indexer._titles[docname] = re.sub(r"<[^>]+>", "", indexer._titles[docname])
        shown = {
            title.astext(): words(title)
            for title in app.env.get_doctree(docname).findall(nodes.title)
        }
        indexer._all_titles[docname] = [
            (indexer._titles[docname] if anchor is None else shown.get(title, title), anchor)
            for title, anchor in titles
        ]
    texts = {name: app.env.physml_texts.get(name, []) for name in sorted(indexer._titles)}
    path = Path(app.outdir) / TEXTS
    path.write_text(
        f"var searchTexts = {json.dumps(texts, ensure_ascii=False, separators=(',', ':'))};\n",
        encoding="utf-8",
    )
    return []
