"""How long a running job still takes: from the rates of the store, and what the job has shown so far."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.jobs import config

from emo.cli.forecast import Work
from emo.cli.job_clock import JobClock, time_left
from emo.cli.rates import Rate, Rates
from emo.cli.run import run_job
from emo.core import console

RATES = Rates("cpu", True, {"replies": Rate(10, 20.0, 100, 0), "labels": Rate(10, 5.0, 0, 0)})  # 2 s and 0.5 s a row


def work(stage: str, rows: int, tokens: int = 40) -> Work:
    return Work(stage, stage, False, rows, tokens)


def test_what_is_left_is_this_stage_and_those_to_come() -> None:
    left = [work("replies", 30), work("labels", 30, 0)]
    assert time_left(left, RATES, None, 0, 1, 0.0) == (75.0, True)
    assert time_left(left, RATES, None, 50, 100, 10.0) == (85.0, True)  # capture goes on as it went
    assert time_left(left, RATES, "replies", 10, 30, 40.0) == (95.0, True)  # slower than it was: 4 s a reply
    assert time_left(left, RATES, "replies", 30, 30, 50.0) == (25.0, True)  # 60 s were expected: something may follow
    assert time_left(left, RATES, "replies", 1, 30, 30.0) == (45.0, True)  # the first one says nothing: 60 - 30 and 15
    assert time_left([], RATES, None, 5, 10, 3.0) is None


def test_what_was_never_measured_makes_it_at_least_so_long() -> None:
    left = [work("replies", 30), work("damage", 30, 0)]
    assert time_left(left, RATES, None, 0, 1, 0.0) == (60.0, False)
    assert time_left(left, RATES, "damage", 10, 30, 5.0) == (70.0, True)  # now it shows how fast it is
    assert time_left(left, RATES, "damage", 1, 30, 30.0) == (60.0, False)  # not yet
    nothing = Rates(None, False, {})
    assert time_left(left, nothing, None, 50, 100, 10.0) is None
    assert time_left(left, nothing, "replies", 10, 30, 10.0) == (20.0, False)


def test_a_job_says_how_long_it_takes_once_its_stages_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its clock knows, when the job is done, that nothing is left: the addresses of the plan are the job's."""
    monkeypatch.setattr(console, "TOLD_AFTER", 0.0)
    first = config(tmp_path, "console=rich", "control.arms=[random]")
    assert run_job(first) == 0
    assert "for the job" not in capsys.readouterr().out.partition("test: ")[0]  # the first ever: nothing is known
    monkeypatch.setattr("emo.cli.job_clock.LEAST", 0.0)
    second = config(tmp_path, "console=rich", "control.arms=[random]", "intervention.alpha=2", "seed=1")
    clock = JobClock(second)
    assert clock("capture: groups 1-2 of 2", 1, 2, 1.0).startswith("about ")
    assert run_job(second) == 0
    assert "left for the job" in capsys.readouterr().out
    assert clock("test: cosine", 1, 2, 1.0) == ""
