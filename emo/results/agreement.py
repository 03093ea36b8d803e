"""Labellers against each other and against the targets, on the same texts (methods 4.3).

A text that many replies have was labelled once, so it counts once; of what depends on the target (a match, on target
or not) every text and target does. In the bootstrap a text goes with its scenario; one that several scenarios
have is a cluster of its own: it is bound to none of them, and put with its first one, all texts that a model repeats
would be one piece of evidence.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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
    pair: Pair  # of classes, or of hits where one of them was told the target; n: different texts (and targets)
    replies: int  # that these stand for

    @property
    def texts(self) -> str:
        """How many texts, and where replies repeat how many replies they stand for."""
        n = self.pair.kappa.n
        return f"{n} (of {self.replies} replies)" if self.replies > n else str(n)


class Inflated(NamedTuple):
    """How much more often the target is found by who was told it than by who was not, on the same texts."""

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
    targets: dict[str, Estimate]  # share of the different texts and targets that a labeller finds on target
    inflation: list[Inflated]


def compare(
    replies: Sequence[Reply], labellers: Sequence[Labels], classes: Sequence[str], draws: int, seed: int
) -> Agreement:
    """Compare labellers.

    Args:
        replies: n replies.
        labellers: their labels, n each.
        classes: emotions, neutral and other, in the order of tables.
        draws: bootstrap draws over scenarios, and over texts that several of them have.
        seed: same seed, same intervals.
    """
    by_text = _clusters(replies)
    naming = [one for one in labellers if not one.match]
    found = {one.name: _whole(hits(one, replies)) for one in labellers}
    pairs = [
        _compared(a.name, b.name, [a.labels, b.labels], replies, classes, draws, seed, targets=a.targets or b.targets)
        for a, b in combinations(naming, 2)
    ]
    pairs += [
        _compared(a.name, b.name, [found[a.name], found[b.name]], replies, HITS, draws, seed, targets=True)
        for a, b in combinations(labellers, 2)
        if (a.match or b.match) and not (a.targets or b.targets)
    ]
    several = None
    if len(naming) > 2:
        rows = _firsts(replies, [one.labels for one in naming], targets=any(one.targets for one in naming))
        ratings = [[one.labels[i] for i in rows] for one in naming]
        several = fleiss(ratings, [by_text[i] for i in rows], draws, seed)
    targets = {}
    for one in labellers:
        rows = _firsts(replies, [found[one.name]], targets=True)
        if rows and not one.targets:
            own = [float(found[one.name][i] or 0) for i in rows]
            targets[one.name] = estimate(own, [by_text[i] for i in rows], draws, seed)
    inflation = []
    for told, blind in ((a, b) for a in labellers for b in naming if a.match and not b.targets):
        rows = _firsts(replies, [found[told.name], found[blind.name]], targets=True)
        if rows:
            own, other = ([float(found[one.name][i] or 0) for i in rows] for one in (told, blind))
            inflation.append(_inflated(told.name, blind.name, own, other, [by_text[i] for i in rows], draws, seed))
    return Agreement(tuple(classes), pairs, several, targets, inflation)


def _compared(
    first: str, second: str, given: Sequence[Sequence[str | int | None]], replies: Sequence[Reply],
    classes: Sequence[str | int], draws: int, seed: int, *, targets: bool,
) -> Compared:  # fmt: skip
    """Compare two labellers, (n,) labels each, on the different texts (``targets``: and targets) that both labelled."""
    rows, by_text = _firsts(replies, given, targets=targets), _clusters(replies)
    a, b = ([labels[i] for i in rows] for labels in given)
    stand = sum(None not in labels for labels in zip(*given, strict=True))
    return Compared(first, second, pair(a, b, [by_text[i] for i in rows], classes, draws, seed), stand)


def _firsts(replies: Sequence[Reply], given: Sequence[Sequence[str | int | None]], *, targets: bool) -> list[int]:
    """Return the place of the first reply of every text (``targets``: and target) that all of ``given`` labelled."""
    rows: dict[Hashable, int] = {}
    for i, (reply, labels) in enumerate(zip(replies, zip(*given, strict=True), strict=True)):
        if None not in labels:
            rows.setdefault((reply.id, reply.target) if targets else reply.id, i)
    return list(rows.values())


def _clusters(replies: Sequence[Reply]) -> list[Hashable]:
    """Return what is resampled with every reply: its scenario, or its text where several scenarios have it."""
    places: dict[str, set[int]] = {}
    for reply in replies:
        places.setdefault(reply.id, set()).add(reply.cluster)
    return [reply.cluster if len(places[reply.id]) == 1 else reply.id for reply in replies]


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
    told: str, blind: str, own: Sequence[float], other: Sequence[float], clusters: Sequence[Hashable], draws: int,
    seed: int,
) -> Inflated:  # fmt: skip
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
