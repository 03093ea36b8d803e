"""Evaluators of a user's own, named by ``_target_``: outside of the package, which knows nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo.core.errors import UserError


class Lengths:
    """Labels a reply by its length: names in turn, so that every label is given; a reply of ``fails`` letters fails."""

    made = 0

    def __init__(self, fails: int | None = None, by: int = 1) -> None:
        type(self).made += 1
        self.fails, self.by = fails, by

    def check(self) -> None:
        if self.by < 1:
            raise UserError(f"evaluator.settings.by={self.by}: 1 or more is needed")

    def label(self, texts: Sequence[str], names: Sequence[str]) -> list[str | None]:
        return [None if len(text) == self.fails else names[len(text) // self.by % len(names)] for text in texts]


class Same:
    """Calls every reply the same, whatever that is."""

    def __init__(self, label: str, times: int = 1) -> None:
        self.given, self.times = label, times

    def label(self, texts: Sequence[str], names: Sequence[str]) -> list[str]:  # noqa: ARG002
        return [self.given] * (len(texts) * self.times)


class Marks:
    """Counts question marks; it does not measure an empty reply."""

    name, label, better, neutral = "marks", "marks (per reply)", "higher", 0.0

    def value(self, reply: str) -> float | None:
        return float(len(reply) % 4) if reply else None


class Mute:
    """Has no label()."""


class _Metric:
    name, label, better, neutral = "spaces", "spaces (per reply)", None, None

    def value(self, reply: str) -> Any:
        return reply.count(" ")


class Taken(_Metric):
    name = "accuracy"


class Reply(_Metric):
    name = "reply"


class Twice(_Metric):
    name = "marks"


class Spelt(_Metric):
    name = "Spelt so"


class Upwards(_Metric):
    better = "up"


class Needy(_Metric):
    def __init__(self, words: list[str]) -> None:
        self.words = words


class Words(_Metric):
    def value(self, reply: str) -> Any:
        return "many" if reply else "none"


SPACES = _Metric()  # an object will do
