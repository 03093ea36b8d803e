"""Long stages keep what they have finished, so that a stage longer than a time limit ends all the same.

While the store computes artifacts (`work`), loops over independent rows go through `fill`, and loops that add rows up
go through `Running`. Every `EVERY_S` seconds, and at once where the work is broken off (a signal, Ctrl-C, a crash),
what is finished is written beside the artifacts (`emo.core.partial_log`); the next process, whatever other artifacts it
asks for, takes it up, and it is deleted with the artifact's arrival. A stage of seconds writes nothing.

What is under way is known to the process, as the console is: a row of a loop deep inside a stage need not be handed
the store through all layers. Outside `work` (a function called by hand) nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from emo.core.console import say, warn
from emo.core.disk import is_full
from emo.core.errors import UserError
from emo.core.partial_log import Log, Sums, named
from emo.core.stopping import Stopped, check, held

EVERY_S = 60.0  # at most so much work is lost by a kill, beside the pass under way
SHARE = 20  # writing takes at most one part of so many of the time

Owner = tuple[str | None, object]  # the artifact's name (None: the one under way), and what the row is in it (JSON)
Done = Callable[[int, Any], None]  # (place among the missing rows, value)


class Work:
    """The artifacts that one computation gives, by name, and what of them is not written yet."""

    def __init__(self, logs: Mapping[str, Log]) -> None:
        self.logs = dict(logs)
        self.only: str | None = None  # whose rows are computed, where artifacts are computed one by one
        self.told = ""  # how far it is, in words
        self._rows: list[tuple[Log, str, object, Any]] = []  # where it goes, loop, row, value
        self._running: list[Running] = []
        self._last = monotonic()
        self._next = self._last + EVERY_S

    def log(self, name: str | None) -> Log:
        """Return the log of an artifact; a name that is none (an arm tried on dev) stands for the one under way."""
        known = name if name in self.logs else self.only
        return self.logs[known if known is not None else next(iter(self.logs))]

    def known(self, what: str, owners: Sequence[Sequence[Owner]]) -> dict[int, Any]:
        """Return the rows that are finished."""
        if not any(log.rows() for log in self.logs.values()):
            return {}
        found = {}
        for i, own in enumerate(owners):
            for name, of in own:
                rows = self.log(name).rows()
                if (key := named(what, of)) in rows:
                    found[i] = rows[key]
        return found

    def add(self, what: str, owners: Sequence[Owner], value: Any) -> None:
        """Remember a finished row."""
        self._rows += [(self.log(name), what, of, value) for name, of in owners]
        self.when_due()

    def runs(self, running: Running) -> None:
        """Look after the sums of a loop."""
        self._running.append(running)

    def when_due(self) -> None:
        """Write what is finished if the last time is long ago; hear a signal that other code swallowed."""
        check()
        if monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what is finished and was not written; a disk that takes nothing is said and does not end the work."""
        start = monotonic()
        with held():
            rows, self._rows = self._rows, []
            lines: dict[str, list[tuple[str, Any]]] = {}
            logs: dict[str, Log] = {}
            for log, what, of, value in rows:
                logs[log.key] = log
                lines.setdefault(log.key, []).append((named(what, of), value))
            try:
                for running in self._running:
                    if running.keep():
                        logs[running.log.key] = running.log
                for key, log in logs.items():
                    log.append(lines.get(key, []), start - self._last)
            except (OSError, SafetensorError) as error:  # the writer of tensors tells a full disk in its own way
                place = getattr(error, "filename", None) or next(iter(self.logs.values())).folder
                warn(f"{place}: what is finished could not be kept ({error}); the work goes on")
            self._last = monotonic()
            self._next = self._last + max(EVERY_S, SHARE * (self._last - start))


_current: ContextVar[Work | None] = ContextVar("work", default=None)


@contextmanager
def work(logs: Mapping[str, Log]) -> Iterator[None]:
    """Keep what is finished of the artifacts ``logs`` while the caller computes them."""
    own = Work(logs)
    token = _current.set(own)
    try:
        yield
    except UserError:  # the request was wrong: nothing is left behind
        raise
    except BaseException as error:
        if not is_full(error):  # nothing more can be written there, and its line names the place
            own.flush()
        if isinstance(error, Stopped):
            error.kept = error.kept or own.told
        raise
    finally:
        _current.reset(token)


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Say which of several artifacts the caller computes now."""
    own = _current.get()
    if own is None:
        yield
        return
    before, own.only = own.only, name
    try:
        yield
    finally:
        own.only = before


def fill(
    what: str,
    label: str,
    unit: str,
    owners: Sequence[Sequence[Owner]],
    compute: Callable[[list[int], Done], object],
) -> list[Any]:
    """Return a value for every row of a loop: those finished before, the others by ``compute``.

    Args:
        what: which loop of the stage it is; part of the rows' names.
        label: of its progress line.
        unit: rows, in the plural.
        owners: whose every row is; several artifacts may share one.
        compute: takes the missing rows (their places), in order, and what to call with each finished one: its place
            among the missing ones and its value (JSON, a tensor, or a dictionary of both). Not called where none is.
    """
    own, total = _current.get(), len(owners)
    found = {} if own is None else own.known(what, owners)
    left = [i for i in range(total) if i not in found]
    if found:
        say(f"{label}: {len(found):,} of {total:,} {unit} kept from before")
    if own is not None and found:
        own.told = f"{len(found):,} of {total:,} {unit}"

    def done(k: int, value: Any) -> None:
        found[left[k]] = value
        if own is not None:
            own.told = f"{len(found):,} of {total:,} {unit}"
            own.add(what, owners[left[k]], value)

    if left:
        compute(left, done)
    return [found[i] for i in range(total)]


class Running:
    """Sums over the rows of a loop, which grow with every pass.

    Attributes:
        done: rows that are in them.
        found: the tensors that were kept before; None: start anew.
    """

    def __init__(self, what: str, label: str, unit: str, total: int, state: Callable[[], dict[str, Tensor]]) -> None:
        """Look for sums that were kept before; ``state`` gives the tensors to keep, at any time between passes."""
        self._work, self.what, self.unit, self.total, self._state = _current.get(), what, unit, total, state
        self.done: set[int] = set()
        self.found: dict[str, Tensor] | None = None
        self._whole, self._written = True, 0
        if self._work is None:
            return
        self.log = self._work.log(None)
        self._work.runs(self)
        if before := self.log.sums(what):
            self.found, self.done, self._written = before.tensors, before.done, len(before.done)
            self.log.rows()  # and the time that they took
            say(f"{label}: {len(self.done):,} of {total:,} {unit} kept from before")

    def left(self) -> list[int]:
        """Return the rows that are not in the sums yet."""
        return [i for i in range(self.total) if i not in self.done]

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what was kept before into tensors that are added to in place."""
        for name, x in (self.found or {}).items():
            tensors[name].copy_(x)

    @contextmanager
    def adding(self, rows: Iterable[int]) -> Iterator[None]:
        """Add ``rows`` to the sums inside: a signal waits for the end, as half a pass is of no use."""
        self._whole = False
        with held():
            yield
            self.done.update(rows)
            self._whole = True
            if self._work is not None:
                self._work.told = f"{len(self.done):,} of {self.total:,} {self.unit}"
                self._work.when_due()

    def keep(self) -> bool:
        """Write the sums if there is anything new and they are whole; returns whether they were written."""
        if not self._whole or len(self.done) == self._written:
            return False
        self.log.keep_sums(self.what, Sums(self._state(), set(self.done)))
        self._written = len(self.done)
        return True
