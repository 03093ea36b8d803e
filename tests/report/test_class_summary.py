"""What a sweep over neurons of classes says as a whole, by hand and from jobs on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.class_jobs import done

from emo.report import class_summary as summary
from emo.report.class_summary import class_summary, comparisons, loop_rows, selections
from emo.report.plots.classes import tenths
from emo.report.sweep_files import summarize_sweep

SETS = [
    {"class": "anger", "count": 2, "depth": 0.5, "per_block": [0, 0, 2, 0], "stability": [0.5, 0.1]},
    {"class": "fear", "count": 2, "depth": 0.25, "per_block": [1, 0, 1, 0], "stability": [0.3, None]},
]


def result(**changes: Any) -> dict[str, Any]:
    """Return what is read of a job's result.json."""
    config = {"model": {"name": "m"}, "dataset": {"name": "d"}, "intervention": {"kind": "mask"}}
    facts = {"selector": "lape, filter on, active at gate, content tokens, 1.0% of 40 neurons"}
    return {"sets": SETS, "config": config, "facts": facts, "comparisons": [], "loops": []} | changes


def difference(metric: str, against: str, value: float, p: float | None) -> dict[str, Any]:
    """Return a comparison of the arm mask."""
    return {"arm": "mask", "against": against, "metric": metric, "value": value, "ci": [value, value], "n": 9,
            "p": p, "p_holm": p}  # fmt: skip


def test_equal_selections_are_one_row() -> None:
    """Its depth is that of all neurons together; the share of the neurons is not part of its name."""
    other = result(facts={"selector": "cas, active at gate, content tokens, 1.0% of 40 neurons"})
    rows = selections([("", result()), ("", result()), ("", other)])
    assert [row["label"] for row in rows] == [
        "lape, filter on, active at gate, content tokens", "cas, active at gate, content tokens",
    ]  # fmt: skip
    assert rows[0]["count"] == 4 and rows[0]["per_block"] == [1, 0, 3, 0]
    assert rows[0]["depth"] == pytest.approx((0 + 3 * 2) / 4 / 4)
    assert rows[0]["stability"] == pytest.approx(0.3)
    joint = result(facts={"selector": "lape, 1.0% of 40 neurons, in one space with classes of rhetoric"})
    assert selections([("", joint)])[0]["label"] == "lape, in one space with classes of rhetoric"
    large = result(config=result()["config"] | {"model": {"name": "large"}})
    assert [row["label"].partition(": ")[0] for row in selections([("", result()), ("", large)])] == ["m", "large"]


def test_rows_that_read_alike_bear_the_job() -> None:
    """Two seeds: other sets by the same selector."""
    other = result(sets=[SETS[0] | {"per_block": [2, 0, 0, 0]}, SETS[1]])
    assert [row["label"] for row in selections([("seed=0", result()), ("seed=1", other)])] == ["seed=0", "seed=1"]


def test_nats_and_shares_are_not_compared(tmp_path: Path) -> None:
    """Jobs with another outcome have a line and a figure of their own; devices are one control."""
    masks = result(comparisons=[difference("logprob_margin", "random", -0.2, 0.04)])
    induced = result(comparisons=[difference("induced", f"random_{name}@scale=2", 0.3, 0.5) for name in ("a", "b")])
    found = class_summary([("a=1", masks), ("a=2", induced)], "t", tmp_path)
    assert found is not None and found.findings is not None
    assert "1 of 1 differences in logprob_margin" in found.findings[0]
    assert "Against random neurons: 0 of 2 differences in induced" in found.findings[1]
    few = [("a=1", masks | {"smallest_p": 0.06}), ("a=2", induced)]
    lines = class_summary(few, "t", tmp_path)
    assert lines is not None and lines.findings is not None and "0.040" not in lines.tables
    assert lines.findings[0].startswith(
        "Against random neurons: none of 1 differences in logprob_margin could be tested (too few scenarios or groups "
        "for a p); the intervals of 1 leave 0 out; the largest is -0.20"
    )
    assert (tmp_path / "sweep_induced_against_random.png").is_file()


def test_the_finding_counts_differences_from_controls(tmp_path: Path) -> None:
    """Of each control apart, on one metric; p is Holm's."""
    made = [
        difference("accuracy", "random", -0.9, 0.001), difference("logprob_margin", "none", -5.0, 0.001),
        difference("logprob_margin", "random@ratio=1", -0.2, 0.04), difference("logprob_margin", "random", 0.1, 0.06),
        difference("logprob_margin", "other_emotion", 0.3, None),
    ]  # fmt: skip
    rows = comparisons([("intervention.layers=top", result(comparisons=made))])
    assert [row["value"] for row in rows] == [-5, -0.2, 0.1, 0.3]
    found = class_summary([("intervention.layers=top", result(comparisons=made))], "t", tmp_path)
    assert found is not None and found.findings is not None
    assert any("Reconstructed" in note for note in found.notes) and any("96.11" in note for note in found.notes)
    assert "Against the unedited model: 1 of 1" in found.findings[0]
    assert (
        "Against random neurons: 1 of 2 differences in logprob_margin are found (the interval leaves 0 out, p <= "
        in (found.findings[1])
    )
    assert "the largest is -0.20 [-0.20, -0.20], at layers=top mask" in found.findings[1]
    assert "Against other_emotion neurons: none of 1 differences in logprob_margin could be" in found.findings[2]
    assert {path.name for path, _ in found.figures} == {
        "sweep_depth.png", "sweep_logprob_margin_against_none.png", "sweep_logprob_margin_against_random.png",
        "sweep_logprob_margin_against_other_emotion.png",
    }  # fmt: skip
    alone = class_summary([("", result(comparisons=made[1:2]))], "t", tmp_path)
    assert alone is not None and alone.findings is not None and "control.units" in alone.findings[0]
    unedited = class_summary([("", result())], "t", tmp_path)
    assert unedited is not None and unedited.findings is None
    assert class_summary([("", {"arms": {}})], "t", tmp_path) is None


def test_loops_are_averaged_by_arm() -> None:
    """Of every loop the last round counts; the change is that of dev accuracy."""
    first = {"alpha": 0.3, "tau": 0.1, "units": 4, "target": 60.0, "off": 1.0}
    last = first | {"alpha": 0.5, "tau": 0.2, "units": 8, "target": 40.0}
    loops = [
        {"arm": "random", "base": 50.0, "rounds": [first, last], "reached": True},
        {"arm": "random", "base": 60.0, "rounds": [first], "reached": False},
    ]
    [row] = loop_rows([("", result(loops=loops))])
    assert (row["loops"], row["reached"], row["rounds"]) == (2, 1, 1.5)
    assert (row["alpha"], row["units"], row["target"]) == pytest.approx((0.4, 6, -5))


@pytest.mark.usefixtures("quiet")
def test_a_sweep_on_disk(tmp_path: Path) -> None:
    """The page of two jobs: neurons of both selectors, loops, differences, and no best accuracy."""
    done(tmp_path, "intervention=adaptive_mask", "control.seeds=1", "adaptive.rounds=1")
    job, _, _ = done(tmp_path, "selector=cas", "control.seeds=1")
    summarize_sweep(tmp_path / "run", job.config.tracker)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Against random neurons" in page and "Best accuracy" not in page
    assert "Feedback loops" in page and "cas, active at gate" in page and "Every difference" in page
    assert (tmp_path / "run" / "sweep_depth.png").is_file()


def test_tenths_of_the_depth() -> None:
    """A block's count is spread over its own part of the depth: an even selection is even on models of any depth."""
    assert tenths([5, 0, 10, 0]).tolist() == pytest.approx([2, 2, 1, 0, 0, 4, 4, 2, 0, 0])
    for blocks in (4, 16, 30):
        assert tenths([1] * blocks).tolist() == pytest.approx([blocks / 10] * 10)


def test_many_differences_are_a_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that nobody can read is not drawn."""
    monkeypatch.setattr(summary, "DRAWN", 1)
    made = [difference("accuracy", "random", 0.1, 0.5), difference("accuracy", "random", 0.2, 0.5)]
    found = class_summary([("", result(comparisons=made))], "t", tmp_path)
    assert found is not None and [path.name for path, _ in found.figures] == ["sweep_depth.png"]
    assert "Every difference" in found.tables
