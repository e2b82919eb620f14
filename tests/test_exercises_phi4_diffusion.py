"""The checks of the chapter on diffusion models of lattice phi^4."""

from __future__ import annotations

import math
import re

import pytest
import torch

from physml import exercises


def test_folded_solutions_pass(root):
    text = (root / "book" / "diffusion" / "diffusion_phi4.md").read_text(encoding="utf-8")
    calls = re.findall(r"^print\((exercises\.check_.*?)\)$", text, re.DOTALL | re.MULTILINE)
    assert len(calls) == 6
    for call in calls:
        assert eval(call, {"exercises": exercises, "math": math}), call


def test_acceptance_is_that_of_gaussian_weights():
    from physml.diffusion import expected_acceptance

    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def sampled(s):
        return expected_acceptance(s * noise)

    for s in (0.3, 1.0, 1.5):
        assert sampled(s) == pytest.approx(math.erfc(s / 2), abs=0.01)
    assert exercises.check_acceptance_of_spread(lambda s: math.erfc(s / 2))
    assert exercises.check_acceptance_of_volume(lambda s, b: math.erfc(s * b / 2))
    assert exercises.check_noisy_acceptance(lambda s, n: math.erfc(math.hypot(s, n**0.5) / 2))


def test_target_minimises_the_variance():
    def best(rho, v):
        beta = torch.linspace(-3, 0, 300_001, dtype=torch.float64)
        return float(beta[((1 + beta * v) ** 2 * rho + beta**2 * v).argmin()])

    assert best(0.5, 2.0) == pytest.approx(-0.25, abs=1e-4)
    assert exercises.check_least_target(lambda rho, v: -rho / (1 + rho * v))
    assert exercises.check_target_gain(lambda rho, v: (1 / v) / (rho / (1 + rho * v)))


def test_wick_cube_is_a_gaussian_average():
    nodes = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    weight = torch.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi) * (nodes[1] - nodes[0])

    def mean(d, v, g, lam):
        phi = d + math.sqrt(v) * nodes
        return float((weight * 4 * lam * (phi**3 - 3 * g * phi)).sum())

    assert exercises.check_wick_cube(mean)


@pytest.mark.parametrize(("check", "wrong"), [
    (exercises.check_acceptance_of_spread, lambda s: math.erfc(s)),
    (exercises.check_acceptance_of_volume, lambda s, b: math.erfc(b * b * s / 2)),
    (exercises.check_least_target, lambda rho, v: rho / (1 + rho * v)),
    (exercises.check_target_gain, lambda rho, v: 1 / (rho * v)),
    (exercises.check_noisy_acceptance, lambda s, n: math.erfc((s + n) / 2)),
    (exercises.check_wick_cube, lambda d, v, g, lam: 4 * lam * (d**3 - 3 * g * d)),
])
def test_wrong_answers_are_told(check, wrong):
    told = check(wrong)
    assert not told
    assert str(told).startswith("Not yet")
