"""A language model as judge of replies, over any OpenAI-compatible server (methods 1.12, 1.13, 4.3).

Up to three questions per reply: ``match``, the paper's (Wang et al. 2025, arXiv 2510.11328), told the target;
``blind``, which names one of the emotions or neutral without knowing it; and ``joint``, three marks.

    accuracy (match) = mean of the labels;  accuracy (blind) = share of labels equal to the target
    cost (USD)       = (input tokens * input price + output tokens * output price) / 1e6
    estimate         = characters of the messages / 4 for the input, 40 (match), 25 (joint) or 10 (blind) tokens

Texts and reading: `emo.measure.judge_questions`; transport: `emo.measure.chat_server`. To a malformed answer the judge
is asked once more, shown what it wrote and what was wanted; what stays malformed or unanswered is unjudged (label
None), counted, and never guessed. With ``batch`` all questions but the first go through the batch API
(`emo.measure.batch_api`); those that it leaves without a readable answer are asked one by one.

Every answer is appended to ``<folder>/<model>-<sha256 of address, model, version of the texts>.jsonl`` the moment it
arrives, under the sha256 of its messages: after a kill only what is missing is asked. Unjudged ones are not kept.
The form of the answer, the timeout and the concurrency are no part of the address: they do not change the question.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from emo.core.console import Counter, progress, say, warn
from emo.core.sealed_lines import SealedLines
from emo.measure.batch_api import ask_in_batches
from emo.measure.chat_server import ChatRequest, Completion, Failure, Server, ServerSettings
from emo.measure.judge_questions import VERSION as PROMPTS_VERSION
from emo.measure.judge_questions import Question, check, digest, messages, read, repair, schema
from emo.measure.many_requests import side_by_side, until_answered
from emo.measure.prices import Tokens, cost_words, price_of
from emo.measure.rate_limit import CHARACTERS_PER_TOKEN

__all__ = ["PROMPTS_VERSION", "Answer", "Judge", "JudgeSettings", "Question", "Usage"]

LARGE = 200  # questions to ask from which a run announces its size and cost first
ANSWER_TOKENS = {"match": 40, "blind": 10, "joint": 25}
ATTEMPTS = 2  # at an answer that can be read
FIRST_PAUSE_S = 0.1  # before a garbled response is asked for again, doubled each time


class JudgeSettings(ServerSettings):
    """Which judge, and how it is asked."""


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
        self._folder = Path(folder).expanduser()
        self._book = _Book(self._folder, self._server.url, settings.model)
        self._spent, self._batched = Tokens(), 0  # of the last call

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
            self._spent, self._batched = Tokens(), 0
            with self._book.lines, progress("judge", len(todo), "questions") as bar:
                asyncio.run(self._run(todo, made, bar))
        sent = self._server.requests - sent_before + (self._batched if todo else 0)
        self.usage = self._count(len(set(keys)), made, sent)
        if todo:
            say(self._line())
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

        def keep(key: str, answer: Answer) -> None:
            made[key] = answer
            if answer.label is not None:
                self._book.add(key, answer)
            bar.advance()

        async def ask(item: tuple[str, Question]) -> None:
            keep(item[0], await self._answer(item[1]))

        async with self._server:
            await until_answered(self._server, queue, ask)
            if self.settings.batch:
                queue = iter((await self._in_batches(dict(queue), keep)).items())
            await side_by_side(self._server, queue, ask)

    async def _in_batches(self, todo: dict[str, Question], keep: Callable[[str, Answer], None]) -> dict[str, Question]:
        """Ask in batches; returns the questions that are left without a readable answer."""
        left = dict(todo)

        def arrived(key: str, got: Completion | Failure) -> None:
            self._batched += 1
            if not isinstance(got, Completion):
                return
            self._spent = self._spent.plus(got.input_tokens, got.output_tokens, batch=True)
            if (reading := read(todo[key], got.content)) is not None:
                raw, reason = self._server.scrub(got.content), self._server.scrub(reading.reason)
                del left[key]
                keep(key, Answer(reading.label, reason, raw, got.input_tokens, got.output_tokens, cached=False))

        await ask_in_batches(
            self._server, {key: request_of(question) for key, question in todo.items()}, self._folder, arrived
        )
        return left

    async def _answer(self, question: Question) -> Answer:
        raw, reason, tokens_in, tokens_out, malformed = "", "", 0, 0, 0
        for repeat in range(self.settings.retries + 1):
            got = await self._server.ask(request_of(question, raw or None))
            if isinstance(got, Completion):
                self._spent = self._spent.plus(got.input_tokens, got.output_tokens, batch=False)
                tokens_in, tokens_out = tokens_in + got.input_tokens, tokens_out + got.output_tokens
                raw = self._server.scrub(got.content)
                if (reading := read(question, got.content)) is not None:
                    return Answer(
                        reading.label, self._server.scrub(reading.reason), raw, tokens_in, tokens_out, cached=False
                    )
                malformed += 1
            reason = _why(got, raw)
            given_up = malformed == ATTEMPTS
            if given_up or (isinstance(got, Failure) and got.status != 200):  # the transport has repeated it already
                break
            if isinstance(got, Failure):  # a page of a gateway, or half an answer
                await asyncio.sleep(FIRST_PAUSE_S * 2**repeat)
        return Answer(None, reason, raw, tokens_in, tokens_out, cached=False)

    def _estimate(self, todo: Sequence[Question]) -> str:
        characters = sum(len(message["content"]) for question in todo for message in messages(question))
        tokens_in = characters // CHARACTERS_PER_TOKEN
        tokens_out = sum(ANSWER_TOKENS[question.kind] for question in todo)
        tokens = Tokens().plus(tokens_in, tokens_out, self.settings.batch)
        return (
            f"judge: {len(todo)} requests to {self.settings.model}, about {tokens_in:,} input tokens "
            f"(characters / {CHARACTERS_PER_TOKEN}) and {tokens_out:,} output tokens, "
            f"{cost_words(self.settings, tokens, 2, about=True)}"
        )

    def _line(self) -> str:
        u = self.usage
        return (
            f"judge: {u.questions} questions, {u.cached} known, {u.requests} requests ({u.retries} repeats), "
            f"{u.input_tokens:,} + {u.output_tokens:,} tokens by the server's count, "
            f"{cost_words(self.settings, self._spent)}, {u.unjudged} unjudged"
        )

    def _count(self, questions: int, made: dict[str, Answer], requests: int) -> Usage:
        tokens_in = sum(answer.input_tokens for answer in made.values())
        tokens_out = sum(answer.output_tokens for answer in made.values())
        unjudged = sum(answer.label is None for answer in made.values())
        price = price_of(self.settings)
        return Usage(
            questions,
            questions - len(made),
            requests,
            requests - len(made),
            tokens_in,
            tokens_out,
            None if price is None else price.cost(self._spent if made else Tokens()),
            unjudged,
        )


def _why(got: Completion | Failure, raw: str) -> str:
    if isinstance(got, Completion):
        return f"malformed answer: {' '.join(raw.split())[:80]!r}"
    return f"{got.status or 'no response'}: {got.words}"


def request_of(question: Question, malformed: str | None = None) -> ChatRequest:
    """Return what a server is sent for a question; ``malformed``: what it answered before, and nobody could read."""
    turns = messages(question) if malformed is None else repair(question, malformed)
    return ChatRequest(tuple(turns), question.kind, schema(question))


class _Book:
    """The answers of one judge, by the digest of the question."""

    def __init__(self, folder: Path, url: str, model: str) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:40]
        mark = hashlib.sha256(json.dumps([url, model, PROMPTS_VERSION]).encode()).hexdigest()[:16]
        self.lines = SealedLines(folder / f"{name}-{mark}.jsonl")

    def read(self) -> dict[str, Answer]:
        """Return every whole line."""
        found: dict[str, Answer] = {}
        for row in self.lines.read():
            try:
                answer = Answer(
                    row["label"], row["reason"], row["raw"], row["input_tokens"], row["output_tokens"], cached=True
                )
                if isinstance(answer.label, str | int | float):
                    found.setdefault(row["key"], answer)
            except (LookupError, TypeError):
                continue
        return found

    def add(self, key: str, answer: Answer) -> None:
        """Keep one answer."""
        row = {"key": key, **answer._asdict()}
        del row["cached"]
        self.lines.add(row)
