"""Labels of replies in a job: accuracy, selection by clean accuracy, acceptance, judges; nothing is written twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from support.fake_judge import FakeJudge, completion
from support.jobs import config, read_result, read_rows

from emo.cli.run import run_job
from emo.cli.tasks import prefetch, run_task
from emo.core.errors import UserError
from emo.core.store import Store
from emo.data.texts import read_jsonl
from emo.find.extraction import accepted
from emo.measure import classifier_fit, hf_classifier, hub_model, labels
from emo.measure.labels import hits, label_all, labeller_address
from emo.model.lm import ModelSpec
from emo.pipeline.scenario import Job

EMOTIONS = ["anger", "sadness", "fear"]
LABELLED = ("evaluator=classifier", "elicitation.judge=classifier")


@pytest.fixture(autouse=True)
def _small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit on a tenth of the corpus: these tests are about what is done with labels."""
    rows = [row for name in classifier_fit.CORPUS for row in read_jsonl(name) if row["scenario_id"].endswith("0")]
    monkeypatch.setattr(classifier_fit, "_corpus", lambda: rows)
    monkeypatch.setattr(classifier_fit, "FOLDS", 3)


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])


def test_accuracies_of_one_reply() -> None:
    row = {"label": "anger", "forced": "anger", "p": 0.9}
    assert hits(row, "anger", degenerate=False) == {
        "accuracy": 1.0, "clean_accuracy": 1.0, "forced_accuracy": 1.0, "unsure": 0.0, "match": None,
        "joint": None,
    }  # fmt: skip
    assert hits(row | {"p": 0.49}, "anger", degenerate=False)["unsure"] == 1.0
    assert hits(row, "anger", degenerate=True)["clean_accuracy"] == 0.0
    assert hits(row, "fear", degenerate=False)["accuracy"] == 0.0
    neutral = hits({"label": "neutral", "forced": "fear"}, "fear", degenerate=False)
    assert (neutral["accuracy"], neutral["forced_accuracy"]) == (0.0, 1.0)
    unjudged = hits({"label": None, "forced": None, "match": None}, "fear", degenerate=False)
    assert set(unjudged.values()) == {None}


def test_the_rows_of_every_arm_come_back_in_order(tmp_path: Path) -> None:
    made = config(tmp_path, *LABELLED)
    texts = {"a": ["I am furious, how dare they!"], "b": ["", "Keep the receipt.", "My heart is broken and I weep."]}
    replies = {
        arm: [{"sample": i, "emotion": None, "seed": 0, "reply": text} for i, text in enumerate(part)]
        for arm, part in texts.items()
    }
    found = label_all(Store(tmp_path), made, replies)
    assert [len(rows) for rows in found.values()] == [1, 3]
    assert found["a"][0]["label"] == "anger" and found["b"][0]["label"] == "neutral"
    assert found["b"][2]["label"] == "sadness"


def test_a_change_of_evaluator_writes_no_reply_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_job(config(tmp_path)) == 0

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a reply was written again")

    monkeypatch.setattr("emo.measure.batch.generate", never)
    made = config(tmp_path, "evaluator=classifier")
    assert run_job(made) == 0
    result = json.loads((tmp_path / "run" / Job(made).result_address[:16] / "result.json").read_text())
    arms = result["arms"]
    assert set(result["off_target"]["arms"]) == set(arms) and result["unjudged"]["steer"] == 0
    for metric in ("accuracy", "clean_accuracy", "forced_accuracy", "accuracy/anger", "accuracy/anger/positive"):
        assert 0 <= arms["steer"][metric]["value"] <= 1, metric
    assert arms["steer"]["clean_accuracy"]["value"] <= arms["steer"]["accuracy"]["value"]
    assert result["comparisons"][0]["metric"] == "clean_accuracy"
    rows = read_rows(tmp_path / "run" / Job(made).result_address[:16] / "samples.jsonl")
    assert all(row["label"] in (*EMOTIONS, "neutral") for row in rows)
    mean = [row["label"] == row["emotion"] for row in rows if row["arm"] == "steer"]
    assert arms["steer"]["accuracy"]["value"] == pytest.approx(sum(mean) / len(mean))


def write_set(path: Path, word: str) -> None:
    """Write a user's file whose texts hold ``word``."""
    rows = [
        {"skeleton_id": f"{path.stem}{i}", "theme": "Work/Job", "scenario": f"I moved {word} {i} across the yard.",
         "event": {v: f"The {word} {i} stayed {v}." for v in ("positive", "neutral", "negative")}}
        for i in range(5)
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


AUTO = (
    *("intervention.alpha=auto", "intervention.select.alpha=[0.5,2]", "intervention.select.prompts=2"),
    *("intervention.select.max_ppl_ratio=1e9", "intervention.select.max_degenerate=1", "elicitation.judge=classifier"),
    "intervention.select.extend=0",
)


def test_no_test_prompt_reaches_the_choice_of_strength(tmp_path: Path) -> None:
    """With a poisoned test set the choice has the same address and the same content."""
    made = []
    for word in ("boxes", "POISON"):
        write_set(tmp_path / "train.jsonl", "sacks")
        write_set(tmp_path / f"{word}.jsonl", word)
        paths = (f"dataset.path={tmp_path / 'train.jsonl'}", f"dataset.test_path={tmp_path / f'{word}.jsonl'}")
        made.append(Job(config(tmp_path / word, "dataset=jsonl", *paths, *AUTO)))
    one, two = made
    assert one.result_address != two.result_address
    assert one._selection_key == two._selection_key
    assert one.selection == two.selection
    assert one.selection is not None and one.selection.metric == "clean_accuracy"


def test_one_strength_per_emotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anger is expressed at the small strength only, the others at the large one."""

    calls: list[int] = []

    def per_candidate(_: Store, __: list[str], replies: list[dict[str, Any]], ___: str) -> list[dict[str, Any]]:
        calls.append(len(replies))  # the candidates come in the order of select.alpha
        small = len(calls) == 1
        return [
            {k: r[k] for k in ("sample", "emotion", "seed")}
            | {"label": r["emotion"] if (r["emotion"] == "anger") == small else "neutral", "forced": None, "p": 1.0}
            for r in replies
        ]

    monkeypatch.setattr("emo.pipeline.extracted.label_rows", per_candidate)
    monkeypatch.setattr("emo.measure.strength_tuning.hits", lambda row, target, _: hits(row, target, degenerate=False))
    job = Job(config(tmp_path, *AUTO, "intervention.select.per=emotion"))
    assert job.selection is not None and job.selection.alpha == [0.5, 2.0, 2.0]
    steer = next(arm for arm in job.arms if arm.kind == "steer")
    assert [steer.strength(e) for e in range(3)] == [0.5, 2.0, 2.0]
    random = next(arm for arm in job.arms if arm.kind == "random")
    assert len(random.conditions(3)) == 3 * random.seeds  # a control of the same doses needs one for every emotion


def test_only_accepted_replies_feed_the_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def accept(_: Store, __: list[str], replies: list[dict[str, Any]], ___: str) -> list[dict[str, Any]]:
        """Accept all emotions of every second group (three emotions each)."""
        seen.append(len(replies))
        return [
            {"label": EMOTIONS[i % 3] if (i // 3) % 2 == 0 else "neutral", "forced": EMOTIONS[i % 3], "p": 1.0}
            for i in range(len(replies))
        ]

    every = Job(config(tmp_path))
    monkeypatch.setattr("emo.pipeline.extracted.label_rows", accept)
    job = Job(config(tmp_path, "elicitation.accept=judged", "elicitation.judge=classifier"))
    assert job.directions_address != every.directions_address
    meta = job.directions.meta
    assert seen and meta["groups"] == meta["of"] // 2 and meta["accepted"] == 0.5
    pairs, ids = accepted(job.directions), [s.id for s in job.splits.extract]
    assert [row["sample"] for row in job.directions.rows] == ids
    assert {i for i, _ in pairs} < set(ids) and len(pairs) == 3 * meta["groups"]
    assert job.attribution.meta == {"samples": dict.fromkeys(job.names, meta["groups"])}
    with pytest.raises(UserError, match=r"type elicitation\.judge=classifier"):
        config(tmp_path, "elicitation.accept=judged")


def test_an_emotion_that_the_classifier_does_not_know(tmp_path: Path) -> None:
    made = config(tmp_path, *LABELLED)
    made.emotions.names = ["anger", "awe"]
    with pytest.raises(UserError, match=r"no class awe in it; it knows anger, .*type evaluator=projection"):
        labels.check_labels(made, Store(tmp_path))


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    """Return a judge that calls everything sadness and says that nothing matches."""

    def answer(request: Any) -> Any:
        blind = "Target emotion" not in request.text
        return completion('{"emotion": "sadness"}' if blind else '{"match": 0, "reason": "no"}')

    with FakeJudge(answer) as running:
        yield running


def test_a_judge_labels_finished_runs(tmp_path: Path, server: FakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """task=judge asks about every reply once, and the key is in nothing that is written."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    assert run_job(config(tmp_path)) == 0
    words = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "task=judge", f"runs={tmp_path / 'run'}")
    assert run_task(config(tmp_path, *words)) == 0
    found = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("*/result.json")]
    [judged] = [r for r in found if r["config"]["evaluator"]["name"] == "openai_judge"]
    assert judged["arms"]["steer"]["accuracy/sadness"]["value"] == 1.0
    assert judged["arms"]["steer"]["match"]["value"] == 0.0
    assert "forced_accuracy" not in judged["arms"]["steer"]
    asked = len(server.requests)
    assert asked > 0 and run_task(config(tmp_path, *words)) == 0 and len(server.requests) == asked
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes(), path


def test_a_text_classification_model_labels(tmp_path: Path) -> None:
    """evaluator=hf_classifier with a tiny BERT in a local folder: chances of its labels, summed by the label map."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    folder = tmp_path / "model"
    transformers.BertTokenizer(str(tmp_path / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    own = {0: "rage", 1: "gloom", 2: "dread", 3: "plain"}
    shape = {"vocab_size": len(words), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.BertForSequenceClassification(
        transformers.BertConfig(**shape, intermediate_size=8, id2label=own, max_position_embeddings=16)
    ).save_pretrained(folder)
    hf = ("evaluator=hf_classifier", f"evaluator.model={folder}")
    labels = "evaluator.labels=[rage:anger,gloom:sadness,dread:fear,plain:neutral]"
    names, p = hf_classifier.probabilities(str(folder), {v: v for v in own.values()}, ["a b", ""])
    assert names == tuple(own.values()) and p.shape == (2, 4) and np.allclose(p.sum(1), 1)
    assert run_job(config(tmp_path, *hf, labels)) == 0
    assert read_result(tmp_path)["arms"]["steer"]["accuracy"]["n"] > 0
    with pytest.raises(UserError, match="has no label fury; it has rage"):
        hf_classifier.probabilities(str(folder), {"fury": "anger"}, ["a"])
    for bad in ("evaluator.labels=[rage:anger]", "evaluator.labels=[rage]", labels.replace("fear", "dread")):
        with pytest.raises(UserError, match=r"evaluator\.labels=\[LABEL:CLASS"):
            Job(config(tmp_path, *hf, bad)).check()
    before = labeller_address(config(tmp_path, *hf, labels))
    hub_model.commit_of.cache_clear()
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ", encoding="utf-8")
    assert labeller_address(config(tmp_path, *hf, labels)) != before


def test_prefetch_brings_every_model_of_one_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """model=hub is one option and many models."""
    brought: list[str] = []
    monkeypatch.setattr(
        "emo.cli.tasks.describe", lambda model, *_: ModelSpec("hub", "hub", model.id, "c", "", 1, *[""] * 4)
    )
    monkeypatch.setattr("emo.cli.tasks.fetch", lambda spec: brought.append(spec.id))
    made = [config(tmp_path, "model=hub", f"model.id={name}") for name in ("a/one", "a/two", "a/one")]
    prefetch(made)
    assert brought == ["a/one", "a/two"]


def test_the_judge_of_strengths_is_no_part_of_directions_that_need_none(tmp_path: Path) -> None:
    one, two = Job(config(tmp_path)), Job(config(tmp_path, "elicitation.judge=classifier"))
    assert one.directions_address == two.directions_address and one.result_address != two.result_address


def test_one_call_labels_and_reports(tmp_path: Path) -> None:
    assert run_job(config(tmp_path, *LABELLED)) == 0
    assert read_result(tmp_path)["arms"]["none"]["accuracy"]["n"] > 0
