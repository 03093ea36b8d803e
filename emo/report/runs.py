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
from emo.report import panels
from emo.report.titles import model_title
from emo.results.arm_order import base_name
from emo.results.curves import Curve

SHOWN = ("comparisons.csv", "main_effects.csv")  # files of a sweep that are tables to read there
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
    kind: str  # directions | samples | circuit | results
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
    attachments: list[Attachment] = field(default_factory=list)


def run_config(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration shown with a job: the resolved one, with ``model.family`` to group by.

    Args:
        result: content of result.json; without ``model_family`` the model's id stands in for it.
    """
    config = dict(result["config"])
    config["model"] = config["model"] | {"family": result.get("model_family") or config["model"]["id"]}
    return config


def point_run(
    folder: Path,
    result: Mapping[str, Any],
    directions: Path | None,
    settings: Mapping[str, Any] | None = None,
    *,
    charts: bool = True,
) -> Run:
    """Return the run of one finished job.

    Args:
        folder: the job's results: figures, circuit and, where there are replies, samples.jsonl.
        result: content of its result.json.
        directions: file with its directions, or None.
        settings: swept values that tell it from the other jobs; None or empty: strength and layers.
        charts: it has headline charts: there are no curves that would have them.
    """
    config = run_config(result)
    kind = config["intervention"]["kind"]
    title = config["model"]["name"] if settings else model_title(config["model"])  # swept values tell them apart
    samples = _samples(folder / "samples.jsonl")
    return Run(
        job_type="point",
        name=f"{title} {kind} {_told(config['intervention'], settings)}".strip(),
        config=config | {"job": folder.name},
        summary=_scalars(result["arms"]),
        history=[headline_of(result)] if charts else [],
        tables={"tables/samples": samples} if samples.rows else {},
        figures=sorted(folder.glob("*.png")),
        attachments=_attachments(folder, config["model"]["name"], directions),
    )


def _told(given: Mapping[str, Any], settings: Mapping[str, Any] | None) -> str:
    """Return ``alpha=2 layers=11-20``: what was swept, beside model and kind, or what says most of a job alone."""
    if settings:
        return short(settings)
    if given["kind"] in ("none", "prompt"):
        return ""
    strength = "k" if given["kind"] in kinds("neurons", "heads") else "alpha"
    return f"{strength}={given[strength]} layers={given['layers']}"


def short(settings: Mapping[str, Any]) -> str:
    """Return swept values in words, keys by their last part where that is clear; model and kind stand before them."""
    own = {key: value for key, value in settings.items() if key not in ("model", "intervention")}
    last = [key.rpartition(".")[2] for key in own]
    names = [name if last.count(name) == 1 else key for key, name in zip(own, last, strict=True)]
    values = (f"{value:g}" if isinstance(value, int | float) else str(value) for value in own.values())
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def headline_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the headline values of a job from its result.json; of an arm with several strengths the first."""
    arms, kind = result["arms"], result["config"]["intervention"]["kind"]
    values: dict[tuple[str, str], float] = {}
    for arm, metrics in arms.items():
        for metric, x in metrics.items():
            if x["value"] is not None:
                values.setdefault((base_name(arm), metric), x["value"])
    return {panels.headline_key(shown): values[shown.arm, shown.metric] for shown in panels.headline(kind, values)}


def _attachments(folder: Path, model: str, directions: Path | None) -> list[Attachment]:
    """Return what a job leaves for others: read where it lies, since a finished job's files stay as they are."""
    found = {
        "directions": [directions] if directions else [],  # in the store, under an address that jobs share
        "samples": [path for path in [folder / "samples.jsonl"] if path.is_file()],
        "circuit": sorted(path for path in (folder / "circuit").glob("*") if path.is_file()),
    }
    return [Attachment(f"{kind}-{model}", kind, files, True) for kind, files in found.items() if files]


def curve_run(curve: Curve, share: int = panels.MOST) -> Run:
    """Return the run of one curve; ``share``: headline charts that are left to its swept number."""
    named = [(row[curve.step], _parts(row)) for row in curve.history]
    measured = {(arm, metric) for _, values in named for arm, metric, _ in values}
    first = panels.headline(curve.config["intervention"]["kind"], measured, share)
    history = []
    for x, values in named:
        row = {curve.step: x}
        for (arm, metric, bound), value in values.items():
            keys = [panels.headline_key(shown, curve.step) for shown in first if shown[1:] == (arm, metric)]
            row |= {key + bound: value for key in (*keys, panels.arm_key(arm, metric, curve.step))}
        history.append(row)
    return Run("curve", curve.name, curve.config, history=history, step=curve.step)


def _parts(row: Mapping[str, float]) -> dict[tuple[str, str, str], float]:
    """Return the values of a curve's row by arm, metric and end of the interval (nothing: the value itself)."""
    found = {}
    for key, value in row.items():
        if key.startswith("curve/"):
            _, arm, metric, *bound = key.split("/")
            found[arm, metric, f"_{bound[0]}" if bound else ""] = value
    return found


def compare_run(frame: pd.DataFrame, axes: Sequence[str], configs: Configs, name: str, files: Sequence[Path]) -> Run:
    """Return the run of a whole sweep: all its points in one table, and its files.

    Args:
        frame: results as for `emo.results.curves.curves`.
        axes: swept keys, columns of ``frame``.
        configs: `run_config` of every job in ``frame``.
        name: of the sweep.
        files: results.csv, those of `SHOWN`, and figures.
    """
    models = [configs[job]["model"] for job in dict.fromkeys(frame["job"])]
    config = {
        "axes": list(axes),
        "models": sorted({model["name"] for model in models}),
        "families": sorted({model["family"] for model in models}),
    }
    tables = {f"tables/{path.stem}": _read(path) for path in files if path.name in SHOWN}
    return Run(
        job_type="compare",
        name=f"compare {name}",
        config=config,
        tables={"tables/points": _points(frame, axes, configs)} | tables,
        figures=[path for path in files if path.suffix == ".png"],
        attachments=[Attachment(f"results-{name}", "results", list(files), False)] if files else [],
    )


def _read(path: Path) -> Table:
    """Return a table of a sweep's folder, of all prompts: parts of the data are in the file, thousands of rows."""
    frame = pd.read_csv(path)
    for part in {"emotion", "valence"} & {*frame}:
        frame = frame[frame[part].isna()]
    return _table([str(column) for column in frame], [dict(row) for row in frame.to_dict("records")])


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
