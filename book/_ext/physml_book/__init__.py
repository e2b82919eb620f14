"""The book's own Sphinx extension.

* `execution`: chapters are executed again when the library, the data or the packages change;
* `notebooks` and `markdown`: each chapter as a notebook to run, and the buttons that lead to it;
* `parallel`: chapters are executed two at a time; `progress`: which one is; `runs`: what it cost;
* `stubs`: what a reader starts an exercise from, and the call that checks it;
* `downloads`: what can be taken away; `trust`: authors, citation, errors;
* `places`: the section that something stands in;
* `minutes`: how long each section takes in a lecture;
* `opening`: what a chapter opens with, and what its folded cells say;
* `gathered`: what a page gathers from the whole book: runs, theorems, pictures;
* `printed`: what the PDF shows where the site moves, folds and links;
* `address`: the repository's address, where it is known;
* `reference` and `codelinks`: the library's reference, and links to it from code;
* `finding`: what a search finds and shows; `plain`: formulas where none is set;
* `head`: what a page says of itself to browsers and to those who link to it;
* `mathjax`, `icons` and `pictures`: from the site itself, only what it uses, and when it does;
* `terms`: glossary entries where their terms stand; `citations`: how the bibliography is sorted;
* `indexed`: what stands in the index;
* here: the wiring.
"""

from __future__ import annotations

import os
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from . import (
    address,
    citations,
    codelinks,
    downloads,
    execution,
    finding,
    gathered,
    head,
    icons,
    indexed,
    mathjax,
    minutes,
    notebooks,
    opening,
    parallel,
    pictures,
    places,
    printed,
    progress,
    reference,
    runs,
    stubs,
    terms,
    trust,
)

__all__ = ["setup"]

# Progress bars are for a person at a terminal: in a page they are noise, and never the same twice.
_KERNEL_ENVIRONMENT = {"TQDM_DISABLE": "1"}


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the parts to the events of a build."""
    # A change of either value means reading every page again.
    app.add_config_value("physml_execution_key", None, "env", [str])
    app.add_config_value("physml_address", None, "env", [address.Address])
    app.connect("config-inited", _configure)
    app.connect("env-get-outdated", notebooks.missing_notebooks)
    app.connect("doctree-resolved", notebooks.write_notebook, priority=900)
    app.connect("html-page-context", notebooks.page_buttons, priority=900)
    app.connect("build-finished", notebooks.copy_notebooks)
    app.connect("build-finished", execution.fail_if_a_chapter_failed)
    reference.connect(app)
    codelinks.connect(app)
    terms.connect(app)
    citations.connect(app)
    indexed.connect(app)
    app.connect("html-page-context", _mend_body)
    parallel.connect(app)
    runs.connect(app)
    gathered.connect(app)
    minutes.connect(app)
    opening.connect(app)
    stubs.connect(app)
    places.connect(app)
    trust.connect(app)
    downloads.connect(app)
    printed.connect(app)
    progress.connect(app)
    finding.connect(app)
    head.connect(app)
    icons.connect(app)
    mathjax.connect(app)
    pictures.connect(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _configure(app: Sphinx, config: Config) -> None:
    root, here = Path(app.srcdir).parent, Path(__file__).parent
    config.templates_path.insert(0, str(here / "templates"))
    config.html_static_path.append(str(here / "static"))
    for name, value in _KERNEL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    if config.physml_execution_key is None:
        config.physml_execution_key = execution.execution_key(
            root / "physml", execution.packages(root / "pyproject.toml")
        )
    build = Path(app.outdir).parent
    config.nb_execution_cache_path = str(execution.cache_folder(build, config.physml_execution_key))

    config.physml_address = address.find(root)
    theme = config.html_theme_options
    # else the theme has a header of its own above the page's, with nothing in it but a second
    # search field and menu buttons, and it is these that its script binds
    theme["navbar_persistent"] = []
    theme["back_to_top_button"] = False  # on a phone it lies on equations; the page's menu is there
    buttons = ("use_repository_button", "use_issues_button", "use_edit_page_button")
    if config.physml_address is None:
        theme.pop("repository_url", None)  # Jupyter Book fills in its own
        theme |= dict.fromkeys(buttons, False)
    else:
        theme |= {"repository_url": config.physml_address.url, "repository_branch": "main"}
        theme |= dict.fromkeys(buttons, True)
    config.html_baseurl = os.environ.get("PHYSML_BOOK_URL", config.html_baseurl)


def _mend_body(_app: Sphinx, _page: str, _template: str, context: dict, _doctree: object) -> None:
    """Mend for keyboards and screen readers what others write into the text."""
    if "body" in context:
        context["body"] = (
            context["body"]
            # the list of the bibliography promises items, and there are none
            .replace('<div role="list" class="citation-list">', '<div class="citation-list">')
            # the mark beside each heading and number is for a pointer, and can not be seen before
            .replace('<a class="headerlink"', '<a class="headerlink" tabindex="-1"')
        )
