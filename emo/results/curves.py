"""Curves over a swept number, cut from the results table of a sweep."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from emo.core.frames import pd
from emo.results.arm_order import base_name

LABELS = ("seed",)  # numbers that are only names: nothing is a function of them

Row = dict[str, Any]


class Curve(NamedTuple):
    """All arms and metrics over one swept number, everything else fixed."""

    key: str  # tells it from the other curves of its sweep
    name: str  # for people: ``llama32_3b steer over alpha layers=11-20``
    step: str  # last part of the swept key, e.g. alpha
    config: dict[str, Any]  # of its jobs, without the swept key
    history: list[dict[str, float]]  # one entry per number, rising: {step, curve/ARM/METRIC[/lo|/hi]}


def curves(frame: pd.DataFrame, axes: Sequence[str], configs: Mapping[str, Mapping[str, Any]]) -> list[Curve]:
    """Return one curve per swept number and combination of the other swept keys.

    Args:
        frame: one row per job, arm and metric: ``job``, one column per key of ``axes``, ``arm`` (``@...`` behind
            it is cut off: then the swept column holds the number), ``metric``, ``value``, ``ci_lo``, ``ci_hi``.
        axes: swept keys. One with at least two numbers is drawn over; text and ``seed`` only tell curves apart.
        configs: configuration of each job, with ``model.name``.

    Returns:
        The curves in the order of the frame. Metrics of a part of the data (``metric/emotion``) are left out. An
        arm that does not depend on the number (no number in its rows) is a flat line. A swept key on which no arm
        of a job depends (the scale of an ablation) does not name its curve.
    """
    rows = _without_lists(frame, axes)
    made = []
    for axis in axes:
        if axis in LABELS or len({row[axis] for row in rows if _is_number(row[axis])}) < 2:
            continue
        others = [key for key in axes if key != axis]
        for fixed in _combinations(rows, axis, others):
            inside = [row for row in rows if all(row[key] is None or row[key] == fixed[key] for key in others)]
            job = next(row["job"] for row in inside if _is_number(row[axis]))
            made.append(_curve(axis, fixed, inside, configs[job]))
    return made


def _without_lists(frame: pd.DataFrame, axes: Sequence[str]) -> list[Row]:
    """Return the rows; None stands in a swept column where the row does not depend on it.

    A job over a list of strengths has numbers in the rows of its steered arms, and the list in those of the others.
    """
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records") if "/" not in row["metric"]]
    for axis in axes:
        listed = {row["job"] for row in rows if _is_number(row[axis])}
        for row in rows:
            if not _is_number(row[axis]) and (row["job"] in listed or _is_missing(row[axis])):
                row[axis] = None
    return rows


def _combinations(rows: list[Row], axis: str, others: Sequence[str]) -> Iterator[Row]:
    seen = set()
    depends = {(row["job"], key) for row in rows for key in others if row[key] is not None}
    for row in rows:
        fixed = {key: row[key] for key in others}
        whole = all(value is not None or (row["job"], key) not in depends for key, value in fixed.items())
        if _is_number(row[axis]) and whole and str(fixed) not in seen:
            seen.add(str(fixed))
            yield fixed


def _curve(axis: str, fixed: Row, rows: list[Row], config: Mapping[str, Any]) -> Curve:
    step = axis.rpartition(".")[2]
    steps = sorted({row[axis] for row in rows if _is_number(row[axis])})
    points: dict[float, dict[str, float]] = {x: {step: x} for x in steps}
    for row in sorted(rows, key=lambda row: row[axis] is not None):  # flat lines first: numbers win over them
        if row[axis] is None or _is_number(row[axis]):
            for x in steps if row[axis] is None else [row[axis]]:
                points[x].update(_values(row))
    given = {key: value for key, value in fixed.items() if value is not None}
    shown = {key: f"{value:g}" if _is_number(value) else str(value) for key, value in given.items()}
    kind = shown.get("intervention", str(config["intervention"]["kind"]))
    parts = [shown.get("model", str(config["model"]["name"])), kind, "over", step]
    parts += [f"{key.rpartition('.')[2]}={x}" for key, x in shown.items() if key not in ("model", "intervention")]
    return Curve(
        key=" ".join([axis, *(f"{key}={text}" for key, text in shown.items())]),
        name=" ".join(parts),
        step=step,
        config=_config(config, axis, fixed),
        history=[points[x] for x in steps],
    )


def _values(row: Row) -> dict[str, float]:
    name = f"curve/{base_name(row['arm'])}/{row['metric']}"
    found = {name: row["value"], f"{name}/lo": row["ci_lo"], f"{name}/hi": row["ci_hi"]}
    return {key: float(value) for key, value in found.items() if _is_number(value)}


def _config(config: Mapping[str, Any], axis: str, fixed: Row) -> dict[str, Any]:
    """Return a job's configuration without the swept number, under the same keys as a point has them."""
    made = copy.deepcopy(dict(config)) | {"axis": axis}
    _set(made, axis, None)
    for key, value in fixed.items():
        _set(made, key, value)  # a number out of a list in the job
    return made


def _set(section: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        section = section.setdefault(part, {})
    if not isinstance(section.get(last), dict):  # a group like model: what its option brought is there already
        section[last] = value


def _plain(value: Any) -> Any:
    """Return a Python value instead of numpy's: JSON knows no other."""
    return value.item() if hasattr(value, "item") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
