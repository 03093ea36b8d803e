"""Many requests to one server: one at a time until it has answered, then so many at once as the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from emo.measure.chat_server import Server

T = TypeVar("T")


async def until_answered(server: Server, queue: Iterator[T], ask: Callable[[T], Awaitable[None]]) -> None:
    """Ask one after another until the server has answered: a wrong key costs one request, and the form is settled."""
    if server.answered:
        return
    for item in queue:
        await ask(item)
        if server.answered:
            return


async def side_by_side(server: Server, queue: Iterator[T], ask: Callable[[T], Awaitable[None]]) -> None:
    """Ask what is left, ``concurrency`` at a time; raises the first error of any of them."""

    async def work() -> None:
        for item in queue:
            await ask(item)

    stopped: ExceptionGroup | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(server.settings.concurrency):  # so many requests in flight, whatever the queue
                group.create_task(work())
    except ExceptionGroup as errors:
        stopped = errors
    if stopped is not None:
        raise stopped.exceptions[0]
