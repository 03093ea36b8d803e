"""What a sweep found, in sentences: which settings differ, which keys matter, and what cannot be said.

No sentence is stronger than its interval: a difference is called one where its interval leaves 0 out and its p, after
Holm, is at most 0.05; where the fewest scenarios that there are allow no such p, it says that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emo.core.frames import pd
from emo.core.stats import FEWEST, smallest_p
from emo.results.job_comparisons import CORRECTED
from emo.results.main_effects import METRICS, Factor, MainEffects

LEVEL = 0.05
DRAWS = 2000  # random sign patterns, unless evaluator.bootstrap says otherwise
SHOWN = 3  # pairs of one key that get a sentence each; of more, the largest


def findings(compared: pd.DataFrame, effects: MainEffects | None, draws: int = DRAWS) -> list[str]:
    """Return what is known of the settings of a sweep.

    Args:
        compared: `emo.results.job_comparisons.compare_jobs`.
        effects: `emo.results.main_effects.main_effects`, where there are several keys.
        draws: random sign patterns behind p.
    """
    lines = [] if effects is None else [effects_line(effects, draws)]
    for axis in dict.fromkeys(compared["axis"]):
        lines += _axis(compared[compared["axis"] == axis], str(axis), draws)
    return lines


def lead(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons that a page begins with: target arms on all prompts, the most direct outcome."""
    whole = compared[(compared["emotion"] == "") & (compared["valence"] == "")]
    whole = whole[~whole["arm"].isin(["none", "prompt"])]
    metric = next((name for name in METRICS if (whole["metric"] == name).any()), None)
    return whole[whole["metric"] == metric]


def _axis(compared: pd.DataFrame, axis: str, draws: int) -> list[str]:
    rows = lead(compared)
    plain, beyond = rows[rows["beyond"] == ""], rows[rows["beyond"] != ""]
    if plain.empty:
        return []
    if len(plain) > SHOWN:
        sure = plain[plain["p_holm"] <= LEVEL]
        largest = plain.loc[plain["difference"].abs().idxmax()].to_dict()
        first = (
            f"{axis}: {len(sure)} of {len(plain)} pairs of settings differ in {_metric(largest)} (p <= {LEVEL:g}, Holm)"
        )
        return [f"{first}; the largest difference: {pair_line(largest, draws, len(plain))}"]
    lines, tests = [], int(rows["p"].notna().sum())
    for row in plain.to_dict("records"):
        line = pair_line(row, draws, tests)
        same = (beyond["a"] == row["a"]) & (beyond["b"] == row["b"]) & (beyond["at"] == row["at"])
        for other in beyond[same & (beyond["arm"] == row["arm"])].to_dict("records")[:1]:
            line += f" Beyond {other['beyond']}: {_number(other)}: {_verdict(other, draws, tests)}."
        lines.append(line)
    return lines


def pair_line(row: Mapping[Any, Any], draws: int, tests: int) -> str:
    """Return one comparison in words."""
    at = f" at {row['at']}" if row["at"] else ""
    means = f"{row['value_a']:.2f} and {row['value_b']:.2f}"
    return (
        f"{row['axis']} {row['a']} less {row['b']}{at}, arm {row['arm']}: {_metric(row)} {means}, difference "
        f"{_number(row)}: {_verdict(row, draws, tests)}.{_without_errors(row)}"
    )


def _without_errors(row: Mapping[Any, Any]) -> str:
    """Return the difference that trusted labels leave, where there are any."""
    value, lo, hi = (row.get(key, np.nan) for key in CORRECTED)
    if np.isnan(value):
        return ""
    ends = "no interval" if np.isnan(lo) else f"[{lo:+.2f}, {hi:+.2f}]"
    return f" Without the labeller's errors: {value:+.2f} {ends}."


def _metric(row: Mapping[Any, Any]) -> str:
    return str(row["metric"]).replace("_", " ")


def _number(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["ci_lo"]):
        return f"{row['difference']:+.2f}"
    p = row["p_holm"]
    return f"{row['difference']:+.2f} [{row['ci_lo']:+.2f}, {row['ci_hi']:+.2f}], {_p(p)}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _verdict(row: Mapping[Any, Any], draws: int, tests: int) -> str:
    if np.isnan(row["ci_lo"]):
        return f"{row['scenarios']} scenarios are too few for an interval or a p ({FEWEST} are needed)"
    if row["ci_lo"] == row["ci_hi"] == row["difference"] == 0:
        return "equal on every prompt"
    if row["ci_lo"] <= 0 <= row["ci_hi"]:
        return "no difference is shown"
    if row["p_holm"] <= LEVEL:
        return f"{'more' if row['difference'] > 0 else 'less'} with {row['a']}"
    least = smallest_p(int(row["scenarios"]), tests, draws)
    if least is not None and least > LEVEL:
        few = f"{row['scenarios']} scenarios and {tests} comparisons"
        return f"the interval leaves 0 out, but {few} allow no p below {least:.2g}"
    return "the interval leaves 0 out, p over all comparisons does not settle it"


def effects_line(found: MainEffects, draws: int = DRAWS) -> str:
    """Return what matters among several keys, and what does not, in one sentence."""
    what = f"{found.metric.replace('_', ' ')} of {found.arm}" + (f" beyond {found.beyond}" if found.beyond else "")
    where = f"({what}; {found.jobs} jobs, {found.scenarios} scenarios; effects averaged over the other keys)"
    if found.factors[0].spread is None:
        return f"What matters {where}: {found.scenarios} scenarios are too few to say ({FEWEST} are needed)."
    sure = [factor for factor in found.factors if (factor.p_holm or 0.0) <= LEVEL]
    rest = [factor for factor in found.factors if factor not in sure]
    parts = []
    if sure:
        parts.append("matters: " + "; ".join(_factor(factor, best=True) for factor in sure))
    if rest:
        parts.append("not shown to matter: " + "; ".join(_factor(factor) for factor in rest))
    line = f"What matters {where}. {'. '.join(part[0].upper() + part[1:] for part in parts)}."
    least = smallest_p(found.scenarios, len(found.factors), draws)
    if rest and least is not None and least > LEVEL:
        line += (
            f" {found.scenarios} scenarios and {len(found.factors)} keys allow no p below {least:.2g}, so compare each "
            "range with the one by chance, and read the intervals."
        )
    if found.left_over is not None:
        line += (
            f" {found.left_over:.0%} of the variance between jobs is in none of these effects: interactions or noise."
        )
    return line


def _factor(factor: Factor, best: bool = False) -> str:
    assert factor.spread is not None
    told = f"range {factor.spread.range:.2f}, {factor.spread.by_chance:.2f} by chance, {_p(factor.p_holm or 0.0)}"
    if not best:
        return f"{factor.axis} ({told})"
    ordered: Sequence[Any] = sorted(factor.levels, key=lambda level: -level.effect)
    return f"{factor.axis} ({told}; most at {ordered[0].value}, least at {ordered[-1].value})"
