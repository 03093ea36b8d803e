"""Signals that end a process from outside: a cluster's time limit, its warning before it, ``kill``.

SIGTERM, SIGUSR1 and SIGUSR2 (SLURM's warning, `submitit`'s default) raise `Stopped` in the main thread, wherever it
is: what was under way closes its files and locks, keeps what is finished, and the process ends with code 143. Ctrl-C
raises `KeyboardInterrupt` (code 130), as ever; both are remembered, since Python drops what is raised in a callback of
the garbage collector: the next `check` raises again.
This module imports nothing that takes time: it is installed before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

STOPPED = 143  # exit code: 128 + SIGTERM, of all three signals
SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")
AGAIN_S = 5.0  # a signal that is repeated sooner (to a group of processes, say) must not break the tidying up


class Stopped(SystemExit):
    """A signal asked this process to end.

    It is a `SystemExit`, as ``except Exception`` must not swallow it, and event loops let only that one (and Ctrl-C)
    out of a task. ``signal``: its name; ``kept``: what of the work under way is kept, in words, empty if unknown.
    """

    def __init__(self, name: str, kept: str = "") -> None:
        super().__init__(STOPPED)
        self.signal, self.kept = name, kept

    def __reduce__(self) -> tuple[type[Stopped], tuple[str, str]]:  # between processes
        return type(self), (self.signal, self.kept)

    def __str__(self) -> str:
        """Return the one line that a user reads."""
        kept = f" ({self.kept})" if self.kept else ""
        return f"stopped by {self.signal}: what is finished is kept{kept}; the same line continues"


class _State:
    guarded = 0  # how many callers up the stack are ready to catch `Stopped`
    held = 0  # how many of them must not be interrupted just now
    asked: str | None = None  # the signal that came
    interrupted = False  # Ctrl-C came
    waits = False  # it came while something was held, and has raised nothing yet
    last = 0.0  # when it, or one after it, raised


_state = _State()


def install() -> None:
    """Let the signals raise `Stopped` in this process; before `catching` begins they end it at once, with the line."""
    for name in SIGNALS:
        signal.signal(getattr(signal, name), _handle)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)


def asked() -> str | None:
    """Return the name of the signal that came, also where what it raised was swallowed by somebody's code."""
    return _state.asked


def interrupted() -> bool:
    """Return whether Ctrl-C came, also where what it raised was swallowed."""
    return _state.interrupted


def check() -> None:
    """Raise `Stopped` or `KeyboardInterrupt` if a signal came; between two pieces of work of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    if _state.interrupted and not _state.held:
        raise KeyboardInterrupt
    if _state.asked and not _state.held:
        raise Stopped(_state.asked)


@contextmanager
def catching() -> Iterator[None]:
    """Say that the caller catches `Stopped`."""
    _state.guarded += 1
    try:
        yield
    finally:
        _state.guarded -= 1


@contextmanager
def held() -> Iterator[None]:
    """Let what is inside end first (a short write): a signal that comes meanwhile is raised behind it."""
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
    if _state.waits and not _state.held:  # not one that has raised before: what tidies up after it is held too
        _state.waits, _state.last = False, monotonic()
        check()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _state.interrupted = True
    signal.default_int_handler(number, frame)


def _handle(number: int, _: FrameType | None) -> None:
    name = signal.Signals(number).name
    if not _state.guarded:  # still loading: nothing is under way
        os.write(2, f"{Stopped(name)}\n".encode())
        os._exit(STOPPED)
    again = _state.asked is not None and monotonic() - _state.last < AGAIN_S
    _state.asked = _state.asked or name
    if _state.held:
        _state.waits = _state.waits or not again
    elif not again:
        _state.last = monotonic()
        raise Stopped(_state.asked)
