"""A class of a user's own as evaluator: ``evaluator._target_=MODULE.Class``, an `emo.measure.labeller.Labeller`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from emo.config.emotions import EKMAN6
from emo.config.schema import Config
from emo.core.console import progress
from emo.core.errors import UserError, nearest
from emo.core.store import Store, address
from emo.core.targets import load_target, target_digest
from emo.core.types import NEUTRAL, OTHER
from emo.measure.labeller import Done, Labeller, Rows, row_of

VERSION = 1
KEY = "evaluator._target_"
AT_ONCE = 64  # replies that are labelled together: then they are kept (`emo.core.partial`)


class OwnLabeller:
    """A user's class, made once for its settings, whose labels are checked."""

    def __init__(self, target: str, settings: Mapping[str, Any], key: str = KEY) -> None:
        """Make it.

        Args:
            target: ``MODULE.Class``.
            settings: keywords of its constructor, JSON values.
            key: what errors name.

        Raises:
            UserError: there is no such class, or it takes other settings.
        """
        self.name = f"{key}={target}"
        load_target(target, key, needs=("label",))
        self.made = _made(target, target_digest(target), json.dumps(dict(settings), sort_keys=True))

    def label(self, texts: Sequence[str], names: Sequence[str] = EKMAN6) -> list[str | None]:
        """Return one label per text: one of ``names``, neutral, other, or None.

        Raises:
            UserError: it gave another number of labels, or a label of another name.
        """
        labels = list(self.made.label(list(texts), list(names)))
        known = (*names, NEUTRAL, OTHER)
        if len(labels) != len(texts):
            raise UserError(
                f"{self.name}: label() gave {len(labels)} labels for {len(texts)} texts; one each is needed"
            )
        for label in labels:
            if label is not None and label not in known:
                raise UserError(
                    f"{self.name}: label() gave {label!r}; return one of {', '.join(known)}, or None where it failed"
                    f"{nearest(label, known)}"
                )
        return labels


class OwnEvaluator:
    """An `emo.measure.labeller.Evaluator` of a user's class: labels without chances, so no forced accuracy."""

    remembers = False

    def __init__(self, config: Config, store: Store) -> None:  # noqa: ARG002 - every evaluator is made of both
        e = config.evaluator
        self.target, self.settings = str(e._target_), e.settings or {}
        self.names, self.name = config.emotions.names, e.name

    def address(self) -> str:
        """Return the address of the class: its name, the digest of its file, its settings."""
        load_target(self.target, KEY, needs=("label",))
        return address(
            "own_labeller", VERSION, target=self.target, file=target_digest(self.target), settings=self.settings
        )

    def check(self) -> None:
        """Make it, and call its own ``check()`` where it has one."""
        made = self._labeller().made
        if hasattr(made, "check"):
            made.check()

    def prefetch(self) -> None:
        """Check it: what else it needs is not known here."""
        self.check()

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies, a part at a time."""
        labeller = self._labeller()
        with progress(self.name, len(replies), "replies") as bar:
            for start in range(0, len(replies), AT_ONCE):
                part = replies[start : start + AT_ONCE]
                labels = labeller.label([row["reply"] for row in part], self.names)
                for i, (row, label) in enumerate(zip(part, labels, strict=True), start):
                    done(i, row_of(row, label))
                bar.advance(len(part))

    def _labeller(self) -> OwnLabeller:
        return OwnLabeller(self.target, self.settings)


@lru_cache(maxsize=1)  # the jobs of a sweep share it: it may have loaded a model
def _made(target: str, digest: str, settings: str) -> Labeller:  # noqa: ARG001 - of a changed file it is made anew
    make, keywords = load_target(target, KEY), json.loads(settings)
    try:
        inspect.signature(make).bind(**keywords)
    except TypeError as error:
        takes = ", ".join(inspect.signature(make).parameters) or "nothing"
        raise UserError(f"evaluator.settings={settings}: {target} {error}; it takes {takes}") from None
    labeller: Labeller = make(**keywords)
    return labeller
