"""evaluator=llm_judge: scores of plain passes less those of texts of nothing, chances, and what is too weak or long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from support.jobs import config

from emo.core.errors import UserError
from emo.core.store import Store
from emo.measure import llm_judge
from emo.measure.class_prediction import choice_ids
from emo.measure.labels import evaluator_of, label_all, labeller_address
from emo.measure.llm_judge import NOTHING, LocalJudge

TEXTS = ("How dare they, I am furious!", "I weep and weep.", "Keep the receipt.", "")
WORDS = ("evaluator=llm_judge", "evaluator.model=tiny_llama")


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalJudge:
    monkeypatch.setattr(llm_judge, "EACH", 2)
    return LocalJudge(config(tmp_path, *WORDS), Store(tmp_path))


def plain(judge: LocalJudge, texts: tuple[str, ...]) -> np.ndarray:
    """Return the log-probability of every name behind every question, one whole pass each."""
    lm = llm_judge.load(judge.spec)
    out = []
    for ids in judge._questions(lm, texts):
        row = []
        for name in choice_ids(lm, judge.names):
            logits = lm.model(torch.tensor([[*ids, *name]])).logits[0].float().log_softmax(-1)
            row.append(sum(float(logits[len(ids) - 1 + j, token]) for j, token in enumerate(name)))
        out.append(row)
    return np.array(out)


def test_labels_are_those_of_plain_passes_beyond_texts_of_nothing(
    judge: LocalJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = [{"sample": i, "emotion": None, "seed": 0, "reply": text} for i, text in enumerate(TEXTS)]
    found = label_all(judge.store, config(tmp_path, *WORDS, "console=rich"), {"a": replies})["a"]
    with torch.inference_mode():
        beyond = plain(judge, TEXTS) - plain(judge, NOTHING).mean(0)
    scale = judge.calibration().meta["temperature"]
    chances = softmax(scale * beyond, axis=1)
    names = judge.names
    assert [row["label"] for row in found] == [*(names[i] for i in beyond[:3].argmax(1)), "neutral"]
    assert [row["p"] for row in found] == pytest.approx(chances.max(1), abs=1e-4)
    assert [row["forced"] for row in found] == [names[i] for i in beyond[:, :-1].argmax(1)]
    raw = plain(judge, TEXTS)
    assert (raw.argmax(1) != beyond.argmax(1)).any()  # else the texts of nothing would not show
    said = " ".join(capsys.readouterr().out.split())
    assert "of 8 shipped replies (chance 25%)" in said


def test_a_weak_model_is_called_weak(judge: LocalJudge, capsys: pytest.CaptureFixture[str]) -> None:
    judge._say({"accuracy": 0.3, "n": 84})
    judge._say({"accuracy": 0.6, "n": 84})
    weak, good = capsys.readouterr().out.splitlines()
    assert "too weak to be read as labels" in weak and "names the class of 60%" in good and "weak" not in good


def test_its_address_is_that_of_the_model_and_the_names(tmp_path: Path) -> None:
    own = labeller_address(config(tmp_path, *WORDS))
    assert own == labeller_address(config(tmp_path, *WORDS, "intervention.alpha=2", "batch_size=3"))
    others = ("evaluator.model=tiny_qwen2", "emotions.names=[anger,fear]")
    assert len({own, *(labeller_address(config(tmp_path, *WORDS, word)) for word in others)}) == 3


def test_what_does_not_fit_has_no_label(judge: LocalJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_longest", lambda _: 150)
    rows: dict[int, dict] = {}
    texts = ("Short.", "long " * 200)
    judge.label([{"sample": i, "emotion": None, "seed": 0, "reply": t} for i, t in enumerate(texts)], rows.__setitem__)
    assert rows[0]["label"] is not None and rows[1]["label"] is None


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for word, line in {
        "evaluator.model=tiny_lama": "did you mean tiny_llama", "evaluator.model=null": "needs evaluator.model=NAME",
    }.items():  # fmt: skip
        evaluator = evaluator_of(config(tmp_path, "evaluator=llm_judge", word), Store(tmp_path))
        assert evaluator is not None
        with pytest.raises(UserError, match=line):
            evaluator.check()
