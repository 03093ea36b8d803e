"""How alike circuits are, by hand; and task=compare, which reads two folders and no model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.circuits import EMOTIONS, SHAPE, circuit, units
from support.command import run

from emo.core.errors import UserError
from emo.find.circuit import Circuit
from emo.find.circuit_similarity import compare, find_circuit, off_diagonal, overlap

NONE = units([], [], torch.zeros(0, 8))


def by_hand(neurons: list[tuple[int, int, float]], emotion: str = "anger") -> Circuit:
    """Return a circuit of one emotion from (block, unit, delta) of its neurons."""
    part = units([n[0] for n in neurons], [n[1] for n in neurons], torch.tensor([[n[2]] for n in neurons]))
    return Circuit((emotion,), (part,), (NONE,), SHAPE, "w")


def test_two_circuits_by_hand() -> None:
    a = by_hand([(0, 1, 1.0), (0, 2, 2.0), (1, 1, 2.0), (3, 5, 4.0)])  # quotas 2 1 0 1, |delta|^2 25
    b = by_hand([(0, 1, -1.0), (0, 3, 1.0), (0, 4, 1.0), (1, 1, 1.0), (2, 5, 0.0)])  # quotas 3 1 1 0
    row, heads = compare(a, b)
    assert (row["kind"], row["emotion"], row["units"]) == ("neurons", "anger", [4, 5])
    assert row["jaccard"] == pytest.approx(2 / 7)
    assert row["jaccard_per_layer"] == [1 / 4, 1.0, 0.0, 0.0]
    assert row["cosine"] == pytest.approx((-1 + 2) / (5 * 2))
    # ranks 4 2.5 1 2.5 and 4 2.5 2.5 1: deviations 1.5 0 -1.5 0 and 1.5 0 0 -1.5
    assert row["rank"] == pytest.approx(2.25 / 4.5)
    assert heads["kind"] == "heads" and heads["jaccard_per_layer"] == [None] * 4
    assert heads["jaccard"] is heads["rank"] is heads["cosine"] is None


def test_what_cannot_be_measured_is_none() -> None:
    flat = by_hand([(layer, 0, 1.0) for layer in range(4)])
    row = compare(flat, by_hand([(0, 0, 0.0)]))[0]
    assert row["rank"] is None  # constant quotas
    assert row["cosine"] is None  # nothing is added
    assert row["jaccard"] == 1 / 4


@given(seed=st.integers(0, 50), other=st.integers(0, 50))
def test_comparison_is_symmetric_and_of_itself_one(seed: int, other: int) -> None:
    a, b = circuit(seed=seed, counts=(60, 8)), circuit(seed=other, counts=(40, 5))
    for there, back in zip(compare(a, b), compare(b, a), strict=True):
        assert there["units"] == back["units"][::-1]
        for key in ("jaccard", "rank", "cosine", "jaccard_per_layer"):
            assert there[key] == pytest.approx(back[key])
    for row in compare(a, replace(a, weights="x", provenance={})):
        assert row["jaccard"] == 1.0
        assert row["rank"] in (None, pytest.approx(1.0))
        assert row["cosine"] == pytest.approx(1.0)


def test_emotions_are_matched_by_name() -> None:
    a = circuit()
    turned = replace(a, emotions=EMOTIONS[::-1], neurons=a.neurons[::-1], heads=a.heads[::-1])
    fewer = replace(a, emotions=("joy", *EMOTIONS[1:]))
    assert [row["jaccard"] for row in compare(a, turned)] == [1.0] * 6
    assert [row["emotion"] for row in compare(a, fewer)] == [*EMOTIONS[1:]] * 2
    with pytest.raises(UserError, match="no emotion in both"):
        compare(by_hand([(0, 0, 1.0)]), by_hand([(0, 0, 1.0)], "fear"))
    with pytest.raises(UserError, match="4 blocks of width 32.*4 blocks of width 33"):
        compare(a, circuit(SHAPE._replace(d=33)))


def test_overlap_between_the_emotions_of_one_circuit() -> None:
    parts = tuple(units([0] * len(own), own, torch.ones(len(own), 1)) for own in ([1, 2, 3], [2, 3, 4], [3], []))
    ours = Circuit(("a", "b", "c", "d"), parts, (NONE,) * 4, SHAPE, "w")
    found = overlap(ours, "neurons")
    wanted = torch.tensor([[1, 1 / 2, 1 / 3, 0], [1 / 2, 1, 1 / 3, 0], [1 / 3, 1 / 3, 1, 0], [0, 0, 0, math.nan]])
    assert torch.allclose(found, wanted, equal_nan=True)
    assert overlap(ours, "heads").isnan().all()
    mean, sd = off_diagonal(found[:3, :3])
    assert mean == pytest.approx(7 / 18) and sd == pytest.approx(math.sqrt(3) / 18)  # of 1/2, 1/3, 1/3
    assert off_diagonal(found[:2, :2]) == (0.5, None)
    assert off_diagonal(found[:1, :1]) == off_diagonal(overlap(ours, "heads")) == (None, None)


def test_a_circuit_lies_in_its_folder_or_in_that_of_a_result(tmp_path: Path) -> None:
    circuit().save(tmp_path / "own")
    circuit().save(tmp_path / "result" / "circuit")
    assert find_circuit(tmp_path / "own").parent == tmp_path / "own"
    assert find_circuit(tmp_path / "result").parent == tmp_path / "result" / "circuit"


def test_task_compare_prints_tables_and_writes_nothing(tmp_path: Path) -> None:
    circuit().save(tmp_path / "a")
    circuit(seed=1, weights="x" * 64, emotions=("anger", "fear", "joy")).save(tmp_path / "b" / "circuit")
    done = run(tmp_path, "task=compare", "runs=[a,b]", "model=tiny_llama", f"paths.outputs={tmp_path / 'outputs'}")
    assert done.returncode == 0, done.stderr
    first = compare(Circuit.load(tmp_path / "a"), Circuit.load(tmp_path / "b" / "circuit"))
    for words in ("neurons: A against B", "heads: A against B", "20 / 20", "6 / 6", "Jaccard, block 3"):
        assert words in done.stdout
    shown = next(line for line in done.stdout.splitlines() if "cosine of deltas" in line)
    assert f"{first[0]['cosine']:z.2f}" in shown
    assert "in one circuit only: sadness, joy" in done.stdout
    assert "different weights" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    same = run(tmp_path, "task=compare", "runs=[a,a]")
    assert same.returncode == 0 and "equal units and equal deltas" in same.stdout


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        pytest.param(["runs=[a,nowhere]"], "runs=nowhere: no such folder", marks=pytest.mark.slow),
        (["runs=a"], "two folders are needed; type runs=[FOLDER_A,FOLDER_B]"),
        pytest.param(["runs=[a,empty]"], "neither circuit.json nor circuit/circuit.json", marks=pytest.mark.slow),
        pytest.param(["runs=[a,broken]"], "no circuit that can be used", marks=pytest.mark.slow),
        pytest.param(["runs=[a,wide]"], "width 33", marks=pytest.mark.slow),
        (["-m", "runs=[a,a]"], "without -m and sweeps="),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_comparison_that_cannot_be_made_is_refused(tmp_path: Path, runs: list[str], said: str) -> None:
    circuit().save(tmp_path / "a")
    circuit(SHAPE._replace(d=33)).save(tmp_path / "wide")
    circuit().save(tmp_path / "broken")
    (tmp_path / "broken" / "circuit.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    flags = [word for word in runs if word.startswith("-")]
    done = run(tmp_path, *flags, "task=compare", *(word for word in runs if word not in flags))
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert done.stdout == ""
