"""How far labellers agree beyond chance: Cohen's kappa of two, Fleiss' kappa of several (methods 4.3).

    Cohen   kappa = (p_o - p_e) / (1 - p_e);  p_o share of equal labels, p_e = sum_c p(a = c) p(b = c)
    Fleiss  p_o = mean over texts of the share of equal pairs of labels, p_e = sum_c p(c)^2 over all labels

Intervals resample clusters (scenarios), as all intervals here do: labels of replies to one scenario are no independent
evidence. A kappa is a function of sums over texts, so a draw is one product of weights with the sums of clusters.
Shape letters: n texts, k classes, c clusters, r bootstrap draws, m labellers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from emo.core.stats import FEWEST, LEVEL, Array, Estimate, cluster_weights

Label = str | int | None  # None: not labelled


class Pair(NamedTuple):
    """Two labellers on the texts that both labelled."""

    agreement: Estimate  # share of equal labels
    kappa: Estimate
    confusion: np.ndarray  # (k, k) texts by the label of the first (row) and of the second
    classes: tuple[str | int, ...]


def pair(
    a: Sequence[Label],
    b: Sequence[Label],
    clusters: Sequence[Hashable],
    classes: Sequence[str | int],
    draws: int = 2000,
    seed: int = 0,
) -> Pair:
    """Return agreement and Cohen's kappa of two labellers, with 95 % intervals.

    Args:
        a: (n,) labels of the first; None: not labelled, the text is left out.
        b: (n,) of the second.
        clusters: (n,) scenario of each text.
        classes: all labels there are, the order of the confusion.
        draws: bootstrap draws.
        seed: same seed, same interval.

    Returns:
        Kappa has no value where both give one label to every text: there is nothing to agree on beyond chance.

    Raises:
        ValueError: lengths differ, or a label is none of the classes.
    """
    place = {name: i for i, name in enumerate(classes)}
    rows = [(x, y, g) for x, y, g in zip(a, b, clusters, strict=True) if x is not None and y is not None]
    unknown = {label for x, y, _ in rows for label in (x, y) if label not in place}
    if unknown:
        raise ValueError(f"labels {sorted(map(str, unknown))}: none of {list(classes)}")
    k = len(classes)
    numbers = _numbers([g for *_, g in rows])
    sums = np.zeros((max(numbers, default=-1) + 1, k * k))
    for (x, y, _), number in zip(rows, numbers, strict=True):
        sums[number, place[x] * k + place[y]] += 1
    confusion = sums.sum(0).reshape(k, k)
    agreement = _estimate(sums, lambda x: _agreement(x, k), len(rows), draws, seed)
    kappa = _estimate(sums, lambda x: _cohen(x, k), len(rows), draws, seed)
    return Pair(agreement, kappa, confusion.astype(int), tuple(classes))


def fleiss(
    ratings: Sequence[Sequence[Label]], clusters: Sequence[Hashable], draws: int = 2000, seed: int = 0
) -> Estimate:
    """Return Fleiss' kappa of m labellers with its 95 % interval, on the texts that all of them labelled.

    Args:
        ratings: (m, n) labels of every labeller.
        clusters: (n,) scenario of each text.
        draws: bootstrap draws.
        seed: same seed, same interval.

    Raises:
        ValueError: fewer than two labellers.
    """
    m = len(ratings)
    if m < 2:
        raise ValueError(f"{m} labellers: agreement needs two")
    rows = [(labels, g) for labels, g in zip(zip(*ratings, strict=True), clusters, strict=True) if None not in labels]
    classes = list(dict.fromkeys(label for labels, _ in rows for label in labels))
    numbers = _numbers([g for _, g in rows])
    sums = np.zeros((max(numbers, default=-1) + 1, len(classes) + 1))  # labels by class, then the texts' agreement
    for (labels, _), number in zip(rows, numbers, strict=True):
        counts = np.array([labels.count(name) for name in classes], dtype=float)
        sums[number, :-1] += counts
        sums[number, -1] += (counts * (counts - 1)).sum() / (m * (m - 1))
    return _estimate(sums, lambda x: _fleiss(x, m), len(rows), draws, seed)


def _agreement(sums: Array, k: int) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, :: k + 1].sum(1) / sums.sum(1))


def _cohen(sums: Array, k: int) -> Array:
    """Return kappa (r,) of flat confusions (r, k * k)."""
    tables = sums.reshape(-1, k, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = tables / tables.sum((1, 2), keepdims=True)
        expected = (p.sum(1) * p.sum(2)).sum(1)
        return _beyond(np.trace(p, axis1=1, axis2=2), expected)


def _fleiss(sums: Array, m: int) -> Array:
    """Return kappa (r,) of labels by class and summed agreement (r, k + 1)."""
    labels = sums[:, :-1].sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _beyond(sums[:, -1] / (labels[:, 0] / m), ((sums[:, :-1] / labels) ** 2).sum(1))


def _beyond(observed: Array, expected: Array) -> Array:
    return np.where(1 - expected < 1e-12, np.nan, (observed - expected) / (1 - expected))


def _estimate(sums: Array, value: Callable[[Array], Array], n: int, draws: int, seed: int) -> Estimate:
    """Return a function of sums with its interval over clusters; sums (c, columns)."""
    whole = float(value(sums.sum(0, keepdims=True))[0]) if n else np.nan
    if np.isnan(whole):
        return Estimate(None, None, None, n)
    if len(sums) < FEWEST:
        return Estimate(whole, None, None, n)
    found = value(cluster_weights(len(sums), draws, seed) @ sums)
    lo, hi = np.nanpercentile(found, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(whole, float(lo), float(hi), n)


def _numbers(labels: Sequence[Hashable]) -> list[int]:
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(label, len(seen)) for label in labels]
