"""The batch API of a fake server: files, batches, and their answers as soon as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol


class Answer(Protocol):
    """What a request gets."""

    status: int
    body: str


def send(handler: BaseHTTPRequestHandler, status: int, text: str, headers: Mapping[str, str] = {}) -> None:
    """Send a response."""
    data = text.encode()
    handler.send_response(status)
    for name, value in ({"Content-Type": "application/json"} | dict(headers)).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


class FakeBatches:
    """Batches that are answered when they are looked at for the ``looks``-th time."""

    def __init__(self, answer: Callable[[dict[str, Any], str], Any]) -> None:
        self._answer = answer
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks = 1
        self.refused = False  # whether the server has no batch API
        self.lost: set[int] = set()  # places in a file whose requests are not answered

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        """Take a file, or begin a batch."""
        raw = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        if self.refused:
            send(handler, 404, '{"error": {"message": "no such path"}}')
        elif handler.path.endswith("/files"):
            lines = [line for line in raw.splitlines() if line.startswith('{"custom_id"')]
            assert 'name="purpose"' in raw
            name = f"file-{len(self.files)}"
            self.files[name] = "\n".join(lines)
            send(handler, 200, json.dumps({"id": name, "object": "file", "bytes": 1, "created_at": 0,
                                           "filename": "x", "purpose": "batch", "status": "processed"}))  # fmt: skip
        else:
            asked = json.loads(raw)
            assert asked["endpoint"] == "/v1/chat/completions" and asked["completion_window"] == "24h"
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {"input": asked["input_file_id"], "looks": 0, "output": None}
            send(handler, 200, self._shown(name, "validating"))

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        """Show a batch, or a file."""
        parts = handler.path.strip("/").split("/")
        if "batches" in parts:
            name = parts[-1]
            if name not in self.batches:
                send(handler, 404, '{"error": {"message": "no such batch"}}')
                return
            batch = self.batches[name]
            batch["looks"] += 1
            if batch["looks"] >= self.looks and batch["output"] is None:
                batch["output"] = self._run(batch["input"], handler.headers["Authorization"])
            send(handler, 200, self._shown(name, "completed" if batch["output"] else "in_progress"))
        else:
            send(handler, 200, self.files[parts[-2]])

    def _run(self, file: str, authorization: str) -> str:
        lines = []
        for i, line in enumerate(self.files[file].splitlines()):
            asked = json.loads(line)
            if i in self.lost:
                continue
            got = self._answer(asked["body"], authorization)
            body = json.loads(got.body)
            row = {"id": f"r{i}", "custom_id": asked["custom_id"], "error": None,
                   "response": {"status_code": got.status, "request_id": "q", "body": body}}  # fmt: skip
            lines.append(json.dumps(row))
        name = f"out-{file}"
        self.files[name] = "\n".join(reversed(lines))  # in no order
        return name

    def _shown(self, name: str, status: str) -> str:
        batch = self.batches[name]
        total = len(self.files[batch["input"]].splitlines())
        counts = {"total": total, "completed": total if batch["output"] else 0, "failed": 0}
        return json.dumps({"id": name, "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 0,
                           "completion_window": "24h", "input_file_id": batch["input"], "status": status,
                           "output_file_id": batch["output"], "request_counts": counts})  # fmt: skip
