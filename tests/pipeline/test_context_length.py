"""Texts that do not fit into the model are named before anything runs."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.jobs import config

from emo.cli import plan
from emo.cli.run import run_job
from emo.core.errors import UserError
from emo.measure.class_prediction import choice_ids
from emo.model.context import context_of
from emo.model.prompts import prompt_ids
from emo.pipeline.context_length import check_length
from emo.pipeline.jobs import make_job

CONTEXT = 2048  # tokens that the tiny models read
CLASSES = ("anger", "fear")
MASK = ("intervention=mask", "dataset=labelled", "emotions.names=[anger,fear]")
NO_LIMIT = ("dataset.limit=null",)


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to read weights: whoever checks lengths needs none."""

    def refused(*_: Any) -> Any:
        raise AssertionError("a language model was asked for")

    for name in ("emo.pipeline.extracted.load", "emo.pipeline.labelled.load", "emo.pipeline.finding.load"):
        monkeypatch.setattr(name, refused)


def texts(path: Path, lengths: dict[int, int]) -> Path:
    """Write 24 labelled texts of a few tokens (a token per letter); those of some lines (1: first) have a length."""
    rows = [{"text": f"no. {i} ".ljust(lengths.get(i, 12), "x"), "label": CLASSES[i % 2]} for i in range(1, 25)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scenarios(path: Path, length: int, which: range = range(7, 8)) -> Path:
    """Write ten scenarios, some of which (the seventh) have a length in letters."""
    rows = [
        {
            "skeleton_id": f"own_{i}", "theme": "work",
            "scenario": f"Case {i}. ".ljust(length if i in which else 30, "x"),
            "event": {"positive": "It ends well.", "negative": "It ends badly.", "neutral": "It ends."},
        }
        for i in range(1, 11)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def of_classes(folder: Path, *more: str) -> Any:
    """Return the configuration of a job on labelled texts."""
    return config(folder, "intervention.layers=all", *NO_LIMIT, *MASK, "evaluator=prediction", *more)


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama", "tiny_mistral"])
def test_a_labelled_text_that_does_not_fit_is_named(tmp_path: Path, model: str) -> None:
    """Also where positions are rotary and nothing would stop; a sliding window is no bound."""
    file = texts(tmp_path / "own.jsonl", {5: 2100, 9: 2300})
    with pytest.raises(UserError) as error:
        run_job(of_classes(tmp_path / "out", f"model={model}", f"dataset.path={file}"))
    line = str(error.value)
    assert "text own:9 has 23" in line and f"model={model} reads {CONTEXT} at most (2 of 24 texts" in line
    assert "type shorter texts or a model with a longer context" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("answer", ["choice", "parsed"])
def test_the_longest_text_that_fits(tmp_path: Path, answer: str) -> None:
    """To the token: question and longest name, or question and what is read of an answer."""
    words = ("model=tiny_llama", f"evaluator.answer={answer}")
    job = make_job(of_classes(tmp_path, *words, f"dataset.path={texts(tmp_path / 'a.jsonl', {})}"))
    from emo.measure.class_prediction import ANSWER_TOKENS, question_ids
    from emo.model.load import read_vocabulary
    from emo.pipeline.context_length import Reader

    reader: Any = Reader(read_vocabulary(job.spec), job.spec)
    item: Any = job.splits.train[0]
    around = len(question_ids(reader, [item], CLASSES, "emotion", answer == "parsed")[0]) - len(item.text)
    behind = ANSWER_TOKENS if answer == "parsed" else max(map(len, choice_ids(reader, CLASSES)))
    for more, fits in ((0, True), (1, False)):
        file = texts(tmp_path / "b.jsonl", {3: CONTEXT - around - behind + more})
        made = make_job(of_classes(tmp_path, *words, f"dataset.path={file}"))
        if fits:
            check_length(made)
        else:
            with pytest.raises(UserError, match=f"text b:3 .* {CONTEXT + 1}, and model=tiny_llama"):
                check_length(made)


def test_replies_to_a_text_are_counted(tmp_path: Path) -> None:
    file = texts(tmp_path / "own.jsonl", {})
    job = of_classes(tmp_path, f"dataset.path={file}", "intervention=induce", "generation.max_new_tokens=2040")
    with pytest.raises(UserError, match=r"generation.max_new_tokens=19\d\d, shorter texts"):
        check_length(make_job(job))


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_qwen2"])
def test_a_scenario_that_does_not_fit_is_named(tmp_path: Path, model: str) -> None:
    file = scenarios(tmp_path / "own.jsonl", 2200)
    words = (f"model={model}", "dataset=jsonl", f"dataset.path={file}", *NO_LIMIT)
    with pytest.raises(UserError) as error:
        run_job(config(tmp_path / "out", *words))
    assert "text own_7/" in str(error.value) and "(2 of 16 texts are too long)" in str(error.value)
    assert "generation.max_new_tokens" not in str(error.value)  # no number of them would do
    assert not (tmp_path / "out").exists()


def test_the_length_that_is_advised_fits(tmp_path: Path) -> None:
    """Replies of the test split, of the strength's choice on dev, and those that directions are found on."""
    file = scenarios(tmp_path / "own.jsonl", 1500, range(1, 11))
    own = config(tmp_path, "dataset=jsonl", f"dataset.path={file}", *NO_LIMIT, "evaluator=projection")
    own.generation.max_new_tokens = 900
    check_length(make_job(own))  # nothing is written
    for section, key, value in (
        ("evaluator", "name", "margin"),
        ("elicitation", "accept", "judged"),
        ("intervention", "alpha", "auto"),
    ):
        made = deepcopy(own)
        setattr(getattr(made, section), key, value)
        with pytest.raises(UserError, match="generation.max_new_tokens=") as error:
            check_length(make_job(made))
        [advice] = re.findall(r"type generation.max_new_tokens=(\d+), shorter texts", str(error.value))
        made.generation.max_new_tokens = int(advice)
        check_length(make_job(made))
        made.generation.max_new_tokens += 1
        with pytest.raises(UserError, match=f"{CONTEXT + 1}, and model=tiny_llama"):
            check_length(make_job(made))


def test_held_out_replies_are_counted(tmp_path: Path) -> None:
    """They stand behind every prompt, however short the replies are."""
    job = make_job(config(tmp_path, "generation.max_new_tokens=1"))
    from emo.measure.margin import replies_for
    from emo.model.load import read_vocabulary
    from emo.pipeline.context_length import Reader

    reader: Any = Reader(read_vocabulary(job.spec), job.spec)
    test = job.splits.test
    forms = [prompt_ids(reader, job.config.elicitation, test, form) for form in (None, *job.names)]
    replies = [max(map(len, own.values())) for own in replies_for(reader, test, "sev_test", job.names)]
    most = max(len(ids) + behind for form in forms for ids, behind in zip(form, replies, strict=True))
    job.spec = job.spec._replace(context=most)
    check_length(job)
    job.spec = job.spec._replace(context=most - 1)
    with pytest.raises(UserError, match="of what is read behind it"):
        check_length(job)
    assert most - 1 > max(len(ids) for form in forms for ids in form)  # so the prompts alone would fit


def test_a_sweep_starts_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """One check for the jobs of the same texts; jobs that are done are not asked."""
    file = scenarios(tmp_path / "own.jsonl", 2200)
    short = scenarios(tmp_path / "short.jsonl", 40)
    checked: list[object] = []
    monkeypatch.setattr(plan, "check_length", lambda job: (checked.append(job), check_length(job)))
    own = config(tmp_path / "out", "dataset=jsonl", f"dataset.path={file}", *NO_LIMIT)
    given = []
    for path in (short, file):
        for alpha in (1, 2, 3):
            one = deepcopy(own)
            one.dataset.path, one.intervention.alpha = str(path), alpha
            given.append(([f"a={alpha}"], one))
    made = plan.make(given, "run.py")
    assert [job["dtype"] for job in made.listing()["jobs"]] == ["float32"] * 6
    with pytest.raises(UserError, match="3 of 6 jobs are wrong, so none was started"):
        plan.announce(made)
    assert "text own_7/" in capsys.readouterr().err and len(checked) == 2
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(plan, "find_result", lambda *_: {"status": "done"})
    assert plan.announce(made) == [] and len(checked) == 2


def test_a_text_that_is_short_is_not_tokenized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.pipeline.context_length.read_vocabulary", lambda _: pytest.fail("a tokenizer was read"))
    check_length(make_job(config(tmp_path)))
    file = texts(tmp_path / "own.jsonl", {})
    check_length(make_job(of_classes(tmp_path, f"dataset.path={file}")))


@pytest.mark.parametrize(
    ("kind", "sizes", "context"),
    [
        ("gpt2", {"n_positions": 1024}, 1024),
        ("mistral", {"max_position_embeddings": 32768, "sliding_window": 4096}, 32768),
        ("llama", {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}, 131072),
        ("qwen2", {"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
         "original_max_position_embeddings": 32768}}, 131072),
        ("qwen2", {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
         "original_max_position_embeddings": 32768}}, 131072),
        ("bloom", {}, None),
    ],
)  # fmt: skip
def test_the_context_that_a_configuration_states(kind: str, sizes: dict[str, Any], context: int | None) -> None:
    assert context_of(transformers.AutoConfig.for_model(kind, **sizes)) == context
