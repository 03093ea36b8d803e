"""At most so many requests, and so many tokens, in any minute.

A request waits until, with it, the last minute holds no more than is allowed. Input tokens are known beforehand only
roughly (characters / 4); output tokens are counted when they have come.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

WINDOW_S = 60.0
CHARACTERS_PER_TOKEN = 4


class RateLimit:
    """What was sent in the last minute."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """Take the limits of a minute; None: no limit."""
        self.requests, self.tokens = requests, tokens
        self._sent: deque[tuple[float, int, int]] = deque()  # time, requests, tokens

    async def wait(self, tokens: int) -> None:
        """Return when a request of so many input tokens may be sent, and count it.

        A single request of more tokens than a minute's is let through when nothing else is in its minute.
        """
        while (pause := self._pause(tokens)) > 0:
            await asyncio.sleep(pause)
        self._sent.append((time.monotonic(), 1, tokens))

    def spent(self, tokens: int) -> None:
        """Count tokens of an answer."""
        if self.tokens is not None:
            self._sent.append((time.monotonic(), 0, tokens))

    def _pause(self, tokens: int) -> float:
        now = time.monotonic()
        while self._sent and now - self._sent[0][0] >= WINDOW_S:
            self._sent.popleft()
        if not self._sent:
            return 0.0
        full = self.requests is not None and sum(n for _, n, _ in self._sent) >= self.requests
        full = full or (self.tokens is not None and sum(n for *_, n in self._sent) + tokens > self.tokens)
        return self._sent[0][0] + WINDOW_S - now if full else 0.0
