"""How few units carry the scores of methods 1.5 and 1.6: the smallest number that reaches a share of their sum.

With the positive scores of one emotion sorted, largest first, s_1 >= s_2 >= ..., of all layers together:
reach(p) = min {k : s_1 + ... + s_k >= p * sum of all}. Letters: e emotions, l blocks, u units of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[np.float64]]


def reach(scores: ArrayLike, shares: Sequence[float] = (0.5, 0.8, 0.95)) -> list[dict[float, int]]:
    """Return per emotion share -> number of units, the best of all layers first, that reaches it.

    Args:
        scores: (e, l, u) finite, in any unit; scores of 0 or less add nothing.
        shares: parts of the summed positive score, above 0 and up to 1.

    Returns:
        e dictionaries; 0 units where no score is positive.

    Raises:
        ValueError: scores of another form, or a share outside (0, 1].
    """
    if any(not 0 < share <= 1 for share in shares):
        raise ValueError(f"reach: shares above 0 and up to 1, not {list(shares)}")
    counts = []
    for sums in cumulated(scores):
        total = sums[-1] if len(sums) else 0.0
        counts.append({p: int(np.searchsorted(sums, p * total)) + 1 if total else 0 for p in shares})
    return counts


def cumulated(scores: ArrayLike) -> list[Array]:
    """Return per emotion the running sums (number of positive scores,) of its positive scores, largest first.

    Args:
        scores: (e, l, u) finite, in any unit.

    Raises:
        ValueError: scores of another form.
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(f"scores: finite and (emotions, blocks, units), not {values.shape}")
    return [np.cumsum(np.sort(own[own > 0])[::-1]) for own in values]
