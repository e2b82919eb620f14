"""What runs beside the tests: two programs at a time, stage by stage, and none is left behind."""

from __future__ import annotations

import time

import pytest
from background import Background

WRITE = "import sys, time; from pathlib import Path; p = Path(sys.argv[1]); "


@pytest.fixture
def beside(tmp_path):
    made = Background(tmp_path)
    yield made
    made.stop()


def step(name: str, code: str, *arguments: str) -> tuple[str, list[str]]:
    return name, ["-c", code, *arguments]


def test_programs_of_a_stage_run_together_and_the_next_one_after_them(beside):
    meet = WRITE + "p.touch()\nwhile not Path(sys.argv[2]).exists(): time.sleep(0.01)\nprint('met')"
    late = WRITE + "print(p.exists(), Path(sys.argv[2]).exists()); sys.exit(3)"
    beside.start([[step("a", meet, "a", "b"), step("b", meet, "b", "a")],
                  [step("c", late, "a", "b")]])
    said: list[str] = []
    done = beside.wait("c", said.append)
    assert (done.status, done.said) == (3, "True True\n")
    assert beside.wait("a").said == beside.wait("b").said == "met\n"
    assert beside.wait("a").status == 0 and done.seconds > 0


def test_what_still_runs_is_ended_and_what_waits_is_left_out(beside, tmp_path):
    run = WRITE + "p.touch(); time.sleep(60)"
    beside.start([[step("a", run, "a")], [step("b", run, "b")]])
    while not (tmp_path / "a").exists():
        time.sleep(0.01)
    beside.stop()
    time.sleep(0.2)
    assert not (tmp_path / "b").exists()
    assert [process.poll() is not None for process in beside._processes] == [True]
