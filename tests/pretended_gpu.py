"""A GPU that is not there: tensors on the CPU that say that they are on CUDA, with their values.

A tensor made on the device "cuda", or moved there, carries a mark within `pretended_gpu`, and so
does all that is computed from it. An operation that mixes marked and unmarked tensors raises as it
would on a real GPU (numbers without a dimension may be mixed, and an index may live on the CPU),
and so does a random draw whose generator lives elsewhere. Unlike fake tensors these have values and
know automatic differentiation, so that whole trainings and chapters run; unlike a GPU they know
nothing of its kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
_INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_ASIDE = {"_parse_to", "_has_compatible_shallow_copy_type"}  # no operations on values
_HOST = {"cpu", "tolist", "item", "__float__", "__int__", "__bool__", "__index__", "__repr__",
         "__len__", "__format__", "__hash__", "__deepcopy__", "__reduce_ex__"}


class PretendedGenerator(torch.Generator):
    """A generator of the CPU that says that it is on CUDA."""

    device = property(lambda self: CUDA)

    def manual_seed(self, seed: int) -> PretendedGenerator:
        super().manual_seed(seed)
        return self

    def set_state(self, state: torch.Tensor) -> PretendedGenerator:
        super().set_state(state)
        return self


class _Either(type(torch.Generator)):
    """Calls of the class make one or the other."""

    def __call__(cls, where="cpu", *, device=None):
        away = torch.device(device or where).type == "cuda"
        return PretendedGenerator() if away else _PLAIN()

    def __instancecheck__(cls, instance):
        return isinstance(instance, _PLAIN)


_PLAIN = torch.Generator


class Generator(torch.Generator, metaclass=_Either):
    """What stands for `torch.Generator`."""


class Pretend(TorchFunctionMode):
    """The mode that keeps the marks, and counts the operations that end on the GPU."""

    operations = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if not any(map(_may_matter, args)) and not any(map(_may_matter, kwargs.values())):
            return func(*args, **kwargs)  # all on the CPU, and most of what a chapter does
        if func is torch.device or getattr(func, "__name__", "") in _ASIDE:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")  # of a property
        if name == "__get__" and owner in ("device", "is_cuda", "is_cpu"):
            away = _away(args[0])
            return {"device": CUDA if away else torch.device("cpu"), "is_cuda": away,
                    "is_cpu": not away}[owner]
        if name == "__set__" and owner == "data":
            args[0]._pretended = _away(args[1])
            return func(*args)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        marks = {_away(x) for x in given if x.ndim}
        asked = _asked(args, kwargs)
        target = CUDA.type == asked.type if asked is not None else any(map(_away, given))
        if name in ("numpy", "__array__") and _away(args[0]):
            raise TypeError("can't convert a tensor on cuda to numpy: use .cpu() first")
        moves = name in ("to", "cpu", "cuda", "copy_", "type", "as_tensor") or name in _HOST
        index = func in _INDEXED and _away(args[0])
        if len(marks) == 2 and not moves and not index:
            raise RuntimeError(f"{name}: expected all tensors on the same device, but found at "
                               f"least two devices, {CUDA} and cpu")
        generator = kwargs.get("generator")
        if generator is not None and (isinstance(generator, PretendedGenerator) != target):
            raise RuntimeError(f"{name}: expected a {'cuda' if target else 'cpu'} generator")
        if name == "cpu":
            target = False
        elif name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
            target = _away(args[1])
        elif name in ("copy_", "__setitem__", "set_"):
            target = _away(args[0])
        args, kwargs = tree_map_only(torch.device, lambda d: torch.device("cpu"), (args, kwargs))
        args, kwargs = tree_map_only(
            str, lambda s: "cpu" if s.split(":")[0] == "cuda" else s, (args, kwargs))
        found = func(*args, **kwargs)
        Pretend.operations += target
        if moves and isinstance(found, torch.Tensor) and any(found is x for x in given) and (
                name != "copy_" and _away(found) != target):
            found = found.clone() if found.requires_grad else found.detach().clone()
        for x in tree_leaves(found):
            if isinstance(x, torch.Tensor):
                x._pretended = target
        return found


def _away(x: object) -> bool:
    return isinstance(x, torch.Tensor) and getattr(x, "_pretended", False)


def _may_matter(x: object) -> bool:
    """Whether an argument is on the GPU, or holds or names what may be."""
    if isinstance(x, torch.Tensor):
        return getattr(x, "_pretended", False)
    return isinstance(x, (list, tuple, dict, str, torch.device, torch.Generator))


def _asked(args: Iterable, kwargs: dict) -> torch.device | None:
    """Return the device that a call names, if any."""
    for x in [kwargs.get("device"), *args]:
        if isinstance(x, torch.device):
            return x
        if isinstance(x, str) and x.split(":")[0] in ("cuda", "cpu"):
            return torch.device(x)
    return None


class _Inline:
    """A pool of threads that has none: a mode holds for one thread."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    map = staticmethod(map)


@contextlib.contextmanager
def pretended_gpu(patch) -> Iterator[torch.device]:
    """Let `physml` find a GPU, with a `pytest.MonkeyPatch`; yield the device."""
    from physml import device
    from physml.diffusion import picture

    patch.setattr(torch, "Generator", Generator)
    patch.setattr(device, "_available", lambda: ["cuda", "cpu"])
    patch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(torch.optim.Optimizer, name):  # it would ask the driver
            patch.setattr(torch.optim.Optimizer, name, lambda self: None)
    patch.setattr(device, "describe", lambda *_: "Running on a pretended GPU.")
    patch.setattr(picture, "ThreadPoolExecutor", _Inline)
    Pretend.operations = 0
    with Pretend():
        yield CUDA
