"""Files that hold the state of a run, and what tells one run from another.

The format is safetensors, which cannot execute anything when it is read.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import json
import math
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor, nn

from . import files
from .errors import CheckpointError

__all__ = ["check_rates", "check_settings", "digest", "identity", "read", "write"]

_KINDS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16",
          torch.bfloat16: "BF16", torch.complex64: "C64", torch.int64: "I64", torch.int32: "I32",
          torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}
_LAYOUT = "layout"  # the entry with the strides of what is not stored as it is in memory


def write(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], meta: Mapping[str, str]
) -> None:
    """Write tensors and texts to `path`, in the place of what was there before.

    An interruption leaves the old file, or none; see `physml.files.write`. `read` gives each tensor
    the order in memory that it has here: random numbers are drawn, and sums are rounded, in it.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    files.write(path, _pieces(tensors, meta))


def read(
    path: str | os.PathLike, mend: str = "remove it to start afresh, or give an earlier copy"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors, on the CPU, and texts of a file that `write` made.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated or of another kind; it says `mend`. Or if this user may
        not read it.
    """
    from safetensors import SafetensorError, safe_open

    place = files.located(path)
    try:
        with place.open("rb"):  # for the errors of the system, each by its name
            pass
        if _is_utf8(place):
            with safe_open(place, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                meta = file.metadata() or {}
        else:
            tensors, meta = _read_whole(place)
        for name, stride in json.loads(meta.pop(_LAYOUT, "{}")).items():
            tensors[name] = torch.empty_strided(
                tensors[name].shape, stride, dtype=tensors[name].dtype).copy_(tensors[name])
        return tensors, meta
    except PermissionError as error:
        raise CheckpointError(
            f"checkpoint={os.fspath(path)!r} may not be read by this user ({error}): ask its "
            "owner for permission to read, or name another file"
        ) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint={os.fspath(path)!r} cannot be read ({error}): {mend}"
        ) from error


def _pieces(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the bytes of a safetensors file: no copy of them all is ever in memory."""
    # the widest types first, so that each tensor lies at a multiple of its type's width
    order = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    texts = dict(meta)
    if layout := {name: tensor.stride() for name, tensor in order if _is_permuted(tensor)}:
        texts[_LAYOUT] = json.dumps(layout)
    header: dict[str, object] = {"__metadata__": texts} if texts else {}
    end = 0
    for name, tensor in order:
        if tensor.dtype not in _KINDS:
            raise ValueError(f"{name} has the type {tensor.dtype}, which the file cannot hold")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, tensor in order:
        yield _bytes(tensor)


def _is_permuted(tensor: Tensor) -> bool:
    """Return whether a tensor fills its memory without gaps, but not row by row."""
    dense = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != dense:
            return False
        dense *= size
    return not tensor.is_contiguous()


def _bytes(tensor: Tensor) -> np.ndarray:
    """Return the content of a tensor, row by row, as bytes."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy()


def _is_utf8(path: Path) -> bool:
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file whose name safetensors does not take."""
    from safetensors.torch import load

    content = path.read_bytes()
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})


# --- which run it is --------------------------------------------------------------------------


def identity(*, apart: Iterable[Tensor] = (), **parts: object) -> dict[str, object]:
    """Return what tells a run from others: plain numbers and texts by name, to be compared.

    Objects are taken apart into their attributes, such as ``sampler.action.kappa``, so that a
    comparison names what differs. Tensors and arrays are compared by all their bytes, with type
    and shape; functions by their code, defaults, and what they close over, and so are the global
    names that they use and the functions beside them; objects whose class comes from elsewhere
    than an installed package by the code of its methods too. Numbers are compared by value, so
    that ``0.2`` and ``np.float64(0.2)`` are one; no `repr` is looked at, and no name of a function
    or address in memory.

    *Not seen* are: the code of installed packages, this one and torch included, and of functions in
    other modules than the one that uses them; cached properties, and fields of dataclasses that are
    excluded from comparison and start empty; what is inside of compiled objects that do not tell
    their state; files and all else that is read outside of the process; the number of threads and
    the machine. A function that changes what it closes over is another one afterwards.

    Parameters
    ----------
    apart
        Tensors of which only type and shape count, such as the weights that a training changes.
    **parts
        What results depend on.
    """
    walk, out = _Walk(apart), {}
    for name, value in parts.items():
        walk.flatten(name, value, out)
    return out


def digest(value: object) -> str:
    """Return 16 hexadecimal digits that differ where `identity` would."""
    return _Walk(()).digest(value)


def check_settings(
    path: str | os.PathLike, there: Mapping[str, object], here: Mapping[str, object]
) -> None:
    """Raise `CheckpointError`, naming what differs, unless the settings in a file are ours."""
    other = [name for name in {**here, **there}
             if name not in there or name not in here or there[name] != here[name]]
    # where a whole differs, so do its parts: the whole says enough
    told = [name for name in other if not any(name.startswith(f"{whole}.") for whole in other)]
    if told:
        more = "" if len(told) <= 6 else f", and {len(told) - 6} more"
        raise CheckpointError(
            f"checkpoint={os.fspath(path)!r} belongs to a run with other settings ("
            + ", ".join(f"{n}={_told(there, n)} there, {_told(here, n)} here" for n in told[:6])
            + f"{more}): use another file, or the same settings"
        )


def check_rates(
    path: str | os.PathLike, rates: Sequence[float], schedule: Callable[[int], float]
) -> None:
    """Raise `CheckpointError` unless a schedule gives the step sizes of the updates so far."""
    for step, rate in enumerate(rates):
        if (now := float(schedule(step))) != rate:
            raise CheckpointError(
                f"checkpoint={os.fspath(path)!r} belongs to a run with other step sizes "
                f"(update {step + 1} of {len(rates)} had lr={rate!r} there, {now!r} here): "
                "use another file, or an lr that agrees for the updates already made"
            )


def _told(settings: Mapping[str, object], name: str) -> str:
    value = settings.get(name)
    return value if isinstance(value, str) and "#" in value else repr(value)


class _Walk:
    """One walk through objects: each is a kind, which says what it is, and named parts."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        self.apart = {id(tensor): tensor for tensor in apart}
        self.above: list[int] = []  # objects that the walk is inside of
        self.known: dict[int, tuple[object, str]] = {}  # with the object, so that its id stays its

    def flatten(self, name: str, value: object, out: dict[str, object]) -> None:
        """Enter the kinds of `value` and its parts into `out`."""
        kind, parts = self.look(value)
        if not parts:
            out[name] = kind
        elif name.count(".") >= 6 or len(parts) > 64:
            out[name] = f"{kind} #{self.digest(value)}"
        else:
            out[name] = kind
            self.above.append(id(value))
            for part, inside in parts.items():
                self.flatten(f"{name}.{part}", inside, out)
            self.above.pop()

    def digest(self, value: object) -> str:
        if id(value) in self.known:
            return self.known[id(value)][1]
        kind, parts = self.look(value)
        self.above.append(id(value))
        inside = sorted((name, self.digest(part)) for name, part in parts.items())
        self.above.pop()
        if isinstance(kind, int) and abs(kind) < 2**53:
            kind = float(kind)  # by value, as in a comparison: 1 and 1.0 and True are one
        found = hashlib.sha256(json.dumps([kind, inside]).encode()).hexdigest()[:16]
        if parts or isinstance(value, types.FunctionType):
            self.known[id(value)] = value, found
        return found

    def look(self, value: object) -> tuple[object, dict[str, object]]:
        """Return the kind of `value`, a number or a text, and its parts by name."""
        if id(value) in self.above:
            return f"the one {len(self.above) - self.above.index(id(value))} above", {}
        if len(self.above) > _DEPTH:
            return type(value).__qualname__, {}
        plain = _plain(value)
        if plain is not _NOT_PLAIN:
            return plain, {}
        if isinstance(value, Tensor):
            return self.tensor(value), {}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return f"array {value.shape}", dict(_numbered(value.reshape(-1).tolist()))
            return f"array {value.dtype.str} {value.shape} #{_hash(value.tobytes())}", {}
        if isinstance(value, Mapping):
            keys = {k: k if isinstance(k, str) else f"[{self.digest(k)}]" for k in value}
            return f"{len(value)} names", {keys[k]: v for k, v in value.items()}
        if isinstance(value, list | tuple):
            return f"{len(value)} entries", dict(_numbered(value))
        if isinstance(value, set | frozenset):
            return f"set #{_hash(''.join(sorted(map(self.digest, value))).encode())}", {}
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, types.CodeType):
            return _code(value)
        if isinstance(value, types.MethodType):
            return "method", {"self": value.__self__, "function": value.__func__}
        if isinstance(value, functools.partial):
            return "partial", {"function": value.func, "args": value.args,
                               "keywords": value.keywords}
        if isinstance(value, staticmethod | classmethod):
            return type(value).__name__, {"function": value.__func__}
        if isinstance(value, property):
            return "property", {"get": value.fget, "set": value.fset}
        if isinstance(value, type):
            return _class(value)
        if isinstance(value, nn.Module):
            return self.module(value)
        return _object(value)

    def tensor(self, tensor: Tensor) -> str:
        kind = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        if isinstance(tensor, nn.Parameter) and not tensor.requires_grad:
            kind = f"frozen {kind}"
        if id(tensor) in self.apart:
            return kind
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        return f"{kind} #{_hash(_bytes(tensor))}"

    def function(self, function: types.FunctionType) -> tuple[str, dict[str, object]]:
        # not its __module__: a wrapper has that of what it wraps
        module = function.__globals__.get("__name__", "__main__")
        if _is_installed(module):
            return f"{module}.{function.__qualname__}", {}
        parts: dict[str, object] = {"code": function.__code__}
        if function.__defaults__:
            parts["defaults"] = function.__defaults__
        if function.__kwdefaults__:
            parts["keywords"] = function.__kwdefaults__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (),
                              strict=True):
            try:
                parts[name] = cell.cell_contents
            except ValueError:  # not filled yet
                parts[name] = None
        for name in _globals(function.__code__):
            if name in function.__globals__:
                found = function.__globals__[name]
                if isinstance(found, types.FunctionType):
                    foreign = found.__globals__ is not function.__globals__
                else:
                    foreign = isinstance(found, type) and found.__module__ != module
                if foreign:
                    found = f"{found.__module__}.{found.__qualname__}"
                parts[f"global {name}"] = found
        # one entry, whatever is inside: the parts of a function have no names that help a reader
        return f"function #{self.inside(function, parts)}", {}

    def inside(self, value: object, parts: dict[str, object]) -> str:
        """Return the digest of the parts of `value`."""
        self.above.append(id(value))
        found = [(name, self.digest(part)) for name, part in parts.items()]
        self.above.pop()
        return _hash(json.dumps(found).encode())

    def module(self, module: nn.Module) -> tuple[str, dict[str, object]]:
        kind, parts = _object(module)
        hidden = set(nn.Module().__dict__) - {"training"}
        parts = {name: value for name, value in parts.items() if name not in hidden}
        for group in (module._parameters, module._buffers, module._modules):
            parts |= group
        return kind, parts


_NOT_PLAIN = object()
_DEPTH = 60  # objects inside of objects, before only their class counts


def _plain(value: object) -> object:
    """Return a number or a text for what is no more than that."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        odd = math.isnan(value) or (value == 0 and math.copysign(1, value) < 0)
        return repr(float(value)) if odd else float(value)
    if isinstance(value, complex):
        return repr(complex(value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes #{_hash(value)}"
    if isinstance(value, PurePath | torch.dtype | torch.device | torch.layout):
        return str(value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if value is Ellipsis or value is NotImplemented:
        return repr(value)
    if isinstance(value, torch.Generator):
        return f"generator #{_hash(_bytes(value.get_state()))}"
    return _NOT_PLAIN


def _hash(content: bytes | np.ndarray) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _numbered(values: Sequence) -> Iterator[tuple[str, object]]:
    return ((str(n), value) for n, value in enumerate(values))


def _is_installed(module: str | None) -> bool:
    """Return whether a module belongs to an installed package, this one or Python itself."""
    top = (module or "builtins").partition(".")[0]
    if top in ("physml", "torch", "numpy") or top in sys.stdlib_module_names:
        return True
    if top == "__main__":  # a notebook, whose file would be that of Jupyter
        return False
    place = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in place or "dist-packages" in place


def _code(code: types.CodeType) -> tuple[str, dict[str, object]]:
    """Return what a function does: not where it stands in a file, nor what it is called."""
    told = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    binary = code.co_code + getattr(code, "co_exceptiontable", b"")
    return f"code #{_hash(json.dumps(told).encode() + binary)}", dict(_numbered(code.co_consts))


def _globals(code: types.CodeType) -> list[str]:
    """Return the global names that code uses, inner functions included."""
    names = {step.argval for step in dis.get_instructions(code)
             if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names.update(_globals(inner))
    return sorted(names)


_NO_PART_OF_A_CLASS = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__abstractmethods__",
    "_abc_impl", "__slots__", "__parameters__", "__orig_bases__", "__firstlineno__",
    "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__",
}


def _class(kind: type) -> tuple[str, dict[str, object]]:
    name = kind.__qualname__
    if _is_installed(kind.__module__):
        return f"{kind.__module__}.{name}", {}
    parts = {}
    for part, value in vars(kind).items():
        made = "__dataclass_fields__" in vars(kind) and part.startswith("__") and (
            getattr(getattr(value, "__code__", None), "co_filename", "") == "<string>")
        if not (part in _NO_PART_OF_A_CLASS or made
                or isinstance(value, types.MemberDescriptorType)):
            parts[part] = value.func if isinstance(value, functools.cached_property) else value
    bases = {f"base {base.__qualname__}": base for base in kind.__bases__}
    return f"class {name}", parts | bases


def _object(value: object) -> tuple[str, dict[str, object]]:
    """Return the class of an object, and its attributes."""
    kind = type(value)
    if hasattr(value, "__qualname__") and not hasattr(value, "__dict__"):  # compiled functions
        owner = getattr(value, "__self__", None)
        return (f"{getattr(value, '__module__', None)}.{value.__qualname__}",
                {} if owner is None or isinstance(owner, types.ModuleType) else {"self": owner})
    hidden = {name for each in kind.__mro__ for name, attribute in vars(each).items()
              if isinstance(attribute, functools.cached_property)}
    if dataclasses.is_dataclass(value):
        # what is remembered, and not what was given
        hidden |= {each.name for each in dataclasses.fields(value) if not each.compare
                   and each.default_factory is not dataclasses.MISSING}
    parts = {name: part for name, part in getattr(value, "__dict__", {}).items()
             if name not in hidden}
    for each in kind.__mro__:
        for name, slot in vars(each).items():
            if isinstance(slot, types.MemberDescriptorType) and hasattr(value, name):
                parts[name] = getattr(value, name)
    if not parts and not hasattr(value, "__dict__"):
        try:  # what a copy would be made from
            parts = dict(_numbered(value.__reduce_ex__(2)[1:]))
        except Exception:  # such as a file: only its class is known
            parts = {}
    if not _is_installed(kind.__module__):
        parts["class"] = kind
    return kind.__qualname__, parts
