"""Directions before anything is generated: beside what their edit did, and on the page of a job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.core.stats import Estimate
from emo.edit.base import Arm
from emo.pipeline.scenario import Job
from emo.report.reliability_page import section
from emo.results.geometry import geometry
from emo.results.reliability import _effect, sentences
from emo.results.result_file import comparison_line

pytestmark = pytest.mark.usefixtures("quiet")
NAMES = ["anger", "sadness", "fear", "disgust"]


def test_the_correlation_with_what_the_edit_did() -> None:
    """Effects are less the unedited model; means are over the edited blocks alone."""
    import numpy as np

    measured = {"cosine": np.array([[9, 0.1], [9, 0.2], [9, 0.3], [9, 0.4]]), "dprime": np.ones((4, 2))}
    found = {
        "steer": {f"clean_accuracy/{n}": Estimate(0.2 + 0.1 * i, None, None, 5) for i, n in enumerate(NAMES)},
        "none": {f"clean_accuracy/{n}": Estimate(0.2, None, None, 5) for n in NAMES},
    }
    row = _effect(Arm("steer", "steer", 1.0, (1,)), "clean_accuracy", found, measured, NAMES)
    assert row is not None and list(row["value"].values()) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert row["beforehand"]["cosine"] == dict(zip(NAMES, [0.1, 0.2, 0.3, 0.4], strict=True))
    assert row["r"]["cosine"] == pytest.approx(1) and row["p"]["cosine"] == pytest.approx(1 / 24)
    assert row["r"]["dprime"] is None  # flat
    made = {"emotions": NAMES, "groups": 8, "scenarios": 4, "cosine": [], "dprime": [], "effects": [row]}
    lines = sentences(made)
    assert (
        lines[0]
        == "steer, clean_accuracy: rank correlation over 4 emotions with cosine of groups with v +1.00 (p = 0.042)."
    )
    assert "none is below 0.042" in lines[1] and "+1.00" in section(made)
    assert _effect(Arm("steer", "steer", 1.0, (1,)), "logprob_margin", found, measured, NAMES) is None


def test_a_job_says_what_its_directions_are(tmp_path: Path) -> None:
    """Found at a divergence without replies on test: strengths, lens, reliability and halves in its folder and page."""
    made = config(tmp_path, "evaluator=projection", "intervention.alpha=kl:0.1", "control.seeds=1",
                  "control.score_seeds=1", "intervention.select.prompts=2")  # fmt: skip
    assert run_job(made, "python run.py") == 0
    result = read_result(tmp_path)
    [folder] = tmp_path.glob("run/*")
    assert set(result["divergence"]) == {"steer", "random", "shuffled"} and result["verdicts"] == []
    told = {row["against"]: comparison_line(row, None) for row in result["comparisons"]}
    assert "both at KL 0.1" in told["random"] and "KL" not in told["none"]
    lens, beforehand = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("lens", "reliability"))
    assert {row["emotion"] for row in lens["rows"]} == {"anger", "sadness", "fear"}
    assert all(len(row["top"]) == len(row["bottom"]) == 20 and 0 <= row["share"] <= 1 for row in lens["rows"])
    assert (beforehand["groups"], beforehand["scenarios"]) == (4, 2) and len(beforehand["cosine"][0]) == 4
    assert [row["metric"] for row in beforehand["effects"]] == ["delta_s_rel"]
    shape = json.loads((folder / "geometry.json").read_text("utf-8"))
    assert shape["halves"]["groups"] == [2, 2] and len(shape["halves"]["cosines"][1]) == 4
    page = (folder / "report.html").read_text("utf-8")
    for title in (
        "Strengths at equal divergence",
        "What the directions say by themselves",
        "before anything is generated",
    ):
        assert title in page, title
    neutral = Job(config(tmp_path, "evaluator=projection", "directions.baseline=neutral"))
    assert geometry(neutral)["halves"] is None  # the kept states hold no neutral form
