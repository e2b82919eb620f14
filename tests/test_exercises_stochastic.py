"""The checks of the chapter on stochastic quantisation: right answers pass, wrong ones are told."""

from __future__ import annotations

import math
import re

import pytest
from conftest import checks_only

from physml import exercises


def test_folded_solutions_pass(root):
    text = (root / "book" / "diffusion" / "stochastic_quantisation.md").read_text(encoding="utf-8")
    folded = re.findall(r"^````\{solution\}.*?^````$", text, re.DOTALL | re.MULTILINE)
    programs = re.findall(r"```python\n(.*?)```", "\n".join(folded), re.DOTALL)
    said = []
    for program in map(checks_only, programs):
        exec(program, {"exercises": exercises, "math": math, "print": said.append})
    assert len(said) == 6 and all(said), said


@pytest.mark.parametrize(
    ("check", "wrong", "reason"),
    [
        (exercises.check_euler_variance, lambda k, e, a: 1 / (k * (1 - e * k / 2)), "noise"),
        (exercises.check_euler_variance, lambda k, e, a: a / k, "is not right"),
        (exercises.check_euler_variance, lambda k, e, a: 2 * a / (k * (1 - e * k / 2)), "twice"),
        (exercises.check_relaxation_rate, 3.0, "half"),
        (exercises.check_relaxation_rate, -6.0, "sign"),
        (exercises.check_largest_step, lambda m, d: 1 / (m + 4 * d), "half"),
        (exercises.check_largest_step, lambda m, d: 2 / (m + 2 * d), "momentum"),
        (exercises.check_noise_correlation, 0.0, "too small"),
        (exercises.check_action_density, lambda lam, p: 0.5 + lam * p, "is not right"),
        (exercises.check_trajectory_length, math.pi, "too large"),
        (exercises.check_trajectory_length, 2 * math.pi / 3, "twice"),
    ],
)
def test_wrong_answers_are_told_why(check, wrong, reason):
    result = check(wrong)
    assert not result and reason in result.message
