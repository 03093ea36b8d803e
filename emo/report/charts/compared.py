"""The charts of a sweep's jobs against each other, and of what matters among its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from emo.core.frames import pd
from emo.core.stats import Estimate
from emo.report.charts.forest import forest
from emo.report.charts.spec import ALL, Chart, Menu, Row, estimate_row, plain_series
from emo.results import p_values
from emo.results.main_effects import Factor, MainEffects

PAIR = ("axis", "a", "b", "at", "arm", "beyond")  # columns that tell one comparison from another


def differences(compared: pd.DataFrame, named: Mapping[tuple[Any, ...], str], first: str) -> list[Chart]:
    """Return the chart of settings against each other; nothing where none is named.

    Args:
        compared: `emo.results.job_comparisons.compare_jobs`.
        named: comparison (values of `PAIR`) -> how it is called; those drawn, in order.
        first: metric that is shown first.
    """
    rows: dict[tuple[Any, ...], list[Row]] = {key: [] for key in named}
    for row in compared[compared["valence"] == ""].to_dict("records"):
        key = tuple(row[column] for column in PAIR)
        if key not in rows or np.isnan(row["difference"]):
            continue
        x = Estimate(float(row["difference"]), *_ends(row["ci_lo"], row["ci_hi"]), int(row["n"]))
        p = p_values.shown(row["p_holm"], row["p_least"])
        told = p_values.TOO_FEW if p is None else f"{p:.3f} (Holm)"
        rows[key].append(
            {"metric": row["metric"], "name": named[key], "series": row["axis"], "part": row["emotion"] or ALL,
             "told": told, **estimate_row(x)}
        )  # fmt: skip
    drawn = [row for own in rows.values() for row in own]
    if not drawn:
        return []
    metrics = list(dict.fromkeys([first, *(row["metric"] for row in drawn)]))
    parts = list(dict.fromkeys([ALL, *(row["part"] for row in drawn)]))
    return [
        forest(
            "comparisons",
            "Which settings differ?",
            "Settings that differ in one key, paired on the prompts that they share; right of 0: the first has more. "
            "Bars are 95 % intervals over scenarios; pale: contains 0; hollow: no interval.",
            drawn,
            plain_series(list(dict.fromkeys(row["series"] for row in drawn))),
            metrics,
            menus=[Menu("part", "emotion", parts)] if len(parts) > 1 else [],
        )
    ]


def effects_chart(found: MainEffects) -> Chart:
    """Return the chart of what matters: the effect of every value of every key, averaged over the other keys."""
    names = [_factor(factor) for factor in found.factors]
    rows: list[Row] = []
    for factor, name in zip(found.factors, names, strict=True):
        told = p_values.TOO_FEW if factor.p is None else f"{factor.p:.3f} (of the key, Holm)"
        for level in factor.levels:
            x = Estimate(level.effect, *_ends(level.lo, level.hi), found.scenarios)
            label = f"{factor.axis.rpartition('.')[2]} = {level.value}"
            rows.append({"metric": found.metric, "name": label, "series": name, "told": told, **estimate_row(x)})
    beyond = f" less {found.beyond}" if found.beyond else ""
    return forest(
        "effects",
        "What matters?",
        f"The effect of every value of every key on arm {found.arm}{beyond}, averaged over the other keys "
        f"({found.jobs} jobs, {found.scenarios} scenarios); the key that matters most first. n: scenarios.",
        rows,
        plain_series(names),
        [found.metric],
        of="value",
    )


def _factor(factor: Factor) -> str:
    name = factor.axis.rpartition(".")[2]
    if factor.spread is None:
        return name
    return f"{name}: range {factor.spread.range:.2f}" + ("" if factor.p is None else f", {p_values.told(factor.p)}")


def _ends(lo: float, hi: float) -> tuple[float | None, float | None]:
    return (None, None) if np.isnan(lo) or np.isnan(hi) else (float(lo), float(hi))
