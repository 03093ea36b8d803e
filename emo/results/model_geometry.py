"""How alike the emotions lie in two models (methods 5.3.5): representational similarity of their directions.

    r(depth) = Spearman's correlation of the upper triangles of the two models' cosine matrices between emotions

at equal relative depth (a block's middle, as a share of the blocks), of the directions at resid_post. It needs no
common width or number of blocks. p is Mantel's: the emotions of one matrix exchanged, the same way at every depth, all
orders of up to seven (720 of six: no p is below 1/720). Noise ceiling: r between directions from halves of the groups
(alternate scenarios) in one model, beside r across the models between such halves, which are from as much data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.permutations import Array, matrix_correlations, p_value, smallest
from emo.core.sealed import changed
from emo.find.directions import MLP
from emo.results import p_values
from emo.results.table import axes_of, flatten, job_folders, read_result, read_sweep, value_of

FILE = "geometry.json"
LEAST = 3  # emotions that two models must share
DEPTH = 0.67  # that a sentence names: two thirds, where emotion vectors are read in the literature
COLUMNS = ["a", "b", "at", "depth", "block_a", "block_b", "r", "p", "across", "ceiling_a", "ceiling_b", "emotions"]


class Geometry(NamedTuple):
    """The directions of one model.

    Attributes:
        model: as it is told.
        at: the other swept keys that directions may depend on, as typed.
        directions: their address.
        emotions: names.
        cosines: (l, e, e).
        halves: (2, l, e, e); None: not measured.
    """

    model: str
    at: str
    directions: str
    emotions: list[str]
    cosines: Array
    halves: Array | None


def geometries(results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str]) -> list[Geometry]:
    """Return the directions of finished jobs, each once.

    Args:
        results: content of result.json, by folder of the job.
        axes: swept keys.
    """
    found: dict[tuple[str, str], Geometry] = {}
    for folder, result in results.items():
        if not result or result["status"] != "done" or not result.get("directions"):
            continue
        if (result["directions"], str(result["model_commit"])) in found or FILE in changed(
            folder, {FILE: result["files"].get(FILE, "")}
        ):
            continue
        config = flatten(result["config"])
        told = {axis: str(value_of(config, axis)) for axis in axes}
        model = " ".join(value for axis, value in told.items() if _of_model(axis)) or str(config["model.name"])
        at = " ".join(f"{axis}={value}" for axis, value in told.items() if _of_directions(axis))
        shape = json.loads((folder / FILE).read_text(encoding="utf-8"))
        halves = shape.get("halves")
        found[result["directions"], str(result["model_commit"])] = Geometry(
            model, at, result["directions"], list(shape["emotions"]), np.array(shape["cosines"])[:, MLP],
            None if halves is None else np.array(halves["cosines"]),
        )  # fmt: skip
    return list(found.values())


def compare_models(found: Sequence[Geometry]) -> pd.DataFrame:
    """Return how alike the directions of every two models are.

    Args:
        found: of jobs that differ in their models; those that differ in other keys of directions are not paired.

    Returns:
        Per pair and depth: ``a, b`` (models), ``at``, ``depth`` (0 to 1; nan: the mean over all of them, with a p of
        its own), ``block_a, block_b``, ``r``, ``p``, ``across`` (halves of a against halves of b, mean of both ways),
        ``ceiling_a, ceiling_b`` (halves of one model; nan: not measured), ``emotions`` (how many both have).
    """
    rows = [row for a, b in combinations(found, 2) if a.at == b.at and a.model != b.model for row in _pair(a, b)]
    return pd.DataFrame(rows, columns=COLUMNS)


def compare_folder(folder: str | Path) -> pd.DataFrame:
    """Return `compare_models` of the finished jobs of a sweep, or of all results below a folder.

    Raises:
        UserError: no such folder, or no two models in it.
    """
    root = Path(folder).expanduser()
    sweep = read_sweep(root) if root.is_dir() else None
    results = {path: read_result(path) for path in job_folders(root, sweep)} if root.is_dir() else {}
    done = {path: result for path, result in results.items() if result is not None}
    axes = sweep["axes"] if sweep is not None else axes_of(result["config"] for result in done.values())
    made = compare_models(geometries(done, axes))
    if made.empty:
        raise UserError(f"{root}: no two models with directions in it; type the folder of a sweep over model=A,B")
    return made


def _of_model(axis: str) -> bool:
    return axis.partition(".")[0] == "model"


def _of_directions(axis: str) -> bool:
    return axis.partition(".")[0] in ("dataset", "directions", "elicitation", "emotions", "generation", "seed")


def depths(n_a: int, n_b: int) -> list[tuple[float, int, int]]:
    """Return (relative depth, block of a, block of b) for every block of the model that has fewer."""
    fewer = min(n_a, n_b)
    middles = [(i + 0.5) / fewer for i in range(fewer)]
    return [(depth, int(depth * n_a), int(depth * n_b)) for depth in middles]


def _pair(a: Geometry, b: Geometry) -> Iterator[dict[str, Any]]:
    names = [name for name in a.emotions if name in b.emotions]
    if len(names) < LEAST:
        return
    places = depths(len(a.cosines), len(b.cosines))
    own, other = (
        _Shared(one, [one.emotions.index(name) for name in names], blocks)
        for one, blocks in ((a, [at for _, at, _ in places]), (b, [at for _, _, at in places]))
    )
    found = matrix_correlations(own.cosines, other.cosines)  # (orders, depths)
    across = ceiling_a = ceiling_b = np.full(len(places), np.nan)
    if own.halves is not None:
        ceiling_a = matrix_correlations(own.halves[0], own.halves[1])[0]
    if other.halves is not None:
        ceiling_b = matrix_correlations(other.halves[0], other.halves[1])[0]
    if own.halves is not None and other.halves is not None:
        ways = [matrix_correlations(own.halves[i], other.halves[1 - i])[0] for i in range(2)]
        across = np.mean(ways, axis=0)
    told = {"a": a.model, "b": b.model, "at": a.at, "emotions": len(names)}
    halves = {"across": across, "ceiling_a": ceiling_a, "ceiling_b": ceiling_b}
    for k, (depth, block_a, block_b) in enumerate(places):
        at = {"depth": depth, "block_a": block_a, "block_b": block_b, "r": found[0, k], "p": p_value(found[:, k])}
        yield told | at | {key: values[k] for key, values in halves.items()}
    every = found.mean(1)
    whole = {"depth": np.nan, "block_a": np.nan, "block_b": np.nan, "r": every[0], "p": p_value(every)}
    yield told | whole | {key: values.mean() for key, values in halves.items()}


class _Shared:
    """The cosines of one model at the depths and between the emotions that are compared."""

    def __init__(self, one: Geometry, order: Sequence[int], blocks: Sequence[int]) -> None:
        grid = np.ix_(blocks, order, order)
        self.cosines = one.cosines[grid]
        self.halves = None if one.halves is None else [half[grid] for half in one.halves]


def findings(made: pd.DataFrame) -> list[str]:
    """Return a sentence per pair of models."""
    lines = []
    for (a, b, at), own in made.groupby(["a", "b", "at"], sort=False):
        whole, rows = own[own["depth"].isna()].iloc[0], own[own["depth"].notna()]
        n, near = int(whole["emotions"]), rows.loc[(rows["depth"] - DEPTH).abs().idxmin()]
        pairs, least = n * (n - 1) // 2, smallest(n)
        p = f"p = {whole['p']:.2g}" + (f", the least that {n} emotions can give" if whole["p"] <= least * 1.01 else "")
        p = f"{n} emotions are too few for a p" if p_values.unreadable(least) else f"{p}; Mantel"
        line = (
            f"Geometry of the emotions, {a} against {b}{f' ({at})' if at else ''}: Spearman {whole['r']:.2f} of the "
            f"{pairs} cosines between {n} emotions, mean over {len(rows)} depths ({p}), {near['r']:.2f} at "
            f"depth {DEPTH:g}"
        )
        if np.isfinite(whole["across"]):
            line += (
                f"; from halves of the data {whole['across']:.2f} across the models, where one model agrees with "
                f"itself by {whole['ceiling_a']:.2f} and {whole['ceiling_b']:.2f}"
            )
        lines.append(f"{line}.")
    return lines
