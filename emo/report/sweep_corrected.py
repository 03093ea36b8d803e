"""Corrected accuracies on the page of a sweep: a file, what they rest on, a table, a column beside the raw ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.console import format_estimate
from emo.core.corrected import Corrected
from emo.core.frames import pd
from emo.core.metric_keys import metric_parts
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.charts.corrected import CONFUSION, FIRST, POWERED, kind_table, sweep_corrected
from emo.report.charts.section import drawable
from emo.report.charts.spec import Chart
from emo.report.corrected_section import CORRECTED, HEAD, HEADS, halving, lacking_line, lost_line, stale
from emo.report.sweep_table import Setting, SweepTable, short_names
from emo.results.trusted import Corrections, long_table, of_jobs

FILE = "corrected.csv"
TOLD = 3  # jobs that are named


class SweepCorrected(NamedTuple):
    """What stands on the page."""

    kind: str  # of accuracy that stands beside the raw one in the table of all settings
    beside: SweepTable  # its values
    section: str  # HTML
    charts: list[Chart]

    def best_line(self, setting: Setting, arm: str, metric: str) -> str | None:
        """Return what the best value is without the labeller's error; None: not known."""
        x = self.beside.get(setting, arm, metric)
        return None if x is None else f"Without the labeller's errors that value is {format_estimate(x)} ({self.kind})."


def of_sweep(
    results: Mapping[Path, dict[str, Any] | None], frame: pd.DataFrame, axes: Sequence[str],
    names: Mapping[str, str], folder: Path,
) -> SweepCorrected | None:  # fmt: skip
    """Return what trusted labels say of a sweep, and write `FILE`; None where its jobs have none.

    Args:
        results: content of result.json, by folder of the job.
        frame: its table.
        axes: swept keys.
        names: job (16 hex digits) -> its swept values.
        folder: where the file goes.
    """
    found = of_jobs(results)
    if not found:
        return None
    long = long_table(frame, found)
    done = sum(result is not None and result["status"] == "done" for result in results.values())
    lines = _lines(found, done, names)
    if long.empty:
        empty = SweepTable(tuple(axes), dict.fromkeys(axes, ()), (), (), (), {})
        return SweepCorrected(POWERED, empty, page.section(HEAD, page.items(lines)), [])
    long.to_csv(folder / FILE, index=False, encoding="utf-8")
    tables = {kind: kind_table(long, axes, kind) for kind in (POWERED, CONFUSION)}
    kind = POWERED if tables[POWERED].cells or not tables[CONFUSION].cells else CONFUSION
    charts = drawable(lambda: sweep_corrected(frame, long, axes))
    told = f'<p class="small">{FILE} has every emotion.</p>'
    section = page.section(HEAD, page.items([*lines, CORRECTED]) + _table(long, axes) + told)
    return SweepCorrected(kind, tables[kind], section, list(charts))


def _lines(found: Mapping[str, Corrections], done: int, names: Mapping[str, str]) -> list[str]:
    lines = []
    current = {job: own for job, own in found.items() if own.current}
    for trusted, called in dict.fromkeys((own.trusted, own.called) for own in current.values()):
        same = [own for own in current.values() if (own.trusted, own.called) == (trusted, called)]
        labels = {key for own in same for key in own.labels}
        lines.append(
            f"Corrected by the labels of {trusted}, taken for the truth, of {len(labels)} different replies in "
            f"{len(same)} of {done} finished jobs. Raw: the jobs' own labels ({called})."
        )
        lost = max(own.lost for own in same)
        lines += [lost_line(lost, trusted)] if lost else []
        lacking = next((own.lacking for own in same if own.lacking), None)
        lines += [lacking_line(lacking)] if lacking else []
    if len(found) < done:
        lines.append(f"{done - len(found)} jobs have no trusted label: of these only raw values are shown.")
    old = {job: own for job, own in found.items() if not own.current}
    lines += [f"{names.get(job, job)}: {stale(own)}" for job, own in list(old.items())[:TOLD]]
    if len(old) > TOLD:
        lines.append(f"{len(old) - TOLD} more jobs were written anew since they were labelled.")
    return lines


def _table(long: pd.DataFrame, axes: Sequence[str]) -> str:
    """Return a row per setting, arm and metric; all emotions together."""
    whole = [row for row in long.to_dict("records") if metric_parts(row["metric"]).emotion is None]
    short = short_names(axes)
    rows: list[list[object]] = []
    for row in sorted(whole, key=lambda row: FIRST.index(row["metric"])):
        powered, n = _ends(row, "powered"), int(row["labelled"])
        halved = None if pd.isna(row["to_halve"]) else int(row["to_halve"])
        swept = {short[axis]: row[axis] for axis in axes if str(row[axis]) not in ("", "nan", "null")}
        at = " ".join(f"{key}={x:g}" if isinstance(x, float) else f"{key}={x}" for key, x in swept.items())
        rows.append(
            [f"{at}, {row['arm']}, {row['metric']}" if at else f"{row['arm']}, {row['metric']}",
             _ends(row, "value", "ci_lo", "ci_hi"), powered, _ends(row, "confusion"), n,
             halving(Corrected(powered, n, halved))]
        )  # fmt: skip
    return page.table(["setting and arm", *HEADS], rows)


def _ends(row: Mapping[Any, Any], name: str, *ends: str) -> Estimate:
    value, lo, hi = (
        None if pd.isna(row[key]) else float(row[key]) for key in (name, *(ends or (f"{name}_lo", f"{name}_hi")))
    )
    return Estimate(value, lo, hi, int(row["n"]))
