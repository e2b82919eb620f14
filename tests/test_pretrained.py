"""The trained models: how they are made, kept and found, and what they are worth."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from physml import pretrained
from physml.device import generator
from physml.diffusion import (
    Distilled,
    ResidualForce,
    expected_acceptance,
    flow,
    flow_from,
    log_weights,
)
from physml.errors import CheckpointError

TINY = pretrained.Settings(0.21, length=8, sigma=40.0, fields=640, steps=4, batch_size=8,
                           channels=(4, 8), blocks=1)


@pytest.mark.parametrize("kappa", pretrained.SETTINGS)
def test_shipped_model_is_close_to_its_action(kappa):
    found = pretrained.load(kappa)
    model, settings = found.model, found.settings
    assert settings == pretrained.SETTINGS[kappa]
    assert found.provenance["steps"][-1] == settings.steps
    drawn = flow(model, 32, dilution=2, generator=generator(1))
    weights = log_weights(model.residual.action, drawn.fields, drawn.value)
    assert expected_acceptance(weights) > 0.4  # that of published models, at the cheapest trace
    m = drawn.fields.mean((1, 2))
    assert (m > 0).any() and (m < 0).any()


@pytest.mark.parametrize("kappa", pretrained.SETTINGS)
def test_twelve_steps_are_enough_for_the_density(kappa, monkeypatch):
    """With the same signs at all nodes, all that differs is the integral."""
    model = pretrained.load(kappa).model
    phi = flow(model, 32, generator=generator(1)).fields

    def same(streams, shape, dtype, device):
        return torch.randn(64 * len(streams), *shape, generator=generator(2)).to(dtype)

    monkeypatch.setattr("physml.diffusion.picture.block_noise", same)
    found = {n: flow_from(model, phi, steps=n, dilution=2, generator=generator(3)).value
             for n in (6, 12, 32)}
    off, coarse = (found[n] - found[32] for n in (12, 6))
    assert float(off.std()) < 0.02 and abs(float(off.mean())) < 0.05
    assert float(coarse.std()) > 2 * float(off.std())  # so it can fail


@pytest.mark.parametrize("kappa", pretrained.SETTINGS)
def test_steps_for_fields_alone_converge(kappa):
    """With Adams and Bashforth's scheme, to the fields that Runge and Kutta's gives."""
    model = pretrained.load(kappa).model
    found = {n: flow(model, 32, steps=n, generator=generator(1)) for n in (8, 16, 32)}
    assert [f.evaluations for f in found.values()] == [8, 16, 32]
    fine = flow(model, 32, steps=16, dilution=1, generator=generator(1))
    assert fine.evaluations == 63
    sign = (fine.fields.mean((1, 2)) * found[32].fields.mean((1, 2))).sign()
    off = [float((f.fields - sign[:, None, None] * fine.fields).square().mean())**0.5
           for f in found.values()]
    assert off[0] > 4 * off[1] > 16 * off[2] and off[2] < 1e-3


def test_made_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setitem(pretrained.SETTINGS, 0.21, TINY)
    path = pretrained.make(TINY, folder=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found = pretrained.load(0.21, folder=tmp_path)
    assert found.settings == TINY and found.provenance["steps"] == [4]
    again = pretrained.make(TINY, folder=tmp_path / "again", progress=False)
    first, second = found.model, pretrained.load(0.21, folder=again.parent).model
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(),
                                                 strict=True))
    assert torch.equal(first.residual.spectrum, second.residual.spectrum)


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    whole = pretrained.make(TINY, folder=tmp_path / "whole", progress=False)
    monkeypatch.setattr(pretrained, "_EVERY", 2)
    broken = tmp_path / "broken"

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrained.checkpoints, "write", _second(pretrained.checkpoints.write, stop))
        with pytest.raises(KeyboardInterrupt):
            pretrained.make(TINY, folder=broken, progress=False)
    assert [p.name for p in broken.iterdir()] == [whole.stem + ".training.safetensors"]
    path = pretrained.make(TINY, folder=broken, progress=False)
    monkeypatch.setitem(pretrained.SETTINGS, 0.21, TINY)
    one, two = (pretrained.load(0.21, folder=p.parent).model for p in (whole, path))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_teacher_comes_first(tmp_path, monkeypatch):
    """What it learned is kept while its pupil learns, and gone when that is done."""
    settings = dataclasses.replace(TINY, teacher=(6, 8))
    monkeypatch.setitem(pretrained.SETTINGS, 0.21, settings)
    seen = []

    def train(model, *args, real=pretrained.train, **options):
        if type(model) is Distilled and not seen:
            seen.append(sorted(p.name for p in options["checkpoint"].parent.iterdir()))
            raise KeyboardInterrupt
        return real(model, *args, **options)

    monkeypatch.setattr(pretrained, "train", train)
    with pytest.raises(KeyboardInterrupt):
        pretrained.make(settings, folder=tmp_path, progress=False)
    assert seen == [[TINY.name.replace(".safetensors", ".teacher.training.safetensors")]]
    path = pretrained.make(settings, folder=tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found = pretrained.load(0.21, folder=tmp_path)
    assert found.settings == settings
    teacher = found.provenance["teacher"]
    assert teacher["steps"] == found.provenance["steps"] == [4]
    assert teacher["parameters"] > found.provenance["parameters"] == found.model.parameter_count
    # a pupil's loss is a distance, far below that of the teacher, which has the target's noise
    assert 0 <= found.provenance["validation"][0] < 0.5 * teacher["validation"][0]


def _second(write, stop):
    """Return `write` that works once and then stops."""
    calls = []

    def once(*args):
        calls.append(args)
        return write(*args) if len(calls) == 1 else stop()
    return once


def test_broken_symmetry_has_its_background(tmp_path, monkeypatch):
    tiny = dataclasses.replace(TINY, kappa=0.5, broken=True)
    monkeypatch.setitem(pretrained.SETTINGS, 0.5, tiny)
    pretrained.make(tiny, folder=tmp_path, progress=False)
    model = pretrained.load(0.5, folder=tmp_path).model
    assert 4.5 < model.residual.background < 5
    assert isinstance(model.residual, ResidualForce)


def test_bad_files_and_names(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no trained model"):
        pretrained.load(0.3)
    with pytest.raises(CheckpointError, match=r"python -m physml.pretrained 0\.27"):
        pretrained.load(0.27, folder=tmp_path)
    source = pretrained.FOLDER / pretrained.SETTINGS[0.21].name
    (tmp_path / source.name).write_bytes(source.read_bytes()[:5000])
    with pytest.raises(CheckpointError):
        pretrained.load(0.21, folder=tmp_path)
    pretrained.checkpoints.write(tmp_path / source.name, {"a": torch.ones(2)}, {})
    with pytest.raises(CheckpointError, match="not hold a model"):
        pretrained.load(0.21, folder=tmp_path)


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "SETTINGS", {
        0.21: TINY, 0.2: dataclasses.replace(TINY, kappa=0.2, teacher=(6, 8))})
    pretrained.main(["--folder", str(tmp_path)])
    told = [tmp_path / settings.name for settings in pretrained.SETTINGS.values()]
    assert capsys.readouterr().out.split() == [str(path) for path in reversed(told)]
    assert sorted(tmp_path.iterdir()) == sorted(told)
    with pytest.raises(SystemExit):
        pretrained.main(["0.3"])
    assert "no settings" in capsys.readouterr().err
