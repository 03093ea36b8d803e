"""A chat server on the loopback that does what a test tells it to, and remembers what it was sent."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from emo.measure.judge import Judge, JudgeSettings, Question
from support.fake_batches import FakeBatches, send

KEY = "sk-test-4f9a8e77b2c14d53"
SIX = ("anger", "sadness", "fear", "happiness", "surprise", "disgust")
SEVEN = (*SIX, "neutral")


def match(n: int) -> Question:
    """Return the n-th question with a target."""
    return Question("match", SIX[n % 6], f"Reply #{n} .", SIX)


def blind(n: int) -> Question:
    """Return the n-th question without one."""
    return Question("blind", None, f"Reply #{n} .", SIX)


class Request(NamedTuple):
    """What a client sent."""

    body: dict[str, Any]
    authorization: str
    attempt: int  # how often this very question came before
    time: float  # monotonic seconds

    @property
    def text(self) -> str:
        """The user message."""
        return self.body["messages"][1]["content"]

    @property
    def form(self) -> str:
        """The form of the answer that was asked for."""
        return self.body.get("response_format", {}).get("type", "text")


class Response(NamedTuple):
    """What it gets."""

    status: int
    body: str
    headers: dict[str, str] = {}
    delay: float = 0.0  # seconds


def completion(content: str, tokens: tuple[int, int] = (100, 10)) -> Response:
    """Return a chat completion."""
    body = {
        "id": "1", "object": "chat.completion", "created": 0, "model": "fake",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
    }  # fmt: skip
    return Response(200, json.dumps(body))


def number(request: Request) -> int:
    """Return the n of a text that ends in ``#n``."""
    return int(request.text.partition("#")[2].split()[0])


def honest(request: Request) -> Response:
    """Answer by the number in the text: its last bit, or the emotion at that place of the schema or list."""
    if "Target emotion" in request.text:
        return completion(json.dumps({"match": number(request) % 2, "reason": f"number {number(request)}"}))
    listed = request.body["messages"][0]["content"].partition("this list: ")[2].partition(".")[0].split(", ")
    return completion(json.dumps({"emotion": listed[number(request) % len(listed)]}))


def failing(share: float, seed: int, hang: float) -> Callable[[Request], Response]:
    """Return a server that fails in a share of requests, each time by a draw of question, attempt and seed."""

    def plan(request: Request) -> Response:
        draw = random.Random(f"{seed}/{request.text}/{request.attempt}")
        if draw.random() >= share:
            return honest(request)
        good = honest(request)
        return draw.choice([
            Response(429, json.dumps({"error": {"message": "slow down"}}), {"Retry-After": "0.05"}),
            Response(500, json.dumps({"error": {"message": "internal"}}), {"Retry-After": "0.02"}),
            good._replace(delay=hang),
            good._replace(body=good.body[: len(good.body) // 2]),
            Response(200, "<html><body>Bad gateway</body></html>", {"Content-Type": "text/html"}),
            completion('{"match": 1, "emotion": "ang'),
        ])  # fmt: skip

    return plan


class FakeJudge:
    """``with FakeJudge(plan) as server``: requests, the largest number in flight, and what each was answered."""

    def __init__(self, plan: Callable[[Request], Response] = honest) -> None:
        self.requests: list[Request] = []
        self.statuses: Counter[int] = Counter()
        self.most_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        fake, self.batches = self, FakeBatches(lambda body, who: self.answer(body, who, plan))
        batches = self.batches

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                if self.path.endswith("/chat/completions"):
                    fake._handle(self, plan)
                else:
                    batches.post(self)

            def do_GET(self) -> None:
                batches.get(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # a client that gave up waiting

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> FakeJudge:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, body: dict[str, Any], authorization: str, plan: Callable[[Request], Response]) -> Response:
        """Note a request, and return what the plan says."""
        with self._lock:
            text = body["messages"][1]["content"]
            request = Request(body, authorization, self._seen[text], time.monotonic())
            self._seen[text] += 1
            self.requests.append(request)
        return plan(request)

    def _handle(self, handler: BaseHTTPRequestHandler, plan: Callable[[Request], Response]) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        response = self.answer(json.loads(raw), handler.headers["Authorization"], plan)
        time.sleep(response.delay)
        with self._lock:  # before the reply leaves: the client may send its next request at once
            self._in_flight -= 1
            self.statuses[response.status] += 1
        send(handler, response.status, response.body, response.headers)


def judge(server: FakeJudge, folder: Path, **settings: Any) -> Judge:
    """Return a judge that asks a server."""
    settings = {"model": "fake", "base_url": server.url, "concurrency": 8, "timeout_s": 5.0, "retries": 4} | settings
    return Judge(JudgeSettings(**settings), folder)


def files(folder: Path) -> str:
    """Return all that stands in the files of a folder."""
    return "".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the answers that are kept in a folder."""
    return [json.loads(line) for line in files(folder).splitlines()]
