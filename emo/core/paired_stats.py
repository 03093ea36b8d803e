"""Many paired differences over the same scenarios at once: what `emo.core.stats.paired` gives, column by column.

Comparisons of jobs come in hundreds (arms, metrics, emotions); one matrix product over the bootstrap's draws serves all
columns that were measured on the same scenarios. Shape letters: n rows, m columns, c clusters, r draws.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from emo.core.stats import EXACT_CLUSTERS, FEWEST, LEVEL, Array, Labels, cluster_weights


class PairedMany(NamedTuple):
    """One entry per column, (m,); nan: not measured, or too few clusters for an interval and for p."""

    value: Array
    lo: Array
    hi: Array
    p: Array
    n: np.ndarray[Any, np.dtype[np.int64]]  # values that are not missing
    clusters: np.ndarray[Any, np.dtype[np.int64]]  # with at least one of them


def paired_many(differences: Array, clusters: Labels, draws: int = 2000, seed: int = 0) -> PairedMany:
    """Mean of every column with its 95 % cluster bootstrap interval, and its sign-flip p.

    Args:
        differences: (n, m) a - b of every row and column, one value per pair; nan = missing, dropped.
        clusters: (n,) scenario of each row.
        draws: bootstrap draws, and random sign patterns above 12 clusters.
        seed: same seed, same result.
    """
    numbers = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)[1]
    order = {x: i for i, x in enumerate(dict.fromkeys(numbers.tolist()))}  # as `paired`: in order of appearance
    index = np.array([order[x] for x in numbers.tolist()], dtype=np.int64)
    there = ~np.isnan(differences)
    sums = np.zeros((len(order), differences.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index, np.where(there, differences, 0.0))
    np.add.at(counts, index, there)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums.sum(0) / counts.sum(0)
    lo, hi, p = (np.full(differences.shape[1], np.nan) for _ in range(3))
    patterns, kind = np.unique(counts > 0, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        kept, columns = patterns[:, k], np.flatnonzero(kind.reshape(-1) == k)
        if kept.sum() < FEWEST:
            continue
        s, c = sums[np.ix_(kept, columns)], counts[np.ix_(kept, columns)]
        weights = cluster_weights(int(kept.sum()), draws, seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = (weights @ s) / (weights @ c)
        lo[columns], hi[columns] = np.nanpercentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=0)
        p[columns] = sign_flips(s / c, draws, seed)
    return PairedMany(value, lo, hi, p, there.sum(0), (counts > 0).sum(0))


def sign_flips(effects: Array, draws: int = 2000, seed: int = 0) -> Array:
    """Return the two-sided sign-flip p of every column of cluster means (c, m); exact up to 12 clusters."""
    c = len(effects)
    # Rounding must not separate patterns that are equal on paper (the observed one and its mirror image).
    bar = np.abs(effects.sum(0)) - 1e-9 * np.abs(effects).sum(0)
    if c <= EXACT_CLUSTERS:
        signs = 1.0 - 2.0 * ((np.arange(2**c)[:, None] >> np.arange(c)) & 1)
        return (np.abs(signs @ effects) >= bar).mean(0)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, c))
    return (1 + (np.abs(signs @ effects) >= bar).sum(0)) / (1 + draws)


class Spread(NamedTuple):
    """How far apart the levels of a factor are."""

    range: float  # largest less smallest mean effect, in the metric's unit
    by_chance: float  # the same range on average where the factor does nothing: above zero, since it is a largest one
    p: float


def spread_of(effects: Array, draws: int = 2000, seed: int = 0) -> Spread | None:
    """Return how far apart levels are, and whether that is more than chance; None below five scenarios.

    Where a factor does nothing, the effects of its levels on a scenario are as likely as their opposite: p is the share
    of sign flips, a scenario's effects together, under which the mean effects vary as much.

    Args:
        effects: (c, v) effect of every level on every scenario, centred over levels.
        draws: random sign patterns above 12 scenarios.
        seed: same seed, same result.
    """
    c = len(effects)
    if c < FEWEST:
        return None
    if c <= EXACT_CLUSTERS:
        signs = 1.0 - 2.0 * ((np.arange(2**c)[:, None] >> np.arange(c)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, c))
    means, flipped = effects.mean(0), signs @ effects / c
    extreme = (flipped.var(1) >= means.var() * (1 - 1e-9)).sum()
    p = extreme / len(signs) if c <= EXACT_CLUSTERS else (1 + extreme) / (1 + draws)
    return Spread(float(np.ptp(means)), float(np.ptp(flipped, axis=1).mean()), float(p))
