"""A formula in plain characters, for where no formula is set: titles, and what a search finds."""

from __future__ import annotations

import re
import unicodedata

from docutils import nodes

__all__ = ["plain", "words"]

_GREEK = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {name.upper()}")
    for name in (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi pi rho sigma tau "
        "upsilon phi chi psi omega"
    ).split()
} | {"lambda": "λ", "varphi": "φ", "varepsilon": "ε"}
_SYMBOLS = {
    "langle": "⟨", "rangle": "⟩", "lvert": "|", "rvert": "|", "mid": " | ", "Vert": "‖",
    "sum": "∑", "prod": "∏", "int": "∫", "partial": "∂", "nabla": "∇", "sqrt": "√",
    "infty": "∞", "pm": "±", "mp": "∓", "times": "×", "cdot": "·", "dots": "…", "ldots": "…",
    "le": " ≤ ", "ge": " ≥ ", "ne": " ≠ ", "ll": " ≪ ", "gg": " ≫ ", "approx": " ≈ ",
    "simeq": " ≃ ", "sim": " ∼ ", "propto": " ∝ ", "equiv": " ≡ ", "in": " ∈ ", "to": " → ",
    "leftarrow": " ← ", "Rightarrow": " ⇒ ", "Longleftrightarrow": " ⟺ ", "cup": " ∪ ",
    "subseteq": " ⊆ ", "setminus": " ∖ ", "emptyset": "∅", "perp": " ⊥ ", "dagger": "†",
    "ell": "ℓ", "hbar": "ℏ", "quad": " ", "qquad": " ", "|": "‖", "{": "{", "}": "}",
}  # fmt: skip
_ACCENTS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304", "dot": "\u0307"}
_RAISED = dict(zip("0123456789+-=()niT†*", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵀ†*", strict=True))
_LOWERED = dict(
    zip("0123456789+-=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True)
)
_LAYOUT = (
    "left right big Big bigl bigr Bigl Bigr rm bf it displaystyle textstyle limits boxed"
).split()
_TOKEN = re.compile(r"\\([A-Za-z]+)\s*|\\(.)|([{}^_&~])|(\s+)|(.)", re.DOTALL)


def plain(tex: str) -> str:
    r"""Return a formula in TeX as one line of Unicode: `\phi^4` is φ⁴.

    It is meant for short formulas that are read in passing. What has no character of its own stays
    legible: a fraction becomes `a/b`, an unknown command its name.
    """
    tokens = list(_TOKEN.finditer(tex))
    place = 0

    def argument() -> str:
        nonlocal place
        while place < len(tokens) and tokens[place][4]:
            place += 1
        if place == len(tokens):
            return ""
        if tokens[place][3] == "{":
            place += 1
            return group()
        return atom()

    def group() -> str:
        nonlocal place
        parts = []
        while place < len(tokens) and tokens[place][3] != "}":
            parts.append(atom())
        place += 1
        return "".join(parts)

    def atom() -> str:
        nonlocal place
        name, escaped, special, space, character = tokens[place].groups()
        place += 1
        if space or escaped in (" ", ",", ";", ":", "\\") or special in ("&", "~"):
            return " "
        if character:
            return "−" if character == "-" else character
        if special == "{":
            return group()
        if special in ("^", "_"):
            return _script(special, argument())
        if escaped:
            return _SYMBOLS.get(escaped, "")
        if name in ("frac", "tfrac", "dfrac"):
            return f"{_bracketed(argument())}/{_bracketed(argument())}"
        if name in _ACCENTS:
            inner = argument()
            return inner + _ACCENTS[name] if len(inner) == 1 else inner
        if name in ("begin", "end", "label", "tag"):
            argument()
            return ""
        if name in _LAYOUT or name.startswith(("math", "text", "bold", "operator")):
            return ""  # what follows, in braces or not, stands for itself
        if name.lower() in _GREEK:
            letter = _GREEK[name.lower()]
            return letter if name.islower() else letter.upper()
        return _SYMBOLS.get(name, f"{name} ")

    parts = []
    while place < len(tokens):
        parts.append(atom())
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", "".join(parts)).strip())


def _script(kind: str, inner: str) -> str:
    inner = inner.strip()
    table = _RAISED if kind == "^" else _LOWERED
    characters = inner.replace("−", "-")
    if all(c in table for c in characters):
        return "".join(table[c] for c in characters)
    return kind + (inner if len(inner) == 1 else f"({inner})")


def _bracketed(inner: str) -> str:
    inner = inner.strip()
    return f"({inner})" if re.search(r"[\s+−/]", inner) else inner


def words(node: nodes.Node) -> str:
    """Return the text of a node, with its formulas in plain characters."""
    if isinstance(node, nodes.math | nodes.math_block):
        return plain(node.astext())
    if isinstance(node, nodes.Text):
        return node.astext()
    gap = "" if isinstance(node, nodes.TextElement) else " "
    return gap.join(words(child) for child in node.children)
