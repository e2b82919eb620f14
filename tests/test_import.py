"""Importing `physml` costs little more than importing torch, and changes nothing global."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

import physml

# what a module may need only inside a function
HEAVY = (
    "IPython",
    "ipywidgets",
    "matplotlib",
    "networkx",
    "pandas",
    "PIL",
    "safetensors",
    "scipy",
    "tqdm",
    "torchvision",
)
MODULES = [m for m in physml._MODULES if importlib.util.find_spec(f"physml.{m}")]

MEASURE = """
import importlib, json, sys, time
start = time.perf_counter()
import torch
torch_took, loaded = time.perf_counter() - start, set(sys.modules)
state = (torch.get_default_dtype(), torch.initial_seed(), torch.get_num_threads())
start = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
took, new = time.perf_counter() - start, set(sys.modules) - loaded
print(json.dumps({
    "torch": torch_took,
    "physml": took,
    "new": sorted({name.partition(".")[0] for name in new}),
    "changed": state != (torch.get_default_dtype(), torch.initial_seed(), torch.get_num_threads()),
}))
"""


def imported(*names: str) -> dict:
    """Import torch, then `names`, in a fresh interpreter; what it took and what came along."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and not done.stderr  # nothing else is printed
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def everything() -> dict:
    return imported("physml", *(f"physml.{m}" for m in MODULES))


def test_importing_is_cheap(everything):
    """All modules together in less than half of torch's own time (it is nearer a twentieth)."""
    assert everything["physml"] < 0.5 * everything["torch"]


def test_nothing_heavy_comes_along(everything):
    assert "physml" in everything["new"]
    assert not set(HEAVY) & set(everything["new"])


def test_nothing_global_is_changed(everything):
    assert not everything["changed"]


def test_the_measurement_sees_a_heavy_import():
    """The probe itself: a module that loads matplotlib would be found."""
    assert "matplotlib" in imported("matplotlib.figure")["new"]


def test_modules_are_loaded_on_first_use():
    code = (
        "import sys, physml; before = 'physml.lattice' in sys.modules; "
        "physml.lattice.Lattice(4); print(before, 'physml.lattice' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_names_are_listed_and_unknown_ones_refused():
    assert set(MODULES) <= set(dir(physml)) and "__version__" in dir(physml)
    with pytest.raises(AttributeError, match="module 'physml' has no attribute 'phlogiston'"):
        _ = physml.phlogiston
