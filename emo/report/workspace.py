"""What a saved workspace and a report of a sweep hold, as plain data: charts, tables, sentences.

Nothing here knows a tracker; `emo.report.tracking_views` makes these there, and offline they are written beside the
sweep's page. A chart is ``{kind, title, keys, ...}``: ``line`` (over ``x``; bounds of an interval follow their value),
``bar``, ``table``, ``images``, or ``importance`` (of the parameters, for one number of the jobs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.frames import pd
from emo.report.panels import BOUNDS, HEADLINE, is_bound
from emo.report.runs import Run
from emo.report.sweep_comparisons import FILE, ROWS
from emo.results import p_values
from emo.results.job_comparisons import KEY
from emo.results.main_effects import FILE as EFFECTS
from emo.results.sweep_findings import findings, lead
from emo.results.table import name_folder

Chart = dict[str, Any]


class Views(NamedTuple):
    """What is made of a sweep."""

    group: str  # whose runs are shown
    curve_runs: list[str]  # ids, for the dots of their intervals
    workspace: dict[str, Any]  # name; sections: name, open, charts
    report: dict[str, Any]  # title, description; blocks: heading, lines, markdown or charts (of runs of a job_type)


def views(
    root: Path, group: str, curves: Sequence[Run], points: Sequence[Mapping[str, float]], axes: Sequence[str],
    curve_ids: Sequence[str], warning: str = "",
) -> Views:  # fmt: skip
    """Return what is shown of a sweep.

    Args:
        root: its folder, with its tables and figures.
        group: its W&B group.
        curves: its curves as runs.
        points: headline values of every finished job, by key: charts where there are no curves.
        axes: swept keys.
        curve_ids: of the logged curves.
        warning: what must be read before any finding.
    """
    drawn = _lines(curves) or [_chart("bar", key) for key in sorted({key for point in points for key in point})]
    first = [chart for chart in drawn if chart["keys"][0].startswith(f"{HEADLINE}/")]
    rest: dict[str, list[Chart]] = {}
    for chart in drawn:
        if chart not in first:
            rest.setdefault(chart["keys"][0].partition("/")[0], []).append(chart)
    compared, effects = _compared(root), _effects(root)
    tables = [("points", "All points")]
    tables += [] if compared is None else [("comparisons", "Settings against each other")]
    tables += [] if effects is None else [("main_effects", "What matters")]
    shown = {name: {"kind": "table", "title": title, "keys": [f"tables/{name}"]} for name, title in tables}
    images = {path.stem: {"kind": "images", "title": path.stem, "keys": [f"figures/{path.stem}"]}
              for path in sorted(root.glob("*.png"))}  # fmt: skip
    name = name_folder(root).name
    sections = [{"name": "headline", "open": True, "charts": first}]
    sections += [{"name": section, "open": False, "charts": charts} for section, charts in sorted(rest.items())]
    sections += [{"name": "tables", "open": False, "charts": [*shown.values()]}]
    sections += [{"name": "figures", "open": False, "charts": [*images.values()]}] if images else []
    told = [*([warning] if warning else []), *(findings(compared, None) if compared is not None else [])]
    blocks: list[dict[str, Any]] = [{"lines": told}] if told else []
    blocks += [{"heading": "Headline"}, {"charts": first, "job_type": "curve" if curves else "point"}]
    if compared is not None:
        blocks += [{"heading": "Settings against each other"}, {"markdown": _pairs(compared)}]
        blocks += [{"charts": [shown["comparisons"]], "job_type": "compare"}]
    blocks += [{"heading": "What matters"}, *_importance(effects, shown.get("main_effects"), axes)]
    if "sweep_effects" in images:
        blocks += [{"charts": [images["sweep_effects"]], "job_type": "compare"}]
    what = f"{len(points)} finished jobs over {', '.join(axes) or 'nothing'}; runs of the group {group}"
    report = {"title": f"{name}: {', '.join(axes) or 'one job'}"[:128], "description": what, "blocks": blocks}
    return Views(group, list(curve_ids), {"name": f"{name}: headline", "sections": sections}, report)


def _lines(curves: Sequence[Run]) -> list[Chart]:
    """Return a chart of every key of the curves, headline ones first."""
    found: dict[str, str | None] = {}
    every = set()
    for run in curves:
        for row in run.history:
            every |= {*row}
            found |= dict.fromkeys((key for key in row if key != run.step and not is_bound(key)), run.step)
    return [
        _chart("line", key) | {"x": found[key], "keys": [key, *(key + end for end in BOUNDS if key + end in every)]}
        for key in sorted(found)
    ]


def _chart(kind: str, key: str) -> Chart:
    section, _, name = key.partition("/")
    words = re.sub(r"^\d+_", "", name).replace("_", " ")
    arm = "" if section == HEADLINE else f"{re.sub(r'^arm[0-9]+_', '', section)}: "
    return {"kind": kind, "title": arm + words, "keys": [key]}


def _compared(root: Path) -> pd.DataFrame | None:
    path = root / FILE
    if not path.is_file():
        return None
    frame = pd.read_csv(path, dtype=dict.fromkeys(KEY, str))
    frame[KEY] = frame[KEY].fillna("")
    return _with_least(frame)


def _effects(root: Path) -> pd.DataFrame | None:
    path = root / EFFECTS
    if not path.is_file():
        return None
    return _with_least(pd.read_csv(path, dtype={"axis": str, "value": str, "arm": str}))


def _with_least(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table that an earlier version wrote with the smallest possible p, which it did not know."""
    return frame if "p_least" in frame else frame.assign(p_least=np.nan)


def _pairs(compared: pd.DataFrame) -> str:
    """Return the comparisons that the sweep's page shows, as a table in markdown."""
    rows = lead(compared)
    order = rows["difference"].abs().sort_values(ascending=False, kind="stable").index
    largest = rows.loc[order[:ROWS]].sort_index().sort_values("axis", kind="stable")
    head = ["key", "difference of", "at", "arm", "metric", "difference", "p (Holm)", "scenarios"]
    body = []
    for row in largest.to_dict("records"):
        arm = f"{row['arm']} beyond {row['beyond']}" if row["beyond"] else row["arm"]
        shown = p_values.shown(row["p_holm"], row["p_least"])
        p = "too few scenarios" if shown is None else f"{shown:.3f}"
        number = _interval(row["difference"], row["ci_lo"], row["ci_hi"])
        body.append(
            [row["axis"], f"{row['a']} − {row['b']}", row["at"], arm, row["metric"], number, p, row["scenarios"]]
        )
    told = f"\n\nThe {len(largest)} largest of {len(rows)}; {FILE} has every metric, emotion and valence."
    return _markdown(head, body) + told


def _importance(effects: pd.DataFrame | None, table: Chart | None, axes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the blocks about which of the swept keys matter."""
    if effects is None or table is None:
        why = "one key was swept" if len(axes) < 2 else "the effects of the swept keys cannot be told apart"
        return [{"lines": [f"Nothing to rank: {why}."]}]
    head = ["key", "range", "by chance", "p (Holm)", "value", "effect", "jobs"]
    body = []
    for row in effects.to_dict("records"):
        shown, chance = p_values.shown(row["p_holm"], row["p_least"]), row["by_chance"]
        p, chance = ("" if x is None or np.isnan(x) else f"{x:.3f}" for x in (shown, chance))
        effect = _interval(row["effect"], row["ci_lo"], row["ci_hi"])
        body.append([row["axis"], f"{row['range']:.3f}", chance, p, row["value"], effect, row["jobs"]])
    arm, metric = effects["arm"].iloc[0], effects["metric"].iloc[0]
    own = {"kind": "importance", "title": f"parameters' importance for {metric} of {arm}", "keys": [f"{arm}/{metric}"]}
    said = f"Effect of every value on {metric} of {arm}, averaged over the other keys; the key that matters most first."
    return [
        {"lines": [said]},
        {"markdown": _markdown(head, body)},
        {"charts": [table], "job_type": "compare"},
        {"lines": ["As W&B ranks them (a random forest over the jobs, without intervals):"]},
        {"charts": [own], "job_type": "point"},
    ]


def _interval(value: float, lo: float, hi: float) -> str:
    return f"{value:+.3f}" if np.isnan(lo) else f"{value:+.3f} [{lo:+.3f}, {hi:+.3f}]"


def _markdown(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
