"""One OpenAI-compatible server: where it is, which form of answer it takes, and what its failures mean.

The package ``openai`` carries the requests. It repeats what is worth repeating (429, 408, 409, 5xx, timeouts, lost
connections) ``retries`` times, after the server's retry-after where that is at most 120 s (a longer one is not
waited for), else after min(8, 0.5 * 2^k) s less up to 25 % at random. Requests hold the model, the messages,
temperature 0 (left out for models that refuse it) and the form; answers are bounded by the timeout alone, since
servers disagree on the name of a token limit.

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
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai

from emo.core.console import note
from emo.core.errors import UserError, check_choice
from emo.measure.judge_questions import Question, messages, schema, well_formed

DEFAULT_URL = "https://api.openai.com/v1"
FORMS = ("json_schema", "json_object", "text")  # from the strictest to the one that every server takes
REJECTED = (400, 422, 500, 501)  # what servers say to a form that they do not know (llama.cpp: 500)
FATAL = {
    401: "check OPENAI_API_KEY (export OPENAI_API_KEY=...)",
    402: "the account has no credit left",
    403: "the key may not use this model: check OPENAI_API_KEY and evaluator.model",
    404: "check evaluator.model, and that evaluator.base_url ends as the server wants it, mostly in /v1",
    405: "check evaluator.base_url: it ends mostly in /v1",
}
NO_KEY = "EMPTY"  # what local servers are sent where no key is set
SHORTEST_SECRET = 8  # characters; a shorter key is a placeholder like "none", and scrubbing it would garble texts
QUOTED = 200  # characters of a server's words in a message
LOST_AT_FIRST, LOST_LATER = 5, 20  # times in a row without any completion after which a run stops
TRANSPORT_LOGGERS = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge, and how it is asked; raises `UserError` for a value out of range."""

    model: str = "gpt-4o-mini"
    base_url: str | None = None  # null: OPENAI_BASE_URL, else api.openai.com; local: http://localhost:8000/v1
    structured: str = "auto"  # auto: the first that the server takes of json_schema | json_object | text
    concurrency: int = 8  # requests in flight
    timeout_s: float = 60.0  # seconds without a byte after which a request is given up
    retries: int = 5  # repeats of one request that failed on its way
    price_input: float | None = None  # USD per million input tokens, for the estimate
    price_output: float | None = None  # USD per million output tokens

    def __post_init__(self) -> None:
        check_choice("evaluator.structured", self.structured, ("auto", *FORMS))
        prices = [p for p in (self.price_input, self.price_output) if p is not None]
        for key, value, good, allowed in (
            ("model", self.model, bool(self.model.strip()), "the name of a model, e.g. gpt-4o-mini"),
            ("concurrency", self.concurrency, 1 <= self.concurrency <= 256, "1 to 256"),
            ("timeout_s", self.timeout_s, 0 < self.timeout_s < math.inf, "seconds above 0"),
            ("retries", self.retries, 0 <= self.retries <= 20, "0 to 20"),
            ("price_*", prices, all(0 <= p < math.inf for p in prices), "USD per million tokens, from 0"),
        ):
            if not good:
                raise UserError(f"evaluator.{key}={value}: give {allowed}")

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
                "evaluator.base_url: an address with a password or query; type export OPENAI_API_KEY=... instead"
            )
        if not good:
            raise UserError(f"evaluator.base_url={url}: no address; give one like http://localhost:8000/v1")
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
    """A connection for one event loop at a time: ``async with server: await server.ask(question)``."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings, self.url = settings, settings.url()
        self.requests = 0  # sent so far, repeats included
        self.answered = False  # whether it ever gave a completion
        self._forms: tuple[str, ...] = FORMS if settings.structured == "auto" else (settings.structured,)
        self._temperature = True
        self._lost = 0  # times in a row that no completion came
        self._levels: dict[str, int] = {}
        self._secrets: set[str] = set()
        self._client: openai.AsyncOpenAI

    def key(self) -> str:
        """Return the key from the environment; raises `UserError` where one is needed and missing, or is none."""
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and self.url == DEFAULT_URL:
            raise UserError(
                "judge: OPENAI_API_KEY is not set; type export OPENAI_API_KEY=..., "
                "or give evaluator.base_url=http://localhost:8000/v1 for a server of your own"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:  # as a header it would raise an error that shows it
            raise UserError(
                "judge: OPENAI_API_KEY holds characters that no key has; type export OPENAI_API_KEY=... again"
            )
        return key or NO_KEY

    async def __aenter__(self) -> Server:
        key = self.key()
        if len(key) >= SHORTEST_SECRET:
            self._secrets = {key, json.dumps(key)[1:-1], repr(key)[1:-1]}
        self._levels = {name: logging.getLogger(name).level for name in TRANSPORT_LOGGERS}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.WARNING)

        async def count(_: object) -> None:
            self.requests += 1

        s = self.settings
        transport = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count]}, timeout=s.timeout_s)
        self._client = openai.AsyncOpenAI(api_key=key, base_url=self.url, timeout=s.timeout_s, http_client=transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._client.close()
        finally:
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)

    def scrub(self, text: str) -> str:
        """Return a server's words without the key, which some echo."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    async def ask(self, question: Question) -> Completion | Failure:
        """Send one question, repeats included.

        Until the server has answered once, `structured: auto` goes down the forms that it rejects; what worked is
        kept. A form is tried twice, not ``retries`` times: a 500 may mean that it is unknown.

        Raises:
            UserError: wrong key, model or address, no credit, nothing listening, or a server that stopped answering.
        """
        while len(self._forms) > 1:
            got = await self._send(question, min(self.settings.retries, 1))
            if isinstance(got, Completion):
                return got
            if got.status not in REJECTED:
                break
            self._forms = self._forms[1:]
        got = await self._send(question, self.settings.retries)
        if isinstance(got, Failure):
            self._count_lost(got)
        return got

    async def _send(self, question: Question, retries: int) -> Completion | Failure:
        form = self._forms[0]
        request: dict[str, Any] = {"model": self.settings.model, "messages": messages(question)}
        if self._temperature:
            request["temperature"] = 0
        if form == "json_object":
            request["response_format"] = {"type": form}
        elif form == "json_schema":
            shape = {"name": question.kind, "strict": True, "schema": schema(question)}
            request["response_format"] = {"type": form, form: shape}
        got = await self._post(request, retries)
        if isinstance(got, Completion):
            self.answered, self._lost, self._forms = True, 0, (form,)
            return got
        if got.param == "temperature" and self._temperature:
            self._temperature = False
            note(f"judge: {self.settings.model} takes no temperature 0; its own default is used")
            return await self._send(question, retries)
        if got.status in FATAL or got.code == "insufficient_quota":
            advice = FATAL.get(got.status, FATAL[402])
            raise UserError(f"judge: {self.url} refused {self.settings.model} ({got.status}): {advice}; {got.words}")
        return got

    async def _post(self, request: dict[str, Any], retries: int) -> Completion | Failure:
        create = self._client.with_options(max_retries=retries).chat.completions.with_raw_response.create
        try:
            text = (await create(**request)).text
        except openai.APIStatusError as error:
            return Failure(error.status_code, self._quote(error.message), error.param, error.code)
        except openai.APITimeoutError:
            return Failure(0, f"no answer within {self.settings.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return Failure(0, self._quote(str(error.__cause__ or error)))
        try:
            body = json.loads(text)
            content = body["choices"][0]["message"]["content"]
            used = body.get("usage") or {}
            tokens = [int(used.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return Failure(200, self._quote(f"no chat completion: {text}"))
        return Completion(well_formed(content) if isinstance(content, str) else "", *tokens)

    def _quote(self, words: str) -> str:
        return " ".join(self.scrub(words).split())[:QUOTED]

    def _count_lost(self, failure: Failure) -> None:
        """Stop a run that cannot succeed, instead of failing every question slowly."""
        self._lost += 1
        if failure.status == 0 and not self.answered:
            raise UserError(
                f"evaluator.base_url={self.url}: nothing answers there ({failure.words}); start the server, "
                "correct the address, or raise evaluator.timeout_s"
            )
        if self._lost >= (LOST_LATER if self.answered else LOST_AT_FIRST):
            raise UserError(
                f"judge: {self.url} gave no completion {self._lost} times in a row "
                f"({failure.status or 'no response'}: {failure.words}); answers so far are kept: "
                "mend the server and type the line again"
            )
