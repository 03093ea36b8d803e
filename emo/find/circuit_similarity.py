"""How alike circuits are: between the emotions of one, and between two circuits of one shape (methods 1.10).

    jaccard  = |A and B| / |A or B| over units (block, index), in the whole model and block by block
    rank     = Spearman's correlation of the two circuits' quotas per layer
    cosine   = cosine of the two sets of difference vectors over the union of units; where a circuit lacks a unit, 0

What cannot be measured (no units, quotas that are all equal, deltas that are all zero) is None, in a matrix nan.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.config.choices import UNITS
from emo.core import console
from emo.core.errors import UserError
from emo.core.stats import Estimate
from emo.find.circuit import JSON, Circuit, Part
from emo.find.circuit_hub import hub_folder, on_hub
from emo.find.rank_correlation import spearman

Unit = tuple[int, int]  # block, index within it


def overlap(circuit: Circuit, kind: str) -> Tensor:
    """Return the Jaccard overlap of the units of every two emotions, (e, e) float32; nan where neither has any.

    Args:
        circuit: one circuit.
        kind: neurons | heads.
    """
    parts = [circuit.part(kind, e) for e in range(len(circuit.emotions))]
    sets = [set(zip(part.layer.tolist(), part.unit.tolist(), strict=True)) for part in parts]
    values = [[_jaccard(a, b) for b in sets] for a in sets]
    return torch.tensor([[math.nan if x is None else x for x in row] for row in values])


def off_diagonal(matrix: Tensor) -> tuple[float | None, float | None]:
    """Return mean and standard deviation (n - 1) over the pairs of different emotions of a symmetric matrix (e, e).

    The mean is None without a pair that was measured, the standard deviation with fewer than two.
    """
    i, j = np.triu_indices(len(matrix), k=1)
    pairs = matrix.double().numpy()[i, j]
    pairs = pairs[~np.isnan(pairs)]
    return (float(pairs.mean()) if len(pairs) else None, float(pairs.std(ddof=1)) if len(pairs) > 1 else None)


def compare(a: Circuit, b: Circuit) -> list[dict[str, Any]]:
    """Return a row per kind and emotion that both circuits have.

    Rows: {kind, emotion, units: [of a, of b], jaccard, rank, cosine, jaccard_per_layer: list over blocks}.

    Raises:
        UserError: they are of models of different shapes, or share no emotion.
    """
    if a.shape != b.shape:
        raise UserError(f"task=compare: one circuit is of a model with {a.shape}, the other with {b.shape}")
    shared = [name for name in a.emotions if name in b.emotions]
    if not shared:
        raise UserError(f"task=compare: no emotion in both; {', '.join(a.emotions)} and {', '.join(b.emotions)}")
    rows = []
    for kind in UNITS:
        quotas = [circuit.quotas(kind) for circuit in (a, b)]
        for name in shared:
            e, f = a.emotions.index(name), b.emotions.index(name)
            first, second = _vectors(a.part(kind, e)), _vectors(b.part(kind, f))
            rank = float(spearman(np.array(quotas[0][e]), np.array(quotas[1][f])))
            per_layer = [
                _jaccard({unit for unit in first if unit[0] == layer}, {unit for unit in second if unit[0] == layer})
                for layer in range(a.shape.n_layers)
            ]
            rows.append(
                {"kind": kind, "emotion": name, "units": [len(first), len(second)],
                 "jaccard": _jaccard(set(first), set(second)), "rank": None if math.isnan(rank) else rank,
                 "cosine": _cosine(first, second), "jaccard_per_layer": per_layer}
            )  # fmt: skip
    return rows


def find_circuit(folder: str | Path, key: str = "runs") -> Path:
    """Return the circuit.json in a folder, or in the ``circuit`` folder of a result; itself where it is given.

    OWNER/NAME, where no folder is called so, is a repository of the hub, read through its local cache.

    Raises:
        UserError: there is none; the line names ``key``.
    """
    path = hub_folder(str(folder), key) if on_hub(folder) else Path(folder).expanduser()
    for found in (path, path / JSON, path / "circuit" / JSON):
        if found.is_file():
            return found
    raise UserError(f"{key}={folder}: neither {JSON} nor circuit/{JSON} in it; type the folder of a job with a circuit")


def show_comparison(first: Path, second: Path) -> None:
    """Print how alike the circuits of two folders are; no model is read.

    Raises:
        UserError: a folder holds no circuit, or the two cannot be compared.
    """
    paths = [find_circuit(folder) for folder in (first, second)]
    a, b = (Circuit.load(path) for path in paths)
    rows = compare(a, b)
    console.say(f"A: {paths[0].parent}")
    console.say(f"B: {paths[1].parent}")
    for kind in UNITS:
        own = [row for row in rows if row["kind"] == kind]
        named = [row["emotion"] for row in own]
        counts = [" / ".join(map(str, row["units"])) for row in own]
        measures = [[_estimate(row[key]) for row in own] for key in ("jaccard", "rank", "cosine")]
        titles = ("Jaccard of units", "Spearman of quotas", "cosine of deltas")
        head: list[list[object]] = [[title, *values] for title, values in zip(titles, measures, strict=True)]
        blocks: list[list[object]] = [
            [f"Jaccard, block {layer}", *(_estimate(row["jaccard_per_layer"][layer]) for row in own)]
            for layer in range(a.shape.n_layers)
            if any(row["jaccard_per_layer"][layer] is not None for row in own)
        ]
        console.table(f"{kind}: A against B", ["", *named], [["units A / B", *counts], *head, *blocks])
    left = [name for name in (*a.emotions, *b.emotions) if (name in a.emotions) != (name in b.emotions)]
    if left:
        console.note(f"in one circuit only: {', '.join(left)}")
    if a.weights != b.weights:
        console.note("the two were found in different weights")
    elif a.digest() == b.digest():
        console.say("the two do the same: equal units and equal deltas")


def _vectors(part: Part) -> dict[Unit, Tensor]:
    """Return the difference vector of every unit."""
    units = zip(part.layer.tolist(), part.unit.tolist(), strict=True)
    return dict(zip(units, part.delta.double(), strict=True))


def _jaccard(a: set[Unit], b: set[Unit]) -> float | None:
    return len(a & b) / len(a | b) if a or b else None


def _cosine(a: dict[Unit, Tensor], b: dict[Unit, Tensor]) -> float | None:
    dot = sum(float(a[unit] @ b[unit]) for unit in a.keys() & b.keys())
    size = math.sqrt(math.prod(sum(float(x @ x) for x in own.values()) for own in (a, b)))
    return dot / size if size > 0 else None


def _estimate(value: float | None) -> Estimate:
    return Estimate(value, None, None, 0)
