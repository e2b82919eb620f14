"""The reference of the library: one directive that documents a module from its docstrings.

    ```{eval-rst}
    .. library:: sampling
    ```

gives the module's docstring, and then each name in its `__all__`. Of a package, each submodule has
a section of its own, with the names that the package takes from it: they are documented under the
name by which one imports them, `physml.sampling.HMC`. What is new in the library is so on the page
without a change here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["PACKAGE", "connect", "source"]

PACKAGE = "physml"


class Library(SphinxDirective):
    """`.. library:: MODULE`, with the module's name below `physml`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(source(self.arguments[0]), allow_section_headings=True)


def source(name: str) -> str:
    """Return the reStructuredText that documents a module of the library."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    parts = [f".. automodule:: {module.__name__}"]
    left = [member for member in module.__all__ if not member.startswith("__")]
    for submodule in _submodules(module):
        here = [member for member in left if member in submodule.__all__]
        if not here:
            continue
        left = [member for member in left if member not in here]
        title = submodule.__name__
        parts += [f"{title}\n{'-' * len(title)}", f".. automodule:: {title}"]
        parts += [_member(module, member) for member in here]
    parts += [_member(module, member) for member in left]
    return "\n\n".join(parts) + "\n"


def _submodules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.iter_modules(getattr(package, "__path__", ()))
    names = [entry.name for entry in found if not entry.name.startswith("_")]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module for module in modules if hasattr(module, "__all__")]


def _member(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {module.__name__}.{name}\n   :members:"
    if inspect.isroutine(value):
        return f".. autofunction:: {module.__name__}.{name}"
    # autodoc would show the docstring of the value's type
    shown = repr(value)
    options = [f":module: {module.__name__}"] + [f":value: {shown}"] * (len(shown) < 80)
    return "\n   ".join([f".. py:data:: {name}", *options])


def connect(app: Sphinx) -> None:
    """Add the directive."""
    app.add_directive("library", Library)
