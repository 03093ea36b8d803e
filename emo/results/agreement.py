"""Labellers against each other and against the targets, on the same replies (methods 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from emo.core.agreement import Pair, fleiss, pair
from emo.core.stats import Estimate, Paired, estimate, paired
from emo.results.replies import Reply

HITS = (0, 1)  # the classes of "does it express its target?"


class Labels(NamedTuple):
    """What one labeller says of every reply."""

    name: str
    labels: Sequence[str | int | None]  # (n,) a class; of a match question 0 or 1; None: not labelled
    match: bool = False  # it was told the target and asked whether the style matches
    targets: bool = False  # the labels are the targets themselves, where something found them to match


class Compared(NamedTuple):
    """Two labellers."""

    first: str
    second: str
    pair: Pair  # of classes, or of hits where one of them was told the target


class Inflated(NamedTuple):
    """How much more often the target is found by who was told it than by who was not, on the same replies."""

    told: str
    blind: str
    share_told: Estimate
    share_blind: Estimate
    more: Paired


class Agreement(NamedTuple):
    """All that is known of how labellers agree."""

    classes: tuple[str, ...]
    pairs: list[Compared]
    fleiss: Estimate | None  # of all that name classes; None: fewer than three
    targets: dict[str, Estimate]  # share of the replies that a labeller finds on target
    inflation: list[Inflated]


def compare(
    replies: Sequence[Reply], labellers: Sequence[Labels], classes: Sequence[str], draws: int, seed: int
) -> Agreement:
    """Compare labellers.

    Args:
        replies: n replies.
        labellers: their labels, n each.
        classes: emotions, neutral and other, in the order of tables.
        draws: bootstrap draws over scenarios.
        seed: same seed, same intervals.
    """
    clusters = [reply.cluster for reply in replies]
    naming = [one for one in labellers if not one.match]
    found = {one.name: hits(one, replies) for one in labellers}
    pairs = [
        Compared(a.name, b.name, pair(a.labels, b.labels, clusters, classes, draws, seed))
        for a, b in combinations(naming, 2)
    ]
    pairs += [
        Compared(a.name, b.name, pair(_whole(found[a.name]), _whole(found[b.name]), clusters, HITS, draws, seed))
        for a, b in combinations(labellers, 2)
        if (a.match or b.match) and not (a.targets or b.targets)
    ]
    several = fleiss([one.labels for one in naming], clusters, draws, seed) if len(naming) > 2 else None
    free = [one.name for one in labellers if not one.targets and not np.isnan(found[one.name]).all()]
    targets = {name: estimate(found[name], clusters, draws, seed) for name in free}
    inflation = [
        _inflated(told.name, blind.name, found, clusters, draws, seed)
        for told in labellers
        for blind in naming
        if told.match and not blind.targets and not (np.isnan(found[told.name]) | np.isnan(found[blind.name])).all()
    ]
    return Agreement(tuple(classes), pairs, several, targets, inflation)


def hits(one: Labels, replies: Sequence[Reply]) -> np.ndarray:
    """Return whether each reply is on target, (n,) 0 or 1; nan: it has no target, or no label."""
    return np.array(
        [
            np.nan if label is None or reply.target is None else float(label if one.match else label == reply.target)
            for label, reply in zip(one.labels, replies, strict=True)
        ]
    )


def _whole(values: np.ndarray) -> list[int | None]:
    return [None if np.isnan(x) else int(x) for x in values]


def _inflated(
    told: str, blind: str, found: dict[str, np.ndarray], clusters: Sequence[int], draws: int, seed: int
) -> Inflated:
    both = ~(np.isnan(found[told]) | np.isnan(found[blind]))
    own, other = (np.where(both, found[name], np.nan) for name in (told, blind))
    first, second = (estimate(x, clusters, draws, seed) for x in (own, other))
    return Inflated(told, blind, first, second, paired(own, other, clusters, draws, seed))


def per_class(found: Pair) -> list[dict[str, Any]]:
    """Return, per class, how often each labeller names it and how often the other one then does too."""
    rows = []
    for i, name in enumerate(found.classes):
        first, second, both = found.confusion[i].sum(), found.confusion[:, i].sum(), found.confusion[i, i]
        if first or second:
            rows.append(
                {
                    "class": name, "first": int(first), "second": int(second), "both": int(both),
                    "second_of_first": both / first if first else None,
                    "first_of_second": both / second if second else None,
                }
            )  # fmt: skip
    return rows


def disagreements(replies: Sequence[Reply], labellers: Sequence[Labels]) -> list[dict[str, Any]]:
    """Return the replies that are called different names, those with the most names first.

    A match is not among the names: it is no name. Equal replies stand there once.
    """
    rows: dict[str, tuple[int, dict[str, Any]]] = {}
    for i, reply in enumerate(replies):
        names = {one.labels[i] for one in labellers if not one.match} - {None}
        if len(names) > 1:
            place: dict[str, Any] = {key: reply.row[key] for key in ("job", "arm", "valence") if key in reply.row}
            labels: dict[str, Any] = {one.name: one.labels[i] for one in labellers}
            rows.setdefault(
                reply.id, (len(names), {"id": reply.id, **place, "target": reply.target, **labels, "text": reply.text})
            )
    return [row for _, row in sorted(rows.values(), key=lambda item: -item[0])]
