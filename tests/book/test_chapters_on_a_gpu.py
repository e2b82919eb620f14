"""The chapters that use a GPU, on one that is pretended: they find it, work there, and come back.

Their sizes are cut and their assertions left out, for these are held by the book's build; what is
asked here is that nothing mixes devices or draws a figure from a tensor that is not on the CPU.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from myst_nb.core.read import read_myst_markdown_notebook
from pretended_gpu import CUDA, Pretend, pretended_gpu

from physml import device, ensembles, sampling, tables
from physml.actions import Phi4
from physml.lattice import Lattice

BOOK = Path(__file__).resolve().parents[2] / "book"

# what is cut: text of a cell (a regular expression), and what stands in its place
CUTS = {
    "data/mnist_spectra": {
        r"(pixels = images.pixels\(\))": r"\1[:1500]",
        r"flatten\(1\), device.generator\(9\)": "flatten(1)[:1500], device.generator(9)",
        r"\[:5000\]": "[:200]",
        r", 5000,": ", 200,",
        r"sample\(5000": "sample(200",
        r"natural\(784, 20\)": "natural(784, 2)",
        r"225: 40, 64: 100, 36: 100, 16: 100, 4: 100": "225: 2, 64: 2, 36: 2, 16: 2, 4: 2",
        r"bound / 2, 400\), \"bold\": pcd\(22 \* bound, 200":
            'bound / 2, 4), "bold": pcd(bound, 4',
    },
    "diffusion/stochastic_quantisation": {
        r"phi.to\(where\), measurements,": "phi[:96].to(where), min(measurements, 12),",
        r"burn_in=1200, thin=100": "burn_in=12, thin=2",
        r"burn_in=100\)": "burn_in=4)",
        r"burn_in=1000": "burn_in=10",
        r"burn_in=60": "burn_in=4",
        r"burn_in=100, tune=0.85": "burn_in=4",
        r"action, 0.15, 4.0": "action, 0.15, 0.6",
        r"\(0.24, 0.25, 0.26, 0.265, 0.27088, 0.28, 0.29, 0.30\)": "(0.26, 0.27088)",
        r"thin=round\(interval / step\)": "thin=2",
        r"10 \* (open|film)_times": r"\1_times",
        r"every=10\)": "every=1)",
        r"burn_in=n // 10, thin=thin": "burn_in=10",
        r"sampler, phi, 320, thin=thin": "sampler, phi, 12, thin=1",
        r"\(100, 48\), 64: \(120, 24\)": "(12, 8), 64: (12, 4)",
    },
    "fields/phi4_machine_learning": {
        r"images\[:20000\]": "images[:500]",
        r"images\[:2000\]": "images[:100]",
        r"steps=1500, lr=rate": "steps=60, lr=rate",
        r"\(30, 60, 100, 150, 250, 400, 600, 800, 1100\)": "(20, 40)",
        r"stages\[1500\]": "stages[60]",
        r", 400, generator\)": ", 5, generator)",
        r"annealed_log_z\(100, 150,": "annealed_log_z(10, 5,",
    },
    "diffusion/diffusion_phi4": {
        r"10240": "768",
        r"0.5, 2048": "0.5, 256",
        r'1024, "hot"': '64, "hot"',
        r"burn_in=100, keep": "burn_in=4, keep",
        r"steps=250": "steps=4",
        r"4e-3, 250": "4e-3, 4",
        r"flow\(model, n,": "flow(model, min(n, 64),",
        r"near, 2.0\), 700": "near, 2.0), 20",
        r"near, 0.1\), 600": "near, 0.1), 20",
        r", 2048, seed": ", 256, seed",
        r"repeats=4": "repeats=2",
        r"fields\[:256\], 40,": "fields[:16], 4,",
        r"steps=80": "steps=20",
    },
}
# where only a part of a page has to do with it: what its cells hold
ONLY = {"fields/phi4_machine_learning": (
    r"^import|def noisy|def rate|network, train|log_z.100, 150|dreams\]")}


def cells(page: str) -> list[str]:
    """Return the code of the cells that run when the book is built, with the cuts made."""
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    found = [cell.source for cell in read_myst_markdown_notebook(text).cells
             if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", [])]
    found = [code for code in found if re.search(ONLY.get(page, ""), code, re.MULTILINE)]
    for old, new in CUTS[page].items():
        assert any(re.search(old, code) for code in found), f"{page}: {old} is not there any more"
        found = [re.sub(old, new, code) for code in found]
    return found


def hasty(length: int, kappa: float, lam: float, n: int, *, seed: int, **_) -> ensembles.Ensemble:
    """Return configurations that are far from equilibrium, and quick to make."""
    action, lattice, generator = Phi4(kappa, lam), Lattice((length, length)), device.generator(seed)
    with torch._C.DisableTorchFunction():  # as ever on the CPU: no need to pretend
        phi = sampling.start(action, lattice, n // 2, "cold", generator=generator)
        run = sampling.sample(sampling.HMC(action, 0.1), phi, 2, burn_in=8, generator=generator,
                              keep_fields=True, progress=False)
    fields = run.fields.transpose(0, 1).reshape(n, length, length)
    return ensembles.Ensemble(fields, action, lattice, seed, n // 2, 8, 1, 1.0, {"|M|": 1.0}, {})


def on_a_gpu(codes: list[str], patch: pytest.MonkeyPatch) -> tuple[dict, int]:
    """Run cells, without their assertions; return their names and the operations on the GPU."""
    names: dict = {}
    patch.setattr(plt, "show", lambda: plt.close("all"))
    compare = tables.compare
    patch.setattr(tables, "compare", lambda rows, *, heads=None, **_limits: compare(rows))
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings(), pretended_gpu(patch):
            warnings.simplefilter("ignore")
            for code in codes:
                exec(compile(code, code.partition("\n")[0], "exec", optimize=1), names)
            return names, Pretend.operations
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("page", CUTS)
def test_a_chapter_runs_on_a_gpu(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensembles, "phi4_ensemble", hasty)
    names, operations = on_a_gpu(cells(page), monkeypatch)
    assert names["where"].type == CUDA.type
    assert operations > 1000


def test_all_pages_that_ask_for_a_device_are_run_here_and_say_so() -> None:
    """And the others say that they use none, in the line on their cost."""
    asking = set()
    for path in BOOK.glob("*/*.md"):
        text = path.read_text(encoding="utf-8")
        asks = "device.choose(" in text
        cost = next(line for line in text.splitlines() if line.startswith("*Cost:"))
        assert asks == cost.endswith("on one if it is there.*"), path.name
        assert asks == ("no GPU is needed" in cost) != ("no GPU is used" in cost), path.name
        asking |= {str(path.relative_to(BOOK).with_suffix(""))} if asks else set()
    assert asking == set(CUTS)


def test_a_figure_of_what_is_on_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = ["import torch\nimport matplotlib.pyplot as plt\nfrom physml import device",
             "where = device.choose()\nplt.plot(torch.arange(3.0, device=where))"]
    with pytest.raises(TypeError, match="can't convert a tensor on cuda"):
        on_a_gpu(codes, monkeypatch)
