"""A signal that somebody's code swallows stops the process all the same, at the next step."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from emo.config import error_text
from emo.core import stopping
from emo.core.console import progress

pytestmark = pytest.mark.usefixtures("quiet")
NAMES = ("SIGINT", *stopping.SIGNALS)


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals are heard as in a process of ours, and what they leave is this test's own."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
    monkeypatch.setattr(stopping, "_state", stopping._State())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopping.install()
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


class Held:
    """Something that may be referred to weakly."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "kind"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", stopping.Stopped)])
def test_one_that_comes_while_garbage_is_collected(name: str, kind: type[BaseException]) -> None:
    """Python drops what is raised there; caches of models are collected all the time."""
    done, kept = [], [Held()]
    seen = weakref.ref(kept[0], lambda _: signal.raise_signal(getattr(signal, name)))

    def work() -> None:
        with stopping.catching(), progress("stage", 9, "steps") as bar:
            for step in range(9):
                if step == 3:
                    kept.clear()
                    gc.collect()
                    assert seen() is None
                done.append(step)
                bar.advance()

    with pytest.raises(kind):
        work()
    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_no_job_behind_it_starts(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a library made an error of its own of it, or nothing at all."""

    def raising(error: type[Exception] | None) -> Callable[[], int]:
        def job() -> int:
            try:
                signal.raise_signal(getattr(signal, name))
            except BaseException:
                if error is not None:
                    raise error("of its own") from None
            return 0

        return job

    with pytest.raises(SystemExit) as stop:
        error_text.guard(raising(ValueError))
    assert stop.value.code == code and "Traceback" not in capsys.readouterr().err
    stopping._state = stopping._State()
    assert error_text.guard(raising(None)) == 0
    with pytest.raises(SystemExit) as stop:
        error_text.guard(lambda: pytest.fail("it started"))
    assert stop.value.code == code


def test_threads_are_let_be() -> None:
    """Judges ask in threads: only the main one stops, and waits for them."""
    with stopping.catching(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    found: list[BaseException] = []

    def ask() -> None:
        try:
            stopping.check()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == []
    with pytest.raises(KeyboardInterrupt):
        stopping.check()
