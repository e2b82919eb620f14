"""The harness of the benchmarks: the sums, the order of the rounds, and the packages left out."""

import sys
import time

import pytest
import torch

from benchmarks import harness


def test_rates_and_ratios_are_those_of_the_times():
    naps = {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.005)}
    rows = harness.compare(naps, rounds=3, work={"slow": 10, "fast": 5}, show=False)
    assert [row.name for row in rows] == ["slow", "fast"]
    for row in rows:
        assert row.low <= row.median <= row.high and len(row.seconds) == 3
    assert rows[0].ratio == 1 and rows[0].rate == pytest.approx(10 / rows[0].median)
    ratios = [a / b / 2 for a, b in zip(rows[0].seconds, rows[1].seconds, strict=True)]
    assert rows[1].ratio == pytest.approx(sorted(ratios)[1])
    assert harness.versus(rows[1], rows[0]) == pytest.approx(2 * rows[1].ratio)


def test_rounds_are_interleaved_in_turning_order():
    calls = []
    harness.compare({c: lambda c=c: calls.append(c) for c in "abc"}, rounds=3, warmup=0, show=False)
    assert "".join(calls) == "abcbcacab"


def test_the_table_names_unit_and_candidates(capsys):
    harness.compare({"one": lambda: None, "another": lambda: None}, rounds=1, unit="samples")
    out = capsys.readouterr().out
    assert "samples/s" in out and "one" in out and "another" in out


def test_a_missing_package_is_named():
    assert "no-such-package: not installed" in harness.missing("no-such-package")
    assert harness.missing("torch") is None
    assert "torch" in harness.machine("torch", "no-such-package")


def test_a_program_is_run_again_only_if_a_variable_is_set(monkeypatch):
    started = []
    monkeypatch.setattr(harness.os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.delenv("SLOW_SETTING", raising=False)
    harness.rerun_without("SLOW_SETTING")
    assert not started
    monkeypatch.setenv("SLOW_SETTING", "1")
    harness.rerun_without("SLOW_SETTING")
    program, _, environment = started[0]
    assert program == sys.executable and "SLOW_SETTING" not in environment


def test_the_judge_of_denoisers_agrees_with_the_loss_of_the_model():
    """For a model of ours both must give the same nats, by two ways."""
    from benchmarks import diffusion as bench
    from physml import device, diffusion
    from physml.actions import Phi4

    g = device.generator(1)
    fields = torch.randn(128, 8, 8, generator=g)
    residual = diffusion.ResidualForce.measure(Phi4(0.2, 0.02), fields)
    network = diffusion.UNet((4, 8), 1, 8, inputs=2, generator=g)
    torch.nn.init.normal_(network.last.weight, std=0.3, generator=g)
    model = diffusion.InteractionModel(network, diffusion.VarianceExploding(60.0), residual)
    t, noise = model.levels(128, g), torch.randn(128, 8, 8, generator=g)
    with torch.no_grad():
        ours = model.loss(fields, t, noise)
        judged = bench.nats(bench.denoiser(model), model, fields, t, noise)
        free = bench.nats(lambda x, r: None, model, fields, t, noise)
    assert torch.allclose(judged, ours, rtol=1e-3)
    assert float((free - ours).abs().mean()) > 0.1 * float(ours.mean())  # so it can fail
