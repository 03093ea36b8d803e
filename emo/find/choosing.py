"""One name for every selector, and how far their sets agree."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from emo.config.schema import SelectorConfig
from emo.find import selectors
from emo.find.activation_stats import Statistics
from emo.find.selectors import Selection

BY_STATISTICS = ("lape", "lap", "mad", "cas")


def choose_units(stats: Statistics, how: SelectorConfig, direct: Tensor | None, seed: int) -> Selection:
    """Return the sets of all classes.

    Args:
        stats: of the train texts.
        how: selector, share of the neurons, and what belongs to lape.
        direct: (C, L, F) scores of direct_effect; for others of no account.
        seed: of random.
    """
    classes, layers, width = stats.active.shape
    if how.name == "lape":
        return selectors.lape(stats, how.ratio, how.filter, how.assignment)
    if how.name == "direct_effect":
        assert direct is not None
        return selectors.direct_effect(direct, how.ratio)
    if how.name == "random":
        return selectors.random_units((classes, layers, width), how.ratio, seed)
    pick = {"lap": selectors.lap, "mad": selectors.mad, "cas": selectors.cas}[how.name]
    return pick(stats, how.ratio)


def agreement(a: Selection, b: Selection) -> np.ndarray:
    """Return (C, C): Jaccard overlap of every set of ``a`` with every set of ``b``; nan where both are empty."""
    return np.array([[selectors.jaccard(x, y) for y in b.sets] for x in a.sets], dtype=float)
