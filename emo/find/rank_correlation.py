"""Do two orders agree? Spearman's rank correlation along the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[Any]


def spearman(a: Array, b: Array) -> Array:
    """Return Spearman's rank correlation along the last axis, ties sharing their mean rank; nan where one is flat."""
    x, y = (rankdata(values, axis=-1) for values in (a, b))
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (x, y))
    size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return np.divide((x * y).sum(-1), size, out=np.full(size.shape, np.nan), where=size > 0)
