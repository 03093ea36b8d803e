"""What is to be written, one text or record at a time, and the rounds in which it is asked for, checked and kept.

A round asks for everything that is still missing; an answer is read, checked and logged the moment it arrives. What
breaks a rule is asked for again in the next round, with what was written and the rule that it broke, at most ``tries``
times. The log is all that a later call needs: it asks only for what is neither accepted nor given up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from emo.core import stopping
from emo.core.console import Counter, progress
from emo.core.sealed_lines import SealedLines
from emo.data.language import language
from emo.data.text_rules import Broken
from emo.measure.chat_server import ChatRequest
from emo.measure.prices import Tokens
from emo.pipeline.building.known import Known
from emo.pipeline.building.writers import Asked, Writer, Written

KEPT_CHARACTERS = 2_000  # of an answer that could not be read


class Slot(NamedTuple):
    """One thing to be written."""

    id: str
    about: dict[str, Any]  # what the request says of it


class Try(NamedTuple):
    """One answer for a slot."""

    value: Any  # what was written, None where nothing could be read
    broken: tuple[Broken, ...]
    model: str
    date: str  # of the answer, UTC
    prompt: str  # sha256 of the messages
    raw: str = ""  # of an answer that could not be read
    tokens: Tokens = Tokens()  # of the request, at the first of its slots

    @property
    def good(self) -> bool:
        """Whether it is accepted."""
        return self.value is not None and not self.broken


class Ask(NamedTuple):
    """A slot that is asked for, and what became of it before."""

    slot: Slot
    before: Try | None


class Stage(Protocol):
    """One kind of thing to be written.

    Attributes:
        name: of the stage, in the log.
        unit: what is counted, in the plural.
        answer_tokens: of one thing, at most: what a model of this process may write.
        at_once: things asked for in one request.
    """

    name: str
    unit: str
    answer_tokens: int
    at_once: int

    def group(self, slot: Slot) -> str:
        """Return what slots must have in common to be asked for together."""

    def request(self, asks: Sequence[Ask]) -> ChatRequest:
        """Return what is sent for some slots of a group."""

    def read(self, answer: str, n: int) -> list[Any]:
        """Return the n things that an answer holds, None where there is none."""

    def broken(self, slot: Slot, value: Any) -> list[Broken]:
        """Return the rules that one breaks, but for duplicates."""

    def texts(self, value: Any) -> list[str]:
        """Return its texts that no other thing may repeat."""


class Log:
    """The tries of all slots, on disk."""

    def __init__(self, lines: SealedLines) -> None:
        self.lines = lines
        self.tries: dict[tuple[str, str], list[Try]] = {}
        for row in lines.read():
            if "slot" in row:
                broken = tuple(Broken(*pair) for pair in row["broken"])
                made = Try(
                    row["value"], broken, row["model"], row["date"], row["prompt"], row["raw"], Tokens(*row["tokens"])
                )
                self.tries.setdefault((row["stage"], row["slot"]), []).append(made)

    def of(self, stage: str, slot: Slot) -> list[Try]:
        """Return the tries of a slot, oldest first."""
        return self.tries.get((stage, slot.id), [])

    def add(self, stage: str, slot: Slot, made: Try) -> None:
        """Keep one more."""
        row = made._asdict() | {"stage": stage, "slot": slot.id, "broken": [list(b) for b in made.broken]}
        self.lines.add(row)
        self.tries.setdefault((stage, slot.id), []).append(made)


class Rounds(NamedTuple):
    """What all rounds of a stage share."""

    log: Log
    writer: Writer
    known: Known
    language: str  # name of the one that texts must be in
    tries: int


def fill(stage: Stage, slots: Sequence[Slot], rounds: Rounds) -> None:
    """Have every slot written, or give it up after ``tries`` answers; what happens to each is in the log.

    Raises:
        UserError: the server refuses, or stopped answering. What arrived is kept.
    """
    log, known, tries = rounds.log, rounds.known, rounds.tries
    for slot in slots:
        for made in log.of(stage.name, slot):
            if made.good:
                known.add(slot.id, stage.texts(made.value))
    left = _open(stage, slots, log, tries)
    if not left:
        return
    with progress(stage.name, len(left), stage.unit) as bar:
        while left:
            stopping.check()
            _round(stage, left, rounds, bar)
            left = _open(stage, slots, log, tries)


def _open(stage: Stage, slots: Sequence[Slot], log: Log, tries: int) -> list[Ask]:
    """Return the slots that are neither accepted nor given up."""
    found = []
    for slot in slots:
        made = log.of(stage.name, slot)
        if len(made) < tries and not any(one.good for one in made):
            found.append(Ask(slot, made[-1] if made else None))
    return found


def requests(stage: Stage, asks: Sequence[Ask]) -> list[list[Ask]]:
    """Return the slots of every request: of one group, ``at_once`` at most."""
    groups: dict[str, list[Ask]] = {}
    for ask in asks:
        groups.setdefault(stage.group(ask.slot), []).append(ask)
    return [
        own[start : start + stage.at_once] for own in groups.values() for start in range(0, len(own), stage.at_once)
    ]


def first_requests(stage: Stage, slots: Sequence[Slot], log: Log, tries: int) -> list[ChatRequest]:
    """Return the requests of the next round."""
    return [stage.request(asks) for asks in requests(stage, _open(stage, slots, log, tries))]


def _round(stage: Stage, left: Sequence[Ask], rounds: Rounds, bar: Counter) -> None:
    log, writer, known = rounds.log, rounds.writer, rounds.known
    parts = requests(stage, left)
    asked = [
        Asked(stage.request(part), 1 + max(len(log.of(stage.name, ask.slot)) for ask in part),
              stage.answer_tokens * len(part))
        for part in parts
    ]  # fmt: skip

    def done(i: int, written: Written) -> None:
        prompt = digest(asked[i].request)
        values = [None] * len(parts[i]) if written.text is None else stage.read(written.text, len(parts[i]))
        for ask, value in zip(parts[i], values, strict=True):
            broken = _judge(stage, ask.slot, value, rounds, written)
            raw = "" if value is not None else (written.text or "")[:KEPT_CHARACTERS]
            date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            tokens = written.tokens if ask is parts[i][0] else Tokens()
            made = Try(value, tuple(broken), writer.title, date, prompt, raw, tokens)
            with stopping.held():
                log.add(stage.name, ask.slot, made)
            if made.good:
                known.add(ask.slot.id, stage.texts(value))
            if made.good or len(log.of(stage.name, ask.slot)) >= rounds.tries:
                bar.advance()

    writer.write(asked, done)


def _judge(stage: Stage, slot: Slot, value: Any, rounds: Rounds, written: Written) -> list[Broken]:
    if value is None:
        why = written.why or "the answer could not be read: it was not of the form that was asked for"
        return [Broken("no answer" if written.text is None else "unreadable", why)]
    texts, expected = stage.texts(value), rounds.language
    if any(language(text, expected) != expected for text in texts):
        return [Broken("language", f"it is not written in {expected}")]
    return stage.broken(slot, value) or rounds.known.repeated(slot.id, texts)


def digest(request: ChatRequest) -> str:
    """Return the sha256 of a request's messages."""
    return hashlib.sha256(json.dumps(request.messages, ensure_ascii=False).encode()).hexdigest()


def accepted(stage: Stage, slots: Sequence[Slot], log: Log) -> Mapping[str, Try]:
    """Return the accepted try of every slot that has one, by its id."""
    found = {slot.id: next((made for made in log.of(stage.name, slot) if made.good), None) for slot in slots}
    return {name: made for name, made in found.items() if made is not None}
