"""Geometry over models: equal ones agree wholly, unrelated ones do not, at equal relative depth whatever the depths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo.core.errors import UserError
from emo.core.sealed import file_digests
from emo.report.geometry_page import of_sweep
from emo.results.model_geometry import Geometry, compare_folder, compare_models, depths, findings, geometries

NAMES = ["anger", "sadness", "happiness", "fear", "surprise", "disgust"]


def vectors(layers: int, seed: int, noise: float = 0.0) -> np.ndarray:
    """Return directions (l, e, d) that turn slowly with depth; ``noise`` is of one model or half alone."""
    base = np.random.default_rng(seed)
    first, last = base.normal(size=(2, 6, 20))
    depth = (np.arange(layers) + 0.5)[:, None, None] / layers
    x = (1 - depth) * first + depth * last
    return x + noise * np.random.default_rng([seed, layers]).normal(size=x.shape)


def matrices(x: np.ndarray) -> np.ndarray:
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.einsum("lad,lbd->lab", x, x)


def model(name: str, layers: int, seed: int, order: list[int] | None = None, noise: float = 0.0) -> Geometry:
    order = order or list(range(6))
    x = vectors(layers, seed, noise)[:, order]
    halves = np.stack([matrices(x + 0.4 * np.random.default_rng([layers, k]).normal(size=x.shape)) for k in range(2)])
    return Geometry(name, "", name, [NAMES[i] for i in order], matrices(x), halves)


def test_equal_depth_is_the_middle_of_a_block() -> None:
    assert [(a, b) for _, a, b in depths(4, 4)] == [(i, i) for i in range(4)]
    assert [(a, b) for _, a, b in depths(3, 12)] == [(0, 2), (1, 6), (2, 10)]
    assert [(a, b) for _, a, b in depths(12, 3)] == [(2, 0), (6, 1), (10, 2)]


def test_the_same_emotions_in_models_of_unlike_depth_and_order() -> None:
    """The order of emotions.names is no difference; p is the least that six emotions can give."""
    made = compare_models([model("A", 8, 1), model("B", 24, 1, [3, 1, 0, 5, 4, 2])])
    rows, whole = made[made["depth"].notna()], made[made["depth"].isna()].iloc[0]
    assert len(rows) == 8 and rows["r"].min() > 0.9 and rows["p"].max() == pytest.approx(1 / 720)
    assert whole["r"] == pytest.approx(rows["r"].mean()) and whole["p"] == pytest.approx(1 / 720)
    assert 0 < whole["across"] < whole["r"] and 0 < whole["ceiling_a"] < 1
    [line] = findings(made)
    assert "A against B: Spearman" in line and "p = 0.0014, the least that 6 emotions can give; Mantel" in line
    assert "where one model agrees with itself by" in line


def test_three_emotions_have_no_p() -> None:
    """Of six orders none has a small p, so a number would say nothing."""
    [line] = findings(compare_models([model("A", 8, 1, [0, 1, 2]), model("B", 24, 1, [0, 1, 2])]))
    assert "(3 emotions are too few for a p)" in line and "p = " not in line


def test_unrelated_models_do_not_agree() -> None:
    pairs = [compare_models([model("A", 6, k), model("B", 6, k + 50)]).iloc[-1] for k in range(12)]
    assert abs(np.mean([row["r"] for row in pairs])) < 0.2 and np.median([row["p"] for row in pairs]) > 0.1


def test_too_few_emotions_and_one_model_are_no_pair() -> None:
    two = model("A", 6, 1)._replace(emotions=NAMES[:2])
    assert compare_models([two, model("B", 6, 1)]).empty
    assert compare_models([model("A", 6, 1), model("A", 6, 2)]).empty  # two sets of data of one model
    assert compare_models([model("A", 6, 1)._replace(at="seed=1"), model("B", 6, 1)]).empty


def test_from_the_folders_of_a_sweep_to_its_page(tmp_path: Path) -> None:
    """Jobs that differ in strength alone are one model; a damaged file is left out."""
    results: dict[Path, dict[str, Any] | None] = {}
    for k, (name, alpha) in enumerate((n, a) for n in ("tiny_a", "tiny_b", "tiny_c") for a in (1, 2)):
        folder = tmp_path / f"{k:016x}"
        folder.mkdir()
        one = model(name, 6, 1)
        cosines = np.repeat(one.cosines[:, None], 2, 1).tolist()
        halves = None if one.halves is None else {"cosines": one.halves.tolist(), "groups": [3, 3]}
        text = json.dumps({"emotions": one.emotions, "cosines": cosines, "halves": halves})
        (folder / "geometry.json").write_text(text, encoding="utf-8")
        config = {"model": {"name": name}, "intervention": {"alpha": alpha}}
        results[folder] = {"status": "done", "directions": name, "model_commit": name, "config": config,
                           "files": file_digests(folder)}  # fmt: skip
        if name == "tiny_c":
            (folder / "geometry.json").write_text("{}", encoding="utf-8")
    axes = ["model", "intervention.alpha"]
    assert [one.model for one in geometries(results, axes)] == ["tiny_a", "tiny_b"]
    page = tmp_path / "page"
    page.mkdir()
    found = of_sweep(results, axes, "tiny", page)
    assert found is not None and len(found.findings) == 1 and "tiny_a, tiny_b" in found.table
    assert (page / "model_geometry.csv").read_text(encoding="utf-8").count("\n") == 1 + 6 + 1
    assert found.figures[0][0].is_file()
    assert of_sweep(dict(list(results.items())[:2]), axes, "tiny", page) is None
    with pytest.raises(UserError, match="no two models"):
        compare_folder(page)
