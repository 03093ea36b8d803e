"""What a person sees in the terminal: plain lines, tables and progress. The only writer to stdout.

Modes: ``rich`` (default) and ``quiet`` (on stdout only where the result is; warnings go to stderr through logging).
In a log or CI, where stdout is no terminal, bars become plain lines.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from emo.core import stopping
from emo.core.errors import check_choice
from emo.core.stats import Estimate

MODES = ("rich", "quiet")
EVERY = 30.0  # seconds between progress lines in a log
EARLY = 0.05  # share of the work from which its rate says how long the rest takes: first units pay for whole batches
TOLD_AFTER = 10.0  # seconds of a job before it is told how long all of it takes: to know that takes a moment itself
LOG_WIDTH = 160  # columns of a table in a log, where there is no terminal to ask (COLUMNS overrides)
_logger = logging.getLogger("emo.core.console")
_doing: list[str] = []  # descriptions of the work that is shown now, the innermost last
# What is shown of it, how many units are done, of how many, in how many seconds -> words about the whole job's time.
Clock = Callable[[str, int, int, float], str]


@dataclass
class _State:
    mode: str
    console: Console
    clock: Clock | None = None  # of the job that runs
    began: float = 0.0  # it, on `monotonic`


def _make() -> Console:
    # No markup: "[0.31, 0.55]" or a reply with brackets must be printed as it is.
    plain = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(markup=False, highlight=False, emoji=False, width=LOG_WIDTH if plain else None)


_state = _State("rich", _make())


def setup(mode: str) -> None:
    """Choose how this process talks: ``rich`` or ``quiet``.

    Raises:
        UserError: another mode.
    """
    check_choice("console", mode, MODES)
    _state.mode, _state.console = mode, _make()
    # Own handler, no propagation: an application that logs to stdout must not make "quiet" print there.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _logger.handlers[:] = [handler]
    _logger.propagate = False


def say(text: str) -> None:
    """Print one plain line, never wrapped."""
    _line(text)


def note(text: str) -> None:
    """Print one dim line: what a hurried reader may skip."""
    _line(text, "dim")


def answer(path: Path) -> None:
    """Print where a result is, in quiet mode: the one line that a script reads. The other mode has said it already."""
    if _state.mode == "quiet":
        _state.console.print(str(path), soft_wrap=True)


def warn(text: str) -> None:
    """Print one warning line; in quiet mode it goes to stderr through logging."""
    if _state.mode == "quiet":
        _logger.warning(text)
    else:
        _line(f"warning: {text}", "yellow")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is left-aligned, an `Estimate` is written with its interval."""
    if _state.mode == "quiet":
        return
    view = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        view.add_column(column, justify="left" if i == 0 else "right", overflow="fold", no_wrap=i == 0)
    for row in rows:
        view.add_row(*(format_estimate(cell) if isinstance(cell, Estimate) else str(cell) for cell in row))
    _state.console.print(view)


def format_estimate(estimate: Estimate, digits: int = 2) -> str:
    """Return ``0.42 [0.31, 0.55]``; ``0.42`` without an interval, ``-`` where nothing was measured."""
    if estimate.value is None:
        return "-"
    value = f"{estimate.value:z.{digits}f}"
    if estimate.lo is None or estimate.hi is None:
        return value
    return f"{value} [{estimate.lo:z.{digits}f}, {estimate.hi:z.{digits}f}]"


class Counter:
    """Counts finished units of work and knows their rate; `advance` is all a stage calls."""

    def __init__(self, description: str, total: int, unit: str, bar: Progress | None = None) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self._start = self._last = monotonic()
        self._bar = bar
        self._task = None if bar is None else bar.add_task(description, total=total, unit=unit, job="")

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more units as done; in a log, write a line where the last one is 30 s old."""
        self.done += n
        stopping.check()  # what a signal raised may have been dropped (`emo.core.stopping`)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)
            if _state.clock is not None and monotonic() - self._last >= 1:
                self._last = monotonic()
                self._bar.update(self._task, job=self._job(self._last))
            return
        now = monotonic()
        if now - self._last >= EVERY and 0 < self.done < self.total:
            self._last = now
            left = ""
            if self.done >= EARLY * self.total:
                left = f", {_seconds((self.total - self.done) * (now - self._start) / self.done)} left"
            _line(f"{self.description}: {self._count()}, {self._rate(now)}{left}{self._job(now)}")

    def close(self, complete: bool) -> None:
        """Write the one line that stays: units, seconds, rate; or where the work stopped."""
        now = monotonic()
        spent = _seconds(now - self._start)
        if complete:
            _line(f"{self.description}: {self._count()} in {spent} ({self._rate(now)}){self._job(now)}")
        else:
            _line(f"{self.description}: stopped at {self._count()} after {spent}")

    def _job(self, now: float) -> str:
        if _state.mode == "quiet" or _state.clock is None or now - _state.began < TOLD_AFTER:
            return ""
        told = _state.clock(self.description, self.done, self.total, now - self._start)
        return f"; {told}" if told else ""

    def _count(self) -> str:
        share = "" if self.done == self.total else f" of {self.total}"
        return f"{self.done}{share} {self.unit}"

    def _rate(self, now: float) -> str:
        spent = now - self._start
        return f"{_number(self.done / spent) if spent > 0 else '-'} {self.unit}/s"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return units per second, over the last moments while the work goes on."""
        speed = task.finished_speed or task.speed
        return Text(f"{'-' if speed is None else _number(speed)} {task.fields['unit']}/s", style="dim")


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Counter]:
    """Show a stage's progress: done of total, units per second, time left.

    In a terminal a bar; in a log one line at the end, and one every 30 s of longer work; nothing in quiet.

    Args:
        description: what is being done.
        total: units of work.
        unit: their name in the plural, e.g. ``prompts``.

    Yields:
        An object with ``advance(n)``.
    """
    bar = _bar() if _state.mode == "rich" and _state.console.is_terminal else None
    counter = Counter(description, total, unit, bar)
    complete = False
    _doing.append(description)
    try:
        with bar or nullcontext():
            yield counter
        complete = True
    finally:
        _doing.remove(description)
        counter.close(complete)


@contextmanager
def timed(clock: Clock) -> Iterator[None]:
    """Let lines of progress say how long the whole job takes that runs inside, as ``clock`` knows it."""
    _state.clock, _state.began = clock, monotonic()
    try:
        yield
    finally:
        _state.clock = None


def doing() -> str | None:
    """Return what this process is doing, for whoever looks from outside; None: nothing that takes long."""
    return _doing[-1] if _doing else None


def _bar() -> Progress:
    # Transient: when the work is over, the bar gives way to the same line that a log gets.
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[job]}", style="dim", markup=False),
        console=_state.console,
        transient=True,
    )


def _line(text: str, style: str | None = None) -> None:
    if _state.mode != "quiet":
        _state.console.print(text, style=style, soft_wrap=True)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _number(rate: float) -> str:
    """Three significant digits, never in exponent form."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}" if rate >= 0.001 else "0"
