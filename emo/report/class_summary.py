"""What a sweep over neurons of classes says as a whole: where they lie, what masks do beyond controls, the loops.

Everything is read from the jobs' result.json; nothing is measured again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.config.kinds import CONTROLS
from emo.core.console import format_estimate
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.class_standing import standing
from emo.report.plots import claims, depth_map
from emo.results import p_values
from emo.results.arm_order import base_name
from emo.results.result_file import shown_p

MAIN = ("induced", "logprob_margin", "accuracy")  # the outcome that is summed up: the first that a job compares
DRAWN = 40  # differences that one figure holds
Result = Mapping[str, Any]


class ClassSummary(NamedTuple):
    """Lines for the top of the page, tables as HTML, figures with captions, and what is published and what is not."""

    findings: list[str] | None  # None: nothing was edited
    tables: str
    figures: list[tuple[Path, str]]
    notes: list[str]


def class_summary(jobs: Sequence[tuple[str, Result]], title: str, folder: Path) -> ClassSummary | None:
    """Sum up the finished jobs of a sweep; None where it has none on classes.

    Args:
        jobs: swept values and content of result.json of each.
        title: of the figure.
        folder: where it is drawn.
    """
    own = [(label, result) for label, result in jobs if result.get("sets")]
    if not own:
        return None
    found = selections(own)
    tests = comparisons(own)
    loops = loop_rows(own)
    tables = [_selected(found), _effects(tests), _loops(loops)]
    drawn = [(row["label"], row["per_block"]) for row in found]
    path = depth_map(drawn, title, folder / "sweep_depth.png")
    caption = "Where the selected neurons lie: share of them in each tenth of the depth, all classes together."
    figures = [(path, caption)]
    for (control, metric), rows in _groups(tests).items():
        if len(rows) <= DRAWN:
            named = [row | {"arm": base_name(row["arm"]), "named": _values(row)} for row in rows]
            told, file = f"{title}: less {_called(control)}", f"sweep_{metric}_against_{control}.png"
            caption = f"Editing the neurons of a class, on its own texts: difference from {_called(control)}."
            figures.append((claims(named, told, folder / file, metric), caption))
    notes = standing(result["config"]["intervention"]["kind"] for _, result in own)
    return ClassSummary(_findings(tests), "".join(tables), figures, notes)


def selections(jobs: Sequence[tuple[str, Result]]) -> list[dict[str, Any]]:
    """Return a row per different selection: label, model, dataset, selector, counts per class and block, depth."""
    rows: dict[str, dict[str, Any]] = {}
    for label, result in jobs:
        sets, config = result["sets"], result["config"]
        model, data, told = config["model"]["name"], config["dataset"]["name"], result["facts"]["selector"]
        key = json.dumps([model, data, told, [row["per_block"] for row in sets]])
        if key not in rows:
            per = np.array([row["per_block"] for row in sets]).sum(0)
            stable = [x for row in sets for x in row["stability"] if x is not None]
            rows[key] = {
                "label": ", ".join(part for part in told.split(", ") if "% of" not in part),
                "model": model, "dataset": data, "selector": told, "job": label, "sets": sets,
                "per_block": per.tolist(), "count": int(per.sum()),
                "depth": float(per @ np.arange(len(per))) / per.sum() / len(per) if per.sum() else None,
                "stability": sum(stable) / len(stable) if stable else None,
            }  # fmt: skip
    found = list(rows.values())
    for key in ("dataset", "model"):  # said where they differ
        if len({row[key] for row in found}) > 1:
            found = [row | {"label": f"{row[key]}: {row['label']}"} for row in found]
    several = Counter(row["label"] for row in found)
    return [row | {"label": row["job"]} if several[row["label"]] > 1 else row for row in found]


def comparisons(jobs: Sequence[tuple[str, Result]]) -> list[dict[str, Any]]:
    """Return the jobs' comparisons of own arms with all others, on each job's main outcome; with the job's label.

    ``p_holm`` as pages show it: None where none can be small.
    """
    rows = []
    for label, result in jobs:
        made = shown_p(result["comparisons"], result.get("smallest_p"))
        main = next((m for m in MAIN if any(row["metric"] == m for row in made)), None)
        rows += [{"label": label, **row} for row in made if row["metric"] == main]
    return rows


def loop_rows(jobs: Sequence[tuple[str, Result]]) -> list[dict[str, Any]]:
    """Return, per job and arm with a feedback loop, means over its loops: what they needed and what they did on dev."""
    rows = []
    for label, result in jobs:
        for arm in dict.fromkeys(row["arm"] for row in result["loops"]):
            own = [row for row in result["loops"] if row["arm"] == arm]
            last = [row["rounds"][-1] for row in own]
            rows.append(
                {
                    "label": label,
                    "arm": arm,
                    "loops": len(own),
                    "reached": sum(row["reached"] for row in own),
                    "rounds": float(np.mean([len(row["rounds"]) for row in own])),
                    **{key: float(np.mean([r[key] for r in last])) for key in ("alpha", "tau", "units")},
                    "target": float(np.mean([r["target"] - row["base"] for r, row in zip(last, own, strict=True)])),
                }
            )
    return rows


def _groups(tests: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the measured differences by what they are from, and of what: nats and shares are not compared."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in tests:
        if row["value"] is not None:
            groups.setdefault((_control(row["against"]), row["metric"]), []).append(row)
    return groups


def _findings(tests: Sequence[dict[str, Any]]) -> list[str] | None:
    """Say, of the unedited model and of each control, how often the neurons of classes do something else."""
    if not tests:
        return None
    lines = []
    if all(row["against"] == "none" for row in tests):
        lines.append("No controls stand beside these arms: type control.units=[random,other_emotion].")
    for (control, metric), own in _groups(tests).items():
        most = max(own, key=lambda row: abs(row["value"]))
        lines.append(
            f"Against {_called(control)}: {_counted(own, metric)}; "
            f"the largest is {format_estimate(_estimate(most))}, at {_named(most)}."
        )
    return [*lines, "The largest of many differences is too large on average: confirm it on other data."]


def _counted(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Say how many differences are found, of those that could be tested: the interval leaves 0 out, p is small."""
    tested = [row for row in rows if row["p_holm"] is not None]
    known = [row for row in rows if row["ci"] is not None]
    apart = [row for row in known if not row["ci"][0] <= 0 <= row["ci"][1]]
    if not tested:
        some = f"; the intervals of {len(apart)} leave 0 out" if known else ""
        return f"none of {len(rows)} differences in {metric} could be tested ({p_values.TOO_FEW}){some}"
    sure = [row for row in tested if row in apart and row["p_holm"] <= p_values.LEVEL]
    rest = f", {len(rows) - len(tested)} more could not be tested" if len(tested) < len(rows) else ""
    told = f"{len(sure)} of {len(tested)} differences in {metric} are found"
    return f"{told} (the interval leaves 0 out, p <= {p_values.LEVEL:g} after Holm within a job){rest}"


def _control(arm: str) -> str:
    """Return what an arm is a control of, without device and strength: ``random`` of ``random_humour@scale=2``."""
    stem = base_name(arm)
    return next((name for name in CONTROLS if stem == name or stem.startswith(f"{name}_")), stem)


def _named(row: Mapping[str, Any]) -> str:
    """Return what was swept and the arm, without the names of sections."""
    words = [*_words(row), row["arm"]]
    return " ".join(word.partition("=")[0].rpartition(".")[2] + "".join(word.partition("=")[1:]) for word in words)


def _called(control: str) -> str:
    return "the unedited model" if control == "none" else f"{control} neurons"


def _values(row: Mapping[str, Any]) -> str:
    """Return the swept values and the arm: names of keys leave no room for the picture."""
    return ", ".join([*(word.rpartition("=")[2] for word in _words(row)), row["arm"]])


def _words(row: Mapping[str, Any]) -> list[str]:
    """Return what was swept, without lists: there the arm says which."""
    return [word for word in row["label"].split() if "=[" not in word]


def _estimate(row: Mapping[str, Any]) -> Estimate:
    lo, hi = row["ci"] or (None, None)
    return Estimate(row["value"], lo, hi, row["n"])


def _selected(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(own["class"] for row in rows for own in row["sets"]))
    made: list[list[object]] = []
    for row in rows:
        per = {own["class"]: own for own in row["sets"]}
        cells = [_count(per[name]) if name in per else "" for name in names]
        made.append([row["label"], f"{row['count']}", _two(row["depth"]), _two(row["stability"]), *cells])
    head = ["neurons selected", "all", "mean depth", "Jaccard of halves", *names]
    note = "<p class='small'>Of a class: neurons (mean depth, 0 first block, 1 last).</p>"
    return page.section("Neurons", page.table(head, made) + note)


def _count(own: Mapping[str, Any]) -> str:
    return f"{own['count']} ({own['depth']:.2f})" if own["count"] else "0"


def _two(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _effects(tests: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[object]] = [
        [_named(row), row["against"], row["metric"], _estimate(row),
         "not measured" if row["value"] is None else "too few" if row["p_holm"] is None else f"{row['p_holm']:.3f}"]
        for row in tests
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["arm", "against", "metric", "difference", "p (Holm)"]
    return f"<details><summary>Every difference</summary>{page.table(head, rows)}</details>"


def _loops(loops: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[object]] = [
        [_named(row), f"{row['reached']} of {row['loops']}", f"{row['rounds']:.1f}",
         f"{row['alpha']:.2f}", f"{row['tau']:.2f}", f"{row['units']:.0f}", f"{row['target']:+.1f}"]
        for row in loops
    ]  # fmt: skip
    head = ["loops, on dev", "reached", "rounds", "alpha*", "tau*", "neurons", "target, points"]
    return page.section("Feedback loops", page.table(head, rows)) if rows else ""
