"""What reaches a terminal, a log, and nobody."""

from __future__ import annotations

import sys

import pytest

from emo.core import console
from emo.core.errors import UserError
from emo.core.stats import Estimate


@pytest.fixture(autouse=True)
def _rich_again():
    yield
    console.setup("rich")


def everything() -> None:
    console.say("a line")
    console.note("a note")
    console.table("title", ["arm", "margin"], [["none", Estimate(0.42, 0.31, 0.55, 9)]])
    with console.progress("capture", 3, "prompts") as counter:
        counter.advance(3)


def test_quiet_prints_nothing_and_warns_on_stderr(capsys):
    console.setup("quiet")
    everything()
    assert capsys.readouterr() == ("", "")
    console.warn("12 scenarios are too long")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == "WARNING: 12 scenarios are too long"


def test_log_lines_are_plain_and_unbroken(capsys):
    console.setup("rich")
    everything()
    console.warn("careful")
    console.say("[red]" + "word " * 60)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[:2] == ["a line", "a note"]
    assert "0.42 [0.31, 0.55]" in out
    assert any(line.startswith("capture: 3 prompts in 0.0 s (") and line.endswith("/s)") for line in lines)
    assert "warning: careful" in lines
    assert lines[-1].strip() == ("[red]" + "word " * 60).strip()


def test_log_reports_long_work_every_30_seconds(capsys, monkeypatch):
    console.setup("rich")
    clock = iter([0.0, 29.0, 30.0, 45.0, 61.0, 80.0])
    monkeypatch.setattr(console, "monotonic", lambda: next(clock))
    with console.progress("generate", 5, "replies") as counter:
        for _ in range(4):
            counter.advance()
    assert capsys.readouterr().out.splitlines() == [
        "generate: 2 of 5 replies, 0.0667 replies/s, 45 s left",
        "generate: 4 of 5 replies, 0.0656 replies/s, 15 s left",
        "generate: 4 of 5 replies in 80 s (0.05 replies/s)",
    ]


def test_the_first_units_do_not_say_how_long_it_takes(capsys, monkeypatch):
    """They pay for the whole batch that they came with."""
    console.setup("rich")
    clock = iter([0.0, 31.0, 62.0, 70.0])
    monkeypatch.setattr(console, "monotonic", lambda: next(clock))
    with console.progress("generate", 60, "replies") as counter:
        counter.advance(1)
        counter.advance(5)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "generate: 1 of 60 replies, 0.0323 replies/s",
        "generate: 6 of 60 replies, 0.0968 replies/s, 558 s left",
    ]


def test_stopped_work_says_where(capsys):
    console.setup("rich")

    def work() -> None:
        with console.progress("score", 8, "prompts") as counter:
            counter.advance(2)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert capsys.readouterr().out.startswith("score: stopped at 2 of 8 prompts after ")


def test_terminal_shows_a_bar_and_leaves_the_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    console.setup("rich")
    with console.progress("outer", 2, "jobs") as outer, console.progress("inner", 4, "prompts") as inner:
        inner.advance(4)
        outer.advance(2)
    out = capsys.readouterr().out
    assert "2/2" in out
    assert "inner: 4 prompts in" in out
    assert "outer: 2 jobs in" in out


def test_nothing_to_do_is_no_error(capsys):
    console.setup("rich")
    with console.progress("capture", 0, "prompts"):
        pass
    assert capsys.readouterr().out.startswith("capture: 0 prompts in 0.0 s")


def test_unknown_mode_names_the_key():
    with pytest.raises(UserError, match="console=quite.*did you mean quiet"):
        console.setup("quite")


def test_format_estimate():
    assert console.format_estimate(Estimate(0.42, 0.31, 0.55, 9)) == "0.42 [0.31, 0.55]"
    assert console.format_estimate(Estimate(-0.001, None, None, 1)) == "0.00"
    assert console.format_estimate(Estimate(None, None, None, 0)) == "-"
    assert console.format_estimate(Estimate(1.2345, 1, 2, 9), digits=3) == "1.234 [1.000, 2.000]"
