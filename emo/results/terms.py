"""On what terms arms are compared: dose and damage of both, and whether a chosen strength may be called one.

An arm that is edited more strongly, or that breaks more, is no fair rival: a comparison of two edited arms says whether
doses agree within 10 %, perplexity ratios within 10 % and shares of degenerate replies within 5 points.

    at equal damage: the scores that dev found for two methods, interpolated linearly along ppl_ratio, at the largest
                     ppl_ratio that both reached within the bounds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emo.config.schema import SelectConfig
from emo.core.stats import Estimate
from emo.measure.strength_tuning import Choice, Rows, bounds_line

ALIKE = 0.1  # relative difference of doses and of perplexity ratios
ALIKE_SHARE = 0.05  # difference of shares of degenerate replies
UNEDITED = ("none", "prompt")
Arms = Mapping[str, Mapping[str, Estimate]]


def terms(arms: Arms, first: str, second: str) -> dict[str, Any] | None:
    """Return dose, ppl_ratio and degenerate share of two edited arms, and ``unequal``, the names of those that differ.

    None where one of them is not edited, or nothing of the three was measured in both.
    """
    if {first, second} & set(UNEDITED):
        return None
    found: dict[str, Any] = {}
    for metric in ("dose", "ppl_ratio", "degenerate"):
        pair = [arms.get(arm, {}).get(metric) for arm in (first, second)]
        values = [x.value for x in pair if x is not None and x.value is not None]
        if len(values) == 2:
            found[metric] = values
    return found | {"unequal": [metric for metric in found if not _alike(metric, *found[metric])]} if found else None


def _alike(metric: str, a: float, b: float) -> bool:
    if metric == "degenerate":
        return abs(a - b) <= ALIKE_SHARE
    return abs(a - b) <= ALIKE * max(abs(a), abs(b))


def terms_line(row: Mapping[str, Any]) -> str:
    """Return the terms of a comparison in words: nothing where an arm is not edited."""
    found = row.get("terms")
    if not found:
        return ""
    if "divergence" not in found and not found["unequal"]:
        return "; at equal " + " and ".join(name for name in ("dose", "ppl_ratio", "degenerate") if name in found)
    pairs = ", ".join(f"{name} {found[name][0]:.3g} against {found[name][1]:.3g}" for name in found["unequal"])
    if "divergence" in found:  # what the arms were brought to; doses and damage may differ
        return f"; both at KL {found['divergence']:g}" + (f", with {pairs}" if pairs else "")
    return f"; NOT on equal terms: {pairs}"


def verdict(choices: Mapping[str, Choice | None], bounds: SelectConfig) -> list[str]:
    """Return what a page must say first: strengths that no bound allows, of what (alpha, scale) each was chosen."""
    return [
        f"No {what} tried on dev ({_span(choice.tried)}) keeps the damage bounds "
        f"({bounds_line(bounds, choice.unedited)}): what stands below is the least damaging of them, and no setting "
        "is recommended."
        for what, choice in choices.items()
        if choice is not None and not choice.feasible
    ]


def _span(tried: Rows) -> str:
    values = sorted(row["alpha"] for row in tried)
    return f"{values[0]:g} to {values[-1]:g}" if len(values) > 1 else f"{values[0]:g}"


def at_equal_damage(first: Choice, second: Choice) -> tuple[float, float, float] | None:
    """Return (ppl_ratio, score of ``first``, score of ``second``) on dev; None where their damages do not overlap."""
    curves = [_curve(choice) for choice in (first, second)]
    if not all(len(curve) > 1 for curve in curves):
        return None
    at = min(max(x for x, _ in curve) for curve in curves)
    if at < max(min(x for x, _ in curve) for curve in curves):
        return None
    first_score, second_score = (float(np.interp(at, [x for x, _ in own], [y for _, y in own])) for own in curves)
    return at, first_score, second_score


def _curve(choice: Choice) -> Sequence[tuple[float, float]]:
    """Return (ppl_ratio, score) of the chosen layer range, as far as it stays within the bounds."""
    layers = next(row["layers"] for row in choice.tried if row["chosen"])
    rows = [row for row in choice.tried if row["layers"] == layers and row["feasible"]]
    return sorted((row["ppl_ratio"], row["score"]) for row in rows)
