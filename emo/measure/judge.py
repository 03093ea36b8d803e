"""A language model as judge of replies, over any OpenAI-compatible server (methods 1.12, 1.13, 4.3).

Up to three questions per reply: ``match``, the paper's (Wang et al. 2025, arXiv 2510.11328), told the target;
``blind``, which names one of the emotions or neutral without knowing it; and ``joint``, three marks.

    accuracy (match) = mean of the labels;  accuracy (blind) = share of labels equal to the target
    cost (USD)       = (input tokens * input price + output tokens * output price) / 1e6
    estimate         = characters of the messages / 4 for the input, 40 (match), 25 (joint) or 10 (blind) tokens

Texts and reading: `emo.measure.judge_questions`; transport: `emo.measure.judge_server`. A malformed answer is
asked for once more; what stays malformed or unanswered is unjudged (label None), counted, and never guessed.

Every answer is appended to ``<folder>/<model>-<sha256 of address, model, version of the texts>.jsonl`` the moment it
arrives, under the sha256 of its messages: after a kill only what is missing is asked. Unjudged ones are not kept.
The form of the answer, the timeout and the concurrency are no part of the address: they do not change the question.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emo.core.console import Counter, progress, say, warn
from emo.core.errors import UserError
from emo.core.sealed import DamagedError, seal, unseal
from emo.measure.judge_questions import VERSION as PROMPTS_VERSION
from emo.measure.judge_questions import Question, check, digest, messages, read
from emo.measure.judge_server import Completion, Failure, JudgeSettings, Server

__all__ = ["PROMPTS_VERSION", "Answer", "Judge", "JudgeSettings", "Question", "Usage"]

LARGE = 200  # questions to ask from which a run announces its size and cost first
CHARACTERS_PER_TOKEN = 4
ANSWER_TOKENS = {"match": 40, "blind": 10, "joint": 25}
ATTEMPTS = 2  # at an answer that can be read
FIRST_PAUSE_S = 0.1  # before a garbled response is asked for again, doubled each time


class Answer(NamedTuple):
    """One label; tokens are those of all attempts, as the server counts them."""

    label: str | int | float | None  # match: 0 or 1; blind: a name; joint: 0.0 to 2.0; None: unjudged
    reason: str  # the judge's (of joint the marks), or why there is no label
    raw: str  # the last answer, word for word
    input_tokens: int
    output_tokens: int
    cached: bool


class Usage(NamedTuple):
    """What the last call of `Judge.ask` took; equal questions count once."""

    questions: int = 0
    cached: int = 0
    requests: int = 0
    retries: int = 0  # requests beyond one per question that was asked
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None  # USD; None where a price is not given
    unjudged: int = 0


class Judge:
    """Asks a judge, and remembers its answers in a folder.

    ``judge.usage`` holds what the last call took.
    """

    def __init__(self, settings: JudgeSettings, folder: str | Path) -> None:
        """Make a judge; nothing is sent yet. Raises `UserError` for an address that is none."""
        self.settings = settings
        self.usage = Usage()
        self._server = Server(settings)
        self._book = _Book(Path(folder).expanduser(), self._server.url, settings.model)

    def check(self) -> None:
        """Raise `UserError` where a key is needed and missing: to be called before hours of other work."""
        self._server.key()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the i-th answer to the i-th question; equal questions are asked once, known ones not at all.

        Runs an event loop of its own: not to be called from inside one.

        Raises:
            UserError: wrong key, model or address, no credit, nothing listening, a server that stopped answering, a
                question that is none, or a folder that cannot be written. Answers that arrived are kept.
        """
        for question in questions:
            check(question)
        keys = [digest(question) for question in questions]
        known = self._book.read()
        todo = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
        made: dict[str, Answer] = {}
        sent_before = self._server.requests
        if todo:
            self.check()
            if len(todo) > LARGE:
                say(self._estimate(list(todo.values())))
            with self._book, progress("judge", len(todo), "questions") as bar:
                asyncio.run(self._run(todo, made, bar))
        self.usage = self._count(len(set(keys)), made, self._server.requests - sent_before)
        if todo:
            say(_line(self.usage))
        if self.usage.unjudged:
            first = next(answer for answer in made.values() if answer.label is None)
            n = self.usage.unjudged
            warn(
                f"judge: {n} of {self.usage.questions} questions unjudged (e.g. {first.reason}); asked again next time"
            )
        answers = known | made
        return [answers[key] for key in keys]

    async def _run(self, todo: dict[str, Question], made: dict[str, Answer], bar: Counter) -> None:
        queue = iter(todo.items())

        async def work(alone: bool) -> None:
            for key, question in queue:
                made[key] = answer = await self._answer(question)
                if answer.label is not None:
                    self._book.add(key, answer)
                bar.advance()
                if alone and self._server.answered:
                    return

        async with self._server:
            # One at a time until one was answered: a wrong key costs one request, and the form is settled.
            await work(alone=True)
            stopped: ExceptionGroup | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.settings.concurrency):  # so many requests in flight, whatever the queue
                        group.create_task(work(alone=False))
            except ExceptionGroup as errors:
                stopped = errors
            if stopped is not None:
                raise stopped.exceptions[0]

    async def _answer(self, question: Question) -> Answer:
        raw, reason, tokens_in, tokens_out, malformed = "", "", 0, 0, 0
        for repeat in range(self.settings.retries + 1):
            got = await self._server.ask(question)
            if isinstance(got, Completion):
                tokens_in, tokens_out = tokens_in + got.input_tokens, tokens_out + got.output_tokens
                raw = self._server.scrub(got.content)
                if (reading := read(question, got.content)) is not None:
                    return Answer(
                        reading.label, self._server.scrub(reading.reason), raw, tokens_in, tokens_out, cached=False
                    )
                malformed += 1
            reason = _why(got, raw)
            given_up = malformed == ATTEMPTS  # at temperature 0 a model says the same again
            if given_up or (isinstance(got, Failure) and got.status != 200):  # the transport has repeated it already
                break
            if isinstance(got, Failure):  # a page of a gateway, or half an answer
                await asyncio.sleep(FIRST_PAUSE_S * 2**repeat)
        return Answer(None, reason, raw, tokens_in, tokens_out, cached=False)

    def _estimate(self, todo: Sequence[Question]) -> str:
        characters = sum(len(message["content"]) for question in todo for message in messages(question))
        tokens_in = characters // CHARACTERS_PER_TOKEN
        tokens_out = sum(ANSWER_TOKENS[question.kind] for question in todo)
        cost = self._cost(tokens_in, tokens_out)
        return (
            f"judge: {len(todo)} requests to {self.settings.model}, about {tokens_in:,} input tokens "
            f"(characters / {CHARACTERS_PER_TOKEN}) and {tokens_out:,} output tokens"
            + (f", about {cost:.2f} USD" if cost is not None else "")
        )

    def _cost(self, tokens_in: int, tokens_out: int) -> float | None:
        s = self.settings
        if s.price_input is None or s.price_output is None:
            return None
        return (tokens_in * s.price_input + tokens_out * s.price_output) / 1e6

    def _count(self, questions: int, made: dict[str, Answer], requests: int) -> Usage:
        tokens_in = sum(answer.input_tokens for answer in made.values())
        tokens_out = sum(answer.output_tokens for answer in made.values())
        unjudged = sum(answer.label is None for answer in made.values())
        return Usage(
            questions,
            questions - len(made),
            requests,
            requests - len(made),
            tokens_in,
            tokens_out,
            self._cost(tokens_in, tokens_out),
            unjudged,
        )


def _why(got: Completion | Failure, raw: str) -> str:
    if isinstance(got, Completion):
        return f"malformed answer: {' '.join(raw.split())[:80]!r}"
    return f"{got.status or 'no response'}: {got.words}"


def _line(usage: Usage) -> str:
    cost = "" if usage.cost is None else f", {usage.cost:.4f} USD"
    return (
        f"judge: {usage.questions} questions, {usage.cached} known, {usage.requests} requests "
        f"({usage.retries} repeats), {usage.input_tokens:,} + {usage.output_tokens:,} tokens by the server's count"
        f"{cost}, {usage.unjudged} unjudged"
    )


class _Book:
    """The answers of one judge: lines of JSON, only ever appended."""

    def __init__(self, folder: Path, url: str, model: str) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:40]
        mark = hashlib.sha256(json.dumps([url, model, PROMPTS_VERSION]).encode()).hexdigest()[:16]
        self.path = folder / f"{name}-{mark}.jsonl"

    def read(self) -> dict[str, Answer]:
        """Return every whole line; the torn last one of a killed process is as good as not there."""
        found: dict[str, Answer] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); give another folder") from None
        for line in lines:
            try:
                row = unseal(json.loads(line))
                answer = Answer(
                    row["label"], row["reason"], row["raw"], row["input_tokens"], row["output_tokens"], cached=True
                )
                if isinstance(answer.label, str | int | float):
                    found.setdefault(row["key"], answer)
            except (DamagedError, ValueError, LookupError, TypeError):
                continue
        return found

    def __enter__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+", buffering=0)  # one write per line: it is in the file or not
        except OSError as error:
            raise UserError(f"{self.path.parent}: cannot be written ({error.strerror}); give another folder") from None
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")  # a torn line must not swallow the next one

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, answer: Answer) -> None:
        """Keep one answer."""
        row = {"key": key, **answer._asdict()}
        del row["cached"]
        self._file.write(json.dumps(seal(row)).encode() + b"\n")
