"""An OpenAI-compatible server on the loopback that runs a real model: chat completions, and answers of a JSON schema.

A schema is obeyed as servers do it that enforce one: of an enum the likeliest value is written, by its log-probability
behind all that was written before; a text is written greedily until a quote ends it.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from emo.measure.class_prediction import Asked, choice_scores
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prompts import reply_ids, tokenize

LONGEST = 12  # tokens of a text


class ModelServer:
    """``with ModelServer(lm) as server``: ``server.url``, and how many requests it answered."""

    def __init__(self, lm: LM) -> None:
        self.lm, self.answered, self._lock = lm, 0, threading.Lock()
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with own._lock:  # one model
                    data = json.dumps(own._completion(body)).encode()
                    own.answered += 1
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ModelServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = tokenize(self.lm, body["messages"])
        shape = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        content = self._write(ids) if shape is None else self._object(ids, shape["properties"])
        used = {"prompt_tokens": len(ids), "completion_tokens": len(reply_ids(self.lm, content))}
        message = {"role": "assistant", "content": content}
        return {
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": used | {"total_tokens": sum(used.values())},
        }  # fmt: skip

    def _object(self, ids: list[int], properties: dict[str, dict[str, Any]]) -> str:
        written = "{"
        for key, kind in properties.items():
            written += f'{", " if len(written) > 1 else ""}"{key}": '
            before = [*ids, *reply_ids(self.lm, written)]
            if "enum" in kind:
                choices = [reply_ids(self.lm, json.dumps(value)) for value in kind["enum"]]
                scores = choice_scores(self.lm, [before], [Asked(0, -1)], [], choices, 1, "server")
                written += json.dumps(kind["enum"][int(scores[0].argmax())])
            else:
                text = self._write([*before, *reply_ids(self.lm, '"')])
                written += json.dumps(text.partition('"')[0].partition("\n")[0])
        return written + "}"

    def _write(self, ids: list[int]) -> str:
        [written] = generate(self.lm, [ids], [Row(0, -1)], [], LONGEST, 1, "server")
        return self.lm.tokenizer.decode(written, skip_special_tokens=True)
