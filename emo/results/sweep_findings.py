"""What a sweep found, in sentences: which settings differ, which keys matter, and what cannot be said.

No sentence is stronger than its interval and its test: a difference is called one where its interval leaves 0 out and
its p, after Holm, is at most 0.05; where the scenarios that there are allow no such p, it says that, and prints none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emo.core.frames import pd
from emo.core.stats import FEWEST
from emo.results import p_values
from emo.results.job_comparisons import CORRECTED
from emo.results.main_effects import METRICS, Factor, MainEffects

SHOWN = 3  # pairs of one key that get a sentence each; of more, the largest


def findings(compared: pd.DataFrame, effects: MainEffects | None) -> list[str]:
    """Return what is known of the settings of a sweep.

    Args:
        compared: `emo.results.job_comparisons.compare_jobs`.
        effects: `emo.results.main_effects.main_effects`, where there are several keys.
    """
    lines = [] if effects is None else [effects_line(effects)]
    for axis in dict.fromkeys(compared["axis"]):
        lines += _axis(compared[compared["axis"] == axis], str(axis))
    return lines


def lead(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons that a page begins with: target arms on all prompts, the most direct outcome."""
    whole = compared[(compared["emotion"] == "") & (compared["valence"] == "")]
    whole = whole[~whole["arm"].isin(["none", "prompt"])]
    metric = next((name for name in METRICS if (whole["metric"] == name).any()), None)
    return whole[whole["metric"] == metric]


def _axis(compared: pd.DataFrame, axis: str) -> list[str]:
    rows = lead(compared)
    plain, beyond = rows[rows["beyond"] == ""], rows[rows["beyond"] != ""]
    if plain.empty:
        return []
    lines, tests = [], int(rows["p"].notna().sum())
    if len(plain) > SHOWN:
        largest = plain.loc[plain["difference"].abs().idxmax()].to_dict()
        return [f"{axis}: {_counted(plain, tests)}; the largest difference: {pair_line(largest, tests)}"]
    for row in plain.to_dict("records"):
        line = pair_line(row, tests)
        same = (beyond["a"] == row["a"]) & (beyond["b"] == row["b"]) & (beyond["at"] == row["at"])
        for other in beyond[same & (beyond["arm"] == row["arm"])].to_dict("records")[:1]:
            line += f" Beyond {other['beyond']}: {_number(other)}: {_verdict(other, tests)}."
        lines.append(line)
    return lines


def _counted(plain: pd.DataFrame, tests: int) -> str:
    """Say how many pairs of settings differ, of those that could be tested; of none, why."""
    rows = plain.to_dict("records")
    known = [row for row in rows if not np.isnan(row["ci_lo"])]
    apart = [row for row in known if not row["ci_lo"] <= 0 <= row["ci_hi"]]
    tested = [row for row in known if _p(row) is not None]
    metric, most = _metric(rows[0]), max(row["scenarios"] for row in rows)
    if not known:
        return f"none of {len(rows)} pairs of settings could be tested in {metric} ({most} scenarios, {FEWEST} needed)"
    if not tested:
        return (
            f"none of {len(rows)} pairs of settings could be tested in {metric}: {_too_few(known[0], tests)}; the "
            f"intervals of {len(apart)} leave 0 out"
        )
    sure = [row for row in tested if row in apart and row["p_holm"] <= p_values.LEVEL]
    rest = f", {len(rows) - len(tested)} more could not be tested" if len(tested) < len(rows) else ""
    told = f"{len(sure)} of {len(tested)} pairs of settings differ in {metric}"
    return f"{told} (the interval leaves 0 out, p <= {p_values.LEVEL:g} after Holm){rest}"


def pair_line(row: Mapping[Any, Any], tests: int) -> str:
    """Return one comparison in words."""
    at = f" at {row['at']}" if row["at"] else ""
    means = f"{row['value_a']:.2f} and {row['value_b']:.2f}"
    return (
        f"{row['axis']} {row['a']} less {row['b']}{at}, arm {row['arm']}: {_metric(row)} {means}, difference "
        f"{_number(row)}: {_verdict(row, tests)}.{_without_errors(row)}"
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
    return f"{row['difference']:+.2f} [{row['ci_lo']:+.2f}, {row['ci_hi']:+.2f}], {p_values.told(_p(row))}"


def _p(row: Mapping[Any, Any]) -> float | None:
    return p_values.shown(row["p_holm"], row["p_least"])


def _too_few(row: Mapping[Any, Any], tests: int) -> str:
    return f"{row['scenarios']} scenarios and {tests} comparisons allow no p below {p_values.bound(row['p_least'])}"


def _verdict(row: Mapping[Any, Any], tests: int) -> str:
    if np.isnan(row["ci_lo"]):
        return f"{row['scenarios']} scenarios are too few for an interval or a p ({FEWEST} are needed)"
    if row["ci_lo"] == row["ci_hi"] == row["difference"] == 0:
        return "equal on every prompt"
    if row["ci_lo"] <= 0 <= row["ci_hi"]:
        return "no difference is shown"
    if p_values.unreadable(row["p_least"]):
        return f"the interval leaves 0 out, but {_too_few(row, tests)}"
    if row["p_holm"] <= p_values.LEVEL:
        return f"{'more' if row['difference'] > 0 else 'less'} with {row['a']}"
    return "the interval leaves 0 out, p over all comparisons does not settle it"


def effects_line(found: MainEffects) -> str:
    """Return what matters among several keys, and what does not, in one sentence."""
    what = f"{found.metric.replace('_', ' ')} of {found.arm}" + (f" beyond {found.beyond}" if found.beyond else "")
    where = f"({what}; {found.jobs} jobs, {found.scenarios} scenarios; effects averaged over the other keys)"
    if found.factors[0].spread is None:
        return f"What matters {where}: {found.scenarios} scenarios are too few to say ({FEWEST} are needed)."
    sure = [factor for factor in found.factors if factor.p is not None and factor.p <= p_values.LEVEL]
    rest = [factor for factor in found.factors if factor not in sure]
    parts = []
    if sure:
        parts.append("matters: " + "; ".join(_factor(factor, best=True) for factor in sure))
    if rest:
        parts.append("not shown to matter: " + "; ".join(_factor(factor) for factor in rest))
    line = f"What matters {where}. {'. '.join(part[0].upper() + part[1:] for part in parts)}."
    least = found.factors[0].p_least
    if least is not None and p_values.unreadable(least):
        line += (
            f" {found.scenarios} scenarios and {len(found.factors)} keys allow no p below {p_values.bound(least)}, so "
            "compare each range with the one by chance, and read the intervals."
        )
    if found.left_over is not None:
        line += (
            f" {found.left_over:.0%} of the variance between jobs is in none of these effects: interactions or noise."
        )
    return line


def _factor(factor: Factor, best: bool = False) -> str:
    assert factor.spread is not None
    p = "" if factor.p is None else f", {p_values.told(factor.p)}"
    told = f"range {factor.spread.range:.2f}, {factor.spread.by_chance:.2f} by chance{p}"
    if not best:
        return f"{factor.axis} ({told})"
    ordered: Sequence[Any] = sorted(factor.levels, key=lambda level: -level.effect)
    return f"{factor.axis} ({told}; most at {ordered[0].value}, least at {ordered[-1].value})"
