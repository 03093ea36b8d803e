"""One OpenAI-compatible server: where it is, which form of answer it takes, and what its failures mean.

Judges and builders of data ask over it. The package ``openai`` carries the requests. It repeats what is worth repeating
(429, 408, 409, 5xx, timeouts, lost connections) ``retries`` times, after the server's retry-after where that is at most
120 s (a longer one is not waited for), else after min(8, 0.5 * 2^k) s less up to 25 % at random. Requests hold the
model, the messages, the temperature (left out for models that refuse it) and the form; answers are bounded by the
timeout alone, since servers disagree on the name of a token limit.
Limits of requests and tokens a minute hold for repeats too
(`emo.measure.rate_limit`).

The key comes from the environment variable OPENAI_API_KEY and goes to the server only: failures are returned as
values with scrubbed text, never chained to an exception that holds the request, and the transport's own loggers are
silent below warnings.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import openai

from emo.core.console import note
from emo.core.errors import UserError, check_choice
from emo.measure.rate_limit import CHARACTERS_PER_TOKEN, RateLimit

DEFAULT_URL = "https://api.openai.com/v1"
FORMS = ("json_schema", "json_object", "text")  # from the strictest to the one that every server takes
REJECTED = (400, 422, 500, 501)  # what servers say to a form that they do not know (llama.cpp: 500)
FATAL = {
    401: "check OPENAI_API_KEY (export OPENAI_API_KEY=...)",
    402: "the account has no credit left",
    403: "the key may not use this model: check OPENAI_API_KEY and {section}.model",
    404: "check {section}.model, and that {section}.base_url ends as the server wants it, mostly in /v1",
    405: "check {section}.base_url: it ends mostly in /v1",
}
NO_KEY = "EMPTY"  # what local servers are sent where no key is set
SHORTEST_SECRET = 8  # characters; a shorter key is a placeholder like "none", and scrubbing it would garble texts
QUOTED = 200  # characters of a server's words in a message
LOST_AT_FIRST, LOST_LATER = 5, 20  # times in a row without any completion after which a run stops
TRANSPORT_LOGGERS = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")


class ChatRequest(NamedTuple):
    """What is asked: the conversation, and the JSON object that the answer should be."""

    messages: tuple[dict[str, str], ...]
    name: str  # of the schema
    schema: dict[str, Any]


@dataclass(frozen=True)
class ServerSettings:
    """Which server and model, and how it is asked; raises `UserError` for a value out of range."""

    section: ClassVar[str] = "evaluator"  # of the configuration, for messages
    who: ClassVar[str] = "judge"

    model: str = "gpt-4o-mini"
    base_url: str | None = None  # null: OPENAI_BASE_URL, else api.openai.com; local: http://localhost:8000/v1
    structured: str = "auto"  # auto: the first that the server takes of json_schema | json_object | text
    concurrency: int = 8  # requests in flight
    timeout_s: float = 60.0  # seconds without a byte after which a request is given up
    retries: int = 5  # repeats of one request that failed on its way
    price_input: float | None = None  # USD per million input tokens, for the estimate; null: emo.measure.prices
    price_output: float | None = None  # USD per million output tokens
    requests_per_minute: int | None = None  # at most; null: no limit
    tokens_per_minute: int | None = None  # at most, input and output; null: no limit
    batch: bool = False  # many requests in one file, answered within a day at half the price (OpenAI's batch API)
    temperature: float | None = 0.0  # null: the server's own

    def __post_init__(self) -> None:
        check_choice(f"{self.section}.structured", self.structured, ("auto", *FORMS))
        prices = [p for p in (self.price_input, self.price_output) if p is not None]
        for key, value, good, allowed in (
            ("model", self.model, bool(self.model.strip()), "the name of a model, e.g. gpt-4o-mini"),
            ("concurrency", self.concurrency, 1 <= self.concurrency <= 256, "1 to 256"),
            ("timeout_s", self.timeout_s, 0 < self.timeout_s < math.inf, "seconds above 0"),
            ("retries", self.retries, 0 <= self.retries <= 20, "0 to 20"),
            ("price_*", prices, all(0 <= p < math.inf for p in prices), "USD per million tokens, from 0"),
            ("requests_per_minute", self.requests_per_minute, (self.requests_per_minute or 1) >= 1, "1 or more"),
            ("tokens_per_minute", self.tokens_per_minute, (self.tokens_per_minute or 1) >= 1, "1 or more"),
            ("temperature", self.temperature, 0 <= (self.temperature or 0) <= 2, "0 to 2"),
        ):
            if not good:
                raise UserError(f"{self.section}.{key}={value}: give {allowed}")
        if len(prices) == 1:
            raise UserError(f"{self.section}.price_input, price_output: one of them is missing; give both or none")

    def url(self) -> str:
        """Return the address in use; raises `UserError` where it is none."""
        url = (self.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).strip().rstrip("/")
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            private = parts.username is not None or bool(parts.query)
        except ValueError:
            good = private = False
        if private:  # it would end up in messages
            raise UserError(
                f"{self.section}.base_url: an address with a password or query; type export OPENAI_API_KEY=... instead"
            )
        if not good:
            raise UserError(f"{self.section}.base_url={url}: no address; give one like http://localhost:8000/v1")
        return url


class Completion(NamedTuple):
    """What a server answered: text, and tokens as it counts them (0 where it does not)."""

    content: str
    input_tokens: int
    output_tokens: int


class Failure(NamedTuple):
    """No completion: HTTP status (0: no response at all, 200: a response that is none) and the server's words."""

    status: int
    words: str
    param: str | None = None  # the part of the request that a 400 is about, where the server says so
    code: str | None = None


class Server:
    """A connection for one event loop at a time: ``async with server: await server.ask(request)``."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings, self.url = settings, settings.url()
        self.requests = 0  # sent so far, repeats included
        self.answered = False  # whether it ever gave a completion
        self._forms: tuple[str, ...] = FORMS if settings.structured == "auto" else (settings.structured,)
        self._temperature = settings.temperature is not None
        self._limit = RateLimit(settings.requests_per_minute, settings.tokens_per_minute)
        self._lost = 0  # times in a row that no completion came
        self._levels: dict[str, int] = {}
        self._secrets: set[str] = set()
        self.client: openai.AsyncOpenAI  # while it is open

    def key(self) -> str:
        """Return the key from the environment; raises `UserError` where one is needed and missing, or is none."""
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and self.url == DEFAULT_URL:
            raise UserError(
                f"{self.settings.who}: OPENAI_API_KEY is not set; type export OPENAI_API_KEY=..., "
                f"or give {self.settings.section}.base_url=http://localhost:8000/v1 for a server of your own"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:  # as a header it would raise an error that shows it
            raise UserError(
                f"{self.settings.who}: OPENAI_API_KEY holds characters that no key has; type export "
                "OPENAI_API_KEY=... again"
            )
        return key or NO_KEY

    async def __aenter__(self) -> Server:
        key = self.key()
        if len(key) >= SHORTEST_SECRET:
            self._secrets = {key, json.dumps(key)[1:-1], repr(key)[1:-1]}
        self._levels = {name: logging.getLogger(name).level for name in TRANSPORT_LOGGERS}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.WARNING)

        async def count(sent: Any) -> None:
            if sent.url.path.endswith("/chat/completions"):  # not a file of the batch API
                await self._limit.wait(len(sent.content) // CHARACTERS_PER_TOKEN)
                self.requests += 1

        s = self.settings
        transport = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count]}, timeout=s.timeout_s)
        self.client = openai.AsyncOpenAI(api_key=key, base_url=self.url, timeout=s.timeout_s, http_client=transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.client.close()
        finally:
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)

    def scrub(self, text: str) -> str:
        """Return a server's words without the key, which some echo."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    async def ask(self, request: ChatRequest) -> Completion | Failure:
        """Send one request, repeats included.

        Until the server has answered once, `structured: auto` goes down the forms that it rejects; what worked is
        kept. A form is tried twice, not ``retries`` times: a 500 may mean that it is unknown.

        Raises:
            UserError: wrong key, model or address, no credit, nothing listening, or a server that stopped answering.
        """
        while len(self._forms) > 1:
            got = await self._send(request, min(self.settings.retries, 1))
            if isinstance(got, Completion):
                return got
            if got.status not in REJECTED:
                break
            self._forms = self._forms[1:]
        got = await self._send(request, self.settings.retries)
        if isinstance(got, Failure):
            self._count_lost(got)
        return got

    async def _send(self, asked: ChatRequest, retries: int) -> Completion | Failure:
        form = self._forms[0]
        got = await self._post(self.body(asked), retries)
        if isinstance(got, Completion):
            self.answered, self._lost, self._forms = True, 0, (form,)
            return got
        if got.param == "temperature" and self._temperature:
            self._temperature = False
            s = self.settings
            note(f"{s.who}: {s.model} takes no temperature {s.temperature:g}; its own default is used")
            return await self._send(asked, retries)
        if got.status in FATAL or got.code == "insufficient_quota":
            advice = FATAL.get(got.status, FATAL[402]).format(section=self.settings.section)
            raise UserError(
                f"{self.settings.who}: {self.url} refused {self.settings.model} ({got.status}): {advice}; {got.words}"
            )
        return got

    def body(self, asked: ChatRequest) -> dict[str, Any]:
        """Return what is sent for a request, in the form that the server took last."""
        body: dict[str, Any] = {"model": self.settings.model, "messages": list(asked.messages)}
        if self._temperature:
            body["temperature"] = self.settings.temperature
        form = self._forms[0]
        if form == "json_object":
            body["response_format"] = {"type": form}
        elif form == "json_schema":
            shape = {"name": asked.name, "strict": True, "schema": asked.schema}
            body["response_format"] = {"type": form, form: shape}
        return body

    async def _post(self, request: dict[str, Any], retries: int) -> Completion | Failure:
        create = self.client.with_options(max_retries=retries).chat.completions.with_raw_response.create
        try:
            text = (await create(**request)).text
        except openai.APIStatusError as error:
            return Failure(error.status_code, self.quote(error.message), error.param, error.code)
        except openai.APITimeoutError:
            return Failure(0, f"no answer within {self.settings.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return Failure(0, self.quote(str(error.__cause__ or error)))
        try:
            got = completion_of(json.loads(text))
        except (ValueError, RecursionError):
            got = None
        if got is None:
            return Failure(200, self.quote(f"no chat completion: {text}"))
        self._limit.spent(got.output_tokens)
        return got

    def quote(self, words: str) -> str:
        """Return the beginning of a server's words, in one line and without the key."""
        return " ".join(self.scrub(words).split())[:QUOTED]

    def _count_lost(self, failure: Failure) -> None:
        """Stop a run that cannot succeed, instead of failing every question slowly."""
        self._lost += 1
        if failure.status == 0 and not self.answered:
            raise UserError(
                f"{self.settings.section}.base_url={self.url}: nothing answers there ({failure.words}); start the "
                f"server, correct the address, or raise {self.settings.section}.timeout_s"
            )
        if self._lost >= (LOST_LATER if self.answered else LOST_AT_FIRST):
            raise UserError(
                f"{self.settings.who}: {self.url} gave no completion {self._lost} times in a row "
                f"({failure.status or 'no response'}: {failure.words}); answers so far are kept: "
                "mend the server and type the line again"
            )


def completion_of(body: object) -> Completion | None:
    """Return what the JSON of a chat completion says; None where it is none."""
    try:
        content = body["choices"][0]["message"]["content"]  # type: ignore[index]
        used = body.get("usage") or {}  # type: ignore[attr-defined]
        tokens = [int(used.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return Completion(well_formed(content) if isinstance(content, str) else "", *tokens)


def well_formed(text: str) -> str:
    """Return a text that can be written as UTF-8: half an emoji becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
