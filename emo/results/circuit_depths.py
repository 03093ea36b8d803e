"""Where circuits lie in two models of unlike depth and width: their units over relative depth (methods 1.10).

    F(x)     = share of a circuit's units in the blocks up to relative depth x, a block's units spread evenly over it
    distance = integral over x from 0 to 1 of |F_a(x) - F_b(x)|

It is 0 for the same profile, and the share of the depth by which units would have to move to make one the other
(Wasserstein's distance). Whether an emotion's circuit lies where the same emotion's lies in the other model, and not
just where circuits lie: p of exchanging the emotions of one model, for the mean distance (`emo.core.permutations`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.config.choices import UNITS
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.permutations import Array, orders, p_value
from emo.find.circuit import JSON, Circuit
from emo.results.table import flatten, value_of

LEAST = 4  # emotions from which a p is told: of three none is below 1/6
COLUMNS = ["a", "b", "at", "kind", "emotion", "units_a", "units_b", "share_a", "share_b", "depth_a", "depth_b",
           "distance", "others", "p"]  # fmt: skip


class Placed(NamedTuple):
    """The circuit of one job.

    Attributes:
        model: as it is told.
        at: the other swept keys, as typed.
        emotions: names.
        quotas: kind -> units per emotion and block, (e, l).
        sizes: kind -> units of the whole model.
    """

    model: str
    at: str
    emotions: tuple[str, ...]
    quotas: dict[str, Array]
    sizes: dict[str, int]


def placed(results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str]) -> list[Placed]:
    """Return the circuits of the finished jobs of a sweep over models; those that cannot be read are left out.

    Args:
        results: content of result.json, by folder of the job.
        axes: swept keys.
    """
    of_model = [axis for axis in axes if axis.partition(".")[0] == "model"]
    found: list[Placed] = []
    if not of_model:
        return found
    for folder, result in results.items():
        if not result or result["status"] != "done" or not (folder / "circuit" / JSON).is_file():
            continue
        try:
            circuit = Circuit.load(folder / "circuit" / JSON)
        except UserError:
            continue
        told = {axis: str(value_of(flatten(result["config"]), axis)) for axis in axes}
        at = " ".join(f"{axis}={value}" for axis, value in told.items() if axis not in of_model)
        model = " ".join(told[axis] for axis in of_model)
        quotas = {kind: np.array(circuit.quotas(kind), dtype=float) for kind in UNITS}
        sizes = {kind: circuit.shape.n_layers * circuit.shape.units(kind)[0] for kind in UNITS}
        found.append(Placed(model, at, circuit.emotions, quotas, sizes))
    return found


def compare_depths(found: Sequence[Placed]) -> pd.DataFrame:
    """Return where the circuits of every two models lie.

    Args:
        found: of the jobs of a sweep; those that differ in other keys than the model are not paired.

    Returns:
        Per pair, kind of unit and emotion, and (emotion empty) over all emotions: ``units_a, units_b``, their share of
        the model's, ``depth_a, depth_b`` (mean relative depth, 0 to 1), ``distance``, ``others`` (mean distance between
        this emotion in one model and the others in the other one), and over all emotions ``p``.
    """
    rows = [
        row
        for a, b in combinations(found, 2)
        if a.model != b.model and a.at == b.at
        for kind in UNITS
        for row in _pair(a, b, kind)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def findings(made: pd.DataFrame) -> list[str]:
    """Return a sentence per pair of models and kind of unit."""
    lines = []
    for row in made[made["emotion"] == ""].itertuples():
        line = (
            f"Circuits, {row.kind} of {row.a} against {row.b}{f' ({row.at})' if row.at else ''}: mean depth "
            f"{row.depth_a:.2f} and {row.depth_b:.2f} of the model, {row.share_a:.2%} and {row.share_b:.2%} of its "
            f"{row.kind}; an emotion's profile is {row.distance:.3f} of the depth away from its own in the other model"
        )
        if np.isfinite(row.others):
            line += f" and {row.others:.3f} from other emotions'"
        lines.append(f"{line} (p = {row.p:.2g})." if np.isfinite(row.p) else f"{line}.")
    return lines


def distance(a: Array, b: Array) -> float:
    """Return the distance of two profiles: units per block of one model (l,) and of another (m,)."""
    if not a.sum() or not b.sum():
        return float("nan")
    ends = [np.linspace(0, 1, len(x) + 1) for x in (a, b)]
    knots = np.union1d(*ends)
    first, second = (
        np.interp(knots, end, np.concatenate([[0.0], np.cumsum(x) / x.sum()]))
        for end, x in zip(ends, (a, b), strict=True)
    )
    gap, width = first - second, np.diff(knots)
    left, right = gap[:-1], gap[1:]
    size = np.abs(left) + np.abs(right)
    crossing = left * right < 0  # two triangles in place of a trapezium
    area = np.where(crossing, (left**2 + right**2) / np.where(size > 0, size, 1.0), size) / 2
    return float((area * width).sum())


def mean_depth(quotas: Array) -> float:
    """Return the mean relative depth of units per block (l,); the middle of a block is its own."""
    middles = (np.arange(len(quotas)) + 0.5) / len(quotas)
    return float((quotas * middles).sum() / quotas.sum()) if quotas.sum() else float("nan")


def _pair(a: Placed, b: Placed, kind: str) -> list[dict[str, Any]]:
    names = [name for name in a.emotions if name in b.emotions]
    own, other = (x.quotas[kind][[x.emotions.index(name) for name in names]] for x in (a, b))
    if not names or not own.sum() or not other.sum():
        return []
    apart = np.array([[distance(x, y) for y in other] for x in own])  # (e, e)
    off = ~np.eye(len(names), dtype=bool)
    told = {"a": a.model, "b": b.model, "at": a.at, "kind": kind}
    rows = [
        told | _measured(x, y, a.sizes[kind], b.sizes[kind]) | {
            "emotion": name, "distance": apart[e, e], "p": np.nan,
            "others": _mean(np.concatenate([apart[e][off[e]], apart[:, e][off[:, e]]])),
        }
        for e, (name, x, y) in enumerate(zip(names, own, other, strict=True))
    ]  # fmt: skip
    n = len(names)
    sums = np.array([-apart[np.arange(n), order].mean() for order in orders(n)]) if n >= LEAST else np.array([np.nan])
    whole = _measured(own.mean(0), other.mean(0), a.sizes[kind], b.sizes[kind])
    mean = {"emotion": "", "distance": _mean(np.diag(apart)), "others": _mean(apart[off]), "p": p_value(sums)}
    return [told | whole | mean, *rows]


def _measured(x: Array, y: Array, size_a: int, size_b: int) -> dict[str, float]:
    return {
        "units_a": x.sum(), "units_b": y.sum(), "share_a": x.sum() / size_a, "share_b": y.sum() / size_b,
        "depth_a": mean_depth(x), "depth_b": mean_depth(y),
    }  # fmt: skip


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
