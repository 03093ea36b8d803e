"""What an experiment tracker is shown, as plain data: one run per job, per curve and per sweep.

Nothing here knows a tracker; `emo.report.tracking` writes these to one.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emo.config.interventions import kinds
from emo.core.frames import pd
from emo.core.metrics import headline
from emo.report.titles import model_title
from emo.results.curves import Curve

SAMPLE_ROWS = 300  # rows of a job's table of replies, drawn evenly from all arms
PARTS = (("value", ""), ("ci_lo", " lo"), ("ci_hi", " hi"))  # column of a results table -> suffix of a shown one

Configs = Mapping[str, Mapping[str, Any]]  # job -> `run_config`


@dataclass(frozen=True)
class Table:
    """Rows to read, all with the same columns; None is an empty cell."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Attachment:
    """Files that belong to a run."""

    name: str
    kind: str  # directions | results
    files: list[Path]
    in_place: bool  # the files never change, so that no copy is needed


@dataclass(frozen=True)
class Run:
    """One run of a tracker."""

    job_type: str  # point | curve | compare
    name: str
    config: dict[str, Any]
    summary: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    step: str | None = None  # key of the history that is its x axis
    tables: dict[str, Table] = field(default_factory=dict)
    figures: list[Path] = field(default_factory=list)  # PNG
    attachment: Attachment | None = None


def run_config(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration shown with a job: the resolved one, with ``model.family`` to group by.

    Args:
        result: content of result.json; without ``model_family`` the model's id stands in for it.
    """
    config = dict(result["config"])
    config["model"] = config["model"] | {"family": result.get("model_family") or config["model"]["id"]}
    return config


def point_run(folder: Path, result: Mapping[str, Any], directions: Path | None, label: str) -> Run:
    """Return the run of one finished job.

    Args:
        folder: the job's results: figures and, where there are replies, samples.jsonl.
        result: content of its result.json.
        directions: file with its directions, or None.
        label: what tells it from the other jobs; empty: strength and layers.
    """
    config = run_config(result)
    model, given = config["model"]["name"], config["intervention"]
    called = model if label else model_title(config["model"])  # in a sweep the label tells them apart
    if not label and given["kind"] not in ("none", "prompt"):
        strength = "k" if given["kind"] in kinds("neurons", "heads") else "alpha"
        label = f"{strength}={given[strength]} layers={given['layers']}"
    samples = _samples(folder / "samples.jsonl")
    return Run(
        job_type="point",
        name=f"{called} {given['kind']} {label}".strip(),
        config=config | {"job": folder.name},
        summary=_scalars(result["arms"]),
        tables={"samples": samples} if samples.rows else {},
        figures=sorted(folder.glob("*.png")),
        # Where it lies: the store keeps files under the address of their content, and jobs share them.
        attachment=Attachment(f"directions-{model}", "directions", [directions], True) if directions else None,
    )


def curve_run(curve: Curve) -> Run:
    """Return the run of one curve."""
    return Run("curve", curve.name, curve.config, history=curve.history, step=curve.step)


def compare_run(frame: pd.DataFrame, axes: Sequence[str], configs: Configs, name: str, files: Sequence[Path]) -> Run:
    """Return the run of a whole sweep: all its points in one table, and its files.

    Args:
        frame: results as for `emo.results.curves.curves`.
        axes: swept keys, columns of ``frame``.
        configs: `run_config` of every job in ``frame``.
        name: of the sweep.
        files: results.csv and figures.
    """
    models = [configs[job]["model"] for job in dict.fromkeys(frame["job"])]
    config = {
        "axes": list(axes),
        "models": sorted({model["name"] for model in models}),
        "families": sorted({model["family"] for model in models}),
    }
    return Run(
        job_type="compare",
        name=f"compare {name}",
        config=config,
        tables={"points": _points(frame, axes, configs)},
        figures=[path for path in files if path.suffix == ".png"],
        attachment=Attachment(f"results-{name}", "results", list(files), False) if files else None,
    )


def _scalars(arms: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for arm, metrics in arms.items():
        for metric in headline():
            x = metrics.get(metric)
            if x is None or x["value"] is None:
                continue
            found[f"{arm}/{metric}"] = x["value"]
            if x["ci"] is not None:
                found[f"{arm}/{metric}/lo"], found[f"{arm}/{metric}/hi"] = x["ci"]
    return found


def _samples(path: Path) -> Table:
    """Return at most `SAMPLE_ROWS` rows in their order: drawn, since a fixed stride may skip an emotion."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line] if path.is_file() else []
    kept = sorted(random.Random(0).sample(range(len(lines)), min(SAMPLE_ROWS, len(lines))))
    rows = [json.loads(lines[i]) for i in kept]
    return _table(list(dict.fromkeys(key for row in rows for key in row)), rows)


def _points(frame: pd.DataFrame, axes: Sequence[str], configs: Configs) -> Table:
    """Return one row per job and arm: where it stands in the sweep, and the headline metrics with intervals."""
    metrics = [metric for metric in headline() if (frame["metric"] == metric).any()]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in frame[frame["metric"].isin(metrics)].to_dict("records"):
        place = {"model": configs[row["job"]]["model"]["name"], **{key: row[key] for key in ("job", *axes, "arm")}}
        cells = {row["metric"] + suffix: row[column] for column, suffix in PARTS}
        rows.setdefault((row["job"], row["arm"]), place).update(cells)
    columns = ["job", "model", *(axis for axis in axes if axis != "model"), "arm"]
    columns += [metric + suffix for metric in metrics for _, suffix in PARTS]
    return _table(columns, list(rows.values()))


def _table(columns: list[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(columns, [[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: Any) -> Any:
    """Return a value that JSON can hold; nan is a missing number."""
    if hasattr(value, "item"):
        value = value.item()  # of numpy
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
