"""Jobs on classes where numbers are missing: a class without test texts, and an arm that explodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.class_jobs import done

from emo.core.store import Artifact
from emo.data.labelled import ClassSplits, load_items
from emo.edit.class_arms import ClassArm
from emo.pipeline import labelled as jobs

pytestmark = pytest.mark.usefixtures("quiet")


def test_metrics_of_a_class_without_texts_are_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither 0 nor absent, and no nan in JSON; the other classes have their numbers."""

    def without_fear(*args: Any) -> ClassSplits:
        made = load_items(*args)
        return made._replace(test=[item for item in made.test if item.label != "fear"])

    monkeypatch.setattr(jobs, "load_items", without_fear)
    _, where, result = done(tmp_path)
    for arm in result["arms"].values():
        for metric in ("accuracy", "logprob_margin"):
            assert arm[f"{metric}/fear"] == {"value": None, "ci": None, "n": 0}
            assert arm[f"{metric}/anger"]["n"] > 0 and arm[metric]["value"] is not None
        assert arm["off_accuracy/fear"]["n"] > 0  # texts of the others, under the edit of this class
    change = np.array(result["change"]["mask"]["accuracy"], dtype=float)
    assert np.isnan(change[:, 2]).all() and np.isfinite(change[:, :2]).all()
    text = (where / "result.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "not measured" in (where / "report.html").read_text(encoding="utf-8")


def test_a_mask_that_explodes_costs_its_own_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not measured is no wrong answer: the same numbers beside it, and a count of what was lost."""
    words = ("intervention.ratio=[0.5,1]", "control.units=[]", "dataset.limit=5")
    _, _, alone = done(tmp_path / "alone", *words)
    plain = jobs.ClassJob._predict

    def exploding(self: jobs.ClassJob, arm: ClassArm) -> Artifact:
        made = plain(self, arm)
        if arm.ratio == 1 and arm.pick == "own":
            made.tensors["scores"][0, :3, 1] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        return made

    monkeypatch.setattr(jobs.ClassJob, "_predict", exploding)
    job, where, result = done(tmp_path / "both", *words)
    arms = [a["arms"] for a in (alone, result)]
    assert arms[0]["mask@ratio=0.5"] == arms[1]["mask@ratio=0.5"] and arms[0]["none"] == arms[1]["none"]
    texts = len(job.splits.test)
    assert result["exploded"] == {"mask@ratio=1": {"predictions": [3, 3 * texts]}}
    counts = [a["mask@ratio=1"]["accuracy"]["n"] + a["mask@ratio=1"]["off_accuracy"]["n"] for a in arms]
    assert counts == [3 * texts, 3 * texts - 3]
    html = (where / "report.html").read_text(encoding="utf-8")
    assert f"mask@ratio=1: numbers exploded (nan or inf) in 3 of {3 * texts} predictions" in html
