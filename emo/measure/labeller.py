"""What labels replies is one object: an `Evaluator` of a job, or a `Labeller` of a user's own inside one.

The evaluators that come with the package are named in `emo.measure.labels.EVALUATORS`; one of a user's own is
``evaluator._target_`` (`emo.measure.own_labeller`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from emo.core.types import NEUTRAL, OTHER

Rows = list[dict[str, Any]]
Done = Callable[[int, dict[str, Any]], None]  # (place among the replies, its label row)


class Labeller(Protocol):
    """What a user's own class must have to label replies; ``evaluator.settings`` are its constructor's keywords.

    It may also have ``check()``, called before anything is generated: raise `emo.core.errors.UserError` where
    something that it needs is missing. Its constructor is called there first, so a model is better loaded in ``label``.
    """

    def label(self, texts: Sequence[str], names: Sequence[str]) -> list[str | None]:
        """Return what each reply is: one label for each of ``texts``, in their order.

        Args:
            texts: n replies, as they were generated; one may be empty. They come in parts of at most a few hundred.
            names: e emotions of the job.

        Returns:
            n labels: one of ``names``, ``neutral``, ``other``, or None where it failed on a reply: that one is in no
            mean, is counted as unjudged, and is asked for again by the next call.

        Raises:
            UserError: it cannot label at all. Another number of labels, or a label of another name, is refused.
        """


class Evaluator(Protocol):
    """Who labels the replies of a job; made of ``(config, store)``, which does nothing yet.

    Attributes:
        remembers: it keeps each answer itself the moment it has it, so that nobody else need.
    """

    remembers: bool

    def address(self) -> str:
        """Return the address of what labels: 64 hex digits of all that a label depends on beside the reply.

        Raises:
            UserError: what labels is not there.
        """

    def check(self) -> None:
        """Check, before anything is generated, that the replies of the job can be labelled; raises `UserError`."""

    def prefetch(self) -> str | None:
        """Bring what it needs to this machine, and say so in a line; None where there is nothing to bring."""

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies, rows with sample, emotion (None: no target), seed and reply.

        ``done`` is called with every reply's place and row: sample, emotion, seed, label, ``forced`` (the likeliest
        emotion), ``p`` (chance of the label), None where there are no chances; of a judge also ``match``.
        """


def row_of(
    reply: dict[str, Any], label: str | None, forced: str | None = None, p: float | None = None
) -> dict[str, Any]:
    """Return the label row of a reply."""
    return {key: reply[key] for key in ("sample", "emotion", "seed")} | {"label": label, "forced": forced, "p": p}


def from_chances(names: Sequence[str], p: np.ndarray, replies: Rows) -> Rows:
    """Return the likeliest class of every reply and the likeliest emotion, from chances (n, c) of the classes."""
    emotions = [i for i, name in enumerate(names) if name not in (NEUTRAL, OTHER)]
    empty = NEUTRAL if NEUTRAL in names else OTHER
    rows = []
    for reply, chances in zip(replies, p, strict=True):
        label = names[int(chances.argmax())] if reply["reply"].strip() else empty
        forced = max(emotions, key=lambda i: chances[i])
        rows.append(row_of(reply, label, names[forced], float(chances.max())))
    return rows
