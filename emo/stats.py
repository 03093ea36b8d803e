"""Uncertainty of every reported number: clustered bootstrap, paired sign flips, Holm (methods 4.4).

Replies to one scenario resemble each other (three events, six emotions, several seeds), so the scenario,
not the reply, is what is resampled: an interval over replies would be too narrow. Shape letters:
n values, c clusters (scenarios), r bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 95.0  # per cent covered by an interval
EXACT_CLUSTERS = 12  # up to 2^12 sign patterns are enumerated, above that they are drawn
CHUNK = 2_000_000  # entries of the (r, c) resampling matrix held at a time: memory stays flat in c

Array = np.ndarray[Any, np.dtype[np.float64]]
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


class Paired(NamedTuple):
    """Mean difference a - b with its interval, and the two-sided sign-flip p-value (None: one scenario)."""

    difference: Estimate
    p: float | None


def estimate(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    draws: int = 2000,
    seed: int = 0,
    transform: Transform | None = None,
) -> Estimate:
    """Mean of values with a 95 % percentile bootstrap over clusters (methods 4.4).

    Args:
        values: (n,) in the metric's unit; nan = missing, dropped.
        clusters: (n,) scenario of each value.
        draws: number of bootstrap draws r.
        seed: same seed, same interval.
        transform: applied to the mean and to the mean of each draw, elementwise; e.g. ``np.exp`` turns a
            mean difference of negative log-likelihoods (nats per token) into a perplexity ratio.

    Returns:
        The estimate; no interval with fewer than two clusters, no value without values. ``n`` counts values.

    Raises:
        ValueError: lengths differ, or a value is infinite.
    """
    (kept,), index, n = _clean([values], clusters)
    if n == 0:
        return Estimate(None, None, None, 0)
    change = transform or _identity
    value = float(change(kept.mean()))
    means = _cluster_draws([kept], index, draws, seed)
    if means is None:
        return Estimate(value, None, None, n)
    lo, hi = _interval(np.asarray(change(means[0])))
    return Estimate(value, lo, hi, n)


def estimate_ratio(
    num: ArrayLike, den: ArrayLike, clusters: Sequence[Hashable], draws: int = 2000, seed: int = 0
) -> Estimate:
    """Ratio of means, both resampled together, e.g. target / control (methods 4.4).

    Args:
        num: (n,) numerator values; nan = missing.
        den: (n,) denominator values in the same unit; a row with either missing is dropped.
        clusters: (n,) scenario of each row.
        draws: number of bootstrap draws.
        seed: same seed, same interval.

    Returns:
        The ratio (no unit). Without an interval where the denominator's own interval contains 0 ("control
        not different from 0": a percentile interval of such a ratio means nothing); without a value where
        the denominator's mean is exactly 0.
    """
    (top, bottom), index, n = _clean([num, den], clusters)
    if n == 0 or bottom.mean() == 0:
        return Estimate(None, None, None, n)
    value = float(top.mean() / bottom.mean())
    means = _cluster_draws([top, bottom], index, draws, seed)
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


def paired(a: ArrayLike, b: ArrayLike, clusters: Sequence[Hashable], draws: int = 2000, seed: int = 0) -> Paired:
    """Difference of means a - b on the same rows, with CI and a sign-flip test (methods 4.4).

    The test flips the signs of the scenario means of a - b: exactly (every pattern) up to 12 scenarios,
    otherwise by ``draws`` random patterns with the observed one counted, so p is never 0.

    Args:
        a: (n,) values of one arm; nan = missing.
        b: (n,) values of the other arm, same rows and unit; a row with either missing is dropped.
        clusters: (n,) scenario of each row.
        draws: number of bootstrap draws and of random sign patterns.
        seed: same seed, same result.
    """
    (left, right), index, n = _clean([a, b], clusters)
    diff = left - right
    mean = estimate(diff, index.tolist(), draws, seed)
    c = int(index.max()) + 1 if n else 0
    if c < 2:
        return Paired(mean, None)
    effects = np.bincount(index, weights=diff, minlength=c) / np.bincount(index, minlength=c)
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


def _clean(
    columns: Sequence[ArrayLike], clusters: Sequence[Hashable]
) -> tuple[list[Array], np.ndarray[Any, np.dtype[np.int64]], int]:
    """Drop rows with a nan; number the clusters of the rest 0..c-1 in order of appearance."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    shape = (len(clusters),)
    if any(array.shape != shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"values of shape {shapes} with {len(clusters)} clusters: one value each is needed")
    if any(np.isinf(array).any() for array in arrays):
        raise ValueError("infinite value: a mean over it means nothing; give nan where nothing was measured")
    keep = ~np.any([np.isnan(array) for array in arrays], axis=0)
    seen: dict[Hashable, int] = {}
    index = [seen.setdefault(label, len(seen)) for label, k in zip(clusters, keep, strict=True) if k]
    return [array[keep] for array in arrays], np.asarray(index, dtype=np.int64), len(index)


def _cluster_draws(
    columns: list[Array], index: np.ndarray[Any, np.dtype[np.int64]], draws: int, seed: int
) -> list[Array] | None:
    """Mean of each column in each draw, (r,) each; None with fewer than two clusters.

    Drawing c clusters with replacement is one multinomial row of how often each was drawn, so a draw's mean
    is (row @ sums) / (row @ counts): no value is touched again.
    """
    counts = np.bincount(index)
    c = len(counts)
    if c < 2:
        return None
    sums = np.stack([np.bincount(index, weights=column, minlength=c) for column in columns], axis=1)
    if draws * c <= CHUNK:
        weights = _weights(c, draws, seed)
        return list(((weights @ sums) / (weights @ counts)[:, None]).T)
    rng, parts = np.random.default_rng(seed), []
    for rows in _chunks(draws, c):
        weights = _multinomial(rng, c, rows)
        parts.append((weights @ sums) / (weights @ counts)[:, None])
    return list(np.concatenate(parts).T)


@lru_cache(maxsize=4)
def _weights(c: int, draws: int, seed: int) -> Array:
    """Return how often each of c clusters is drawn, (draws, c): the same for all estimates of a job."""
    return _multinomial(np.random.default_rng(seed), c, draws)


def _multinomial(rng: np.random.Generator, c: int, rows: int) -> Array:
    return rng.multinomial(c, np.full(c, 1.0 / c), size=rows).astype(np.float64)


def _chunks(draws: int, c: int) -> list[int]:
    size = max(1, CHUNK // c)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _interval(draws: Array) -> tuple[float, float]:
    lo, hi = np.percentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(lo), float(hi)
