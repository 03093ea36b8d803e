"""P values by exchanging labels: of the emotions of a matrix (Mantel), of paired numbers; exact where they are few.

    p = share of the orders of labels, the true one among them, whose statistic is at least as large

Of 6 emotions there are 720 orders, so no p is below 1/720.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[Any]
EXACT = 7  # labels up to which all orders are tried: 5,040
DRAWN = 10_000  # orders that are drawn beyond


def orders(n: int, seed: int = 0) -> Array:
    """Return orders (k, n) of n labels, the true one first: all of them, or many drawn at random."""
    if n <= EXACT:
        return np.array(list(permutations(range(n))), dtype=int).reshape(-1, n)
    draw = np.random.default_rng(seed)
    return np.stack([np.arange(n), *(draw.permutation(n) for _ in range(DRAWN))])


def smallest(n: int) -> float:
    """Return the smallest p that n labels can give."""
    return 1 / (math.factorial(n) if n <= EXACT else DRAWN + 1)


def p_value(statistics: Array) -> float:
    """Return the share of statistics that are at least the first, the true order's; nan where that is none."""
    if not np.isfinite(statistics[0]):
        return math.nan
    return float(np.mean(statistics >= statistics[0] - 1e-12))


def upper(matrix: Array) -> Array:
    """Return the entries above the diagonal of matrices (..., e, e): (..., pairs)."""
    rows, columns = np.triu_indices(matrix.shape[-1], 1)
    found: Array = matrix[..., rows, columns]
    return found


def matrix_correlations(a: Array, b: Array, seed: int = 0) -> Array:
    """Return Spearman's correlation of the upper triangles of matrices, for every order of b's labels.

    Args:
        a: (m, e, e), symmetric.
        b: the same; both matrices of a pair hold the same labels.
        seed: of orders that are drawn.

    Returns:
        (orders, m), the true order first; nan where a triangle is flat.
    """
    n = a.shape[-1]
    x = _standard(upper(a))
    rows, columns = np.triu_indices(n, 1)
    y = np.zeros_like(b, dtype=float)
    y[..., rows, columns] = y[..., columns, rows] = _standard(upper(b))
    every = orders(n, seed)
    return np.stack([(x * y[..., order[rows], order[columns]]).sum(-1) for order in every])


def rank_correlation(x: Array, y: Array, seed: int = 0) -> tuple[float, float]:
    """Return Spearman's correlation of two lists of numbers, and its p over orders of one (larger: more alike)."""
    a, b = _standard(np.asarray(x, dtype=float)), _standard(np.asarray(y, dtype=float))
    found = (a * b[orders(len(b), seed)]).sum(-1)
    return float(found[0]), p_value(found)


def _standard(values: Array) -> Array:
    """Return ranks along the last axis less their mean, of unit length; nan where all are equal."""
    ranks = rankdata(values, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    size = np.sqrt((ranks**2).sum(-1, keepdims=True))
    return np.divide(ranks, size, out=np.full(ranks.shape, np.nan), where=size > 0)
