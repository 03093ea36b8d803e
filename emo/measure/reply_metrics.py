"""Metrics of replies of a user's own: ``evaluator.metrics=[MODULE.NAME, ...]``.

One is measured on every reply of every arm, and estimated as the others are: means over replies, intervals over
scenarios. Its values are kept under the address of its file and the replies.
"""

from __future__ import annotations

import inspect
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from emo.config.read_keys import of_replies
from emo.config.schema import Config
from emo.core.console import progress
from emo.core.errors import UserError
from emo.core.metrics import METRICS, Better, Metric, declare
from emo.core.store import Artifact, Store, address
from emo.core.targets import load_target, target_digest
from emo.measure.fluency import Fluency

KEY = "evaluator.metrics"
VERSION = 1
NAME = re.compile(r"[a-z][a-z0-9_]*")
# Columns of samples.jsonl, where the values stand beside the replies.
COLUMNS = (
    *("arm", "sample", "emotion", "seed", "reply", "ids", "exploded", "label", "forced", "p", "match", "joint"),
    *(*Fluency._fields, "nll", "kl", "cosine", "theme", "valence", "scenario", "event"),
)
Rows = list[dict[str, Any]]


class ReplyMetric(Protocol):
    """What ``MODULE.NAME`` must have: a class that is made without arguments, or an object.

    Attributes:
        name: key in results and tables: small letters, digits and _; none that is taken.
        label: of an axis, with the unit in brackets: ``"question marks (per reply)"``.
        better: ``"higher"``, ``"lower"``, or None where neither end is.
        neutral: the value that means no effect, or None.
    """

    name: str
    label: str
    better: Better | None
    neutral: float | None

    def value(self, reply: str) -> float | None:
        """Return the number of one reply, in the unit of ``label``; None: not measured, it is in no mean."""


class Loaded(NamedTuple):
    """A metric, and what its values depend on."""

    metric: ReplyMetric
    target: str
    digest: str  # of its file


def load_metrics(config: Config) -> list[Loaded]:
    """Return the metrics of a user's own that a job measures, and declare them (`emo.core.metrics`).

    Raises:
        UserError: there is no such metric, it lacks something, or its name is taken.
    """
    loaded: list[Loaded] = []
    for target in config.evaluator.metrics if of_replies(config) else ():
        load_target(target, KEY, needs=("name", "label", "better", "neutral", "value"))
        digest = target_digest(target)
        one = Loaded(_made(target, digest), target, digest)
        taken = [*(metric.key for metric in METRICS), *COLUMNS, *(other.metric.name for other in loaded)]
        if one.metric.name in taken:
            raise UserError(
                f"{KEY}={target}: its name {one.metric.name} is taken; give its attribute name another value"
            )
        if not NAME.fullmatch(one.metric.name):
            raise UserError(f"{KEY}={target}: its name {one.metric.name}: small letters, digits and _ are needed")
        if one.metric.better not in (None, "higher", "lower"):
            raise UserError(f"{KEY}={target}: better={one.metric.better}: not one of higher, lower, None")
        loaded.append(one)
    declare(Metric(name, **known) for name, known in described(loaded).items())
    return loaded


def described(loaded: list[Loaded]) -> dict[str, dict[str, Any]]:
    """Return, by name, what tables and figures need to know of metrics: JSON values, for result.json."""
    return {m.name: {"label": m.label, "better": m.better, "neutral": m.neutral} for m, *_ in loaded}


def metrics_inputs(config: Config) -> dict[str, Any]:
    """Return what of them is in a result's address: nothing where there is none."""
    given = sorted([one.target, one.digest] for one in load_metrics(config))
    return {"metrics": given} if given else {}


def values_of(store: Store, one: Loaded, replies: dict[str, Rows]) -> dict[str, list[float | None]]:
    """Return the value of every reply of every arm; arms whose replies were measured before are read.

    Args:
        store: keeps them.
        one: the metric.
        replies: per arm, rows with ``reply``.

    Raises:
        UserError: it gave something that is no number.
    """
    texts = {arm: [row["reply"] for row in rows] for arm, rows in replies.items()}
    keys = {
        arm: address("reply_metric", VERSION, target=one.target, file=one.digest, replies=own)
        for arm, own in texts.items()
    }

    def compute(arms: list[str]) -> dict[str, Artifact]:
        with progress(one.metric.name, sum(len(texts[arm]) for arm in arms), "replies") as bar:
            found = {}
            for arm in arms:
                found[arm] = Artifact(rows=[{"value": _value(one, text)} for text in texts[arm]])
                bar.advance(len(texts[arm]))
            return found

    configs = {arm: {"metric": one.target} for arm in keys}
    made = store.get_or_compute_many("reply_metric", keys, configs, compute)
    return {arm: [row["value"] for row in artifact.rows] for arm, artifact in made.items()}


@lru_cache(maxsize=16)  # the jobs of a sweep share it
def _made(target: str, digest: str) -> ReplyMetric:  # noqa: ARG001 - of a changed file it is made anew
    named = load_target(target, KEY)
    if isinstance(named, type):
        try:
            inspect.signature(named).bind()
        except TypeError as error:
            raise UserError(f"{KEY}={target}: {error}; it is made without arguments") from None
        named = named()
    metric: ReplyMetric = named
    return metric


def _value(one: Loaded, reply: str) -> float | None:
    value = one.metric.value(reply)
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise UserError(f"{KEY}={one.target}: value() gave {value!r}; a number or None is needed")
    return float(value) if math.isfinite(value) else None
