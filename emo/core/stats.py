"""Uncertainty of every reported number: clustered bootstrap, paired sign flips, Holm (methods 4.4).

Replies to one scenario resemble each other (three events, six emotions, several seeds), so the scenario,
not the reply, is what is resampled: an interval over replies would be too narrow. Where an arm was drawn several
times (a control), its draws are resampled beside the scenarios: another draw would have given another number (two-way
bootstrap, Owen 2007). From fewer than five clusters there is neither an interval nor p: the percentile interval of so
few is far too narrow, and sign flips of four give no p below 0.125. Shape letters: n values, c clusters (scenarios),
r bootstrap draws, k draws of a control.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 95.0  # per cent covered by an interval
FEWEST = 5  # clusters below which neither an interval nor p is given
EXACT_CLUSTERS = 12  # up to 2^12 sign patterns are enumerated, above that they are drawn
OF_DRAWS = 1  # stands beside the seed of what resamples the draws of controls
CHUNK = 2_000_000  # entries of the (r, c) resampling matrix held at a time: memory stays flat in c

Array = np.ndarray[Any, np.dtype[np.float64]]
Labels = Sequence[Hashable] | np.ndarray[Any, Any]
Transform = Callable[[Any], Any]


class Estimate(NamedTuple):
    """A mean with its 95 % interval; ``None`` means not measured, never zero."""

    value: float | None
    lo: float | None
    hi: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return ``{value, ci: [lo, hi] or None, n}``, the form of result.json."""
        ci = None if self.lo is None or self.hi is None else [self.lo, self.hi]
        return {"value": self.value, "ci": ci, "n": self.n}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Estimate:
        """Return what `to_dict` was given."""
        lo, hi = kept["ci"] or (None, None)
        return cls(kept["value"], lo, hi, kept["n"])


class Paired(NamedTuple):
    """Mean difference a - b with its interval, and the two-sided sign-flip p-value (None: one scenario)."""

    difference: Estimate
    p: float | None


class Repeats(NamedTuple):
    """Which draw of a control each of n values comes from, and which pair (prompt and emotion) it was measured on.

    The draws of a pair are averaged, however many of them were measured, so a pair counts once.
    """

    draw: Labels  # (n,)
    pair: Labels  # (n,)


def too_few(clusters: int, what: str = "scenarios") -> str | None:
    """Return why nothing has an interval, in words; None where there are enough clusters."""
    if clusters >= FEWEST:
        return None
    return f"too few {what} for an interval: {clusters}; {FEWEST} are needed"


def smallest_p(clusters: int, tests: int, draws: int) -> float | None:
    """Return the smallest p, after Holm, that sign flips can give; None where no p is given at all.

    Args:
        clusters: scenarios or groups.
        tests: comparisons that Holm's adjustment is over; the smallest of their p is multiplied by it.
        draws: random sign patterns, of which the observed one counts; up to 12 clusters all patterns are tried.
    """
    if clusters < FEWEST or tests < 1:
        return None
    p = 2.0 ** (1 - clusters) if clusters <= EXACT_CLUSTERS else 1 / (1 + draws)
    return min(1.0, tests * p)


def estimate(
    values: ArrayLike,
    clusters: Labels,
    draws: int = 2000,
    seed: int = 0,
    transform: Transform | None = None,
    repeats: Repeats | None = None,
) -> Estimate:
    """Mean of values with a 95 % percentile bootstrap over clusters (methods 4.4).

    Args:
        values: (n,) in the metric's unit; nan = missing, dropped.
        clusters: (n,) scenario of each value.
        draws: number of bootstrap draws r.
        seed: same seed, same interval.
        transform: applied to the mean and to the mean of each draw, elementwise; e.g. ``np.exp`` turns a
            mean difference of negative log-likelihoods (nats per token) into a perplexity ratio.
        repeats: where a control was drawn several times; then its draws are resampled too.

    Returns:
        The estimate; no interval with fewer than `FEWEST` clusters, no value without values. ``n`` counts values, or
        pairs where there are ``repeats``.

    Raises:
        ValueError: lengths differ, or a value is infinite.
    """
    kept = _clean([values], clusters, repeats)
    if kept.n == 0:
        return Estimate(None, None, None, 0)
    change = transform or _identity
    value = float(change(kept.mean(0)))
    means = _cluster_draws(kept, draws, seed)
    if means is None:
        return Estimate(value, None, None, kept.n)
    lo, hi = _interval(np.asarray(change(means[0])))
    return Estimate(value, lo, hi, kept.n)


def estimate_ratio(
    num: ArrayLike,
    den: ArrayLike,
    clusters: Labels,
    draws: int = 2000,
    seed: int = 0,
    repeats: Repeats | None = None,
) -> Estimate:
    """Ratio of means, both resampled together, e.g. target / control (methods 4.4).

    Args:
        num: (n,) numerator values; nan = missing.
        den: (n,) denominator values in the same unit; a row with either missing is dropped.
        clusters: (n,) scenario of each row.
        draws: number of bootstrap draws.
        seed: same seed, same interval.
        repeats: as of `estimate`.

    Returns:
        The ratio (no unit). Without an interval where the denominator's own interval contains 0 ("control
        not different from 0": a percentile interval of such a ratio means nothing); without a value where
        the denominator's mean is exactly 0.
    """
    kept = _clean([num, den], clusters, repeats)
    n = kept.n
    if n == 0 or kept.mean(1) == 0:
        return Estimate(None, None, None, n)
    value = kept.mean(0) / kept.mean(1)
    means = _cluster_draws(kept, draws, seed)
    if means is None:
        return Estimate(value, None, None, n)
    den_lo, den_hi = _interval(means[1])
    if den_lo <= 0 <= den_hi:
        return Estimate(value, None, None, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A few draws in the outer tails may still have a zero denominator: they are undefined, not infinite.
        ratios = np.where(means[1] == 0, np.nan, means[0] / means[1])
    lo, hi = _interval(ratios[~np.isnan(ratios)])
    return Estimate(value, lo, hi, n)


def paired(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Labels,
    draws: int = 2000,
    seed: int = 0,
    repeats: Repeats | None = None,
) -> Paired:
    """Difference of means a - b on the same rows, with CI and a sign-flip test (methods 4.4), from five clusters on.

    The test flips the signs of the scenario means of a - b: exactly (every pattern) up to 12 scenarios,
    otherwise by ``draws`` random patterns with the observed one counted, so p is never 0. Draws of a control are
    averaged first: p is about scenarios, given the draws.

    Args:
        a: (n,) values of one arm; nan = missing.
        b: (n,) values of the other arm, same rows and unit; a row with either missing is dropped.
        clusters: (n,) scenario of each row.
        draws: number of bootstrap draws and of random sign patterns.
        seed: same seed, same result.
        repeats: as of `estimate`.
    """
    diff = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean = estimate(diff, clusters, draws, seed, repeats=repeats)
    kept = _clean([diff], clusters, repeats)
    c = kept.clusters
    if c < FEWEST:
        return Paired(mean, None)
    effects = kept.by_cluster(kept.columns[0]) / kept.by_cluster(np.ones(len(kept.cluster)))
    # Rounding must not separate patterns that are equal on paper (the observed one and its mirror image).
    bar = abs(float(effects.sum())) - 1e-9 * float(np.abs(effects).sum())
    if c <= EXACT_CLUSTERS:
        signs = 1.0 - 2.0 * ((np.arange(2**c)[:, None] >> np.arange(c)) & 1)
        return Paired(mean, float(np.mean(np.abs(signs @ effects) >= bar)))
    rng = np.random.default_rng(seed)
    extreme = 0
    for rows in _chunks(draws, c):
        signs = rng.choice((-1.0, 1.0), size=(rows, c))
        extreme += int(np.sum(np.abs(signs @ effects) >= bar))
    return Paired(mean, (1 + extreme) / (1 + draws))


def holm(pvalues: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the given order; None (not measured) stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(pvalues) if p is not None)
    adjusted: list[float | None] = [None] * len(pvalues)
    running = 0.0
    for rank, (p, i) in enumerate(known):
        running = max(running, min(1.0, p * (len(known) - rank)))
        adjusted[i] = running
    return adjusted


def _identity(x: Any) -> Any:
    return x


class _Kept(NamedTuple):
    """What is left of n rows: columns, and of each row its cluster and draw (0, 1, ...) and its weight."""

    columns: list[Array]
    cluster: np.ndarray[Any, np.dtype[np.int64]]
    draw: np.ndarray[Any, np.dtype[np.int64]] | None  # None: one draw
    weight: Array | None  # 1 / measured draws of the row's pair; None: all 1
    n: int  # rows, or pairs

    @property
    def clusters(self) -> int:
        return int(self.cluster.max()) + 1 if len(self.cluster) else 0

    def mean(self, column: int) -> float:
        x = self.columns[column]
        return float(x.mean() if self.weight is None else (x * self.weight).sum() / self.weight.sum())

    def by_cluster(self, x: Array) -> Array:
        """Return weighted sums, (c,)."""
        weighted = x if self.weight is None else x * self.weight
        return np.bincount(self.cluster, weights=weighted, minlength=self.clusters).astype(np.float64)

    def by_draw(self, x: Array) -> Array:
        """Return weighted sums by cluster and draw, (c, k)."""
        assert self.draw is not None
        assert self.weight is not None
        shape = self.clusters, int(self.draw.max()) + 1
        flat = np.ravel_multi_index((self.cluster, self.draw), shape)
        sums = np.bincount(flat, weights=x * self.weight, minlength=shape[0] * shape[1])
        return sums.astype(np.float64).reshape(shape)


def _clean(columns: Sequence[ArrayLike], clusters: Labels, repeats: Repeats | None) -> _Kept:
    """Drop rows with a nan; number the clusters and draws of the rest 0, 1, ... in order of appearance."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shape = (len(clusters),)
    if any(array.shape != shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"values of shape {shapes} with {len(clusters)} clusters: one value each is needed")
    if any(np.isinf(array).any() for array in arrays):
        raise ValueError("infinite value: a mean over it means nothing; give nan where nothing was measured")
    keep = ~np.any([np.isnan(array) for array in arrays], axis=0)
    index, kept = _numbered(clusters, keep), [array[keep] for array in arrays]
    if repeats is None:
        return _Kept(kept, index, None, None, len(index))
    draw, pair = _numbered(repeats.draw, keep), _numbered(repeats.pair, keep)
    counts, several = np.bincount(pair), len(set(draw.tolist())) > 1
    return _Kept(kept, index, draw if several else None, 1.0 / counts[pair], len(counts))


def _numbered(labels: Labels, keep: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "i":
        _, first, place = np.unique(labels[keep], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[place.reshape(-1)]
    seen: dict[Hashable, int] = {}
    found = [seen.setdefault(label, len(seen)) for label, k in zip(labels, keep, strict=True) if k]
    return np.asarray(found, dtype=np.int64)


def _cluster_draws(kept: _Kept, draws: int, seed: int) -> list[Array] | None:
    """Mean of each column in each bootstrap draw, (r,) each; None with fewer than `FEWEST` clusters.

    Drawing c clusters with replacement is one multinomial row of how often each was drawn, so a draw's mean
    is (row @ sums) / (row @ counts): no value is touched again. With several draws of a control, each of them has
    such a row of its own, and a value counts as often as its cluster and its draw say together.
    """
    c, ones = kept.clusters, np.ones(len(kept.cluster))
    if c < FEWEST:
        return None
    if kept.draw is None:
        sums = np.stack([kept.by_cluster(x) for x in (*kept.columns, ones)], axis=1)
        own = None
    else:
        tables = [kept.by_draw(x) for x in (*kept.columns, ones)]
        own = _multinomial(np.random.default_rng((seed, OF_DRAWS)), tables[0].shape[1], draws)
        sums = np.concatenate(tables, axis=1)
    if draws * c <= CHUNK:
        return _means(cluster_weights(c, draws, seed) @ sums, own)
    rng, parts = np.random.default_rng(seed), []
    for rows in _chunks(draws, c):
        parts.append(_multinomial(rng, c, rows) @ sums)
    return _means(np.concatenate(parts), own)


def _means(summed: Array, own: Array | None) -> list[Array]:
    """Return the mean of each column from sums (r, columns + 1) or, weighing draws, (r, (columns + 1) * k)."""
    if own is not None:
        summed = (summed.reshape(len(own), -1, own.shape[1]) * own[:, None]).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # where all that was drawn is missing there is no mean
        return list((summed[:, :-1] / summed[:, -1:]).T)


@lru_cache(maxsize=4)
def cluster_weights(c: int, draws: int, seed: int) -> Array:
    """Return how often each of c clusters is drawn, (draws, c): the same for all estimates of a job."""
    return _multinomial(np.random.default_rng(seed), c, draws)


def _multinomial(rng: np.random.Generator, c: int, rows: int) -> Array:
    return rng.multinomial(c, np.full(c, 1.0 / c), size=rows).astype(np.float64)


def _chunks(draws: int, c: int) -> list[int]:
    size = max(1, CHUNK // c)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _interval(draws: Array) -> tuple[float, float]:
    lo, hi = np.nanpercentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(lo), float(hi)
