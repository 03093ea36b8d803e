"""Maps from the labels of a classifier of the hub to emotions: what is mapped to nothing is other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.core.errors import UserError
from emo.core.store import Store
from emo.measure import hf_classifier
from emo.measure.accuracy import label_classes, off_target
from emo.measure.labels import check_labels, label_all
from emo.report.plots import off_target_figure

# Chances of (joy, rage, gloom, dread, calm, odd) by the first letter of a reply.
CHANCES = {
    "a": (0.05, 0.30, 0.05, 0.05, 0.15, 0.40),  # most is mapped to nothing
    "b": (0.05, 0.45, 0.05, 0.05, 0.10, 0.30),
    "c": (0.15, 0.05, 0.05, 0.05, 0.60, 0.10),
    "d": (0.90, 0.90, 0.10, 0.10, 0.00, 0.00),  # labels that do not exclude each other
}
OWN = ("joy", "rage", "gloom", "dread", "calm", "odd")
FULL = "evaluator.labels=[rage:anger,gloom:sadness,dread:fear,calm:neutral]"
NO_NEUTRAL = "evaluator.labels=[rage:anger,gloom:sadness,dread:fear,absent:neutral]"


class Pipeline:
    """A text-classification pipeline that knows the letters above; of another text it thinks as of ``a``."""

    model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(OWN))))

    def __call__(self, texts: Sequence[str], **_: Any) -> list[list[dict[str, Any]]]:
        rows = [CHANCES.get(text[:1], CHANCES["a"]) for text in texts]
        return [[{"label": name, "score": p} for name, p in zip(OWN, row, strict=True)] for row in rows]


@pytest.fixture(autouse=True)
def _pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_classifier, "load", lambda _: Pipeline())
    monkeypatch.setattr(hf_classifier, "commit", lambda _: "c")


def label(tmp_path: Path, labels: str, *texts: str) -> list[dict[str, Any]]:
    """Return the label rows of some replies."""
    made = config(tmp_path, "evaluator=hf_classifier", "evaluator.model=own/model", labels)
    check_labels(made, Store(tmp_path))
    rows = [{"sample": i, "emotion": None, "seed": 0, "reply": text} for i, text in enumerate(texts)]
    return label_all(Store(tmp_path), made, {"none": rows})["none"]


def test_what_is_mapped_to_nothing_is_other(tmp_path: Path) -> None:
    """The mass of all unmapped labels competes as one class; the forced label stays an emotion."""
    rows = label(tmp_path, FULL, "a", "b", "c", "")
    assert [row["label"] for row in rows] == ["other", "anger", "neutral", "neutral"]
    assert [row["forced"] for row in rows[:3]] == ["anger", "anger", "anger"]
    assert rows[0]["p"] == pytest.approx(0.45) and rows[1]["p"] == pytest.approx(0.45)
    names, p = hf_classifier.probabilities("own/model", {"rage": "anger"}, ["a", "d"])
    assert names == ("anger", "other") and np.allclose(p.sum(1), 1) and p[1, 0] == pytest.approx(0.45)
    whole = {name: name for name in OWN}
    assert hf_classifier.probabilities("own/model", whole, ["a"])[0] == OWN  # nothing is left out


def test_neutral_that_is_absent_is_not_guessed(tmp_path: Path) -> None:
    rows = label(tmp_path, NO_NEUTRAL, "b", "c", "")
    assert [row["label"] for row in rows] == ["anger", "other", "other"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("evaluator.labels=[rage:anger,gloom:sadness,dread:fear]", "neutral needs one, or absent:neutral where"),
        ("evaluator.labels=[rage:anger,gloom:sadness,dread:fear,calm:neutral,absent:neutral]", "neutral needs one, or"),
        ("evaluator.labels=[rage:anger,gloom:sadness,absent:fear,calm:neutral]", "only neutral can be absent"),
        ("evaluator.labels=[rage:anger,rage:fear,gloom:sadness,calm:neutral]", "rage has several"),
        ("evaluator.labels=[rage:anger,gloom:sadness,calm:neutral]", "fear needs one"),
        ("evaluator.labels=[rage:anger,gloom:sadness,dread:fear,calm:neutral,odd:other]", "odd:other is none"),
    ],
)
def test_maps_that_leave_something_open_are_refused(tmp_path: Path, labels: str, said: str) -> None:
    with pytest.raises(UserError, match=r"'evaluator\.labels=\[LABEL:CLASS,\.\.\.\]', CLASS one of ") as error:
        label(tmp_path, labels, "a")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_other_is_a_column_of_its_own(tmp_path: Path) -> None:
    """In result.json, the report and the figures, with the chance level of so many classes."""
    words = ("evaluator=hf_classifier", "evaluator.model=own/model", FULL, "control.arms=[]")
    assert run_job(config(tmp_path, *words)) == 0
    result = read_result(tmp_path)
    assert result["off_target"]["labels"] == ["anger", "sadness", "fear", "neutral", "other"]
    assert all(row[-1] == 1.0 for row in result["off_target"]["arms"]["steer"])
    assert result["arms"]["steer"]["accuracy"]["value"] == 0.0
    assert result["arms"]["steer"]["forced_accuracy/anger"]["value"] == 1.0
    folder = next(tmp_path.glob("run/*/report.html")).parent
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "one of 3 emotions, neutral or other, is the target (a label drawn at random is right in 20%" in page
    assert (folder / "off_target.png").is_file() and (folder / "accuracy.png").is_file()


def test_shares_of_other() -> None:
    rows = [{"sample": i, "emotion": "anger", "label": x} for i, x in enumerate(("anger", "other", None))]
    classes = label_classes(["anger", "fear"], rows)
    assert classes == ["anger", "fear", "neutral", "other"]
    found = off_target(rows, ["anger", "fear"], classes)
    assert found.matrix[0].tolist() == [0.5, 0.0, 0.0, 0.5] and found.unjudged == 1
    assert label_classes(["anger"], rows[:1]) == ["anger", "neutral"]
    with pytest.raises(ValueError, match="label 'other'"):
        off_target(rows, ["anger", "fear"])
    with pytest.raises(ValueError, match="off_target_figure"):
        off_target_figure({"steer": np.eye(2, 5)}, ["anger", "fear"], "t", Path("x.png"))
