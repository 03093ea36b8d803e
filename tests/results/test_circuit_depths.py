"""Where circuits of unlike models lie: distances against a fine sum, and a planted agreement of emotions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.find.circuit import Circuit, Part, Shape
from emo.report.depths_page import FILE, of_sweep
from emo.results.circuit_depths import Placed, compare_depths, distance, mean_depth, placed

NAMES = ("anger", "sadness", "happiness", "fear")
COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


def up_to(quotas: np.ndarray, x: float) -> float:
    """Return the share of units up to a depth, block by block."""
    held = [n * min(1.0, max(0.0, x * len(quotas) - k)) for k, n in enumerate(quotas)]
    return sum(held) / sum(quotas)


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS)
def test_a_distance_is_that_of_a_fine_sum(a: list[int], b: list[int]) -> None:
    x, y = np.array(a, dtype=float), np.array(b, dtype=float)
    steps = (np.arange(1000) + 0.5) / 1000
    slow = float(np.mean([abs(up_to(x, s) - up_to(y, s)) for s in steps]))
    assert distance(x, y) == pytest.approx(slow, abs=1e-3)
    assert distance(x, y) == pytest.approx(distance(y, x)) and distance(x, x) == pytest.approx(0)
    assert distance(x, y) >= abs(mean_depth(x) - mean_depth(y)) - 1e-9
    assert distance(x, np.repeat(x, 3) / 3) == pytest.approx(0, abs=1e-12)  # a model three times as deep


def profile(depth: float, blocks: int) -> np.ndarray:
    """Return units per block around a depth."""
    middles = (np.arange(blocks) + 0.5) / blocks
    return np.round(40 * np.exp(-(((middles - depth) / 0.2) ** 2)))


def test_emotions_that_lie_alike_in_both_models() -> None:
    depths = (0.2, 0.4, 0.6, 0.8)

    def one(name: str, blocks: int, order: list[int], at: str = "") -> Placed:
        quotas = np.stack([profile(depths[k], blocks) for k in order])
        return Placed(
            name, at, NAMES, {"neurons": quotas, "heads": np.zeros_like(quotas)}, {"neurons": 999, "heads": 9}
        )

    made = compare_depths([one("A", 24, [0, 1, 2, 3]), one("B", 36, [0, 1, 2, 3])])
    whole = made[made["emotion"] == ""].iloc[0]
    assert set(made["kind"]) == {"neurons"} and len(made) == 5
    assert whole["p"] == pytest.approx(1 / 24) and whole["distance"] < 0.02 < 0.2 < whole["others"]
    ps = []
    for order in itertools.permutations(range(4)):
        made = compare_depths([one("A", 24, [0, 1, 2, 3]), one("B", 36, list(order))])
        ps.append(made[made["emotion"] == ""].iloc[0]["p"])
    assert all(np.mean(np.array(ps) <= level + 1e-9) <= level + 1e-9 for level in (1 / 24, 0.25, 0.5))
    assert compare_depths([one("A", 24, [0, 1, 2, 3], "k=1"), one("B", 24, [0, 1, 2, 3], "k=2")]).empty
    assert compare_depths([one("A", 24, [0, 1, 2, 3]), one("A", 24, [0, 1, 2, 3])]).empty


def test_from_the_folders_of_a_sweep_to_its_page(tmp_path: Path) -> None:
    """Circuits of two models; what cannot be read is left out, and a sweep of one model says nothing."""
    results: dict[Path, dict[str, Any] | None] = {}
    for name, blocks in (("small", 4), ("large", 6)):
        shape, folder = Shape(blocks, 8, 16, 2, 4), tmp_path / name
        layer = torch.arange(blocks)
        parts = tuple(Part(layer, layer % 16, torch.ones(blocks, 1)) for _ in NAMES)
        heads = tuple(Part(layer[:2], layer[:2] % 2, torch.ones(2, 4)) for _ in NAMES)
        Circuit(NAMES, parts, heads, shape, "0" * 64).save(folder / "circuit")
        results[folder] = {"status": "done", "config": {"model": {"name": name}, "seed": 0}}
    assert [one.model for one in placed(results, ["model"])] == ["small", "large"] and not placed(results, ["seed"])
    page = tmp_path / "page"
    page.mkdir()
    found = of_sweep(results, ["model"], "tiny", page)
    assert found is not None and len(found.findings) == 2 and found.figures[0][0].is_file()
    assert "neurons of small against large: mean depth 0.50 and 0.50 of the model, 6.25% and 6.25%" in found.findings[0]
    assert (page / FILE).read_text(encoding="utf-8").count("\n") == 1 + 2 * 5
    (tmp_path / "large" / "circuit" / "circuit.json").write_text("{}", encoding="utf-8")
    assert of_sweep(results, ["model"], "tiny", page) is None
