"""How a p is told, by one rule on every page: a number where a small one can be had, words where none can.

Sign flips of few scenarios, adjusted over many comparisons, cannot give a small p whatever was measured. A large one is
then no sign of no effect, so it is not printed: intervals decide, and the sentence says that they do.
"""

from __future__ import annotations

import math

LEVEL = 0.05
TOO_FEW = "too few scenarios or groups for a p"


def unreadable(least: float | None) -> bool:
    """Whether no p can be small, given the smallest that the scenarios allow; None or nan: that is not known."""
    return least is not None and least > LEVEL


def shown(p: float | None, least: float | None) -> float | None:
    """Return the p that a reader sees: None where there is none, or where none can be small."""
    return None if p is None or math.isnan(p) or unreadable(least) else float(p)


def told(p: float | None) -> str:
    """Return a `shown` p in words."""
    return TOO_FEW if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def bound(least: float) -> str:
    """Return the smallest possible p as every sentence has it."""
    return f"{least:.3g}"
