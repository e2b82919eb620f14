"""The checks of the chapter on diffusion models: right answers pass, wrong ones are told."""

from __future__ import annotations

import math
import re

import pytest
import torch
from conftest import checks_only

from physml import exercises


def test_folded_solutions_pass(root):
    text = (root / "book" / "diffusion" / "diffusion_models.md").read_text(encoding="utf-8")
    folded = re.findall(r"^````\{solution\}.*?^````$", text, re.DOTALL | re.MULTILINE)
    programs = re.findall(r"^```python\n(.*?check_.*?)^```$", "\n".join(folded), re.DOTALL | re.M)
    assert len(set(re.findall(r"exercises\.(check_\w+)", "".join(programs)))) == 7
    said = []
    for program in programs:
        exec(checks_only(program), {"exercises": exercises, "math": math,
                                    "print": said.append})
    assert len(said) == 7 and all(said), said


def test_mean_least_loss_is_the_integral():
    """The closed form beside a sum over equal parts of ln r."""
    def mean(p, low, high):
        x = torch.linspace(math.log(low), math.log(high), 20001, dtype=torch.float64)
        return torch.trapezoid(p / (p + (2 * x).exp()), x) / (x[-1] - x[0])

    assert exercises.check_mean_least_loss(mean)


def test_spike_denoiser_is_the_mean_of_the_posterior():
    def mean(phi, m, s2):
        plus, minus = (math.exp(-((phi - x) ** 2) / (2 * s2)) for x in (m, -m))
        return m * (plus - minus) / (plus + minus)

    assert exercises.check_spike_denoiser(mean)


@pytest.mark.parametrize(
    ("check", "wrong", "reason"),
    [
        (exercises.check_crossing_time, lambda k, s: math.log(1 / k) / math.log(s), "not right"),
        (exercises.check_crossing_time, lambda k, s: math.log1p(2 * math.log(s) / k) / math.log(s),
         "twice"),
        (exercises.check_family_noise, lambda c: 1.0, "c = 0.5"),
        (exercises.check_family_noise, 2.0, "should be a function"),
        (exercises.check_frozen_variance, lambda p, s2, zeta: p + s2, "which power"),
        (exercises.check_spike_denoiser, lambda phi, m, s2: -m * math.tanh(m * phi / s2), "sign"),
        (exercises.check_spike_denoiser, lambda phi, m, s2: m * math.tanh(phi), "phi = "),
        (exercises.check_mean_least_loss, lambda p, low, high: p / (p + high**2), "dr/r"),
        (exercises.check_last_step, lambda p, s2: (p, p), "multiplies the field"),
        (exercises.check_last_step, lambda p, s2: p, "a number where a tensor"),
        (exercises.check_cumulant_samples, lambda k2, k4, s2: 24 * k2**4 / k4**2, "s^2 = "),
        (exercises.check_cumulant_samples, lambda k2, k4, s2: 12 * (k2 + s2) ** 4 / k4**2, "half"),
    ],
)
def test_wrong_answers_are_told_why(check, wrong, reason):
    result = check(wrong)
    assert not result and reason in result.message, result.message
