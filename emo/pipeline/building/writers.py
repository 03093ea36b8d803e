"""Who writes: a model of an OpenAI-compatible server, or one of this process. Both answer requests, and say when.

Answers of a server are kept under the sha256 of address, model, temperature, messages and number of the try: what was
asked once, in whatever set, is not asked again. A model of this process writes greedily.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import NamedTuple, Protocol

from emo.config.build import OF_SERVERS
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.sealed_lines import SealedLines
from emo.core.store import Store
from emo.measure.batch_api import ask_in_batches
from emo.measure.chat_server import ChatRequest, Completion, Failure, Server, ServerSettings
from emo.measure.many_requests import side_by_side, until_answered
from emo.measure.prices import Tokens, cost_words
from emo.model.generate import generate
from emo.model.load import describe, load
from emo.model.passes import Row
from emo.model.prompts import tokenize


class Asked(NamedTuple):
    """One request, the how manieth try it is for what it asks for, and how long its answer may be."""

    request: ChatRequest
    number: int
    tokens: int


class Written(NamedTuple):
    """What came back; ``text`` None: nothing, ``why`` says so."""

    text: str | None
    why: str = ""
    tokens: Tokens = Tokens()  # of a server's answer that was not known


Done = Callable[[int, Written], None]


class Writer(Protocol):
    """Writes answers.

    Attributes:
        title: who it is, for provenance.
        said: how it writes, for the data card.
    """

    title: str
    said: str

    def check(self) -> None:
        """Raise `UserError` where it cannot write, before anything is asked."""

    def write(self, asked: Sequence[Asked], done: Done) -> None:
        """Answer requests, and call ``done`` with the place of each and what came, as it comes."""

    def line(self) -> str:
        """Return what this call took, in words."""

    def spent(self, tokens: Tokens) -> str:
        """Return what so many tokens cost, in words; empty where they cost nothing."""


class BuildSettings(ServerSettings):
    """Which server writes, and how it is asked."""

    section = "build"
    who = "build"


def writer_of(config: Config) -> Writer:
    """Return who writes for a configuration; raises `UserError` for a setting that is none."""
    return ServerWriter(config) if config.build.model is not None else ModelWriter(config)


class ServerWriter:
    """``build.model=NAME``: a model of a server."""

    def __init__(self, config: Config) -> None:
        given = {key: value for key, value in asdict(config.build).items() if key in OF_SERVERS}
        self.settings = BuildSettings(model=config.build.model or "", **given)
        self.server = Server(self.settings)
        self.title = f"{self.settings.model} at {self.server.url}"
        heat = self.settings.temperature
        self.said = "the server's own temperature" if heat is None else f"temperature {heat:g}"
        self.folder = Store(config.paths.store).root / "written"
        mark = hashlib.sha256(json.dumps([self.server.url, self.settings.model]).encode()).hexdigest()[:16]
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.settings.model)[:40]
        self.book = SealedLines(self.folder / f"{name}-{mark}.jsonl")
        self.tokens, self.known, self.batched = Tokens(), 0, 0

    def check(self) -> None:
        """Raise `UserError` where a key is needed and missing."""
        self.server.key()

    def write(self, asked: Sequence[Asked], done: Done) -> None:
        """Answer requests; those that are known ask nobody."""
        kept = {str(row.get("key")): str(row.get("text")) for row in self.book.read()}
        todo: dict[str, list[int]] = {}
        for i, one in enumerate(asked):
            key = self._key(one)
            if key in kept:
                self.known += 1
                done(i, Written(kept[key]))
            else:
                todo.setdefault(key, []).append(i)
        if todo:
            with self.book:
                asyncio.run(self._ask(asked, todo, done))

    async def _ask(self, asked: Sequence[Asked], todo: dict[str, list[int]], done: Done) -> None:
        queue = iter(todo.items())

        def arrived(key: str, got: Completion | Failure, batch: bool) -> None:
            if isinstance(got, Failure):
                for i in todo[key]:
                    done(i, Written(None, f"{got.status or 'no response'}: {got.words}"))
                return
            used = Tokens().plus(got.input_tokens, got.output_tokens, batch)
            self.tokens = Tokens(*(a + b for a, b in zip(self.tokens, used, strict=True)))
            text = self.server.scrub(got.content)
            self.book.add({"key": key, "text": text})
            for i in todo[key]:
                done(i, Written(text, tokens=used if i == todo[key][0] else Tokens()))

        async def ask(item: tuple[str, list[int]]) -> None:
            arrived(item[0], await self.server.ask(asked[item[1][0]].request), batch=False)

        def of_batch(key: str, got: Completion | Failure) -> None:
            self.batched += 1
            arrived(key, got, batch=True)

        async with self.server:
            await until_answered(self.server, queue, ask)
            if self.settings.batch and (rest := dict(queue)):
                of = {key: asked[places[0]].request for key, places in rest.items()}
                await ask_in_batches(self.server, of, self.folder, of_batch)
            await side_by_side(self.server, queue, ask)

    def _key(self, one: Asked) -> str:
        s = self.settings
        value = [self.server.url, s.model, s.temperature, one.request.messages, one.number]
        return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()

    def line(self) -> str:
        """Return requests, tokens and cost of this call."""
        batched = f" and {self.batched} in batches" if self.batched else ""
        sent = f"{self.server.requests} requests{batched} ({self.known} answers were known)"
        return f"{sent}, {self.spent(self.tokens)}"

    def spent(self, tokens: Tokens) -> str:
        """Return tokens and what they cost."""
        t = tokens
        counted = f"{t.input + t.batch_input:,} + {t.output + t.batch_output:,} tokens by the server's count"
        return f"{counted}, {cost_words(self.settings, t)}"


class ModelWriter:
    """``model=``: a model of this process, greedily, many requests in one pass."""

    def __init__(self, config: Config) -> None:
        self.config, self.spec = config, describe(config.model, config.device, config.dtype)
        self.title = f"{self.spec.id} at {self.spec.weights[:12]}"
        self.said = f"greedily, in this process, {self.spec.dtype}"
        self.written = 0

    def check(self) -> None:
        """Nothing: what a model lacks is said when it is described."""

    def write(self, asked: Sequence[Asked], done: Done) -> None:
        """Answer requests.

        Raises:
            UserError: one does not fit into the model's context.
        """
        lm = load(self.spec)
        prompts = [tokenize(lm, [dict(turn) for turn in one.request.messages]) for one in asked]
        room = self.spec.context
        for ids, one in zip(prompts, asked, strict=True):
            if room is not None and len(ids) + one.tokens > room:
                raise UserError(
                    f"{self.spec.title}: a request of {len(ids)} tokens and its answer of {one.tokens} do not fit into "
                    f"its context of {room}; type build.at_once=1, or a model with a longer context"
                )

        for limit in sorted({one.tokens for one in asked}):
            own = [i for i, one in enumerate(asked) if one.tokens == limit]

            def hand_on(place: int, ids: list[int], own: list[int] = own) -> None:
                self.written += 1
                done(own[place], Written(lm.tokenizer.decode(ids, skip_special_tokens=True).strip()))

            rows = [Row(place) for place in range(len(own))]
            generate(
                lm, [prompts[i] for i in own], rows, [], limit, self.config.batch_size, "answers", done=hand_on
            )  # fmt: skip

    def line(self) -> str:
        """Return how many answers were written."""
        return f"{self.written} answers written in this process"

    def spent(self, tokens: Tokens) -> str:  # noqa: ARG002 - every writer is told
        """Return nothing: it costs no money."""
        return ""
