"""Shares that carry the error of who labelled them: from many labels of a cheap labeller and a few that are trusted.

F is what the cheap labeller says of every reply (right 1, wrong 0), Y what the trusted one says of n of the N.

    prediction-powered   theta = mean_N(lambda F) + mean_n(Y - lambda F), lambda = cov(Y, F) / var(F) within [0, 1]
    confusion matrix     q = p C, so p = q C^+;  C (true x called) from the labelled replies of all arms together

The first (Angelopoulos et al. 2023, Science 382:669; PPI++, arXiv 2311.01453) assumes only that the labelled replies
were drawn at random; where the cheap labeller is no help lambda is 0 and the labelled mean is left. Here the labelled
replies are among the N, for which the best lambda is cov / var without the factor of the paper. The second (Rogan and
Gladen 1978) assumes that a true class is called the same wrong names in every arm, and in return an arm with few
labelled replies borrows from the others.

Intervals resample scenarios, so both kinds of error are in them; that of the first has Student's quantile of as many
scenarios as have labels. A labelled sample in which the two never differ would
seem to be without error; so the half width of the first has 1 / (n + 2) of a standard error added in quadrature, what
one more reply called wrongly on either side would have brought (Agresti and Min 2005). Shape letters: N rows, k
classes, c clusters, r draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from emo.core.stats import FEWEST, LEVEL, Array, Estimate, Labels, Repeats, cluster_weights, estimate

FEWEST_LABELLED = 10  # trusted labels below which nothing is corrected
FEWEST_OF_A_CLASS = 5  # of one class, below which its row of the confusion matrix is not known
WIDTH = 1.959964  # standard errors of half a 95 % interval


class Corrected(NamedTuple):
    """A corrected share, and how many labels its interval rests on."""

    estimate: Estimate  # no value: too few labelled replies
    labelled: int  # different replies with a trusted label
    to_halve: int | None  # as many would halve the interval; None: not even all of the replies would


def rectified(predicted: Array, truth: Array) -> Array:
    """Return values (N,) whose mean is the prediction-powered estimate, and whose scatter is its error.

    They stand in for a reply's own value in everything that takes a mean over replies: an estimate, a difference of
    two arms on the same prompts.

    Args:
        predicted: (N,) F; nan: not labelled at all, so is the value.
        truth: (N,) Y; nan where there is no trusted label.
    """
    there = ~np.isnan(predicted)
    known = there & ~np.isnan(truth)
    if not known.any():
        return np.full(len(predicted), np.nan)
    weight = _lambda(predicted[known], truth[known])
    error = truth - weight * predicted
    mean = error[known].mean()
    spread = np.where(known, (error - mean) * there.sum() / known.sum(), 0.0)
    return np.where(there, weight * predicted + mean + spread, np.nan)


def _lambda(predicted: Array, truth: Array) -> float:
    """Return how far F is to be trusted; 1 where it never differs, so that the labelled sample cannot say."""
    spread = float(predicted.var())
    if spread == 0:
        return 1.0
    return float(np.clip(((predicted - predicted.mean()) * (truth - truth.mean())).mean() / spread, 0.0, 1.0))


def powered(
    predicted: Array,
    truth: Array,
    clusters: Labels,
    labelled: int,
    draws: int = 2000,
    seed: int = 0,
    repeats: Repeats | None = None,
) -> Corrected:
    """Return the prediction-powered share with its 95 % interval.

    Args:
        predicted: (N,) as of `rectified`.
        truth: (N,) as of `rectified`.
        clusters: (N,) scenario of each row.
        labelled: different replies with a trusted label (a reply without a target has a row for each).
        draws: bootstrap draws.
        seed: same seed, same interval.
        repeats: as of `emo.core.stats.estimate`.
    """
    n = int((~np.isnan(predicted)).sum())
    if labelled < FEWEST_LABELLED:
        return Corrected(Estimate(None, None, None, n), labelled, None)
    values = rectified(predicted, truth)
    found = estimate(values, clusters, draws, seed, repeats=repeats)
    found = widened(found, labelled_clusters(predicted, truth, clusters), labelled)
    return Corrected(within(found), labelled, _to_halve(found, values, predicted, truth, clusters, labelled))


def labelled_clusters(predicted: Array, truth: Array, clusters: Labels) -> int:
    """Return how many scenarios have a trusted label."""
    known = ~np.isnan(predicted) & ~np.isnan(truth)
    return len({label for label, k in zip(clusters, known, strict=True) if k})


def widened(found: Estimate, clusters: int, *labelled: int) -> Estimate:
    """Return an estimate whose interval is as wide as so few labelled replies, in so few scenarios, make it.

    A bootstrap over c clusters is too narrow by sqrt(1 - 1 / c) and by the normal quantile in place of Student's, which
    shows where labels lie in few scenarios; there is no interval where these are fewer than `FEWEST`.
    """
    if found.value is None or found.lo is None or found.hi is None or clusters < FEWEST:
        return Estimate(found.value, None, None, found.n)
    stretch = float(student.ppf(0.5 + LEVEL / 200, clusters - 1)) / WIDTH * np.sqrt(clusters / (clusters - 1))
    more = WIDTH * float(np.hypot.reduce([1 / (n + 2) for n in labelled]))
    lo, hi = (float(np.hypot(stretch * abs(end - found.value), more)) for end in (found.lo, found.hi))
    return Estimate(found.value, found.value - lo, found.value + hi, found.n)


def within(found: Estimate) -> Estimate:
    """Return an estimate of a share within 0 and 1: what is outside of them cannot be."""
    value, lo, hi = (None if x is None else min(1.0, max(0.0, x)) for x in found[:3])
    return Estimate(value, lo, hi, found.n)


def _to_halve(
    found: Estimate, values: Array, predicted: Array, truth: Array, clusters: Labels, labelled: int
) -> int | None:
    """Return the labelled replies that would halve the interval, if they are spread as these are.

    The variance has a part that falls with their number and one that only more scenarios lower.
    """
    if found.lo is None or found.hi is None:
        return None
    known = ~np.isnan(predicted) & ~np.isnan(truth)
    error = (truth - _lambda(predicted[known], truth[known]) * predicted)[known]
    number = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)[1][known]
    sums = np.bincount(number, weights=error - error.mean())
    falls = float((sums**2).sum()) / known.sum() ** 2 + 1 / (labelled + 2) ** 2
    whole = ((found.hi - found.lo) / 2 / WIDTH) ** 2
    room = whole / 4 - max(0.0, whole - falls)
    if room <= 0:
        return None
    needed = int(np.ceil(labelled * falls / room))
    replies = labelled * int((~np.isnan(values)).sum()) / int(known.sum())
    return needed if needed <= replies else None


class Confusion:
    """What true classes are called, from the labelled replies of all arms, in every bootstrap draw."""

    def __init__(
        self,
        true: Sequence[str],
        called: Sequence[str],
        clusters: Sequence[int],
        classes: Sequence[str],
        draws: int = 2000,
        seed: int = 0,
    ) -> None:
        """Count.

        Args:
            true: (n,) trusted labels.
            called: (n,) labels of the cheap labeller.
            clusters: (n,) scenario of each, as numbers 0, 1, ... that all arms share.
            classes: k names of the matrix.
            draws: bootstrap draws.
            seed: same seed, same draws.
        """
        self.classes, self.n, self.draws, self.seed = tuple(classes), len(true), draws, seed
        self.place = {name: i for i, name in enumerate(classes)}
        self._rows = [(self.place[t], self.place[c], g) for t, c, g in zip(true, called, clusters, strict=True)]
        counts = np.bincount([t for t, *_ in self._rows], minlength=len(classes))
        self.lacking = {name: int(counts[i]) for i, name in enumerate(classes) if counts[i] < FEWEST_OF_A_CLASS}

    def share(
        self, called: Sequence[str], targets: Sequence[str], clusters: Sequence[int], counted: Sequence[bool]
    ) -> Estimate:
        """Return the share of an arm's rows whose true class is their target, with its 95 % interval.

        Args:
            called: (N,) labels of the cheap labeller.
            targets: (N,) class that each row should be.
            clusters: (N,) scenario of each row.
            counted: (N,) False: the row is in the number of rows, but cannot be right (a broken reply).

        Returns:
            No value where a class has too few labelled replies (``lacking``).
        """
        n, k = len(called), len(self.classes)
        if self.lacking or not n:
            return Estimate(None, None, None, n)
        c = 1 + max([*clusters, *(g for *_, g in self._rows)])
        matrix = np.zeros((c, k, k))
        for t, x, g in self._rows:
            matrix[g, t, x] += 1
        names = list(dict.fromkeys(targets))
        of = {name: i for i, name in enumerate(names)}
        rows = np.zeros((c, len(names), k + 1))  # called each class; the last: all rows
        for label, target, g, ok in zip(called, targets, clusters, counted, strict=True):
            rows[g, of[target], self.place[label]] += ok
            rows[g, of[target], k] += 1
        wanted = [self.place[name] for name in names]
        flat = np.concatenate([matrix.reshape(c, -1), rows.reshape(c, -1)], axis=1)
        flat = flat[flat.any(1)]
        value = _unmixed(flat.sum(0, keepdims=True), k, wanted)[0]
        if len(flat) < FEWEST:
            return within(Estimate(float(value), None, None, n))
        found = _unmixed(cluster_weights(len(flat), self.draws, self.seed) @ flat, k, wanted)
        lo, hi = np.nanpercentile(found, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
        return within(Estimate(float(value), float(lo), float(hi), n))


def _unmixed(sums: Array, k: int, wanted: Sequence[int]) -> Any:
    """Return the share (r,) whose true class is the target, from sums (r, k * k + targets * (k + 1))."""
    matrix = sums[:, : k * k].reshape(-1, k, k)
    rows = sums[:, k * k :].reshape(len(sums), -1, k + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.nan_to_num(matrix / matrix.sum(2, keepdims=True))
    true = rows[..., :k] @ np.linalg.pinv(matrix, rcond=1e-3)  # (r, targets, k) rows by their true class
    right = sum(true[:, i, t] for i, t in enumerate(wanted))
    return right / rows[..., k].sum(1)
