"""Jobs on the classes of labelled texts, from words to results: masks, the loop, induction, injection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.class_jobs import done, made, pairs
from support.jobs import read_rows

from emo.cli.run import run_job
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from emo.results import class_results as results
from emo.results.job_comparisons import compare_jobs
from emo.results.values import read_values

pytestmark = pytest.mark.usefixtures("quiet")


def test_a_mask_from_words_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, where, result = done(tmp_path)
    assert list(result["arms"]) == ["none", "mask", "random", "other_emotion"]
    assert set(result["arms"]["mask"]) >= {"accuracy", "logprob_margin", "off_accuracy", "induced", "accuracy/fear"}
    assert {row["file"] for row in result["figures"]} >= {"arms.png", "change.png", "counts.png", "overlap.png"}
    page = (where / "report.html").read_text(encoding="utf-8")
    assert "Precision and recall" in page and "Published" in page
    assert "selected on 2 texts of a class" in page
    rows = read_rows(where / "predictions.jsonl")
    test = len(job.splits.test)
    assert len(rows) == test * (1 + 3 + 2 * 3 + 3)
    assert all(row["called"] == max(row["scores"], key=row["scores"].get) for row in rows)
    capsys.readouterr()
    assert run_job(job.config) == 0  # a second call finds it done
    assert len(list(tmp_path.glob("run/*/result.json"))) == 1


def test_numbers_are_those_of_the_predictions(tmp_path: Path) -> None:
    """Accuracy, off-target accuracy, margin and the change matrix, counted again from predictions.jsonl."""
    job, where, result = done(tmp_path, "control.units=[]")
    rows = read_rows(where / "predictions.jsonl")
    own = [r for r in rows if r["arm"] == "mask" and r["label"] == r["edited"]]
    off = [r for r in rows if r["arm"] == "mask" and r["label"] != r["edited"]]
    arms = result["arms"]["mask"]
    assert arms["accuracy"]["value"] == pytest.approx(np.mean([r["called"] == r["label"] for r in own]))
    assert arms["off_accuracy"]["value"] == pytest.approx(np.mean([r["called"] == r["label"] for r in off]))
    assert arms["induced"]["value"] == pytest.approx(np.mean([r["called"] == r["edited"] for r in off]))

    def margin(row: dict[str, Any]) -> float:
        others = [x for name, x in row["scores"].items() if name != row["label"]]
        return row["scores"][row["label"]] - sum(others) / len(others)

    assert arms["logprob_margin"]["value"] == pytest.approx(np.mean(list(map(margin, own))), abs=1e-4)
    kept = read_values(where, result, {})
    assert kept is not None and kept.arms == ("mask",)
    for metric in ("accuracy", "off_accuracy", "logprob_margin", "induced"):
        assert kept.table["mask", metric].mean() == pytest.approx(arms[metric]["value"], abs=1e-5)
    again = compare_jobs([kept._replace(settings={"seed": name}) for name in "ab"], draws=50)
    assert set(again["arm"]) == {"mask", "none"} and (again["difference"] == 0).all()
    plain = {r["sample"]: margin(r) for r in rows if r["arm"] == "none"}
    matrix = result["change"]["mask"]["margin"]
    for i, edited in enumerate(job.names):
        for k, label in enumerate(job.names):
            moved = [margin(r) - plain[r["sample"]] for r in rows if (r["edited"], r["label"]) == (edited, label)]
            assert matrix[i][k] == pytest.approx(np.mean(moved), abs=1e-4)


def test_the_neurons_of_an_arm(tmp_path: Path) -> None:
    """Shares, bands and controls: which neurons a condition edits."""
    job = make_job(made(tmp_path, "intervention.ratio=[0.5,1.0]", "intervention.layers=1-2"))
    assert isinstance(job, ClassJob)
    whole = job.finder.selected("lape")
    by_name = {arm.name: arm for arm in job.arms}
    for target in range(3):
        half, full = (job._mask(by_name[f"mask@ratio={x}"], 0, target).units for x in ("0.5", "1"))
        inside = [(a, b) for a, b in pairs(whole.sets[target]) if a in (1, 2)]
        assert pairs(full) == inside
        assert pairs(half) == inside[: max(1, round(len(inside) / 2))]
        drawn = job._mask(by_name["random@ratio=1"], 0, target).units
        assert torch.equal(torch.bincount(drawn.layer, minlength=4), torch.bincount(full.layer, minlength=4))
        again = job._mask(by_name["random@ratio=1"], 1, target).units
        assert pairs(drawn) != pairs(again)
        other = job._mask(by_name["other_emotion@ratio=1"], 0, target).units
        assert pairs(other) == [(a, b) for a, b in pairs(whole.sets[(target + 1) % 3]) if a in (1, 2)]
    anew = make_job(made(tmp_path, "intervention.ratio_of=population", "intervention.ratio=[0.1,0.3]"))
    assert isinstance(anew, ClassJob)
    sizes = [len(anew._mask(arm, 0, 0).units.unit) for arm in anew.arms if arm.pick == "own"]
    assert sizes == [len(anew.finder.selected("lape", ratio).sets[0].unit) for ratio in (0.1, 0.3)]


def test_the_loop_is_kept_and_shown(tmp_path: Path) -> None:
    job, where, result = done(tmp_path, "intervention=adaptive_mask", "control.seeds=1")
    assert list(result["arms"]) == ["none", "adaptive_mask", "random", "other_emotion"]
    assert len(result["loops"]) == 3 * 3
    for row in result["loops"]:
        assert 1 <= len(row["rounds"]) <= 2
        fell = row["base"] - row["rounds"][-1]["target"] >= 0.5 - 1e-4
        assert row["reached"] == fell
    assert (where / "loop.png").is_file()
    assert "alpha*" in (where / "report.html").read_text(encoding="utf-8")


def test_no_test_text_reaches_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model is asked until the masks are frozen are dev texts, and nothing but them."""
    job = make_job(made(tmp_path, "intervention=adaptive_mask"))
    assert isinstance(job, ClassJob)
    asked: set[str] = set()
    scores = ClassJob._scores

    def spy(self: ClassJob, items: Any, masks: Any, label: str) -> torch.Tensor:
        asked.update(item.id for item in items)
        return scores(self, items, masks, label)

    monkeypatch.setattr(ClassJob, "_scores", spy)
    for arm in job.arms[1:]:
        job._adapted(arm, job._mask(arm, 0, 0), 0)
    assert asked == {item.id for item in job.splits.dev}


def test_induction_writes_and_names_replies(tmp_path: Path) -> None:
    job, where, result = done(tmp_path, "intervention=induce", "intervention.scale=[0,1]", "control.units=[random]")
    none, zero = result["arms"]["none"], result["arms"]["induce@scale=0"]
    assert zero["accuracy"] == none["accuracy"] and zero["induced"] == none["induced"]  # beta 0 does nothing
    assert zero["reply_induced"]["value"] == pytest.approx(none["reply_induced"]["value"])
    assert all(row["label"] != row["class"] for row in job.written["induce@scale=1"].rows)
    assert {row["metric"] for row in result["comparisons"]} == {"induced"}


def test_injection_of_every_device(tmp_path: Path) -> None:
    job, _, result = done(tmp_path, "intervention=inject", "intervention.scale=1", "control.units=[]")
    assert list(result["arms"]) == ["none", *(f"inject_{d}" for d in ("metaphor", "hyperbole", "humour", "sarcasm"))]
    arm = next(arm for arm in job.arms if arm.device == "humour")
    mask = job._mask(arm, 0, 1)
    assert mask.values is not None and len(mask.values) == len(mask.units.unit)


@pytest.mark.parametrize("selector", ["lap", "mad", "cas", "direct_effect", "random"])
def test_every_selector_runs(tmp_path: Path, selector: str) -> None:
    job, _, result = done(tmp_path, f"selector={selector}", "control.units=[]", "evaluator.answer=parsed")
    assert len(result["sets"]) == 3 and all(row["count"] for row in result["sets"])
    assert "logprob_margin" not in result["arms"]["mask"]  # what is written has no log-probability
    assert results.predicted(job, "mask")[0][0] == "anger"


def test_names_are_calibrated_on_train_texts(tmp_path: Path) -> None:
    """The same log-probabilities less one number a name: its mean over the unedited train texts of every class."""
    job, _, _ = done(tmp_path, "dataset.limit=3")
    plain, _, _ = done(tmp_path, "dataset.limit=3", "evaluator.score=sum")
    train = job.splits.train
    asked = job._asked(train, [], "train")[0]
    own = torch.stack([asked[[item.label == name for item in train]].mean(0) for name in job.names]).mean(0)
    assert own.std() > 0
    for arm in ("none", "mask", "random"):
        raw, less = (x.predictions[arm].tensors["scores"] for x in (plain, job))
        torch.testing.assert_close(raw - less, own.expand_as(raw), atol=1e-5, rtol=1e-5)


def test_accuracy_is_held_against_the_largest_class(tmp_path: Path) -> None:
    """Naming one class always is right as often as that class is large."""
    path = tmp_path / "own.csv"
    names = ["anger"] * 30 + ["fear"] * 10
    path.write_text("x,y\n" + "".join(f"text number {i},{name}\n" for i, name in enumerate(names)), encoding="utf-8")
    given = ("dataset=labelled", f"dataset.path={path}", "dataset.text=x", "dataset.label=y", "dataset.limit=null")
    job = make_job(made(tmp_path, *given, "emotions.names=[anger,fear]"))
    assert isinstance(job, ClassJob)
    test = [item.label for item in job.splits.test]
    assert results.chance(job) == test.count("anger") / len(test) > 0.5


def test_rhetoric_has_classes_of_its_own(tmp_path: Path) -> None:
    job, _, result = done(
        tmp_path, "dataset=rhetoric", "control.units=[]", "selector.tokens=last", "selector.site=neuron"
    )
    assert job.names == ["metaphor", "hyperbole", "humour", "sarcasm", "literal"]
    assert "accuracy/sarcasm" in result["arms"]["mask"]


READ = {  # words of the job -> keys that its result depends on, with another value
    "intervention=mask": {
        "selector.ratio": 0.3, "selector.site": "neuron", "selector.tokens": "last", "selector.filter": False,
        "selector.assignment": "argmax", "selector.space": "joint", "selector.name": "cas", "intervention.ratio": 0.5,
        "intervention.ratio_of": "population", "intervention.op": "mean", "intervention.layers": "1-2",
        "evaluator.answer": "parsed", "evaluator.score": "mean",
        "control.seeds": 1, "seed": 1, "dataset.limit": 1, "evaluator.bootstrap": 30, "dtype": "bfloat16",
    },
    "intervention=adaptive_mask": {
        "adaptive.alpha": 0.4, "adaptive.alpha_step": 0.2, "adaptive.tau": 0.2, "adaptive.tau_step": 0.1,
        "adaptive.margin": 1.0, "adaptive.rounds": 3,
    },
    "intervention=induce": {"intervention.scale": 3.0, "generation.max_new_tokens": 2},
    "intervention=inject": {"intervention.scale": 3.0},
}  # fmt: skip
IDLE = {
    "intervention=mask": {"adaptive.alpha": 0.9, "batch_size": 3, "intervention.k": 3, "circuit.cap": 0.2, "name": "x"},
    "intervention=adaptive_mask": {"intervention.k": 3, "intervention.op": "mean"},
}


@pytest.mark.parametrize("words", READ)
def test_what_a_result_depends_on(tmp_path: Path, words: str) -> None:
    plain = make_job(made(tmp_path, words)).result_address
    for key, value in READ[words].items():
        assert make_job(_with(made(tmp_path, words), key, value)).result_address != plain, key
    for key, value in IDLE.get(words, {}).items():
        assert make_job(_with(made(tmp_path, words), key, value)).result_address == plain, key


def _with(config: Config, key: str, value: object) -> Config:
    section, _, last = key.rpartition(".")
    if not section:
        return replace(config, **{last: value})
    return replace(config, **{section: replace(getattr(config, section), **{last: value})})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dataset=sev"], "intervention=mask: neurons of classes need labelled texts"),
        (
            ["intervention=steer", "dataset=dialogues"],
            "dataset=dialogues: labelled texts and evaluator=prediction go together; type intervention=mask",
        ),
        (["intervention=steer", "evaluator=prediction"], "evaluator=prediction: labelled texts and"),
        (["intervention=inject", "dataset=rhetoric"], "devices are injected into neurons of emotions"),
        (["intervention.ratio=0"], "intervention.ratio=0: a number above 0"),
        (["adaptive.rounds=0"], "adaptive.rounds=0: a whole number from 1 on"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, words: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        run_job(made(tmp_path, *words))
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
