"""OpenAI's batch API: many requests in one file, answered within a day at half the price.

    POST /files (JSON lines) -> POST /batches -> GET /batches/ID until it has ended -> GET /files/ID/content

The number of a batch is kept on disk from the moment the server gives it: after a kill the same line waits for that
batch, and sends nothing twice. What a batch leaves without an answer comes back as a failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import openai

from emo.core.console import say
from emo.core.errors import UserError
from emo.core.sealed import DamagedError, read_sealed, seal
from emo.measure.chat_server import ChatRequest, Completion, Failure, Server, completion_of

MOST_REQUESTS, MOST_BYTES = 50_000, 200 * 10**6  # of one file, as the service says
FIRST_POLL_S, LONGEST_POLL_S = 5.0, 60.0
ENDED = ("completed", "failed", "expired", "cancelled")
ENDPOINT: Final = "/v1/chat/completions"

Arrived = Callable[[str, Completion | Failure], None]


async def ask_in_batches(server: Server, asked: Mapping[str, ChatRequest], folder: Path, arrived: Arrived) -> None:
    """Ask requests by their names, and call ``arrived`` with each name and what came; batches under way come first.

    Args:
        server: opened, and answered once already: the form of the answer is settled.
        asked: requests by name, e.g. their digest.
        folder: keeps the numbers of batches that are under way.
        arrived: called once for every name.

    Raises:
        UserError: the server has no batch API, or refuses the file.
    """
    left = dict(asked)
    where = hashlib.sha256(server.url.encode()).hexdigest()[:12]
    for note in sorted(folder.glob(f"batch-{where}-*.json")):
        await _collect(server, note, left, arrived)
    for part in _parts({name: _line(server, name, request) for name, request in left.items()}):
        await _collect(server, await _submit(server, part, folder, where), left, arrived)


def _line(server: Server, name: str, request: ChatRequest) -> bytes:
    row = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": server.body(request)}
    return json.dumps(row).encode() + b"\n"


def _parts(lines: dict[str, bytes]) -> list[dict[str, bytes]]:
    """Return files of at most so many requests and bytes."""
    parts: list[dict[str, bytes]] = []
    size = 0
    for name, line in lines.items():
        if not parts or len(parts[-1]) == MOST_REQUESTS or size + len(line) > MOST_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = line
        size += len(line)
    return parts


async def _submit(server: Server, lines: dict[str, bytes], folder: Path, where: str) -> Path:
    """Send a file and begin its batch; returns the file that keeps its number."""
    client = server.client
    try:
        file = await client.files.create(file=("requests.jsonl", b"".join(lines.values())), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    except openai.OpenAIError as error:
        raise _refused(server, error) from None
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"batch-{where}-{hashlib.sha256(batch.id.encode()).hexdigest()[:12]}.json"
    partial = place.with_suffix(".tmp")
    partial.write_text(json.dumps(seal({"id": batch.id, "names": list(lines)})))
    partial.replace(place)
    say(f"{server.settings.who}: {len(lines)} requests sent as batch {batch.id}; Ctrl-C loses nothing, "
        "the same line waits for it")  # fmt: skip
    return place


async def _collect(server: Server, place: Path, left: dict[str, ChatRequest], arrived: Arrived) -> None:
    """Wait for a batch, hand on its answers, and forget it."""
    try:
        kept = read_sealed(place)
        number, names = str(kept["id"]), [str(name) for name in kept["names"]]
    except (DamagedError, LookupError, TypeError):
        place.unlink(missing_ok=True)
        return
    if not any(name in left for name in names):  # of another set or judge: its own line fetches it
        return
    for name, got in (await _answers(server, number)).items():
        if left.pop(name, None) is not None:
            arrived(name, got)
    for name in names:
        if left.pop(name, None) is not None:
            arrived(name, Failure(0, f"batch {number} ended without an answer"))
    place.unlink(missing_ok=True)


async def _answers(server: Server, number: str) -> dict[str, Completion | Failure]:
    """Return what a batch gave, by the names of its requests, once it has ended."""
    pause, told = FIRST_POLL_S, ""
    while True:
        try:
            batch = await server.client.batches.retrieve(number)
        except openai.NotFoundError:  # e.g. another account's
            return {}
        except openai.OpenAIError as error:
            raise _refused(server, error) from None
        counts = batch.request_counts
        line = f"batch {number}: {batch.status}" + (f", {counts.completed} of {counts.total}" if counts else "")
        if line != told:
            say(f"{server.settings.who}: {line}")
            told = line
        if batch.status in ENDED:
            break
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_POLL_S)
    found: dict[str, Completion | Failure] = {}
    for file in (batch.output_file_id, batch.error_file_id):
        if file:
            try:
                text = (await server.client.files.content(file)).text
            except openai.OpenAIError as error:
                raise _refused(server, error) from None
            found |= dict(filter(None, (_read(server, line) for line in text.splitlines())))
    return found


def _read(server: Server, line: str) -> tuple[str, Completion | Failure] | None:
    """Return the name and the answer of a line of a batch's file; None where it is no such line."""
    try:
        row: dict[str, Any] = json.loads(line)
        name, response = str(row["custom_id"]), row.get("response") or {}
        status = int(response.get("status_code") or 0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    got = completion_of(response.get("body")) if status == 200 else None
    return name, got or Failure(status, server.quote(json.dumps(row.get("error") or response.get("body"))))


def _refused(server: Server, error: openai.OpenAIError) -> UserError:
    s = server.settings
    status = getattr(error, "status_code", None) or "no response"
    return UserError(
        f"{s.section}.batch=true: {server.url} refused ({status}): {server.quote(str(error))}; answers so far are "
        f"kept; few servers of one's own have a batch API: leave {s.section}.batch out"
    )
