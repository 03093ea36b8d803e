"""What a sweep's page says of its jobs against each other: comparisons.csv, sentences, a table, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.frames import pd
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.charts.compared import PAIR, differences, effects_chart
from emo.report.charts.corrected import compared_corrected
from emo.report.charts.section import drawable
from emo.report.charts.spec import Chart
from emo.report.plots.comparisons import claims
from emo.report.plots.main_effects import main_effects_figure
from emo.results import p_values
from emo.results.job_comparisons import CORRECTED, compare_jobs, with_corrected
from emo.results.main_effects import FILE as EFFECTS
from emo.results.main_effects import effects_table, main_effects
from emo.results.sweep_findings import findings, lead
from emo.results.values import values_of_jobs

FILE = "comparisons.csv"
ROWS = 24  # pairs in the table and the figure of the page; comparisons.csv has all
TOLD = (
    "corrected: without the errors of who labelled, by the trusted labels of both jobs (prediction-powered), without a "
    "p: a few labelled replies carry it."
)
OLD = (
    "{n} finished jobs have no values.parquet (of an earlier version), so they are not compared; delete their folders "
    "and type the line again (nothing is computed anew)."
)


class Compared(NamedTuple):
    """What stands on the page."""

    findings: list[str]
    table: str  # HTML
    figures: list[tuple[Path, str]]
    notes: list[str]
    charts: list[Chart]


def compare_sweep(
    results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str], title: str, folder: Path
) -> Compared | None:
    """Compare the finished jobs of a sweep, write `FILE` and the figures to ``folder``; None where nothing differs.

    Args:
        results: content of result.json, by folder of the job.
        axes: swept keys.
        title: of the sweep.
        folder: where the files go.
    """
    jobs = values_of_jobs(results, axes)
    done = [result for result in results.values() if result and result["status"] == "done"]
    notes = [OLD.format(n=len(done) - len(jobs))] if len(jobs) < len(done) else []
    if len(jobs) < 2:
        return Compared([], "", [], notes, []) if notes else None
    config = done[0]["config"]
    draws, seed = int(config["evaluator"]["bootstrap"]), int(config["seed"])
    compared = compare_jobs(jobs, draws, seed)
    if compared.empty:
        return Compared([], "", [], notes, []) if notes else None
    compared = with_corrected(compared, jobs, results, draws, seed)
    compared.to_csv(folder / FILE, index=False, encoding="utf-8")
    effects = main_effects(jobs, draws=draws, seed=seed)
    figures = []
    if effects is not None:
        effects_table(effects).to_csv(folder / EFFECTS, index=False, encoding="utf-8")
        path = main_effects_figure(effects, f"{title}: what matters", folder / "sweep_effects.png")
        figures.append((path, "What matters: the effect of every value of every swept key, averaged over the others."))
    rows = lead(compared)
    order = rows["difference"].abs().sort_values(ascending=False, kind="stable").index
    largest = rows.loc[order[:ROWS]].sort_index().sort_values("axis", kind="stable")
    if len(rows):
        metric = str(rows["metric"].iloc[0])
        drawn = [_drawn(row) for row in largest.to_dict("records")]
        path = claims(drawn, f"{title}: settings against each other", folder / "sweep_comparisons.png", metric)
        figures.append((path, "Settings that differ in one key, paired on the prompts that they share."))
    named = {tuple(row[key] for key in PAIR): _named(row) for row in largest.to_dict("records")}
    charts = drawable(
        lambda: [
            *differences(compared, named, str(rows["metric"].iloc[0]) if len(rows) else ""),
            *compared_corrected([_both(row) for row in largest.to_dict("records") if _corrected(row) is not None]),
            *([effects_chart(effects)] if effects is not None else []),
        ]
    )
    return Compared(findings(compared, effects), _table(largest, len(rows)), figures, notes, list(charts))


def _named(row: Mapping[Any, Any]) -> str:
    """Name a comparison in a line: keys by their last part, a model by its name alone."""
    at = ", ".join(_short(setting) for setting in str(row["at"]).split(" ") if setting)
    beyond = f" beyond {row['beyond']}" if row["beyond"] else ""
    return f"{row['a']} − {row['b']}{f' ({at})' if at else ''}, {row['arm']}{beyond}"


def _short(setting: str) -> str:
    key, _, value = setting.partition("=")
    return value if key == "model" else f"{key.rpartition('.')[2]}={value}"


def _drawn(row: Mapping[Any, Any]) -> dict[str, Any]:
    ci = None if np.isnan(row["ci_lo"]) else (row["ci_lo"], row["ci_hi"])
    p = p_values.shown(row["p_holm"], row["p_least"])
    return {**row, "against": row["b"], "value": row["difference"], "ci": ci, "p_holm": p, "named": _named(row)}


def _raw(row: Mapping[Any, Any]) -> Estimate:
    lo, hi = (None if np.isnan(row[end]) else float(row[end]) for end in ("ci_lo", "ci_hi"))
    return Estimate(float(row["difference"]), lo, hi, int(row["n"]))


def _corrected(row: Mapping[Any, Any]) -> Estimate | None:
    """Return the difference without the labeller's error; None: too few trusted labels, or none."""
    value, lo, hi = (float(row.get(key, np.nan)) for key in CORRECTED)
    if np.isnan(value):
        return None
    return Estimate(value, None if np.isnan(lo) else lo, None if np.isnan(hi) else hi, int(row["n"]))


def _both(row: Mapping[Any, Any]) -> tuple[str, str, Estimate, Estimate]:
    corrected = _corrected(row)
    assert corrected is not None
    return _named(row), str(row["metric"]), _raw(row), corrected


def _table(rows: pd.DataFrame, count: int) -> str:
    if rows.empty:
        return ""
    told = any(_corrected(row) is not None for row in rows.to_dict("records"))
    head = ["difference of", "key", "metric", "difference", *(["corrected"] if told else []), "p (Holm)", "scenarios"]
    body = []
    for row in rows.to_dict("records"):
        shown = p_values.shown(row["p_holm"], row["p_least"])
        p = "too few scenarios" if shown is None else f"{shown:.3f}"
        both = [_raw(row), *([_corrected(row)] if told else [])]
        body.append([_named(row), row["axis"], row["metric"], *both, p, int(row["scenarios"])])
    part = f"The {len(rows)} largest of {count}. " if len(rows) < count else ""
    said = f"{part}{FILE} has every metric, emotion and valence."
    if told:
        said += f" {TOLD}"
    return page.section("Settings against each other", page.table(head, body) + f'<p class="small">{said}</p>')
