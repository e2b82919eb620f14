"""Ensembles: their physics against exact and independent values, and the files they are kept in."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from physml import datasets, ensembles, exact, sampling
from physml.errors import StabilityError
from physml.lattice import Lattice
from physml.sampling import chain

SMALL = (8, 0.2, 0.1, 40)  # L, kappa, lambda, n
BROKEN = (12, 0.7, 0.1, 64)


def make(*parameters, **options) -> ensembles.Ensemble:
    return ensembles.phi4_ensemble(*(parameters or SMALL), progress=False, **options)


def files(root: Path) -> list[Path]:
    return sorted((root / "physml" / "ensembles").iterdir())


@pytest.fixture
def no_generation(monkeypatch):
    def fail(*args):
        raise AssertionError("an ensemble was generated that should have been read")
    return lambda: monkeypatch.setattr(ensembles, "_generate", fail)


# --- physics ----------------------------------------------------------------------------------


def z(ensemble: ensembles.Ensemble, values: torch.Tensor, expected: float,
      error: float = 0.0) -> float:
    """Return the deviation in standard errors, from chain averages: chains are independent."""
    means = ensemble.series(values.double()).mean(1)
    return float(means.mean() - expected) / math.hypot(error, float(means.std()) /
                                                       math.sqrt(len(means)))


def test_free_field_against_the_lattice_sum(tmp_path):
    kappa, lattice = 0.21, Lattice((8, 8))
    e = make(8, kappa, 0.0, 1024, root=tmp_path)
    spectrum = exact.hopping_spectrum(lattice, kappa)
    phi2 = e.fields.square().mean((1, 2))
    assert abs(z(e, phi2, exact.free_phi2(spectrum))) < 3.5
    m = e.fields.double().mean((1, 2))
    assert abs(z(e, 64 * m**2, exact.free_chi(spectrum))) < 3.5
    assert abs(z(e, m, 0.0)) < 3.5
    # the test can fail: with another kappa it would
    assert abs(z(e, phi2, exact.free_phi2(exact.hopping_spectrum(lattice, 0.19)))) > 5


def metropolis(length: int, kappa: float, lam: float, chains: int, sweeps: int) -> np.ndarray:
    """Return averages of phi^2, phi^4 and M^2 over each chain, ``(3, chains)``; plain numpy."""
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(chains, length, length))
    black = np.indices((length, length)).sum(0) % 2 == 0

    def weight(x, h):
        return (1 - 2 * lam) * x**2 + lam * x**4 - 2 * kappa * h * x

    rows = []
    for sweep in range(sweeps):
        for colour in (black, ~black):
            h = sum(np.roll(phi, s, axis) for s in (1, -1) for axis in (1, 2))
            new = phi + rng.uniform(-1.5, 1.5, phi.shape)
            accept = np.log(rng.random(phi.shape)) < weight(phi, h) - weight(new, h)
            phi = np.where(accept & colour, new, phi)
        if sweep >= 200:
            rows.append([(phi**2).mean((1, 2)), (phi**4).mean((1, 2)), phi.mean((1, 2)) ** 2])
    return np.mean(rows, axis=0)


def test_interacting_field_against_an_independent_metropolis_run(tmp_path):
    e = make(8, 0.25, 0.1, 2048, root=tmp_path)
    other = metropolis(8, 0.25, 0.1, 64, 1700)
    ours = [e.fields.square().mean((1, 2)), e.fields.double().pow(4).mean((1, 2)),
            e.fields.double().mean((1, 2)) ** 2]
    for values, chains in zip(ours, other, strict=True):
        error = chains.std(ddof=1) / math.sqrt(len(chains))
        assert error < 0.03 * chains.mean()
        assert abs(z(e, values, chains.mean(), error)) < 3.5


def test_configurations_are_decorrelated_and_none_appears_twice(tmp_path):
    e = make(8, 0.25, 0.1, 2048, root=tmp_path)
    assert e.chains == 128 and e.thin >= 3 * e.tau_int and e.burn_in >= 200 + 20 * e.tau_int
    m = e.series(e.fields.double().mean((1, 2)).abs())
    assert m.shape == (128, 16)
    m = m - m.mean()
    lag = float((m[:, 1:] * m[:, :-1]).mean() / m.square().mean())
    assert abs(lag) < 4 / math.sqrt(m[:, 1:].numel())
    assert len(e.fields.flatten(1).unique(dim=0)) == len(e)


def test_negative_hopping_is_the_staggered_theory(tmp_path):
    r"""On an even lattice phi_x -> (-1)^x phi_x turns kappa into -kappa."""
    e = make(8, -0.21, 0.0, 512, root=tmp_path)
    assert abs(z(e, e.fields.square().mean((1, 2)),
                 exact.free_phi2(exact.hopping_spectrum(Lattice((8, 8)), 0.21)))) < 3.5


# --- the object -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 33, 40])
def test_any_number_of_configurations(n, tmp_path):
    e = make(4, 0.2, 0.1, n, root=tmp_path)
    assert len(e) == n and e.fields.shape == (n, 4, 4) and e.fields.dtype == torch.float32
    assert e.chains >= 32  # fewer could not be told to disagree
    assert e.series(torch.arange(float(n))).shape == (min(n, e.chains), 1)
    assert all(math.isfinite(value) for value in (*e.z.values(), *e.rhat.values()))
    assert repr(e).startswith(f"Ensemble({n} configurations, 4 x 4, Phi4(kappa=0.2")


def test_series_puts_each_chain_in_a_row(tmp_path):
    e = make(4, 0.2, 0.1, 300, dim=1, root=tmp_path)  # 128 chains, the last row incomplete
    assert e.fields.shape == (300, 4) and e.chains == 128
    assert torch.equal(e.series(torch.arange(300)), torch.arange(256).reshape(2, 128).T)


def test_found_in_datasets_too():
    assert datasets.phi4_ensemble is ensembles.phi4_ensemble


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="length"):
        make(0, 0.2, 0.1, 4)
    with pytest.raises(ValueError, match="n must"):
        make(4, 0.2, 0.1, 0)
    with pytest.raises(StabilityError, match="lowest mode"):
        make(4, 0.25, 0.0, 4)


# --- the same again ---------------------------------------------------------------------------


def test_kept_and_read_back_bit_for_bit(tmp_path, no_generation):
    made = make(root=tmp_path)
    (file,) = files(tmp_path)
    assert file.name.startswith("phi4-8x8-") and file.suffix == ".safetensors"
    no_generation()
    read = make(root=tmp_path)
    assert torch.equal(read.fields, made.fields)
    for name in ("action", "lattice", "seed", "chains", "burn_in", "thin", "tau_int", "rhat", "z"):
        assert getattr(read, name) == getattr(made, name), name


def test_fields_depend_on_the_seed_and_not_on_the_processes(tmp_path, monkeypatch):
    one = make(root=tmp_path / "1", processes=1)
    monkeypatch.setattr(chain, "_ROUND", 1e6)  # so that this small run is shared
    two = make(root=tmp_path / "2", processes=2)
    assert torch.equal(one.fields, two.fields)
    other = make(root=tmp_path / "2", seed=1)
    assert not torch.equal(other.fields, one.fields)
    assert len(files(tmp_path / "2")) == 2


def test_other_parameters_or_other_code_are_another_file(tmp_path, monkeypatch):
    made = []

    def generate(action, lattice, n, seed, processes, progress):
        made.append((action, lattice.shape, n, seed))
        return ensembles.Ensemble(torch.zeros(n, *lattice.shape), action, lattice, seed, n, 1, 1,
                                  0.5, {"x": 1.0}, {"x": 0.0})

    monkeypatch.setattr(ensembles, "_generate", generate)
    make(4, 0.2, 0.1, 8, root=tmp_path)
    changes = [(6, 0.2, 0.1, 8), (4, 0.21, 0.1, 8), (4, 0.2, 0.11, 8), (4, 0.2, 0.1, 9)]
    for parameters in changes:
        make(*parameters, root=tmp_path)
    make(4, 0.2, 0.1, 8, seed=1, root=tmp_path)
    make(4, 0.2, 0.1, 8, dim=3, root=tmp_path)
    monkeypatch.setattr(ensembles, "_code", lambda: "other code")
    make(4, 0.2, 0.1, 8, root=tmp_path)
    assert len(made) == len(files(tmp_path)) == 8
    make(4, 0.2, 0.1, 8, root=tmp_path)  # and once more: now it is there
    assert len(made) == 8


@pytest.mark.parametrize("name", ["actions.py", "ensembles.py", "statistics.py", "sampling/hmc.py"])
def test_the_hash_is_that_of_the_code(name, tmp_path, monkeypatch):
    library = Path(ensembles.__file__).parent
    copy = tmp_path / "physml"
    shutil.copytree(library, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = ensembles._code()
    monkeypatch.setattr(ensembles, "__file__", str(copy / "ensembles.py"))
    assert ensembles._code() == before
    with open(copy / name, "a") as file:
        file.write("#")
    assert ensembles._code() != before


# --- what can go wrong ------------------------------------------------------------------------


def alter_fields(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def alter_the_evidence(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        meta, fields = file.metadata(), file.get_tensor("fields")
    meta["about"] = json.dumps(json.loads(meta["about"]) | {"thin": 1000})
    save_file({"fields": fields}, path, metadata=meta)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "fields altered": alter_fields,
    "evidence altered": alter_the_evidence,
    "no metadata": lambda path: save_file({"fields": torch.zeros(40, 8, 8)}, path),
    "another tensor": lambda path: save_file({"phi": torch.zeros(40, 8, 8)}, path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_found_and_made_anew(damage, tmp_path, kept, no_generation):
    made, content, name = kept
    path = tmp_path / "physml" / "ensembles" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    DAMAGES[damage](path)
    with pytest.warns(UserWarning, match="is damaged .*: the ensemble is generated anew"):
        again = make(root=tmp_path)
    assert torch.equal(again.fields, made.fields)
    no_generation()
    assert torch.equal(make(root=tmp_path).fields, made.fields)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A small ensemble, the content of its file, and the file's name."""
    root = tmp_path_factory.mktemp("kept")
    made = make(root=root)
    (path,) = files(root)
    return made, path.read_bytes(), path.name


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, kept):
    root = tmp_path / "file"
    root.write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept in .*set PHYSML_DATA"):
        made = make(root=root)
    assert torch.equal(made.fields, kept[0].fields)
    assert root.read_text() == "in the way"


def test_a_file_that_cannot_be_written_is_no_error(tmp_path, kept, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="could not be kept in .*No space left"):
        made = make(root=tmp_path)
    assert torch.equal(made.fields, kept[0].fields)
    assert not list((tmp_path / "physml" / "ensembles").iterdir())


def test_a_file_of_another_user_is_not_called_damaged(tmp_path, kept, monkeypatch):
    """It is told of, and left to its owner."""
    made, content, name = kept
    path = tmp_path / "physml" / "ensembles" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **options: _denied(self)
                        if self == path else real(self, *args, **options))
    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    before = path.stat().st_ino
    with pytest.warns(UserWarning, match="may not be read by this user, and is left") as caught:
        again = make(root=tmp_path)
    assert "damaged" not in str(caught[0].message) and path.stat().st_ino == before
    assert torch.equal(again.fields, made.fields)


def _denied(path):
    raise PermissionError(13, "Permission denied", str(path))


def test_the_folder_is_that_of_the_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("PHYSML_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(4, 0.2, 0.1, 4)
    monkeypatch.delenv("PHYSML_DATA")
    make(4, 0.2, 0.1, 4)
    assert len(files(tmp_path / "data")) == len(files(tmp_path / "cache")) == 1


def test_an_ensemble_out_of_equilibrium_is_warned_of_and_not_kept(tmp_path, monkeypatch):
    """Hot starts in the broken phase freeze in domains: no clusters, and a short burn-in."""
    monkeypatch.setattr(sampling, "SwendsenWang", sampling.GlobalFlip)
    monkeypatch.setattr(ensembles.statistics, "mean", lambda series: SimpleNamespace(tau_int=1.0))
    with pytest.warns(sampling.EquilibrationWarning, match="not in equilibrium, and is not kept"):
        e = make(*BROKEN, root=tmp_path)
    m, v = e.fields.mean((1, 2)).abs(), e.action.vacuum(2)
    assert float((m[1::2] > 0.9 * v).double().mean()) == 1  # cold starts are where they belong
    assert float((m[::2] < 0.5 * v).double().mean()) > 0.1
    assert not (tmp_path / "physml").exists()


def test_the_same_with_clusters_is_in_equilibrium(tmp_path):
    e = make(*BROKEN, root=tmp_path)
    assert float(e.fields.mean((1, 2)).abs().min()) > 0.9 * e.action.vacuum(2)
    assert len(files(tmp_path)) == 1
