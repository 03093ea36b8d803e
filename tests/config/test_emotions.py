"""Emotions of a user's own: what a job measures of them, what it refuses, and what a judge is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.fake_judge import FakeJudge, completion
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.cli.tasks import _prefetch_labeller
from emo.core.errors import UserError
from emo.measure.judge_questions import Question, digest, messages
from emo.measure.labels import labeller_address
from emo.measure.margin import without_replies
from emo.model.prompts import prompt_ids
from emo.pipeline import addresses
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
OWN = ("emotions.names=[awe,boredom]", "elicitation=paper", "elicitation.judge=classifier", "evaluator=projection")
WORDS = "emotions.words={awe: deep awe}"
TOLD = "emotions.descriptions={boredom: Nothing holds the attention.}"


def test_a_job_on_emotions_of_ones_own(tmp_path: Path) -> None:
    """Projections, directions and every figure, with names that no palette and no classifier knows."""
    assert run_job(config(tmp_path, *OWN, WORDS)) == 0
    arms = read_result(tmp_path)["arms"]
    assert {"delta_s/awe", "delta_s/boredom", "delta_s_rel", "delta_s_last"} <= set(arms["steer"])
    assert not any(metric.startswith(("logprob_margin", "accuracy")) for metric in arms["steer"])
    assert list(tmp_path.glob("run/*/*.png")) and list(tmp_path.glob("run/*/report.html"))


def test_words_reach_the_prompts_and_the_addresses(tmp_path: Path) -> None:
    """A wording that is read nowhere; or one whose directions are taken for those of the name."""
    plain, worded = Job(config(tmp_path, *OWN)), Job(config(tmp_path, *OWN, WORDS))
    ids = {job: prompt_ids(job.lm, job.config.elicitation, job.splits.test[:1], "awe")[0] for job in (plain, worded)}
    texts = [job.lm.tokenizer.decode(ids[job]) for job in (plain, worded)]
    assert "Always reply in awe." in texts[0] and texts[1] == texts[0].replace("in awe.", "in deep awe.")
    assert plain.directions_address != worded.directions_address
    same = Job(config(tmp_path, *OWN, "emotions.words={awe: awe}"))
    assert plain.directions_address == same.directions_address


SEVERAL = ("evaluator=margin", "intervention.alpha=auto")
REFUSED = {
    "evaluator=classifier": "type evaluator=projection (or openai_judge)",
    "evaluator=hf_classifier": "type evaluator=projection (or openai_judge)",
    "evaluator=margin": "type evaluator=projection (or openai_judge)",
    "elicitation=few_shot": "type elicitation=paper (or persona)",
    "elicitation=priming": "type elicitation=paper (or persona)",
    "elicitation.accept=judged": "type elicitation.accept=all",
    "intervention.alpha=auto": "type intervention.alpha=NUMBER",
    "intervention.layers=auto": "type intervention.layers=RANGE",
}
CIRCUIT = ("intervention=circuit", "intervention.alpha=1", "intervention.layers=1-2")


@pytest.mark.parametrize("word", list(REFUSED))
def test_what_needs_the_six_is_refused_by_name(tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError) as caught:
        config(tmp_path, *OWN, word)
    said = str(caught.value)
    assert said.startswith("emotions.names: awe, boredom not one of anger, ") and "\n" not in said
    assert f"{word} knows only these" in said and said.endswith(REFUSED[word])
    config(tmp_path, *OWN, word, "emotions.names=[anger,fear]")


def test_everything_that_is_in_the_way_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="awe not one of .*type evaluator=projection .* elicitation=paper .*NUMBER"):
        config(tmp_path, *OWN, "emotions.names=[anger,awe]", "elicitation=few_shot", *SEVERAL)
    config(tmp_path, *OWN, "intervention=prompt", "intervention.alpha=auto")  # chooses no strength


def test_a_scale_chosen_on_dev_needs_the_six_and_a_given_one_does_not(tmp_path: Path) -> None:
    """Of steering beside a circuit only where it is asked for."""
    with pytest.raises(UserError, match=r"intervention.scale=auto knows only these.* type intervention.scale=NUMBER$"):
        config(tmp_path, *OWN, *CIRCUIT, "intervention.scale=auto")
    for kind in ("circuit", "prompt_circuit"):
        with pytest.raises(UserError, match=r"type intervention.alpha=NUMBER$"):
            config(tmp_path, *OWN, *CIRCUIT, f"intervention={kind}", "intervention.alpha=auto")
    config(tmp_path, *OWN, *CIRCUIT, "intervention.scale=0.5")
    config(tmp_path, *OWN, *CIRCUIT, "intervention.alpha=auto", "control.circuits=[matched_steer]")
    config(tmp_path, *OWN, *CIRCUIT, "intervention=ablate_circuit", "intervention.scale=auto")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["emotions.names=[awe,neutral]"], "'neutral' is no name of an emotion"),
        (["emotions.names=[awe,a/b]"], "'a/b' is no name of an emotion"),
        (["emotions.names=[awe,awe]"], "at least two are needed, none twice"),
        (["emotions.names=[awe]"], "at least two are needed, none twice"),
        (["emotions.words={aw: deep awe}"], "emotions.words: aw is not one of emotions.names, awe, boredom; did you"),
        (["emotions.descriptions={awe: ' '}"], "emotions.descriptions.awe: empty"),
        (["emotions.words=deep"], "emotions.words: texts by name are needed, like {awe: deep awe}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_emotions(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        config(tmp_path, *OWN, *words)
    assert said in str(caught.value)


def test_no_classifier_is_fitted_for_names_that_it_cannot_know(tmp_path: Path) -> None:
    """The default elicitation.judge is a classifier, which such a job never asks."""
    made = config(tmp_path, *OWN)
    Job(made).check()
    _prefetch_labeller(made)
    assert not (tmp_path / "store" / "classifier").exists()


def test_a_blind_judge_is_told_what_the_names_mean(tmp_path: Path) -> None:
    plain = Question("blind", None, "Hm.", ("awe", "boredom"))
    told = plain._replace(descriptions=(("boredom", "Nothing holds the attention."),))
    assert messages(told)[0]["content"] == messages(plain)[0]["content"] + " Boredom: Nothing holds the attention."
    assert messages(told)[1] == messages(plain)[1] and digest(told) != digest(plain)
    match = Question("match", "awe", "Hm.", ("awe", "boredom"))
    assert messages(match) == messages(match._replace(descriptions=told.descriptions))  # as printed
    judge = ("evaluator=openai_judge", "evaluator.model=m", "evaluator.base_url=http://localhost:1/v1")
    one, two = (labeller_address(config(tmp_path, *OWN, *judge, *more)) for more in ((), (TOLD,)))
    assert one != two


def test_a_judge_labels_emotions_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With labels but without margins, which the report says."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")

    def answer(request: Any) -> Any:
        blind = "Target emotion" not in request.text
        assert ("Nothing holds the attention." in json.dumps(request.body)) == blind
        return completion(json.dumps({"emotion": "boredom"} if blind else {"match": 1, "reason": "yes"}))

    with FakeJudge(answer) as server:
        words = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "evaluator.model=m", TOLD)
        assert run_job(config(tmp_path, *OWN, *words)) == 0
    arms = read_result(tmp_path)["arms"]["steer"]
    assert arms["accuracy/boredom"]["value"] == 1.0 and arms["accuracy/awe"]["value"] == 0.0
    assert not any(metric.startswith("logprob_margin") for metric in arms)
    [page] = tmp_path.glob("run/*/report.html")
    assert "no held-out replies for awe, boredom" in page.read_text(encoding="utf-8")
    assert without_replies(["fear", "awe"]) == ["awe"]


def test_a_primed_job_and_the_pool_in_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited passage must not read the directions of the old one."""
    primed = config(tmp_path, "elicitation=priming", "intervention=prompt")
    before = Job(primed).directions_address
    assert run_job(primed) == 0
    assert "logprob_margin" in read_result(tmp_path)["arms"]["prompt"]
    monkeypatch.setattr(addresses, "digest_of", lambda name: f"edited {name}")
    assert Job(primed)._asking["pool"] == "edited priming.jsonl"
    assert Job(primed).directions_address != before
