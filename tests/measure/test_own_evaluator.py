"""evaluator._target_: a class from outside of the package labels the replies, exactly like evaluator=classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.command import refused_here
from support.jobs import config, read_rows
from support.own import Lengths

import emo
from emo.cli.run import run_job
from emo.cli.tasks import prefetch, run_task
from emo.config.read_keys import refuse_unread
from emo.core import targets
from emo.core.errors import UserError
from emo.measure.labels import labeller_address
from emo.pipeline.scenario import Job
from emo.results.table import read_result

pytestmark = pytest.mark.usefixtures("quiet")
OWN = ("evaluator._target_=support.own.Lengths", "evaluator.name=by_length")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])


def own(target: str, *words: str) -> tuple[str, ...]:
    """Return the words that name a class of `support.own`."""
    return (f"evaluator._target_=support.own.{target}", "evaluator.name=mine", *words)


def test_it_labels_as_the_classifier_does(tmp_path: Path) -> None:
    """Accuracies with intervals and parts, comparisons on clean accuracy; no chances, so no forced accuracy."""
    made = config(tmp_path, *OWN)
    assert run_job(made) == 0
    folder = tmp_path / "run" / Job(made).result_address[:16]
    result = read_result(folder)
    assert result is not None
    arms, rows = result["arms"], read_rows(folder / "samples.jsonl")
    assert all(row["label"] == made.emotions.names[len(row["reply"]) % 3] and row["p"] is None for row in rows)
    mean = [row["label"] == row["emotion"] for row in rows if row["arm"] == "steer"]
    assert arms["steer"]["accuracy"]["value"] == pytest.approx(sum(mean) / len(mean))
    assert {"clean_accuracy", "accuracy/anger", "accuracy/anger/positive"} <= set(arms["steer"])
    assert not any(key.startswith(("forced_accuracy", "match")) for metrics in arms.values() for key in metrics)
    assert result["comparisons"][0]["metric"] == "clean_accuracy"
    assert result["off_target"]["labels"] == [*made.emotions.names, "neutral"]
    frame = emo.load_results(folder)
    assert set(frame[frame["arm"] == "steer"]["metric"]) == set(arms["steer"])


def test_a_finished_run_is_labelled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """task=judge writes no reply; of two evaluators of one's own neither has the settings of the other."""
    assert run_job(config(tmp_path)) == 0

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a reply was written again")

    monkeypatch.setattr("emo.measure.batch.generate", never)
    task = ("task=judge", f"runs={tmp_path / 'run'}")
    assert run_task(config(tmp_path, *own("Lengths", "evaluator.settings={fails: 1, by: 2}"), *task)) == 0
    assert run_task(config(tmp_path, *own("Same", "evaluator.settings={label: anger}"), *task)) == 0
    found = [read_result(path) for path in (tmp_path / "run").iterdir() if path.is_dir()]
    same = next(r for r in found if r and r["config"]["evaluator"]["settings"] == {"label": "anger"})
    assert same["arms"]["steer"]["accuracy/anger"]["value"] == 1.0
    with pytest.raises(UserError, match=r"^task=judge evaluator=projection: labels nothing; type classifier, "):
        run_task(config(tmp_path, "evaluator=projection", *task))


def test_a_reply_that_it_failed_on_is_unjudged_and_asked_again(tmp_path: Path) -> None:
    made = config(tmp_path, *OWN)
    assert run_job(made) == 0
    rows = read_rows(tmp_path / "run" / Job(made).result_address[:16] / "samples.jsonl")
    length = len(next(row["reply"] for row in rows if row["arm"] == "steer"))
    failing = config(tmp_path, *OWN, f"evaluator.settings={{fails: {length}}}")
    assert run_job(failing) == 0
    result = read_result(tmp_path / "run" / Job(failing).result_address[:16])
    count = sum(len(row["reply"]) == length for row in rows if row["arm"] == "steer")
    assert result is not None and result["unjudged"]["steer"] == count > 0


def test_file_and_settings_are_in_the_address_of_labels_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file labels anew, and writes no reply anew."""
    text = "class A:\n    def label(self, texts, names):\n        return [names[0] for _ in texts]\n"
    (tmp_path / "mine_a.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    words = ("evaluator._target_=mine_a.A", "evaluator.name=mine")
    one, same = (config(tmp_path, *words, "evaluator.settings=null") for _ in range(2))
    with_settings = config(tmp_path, *words, "evaluator.settings={word: x}")
    addresses = [labeller_address(one), labeller_address(same), labeller_address(with_settings)]
    assert addresses[0] == addresses[1] != addresses[2]
    replies, result = (Job(one).replies_address(Job(one).arms[0]), Job(one).result_address)
    (tmp_path / "mine_a.py").write_text(text + "# changed\n", encoding="utf-8")
    targets.target_digest.cache_clear()
    assert labeller_address(one) != addresses[0] and Job(one).result_address != result
    assert Job(one).replies_address(Job(one).arms[0]) == replies


@pytest.mark.parametrize("words", ["", "evaluator=classifier", "intervention=circuit", "evaluator=projection"])
def test_the_address_of_other_jobs_knows_nothing_of_it(words: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Results that are there keep their addresses: nothing new stands in them."""
    seen: list[dict[str, Any]] = []
    whole = Job.address

    def address(job: Job, stage: str, **inputs: Any) -> str:
        seen.append(inputs)
        return whole(job, stage, **inputs)

    monkeypatch.setattr(Job, "address", address)
    made = Job(config(tmp_path, *words.split()))
    assert made.result_address
    [inputs] = [given for given in seen if "versions" in given]
    assert set(inputs) == {"config", "data", "versions", "texts", "labels", "circuit"}
    known = {"name", "model", "labels", "questions", "bootstrap", "kl_tokens", "min_distinct3", "min_distinct4"}
    assert set(inputs["config"]["evaluator"]) == known | {"max_nonwords"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluator._target_=support.own.Lengths",), "evaluator.name=margin: not the name of evaluator._target_="),
        (own("Nothing"), "support.own has no Nothing, only"),
        (own("Mute"), "evaluator._target_=support.own.Mute: it has no label; docs/extend.md shows one"),
        (("evaluator._target_=no_such.A", "evaluator.name=mine"), "there is no module no_such (looked in"),
        (own("Lengths", "evaluator.settings={x: 1}"), "got an unexpected keyword argument 'x'; it takes fails, by"),
        (own("Lengths", "evaluator.settings={by: 0}"), "evaluator.settings.by=0: 1 or more is needed"),
        (own("Lengths", "evaluator.settings={api_key: x}"), "evaluator.settings.api_key: secrets are read from"),
        (own("Same"), "missing a required argument: 'label'; it takes label, times"),
    ],
)  # fmt: skip
def test_what_cannot_label_is_refused_before_anything_runs(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    line = refused_here(tmp_path, *words)
    assert said in line and "\n" not in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [("{label: joy}", "label() gave 'joy'; return one of anger, sadness, fear, neutral, other, or None"),
     ("{label: anger, times: 2}", "labels for "), ("{label: Anger}", "did you mean anger?")],
)  # fmt: skip
def test_labels_that_are_none_are_refused(settings: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_job(config(tmp_path, *own("Same", f"evaluator.settings={settings}")))
    assert str(caught.value).startswith("evaluator._target_=support.own.Same: label() gave ") and said in str(
        caught.value
    )


def test_settings_without_a_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only by an evaluator of your own: evaluator\._target_=MODULE\.Class"):
        refuse_unread(["evaluator.settings={a: 1}"], [config(tmp_path)])
    made = config(tmp_path, *OWN)
    refuse_unread(["evaluator._target_=support.own.Lengths", "evaluator.settings.by=2"], [made])
    with pytest.raises(UserError, match=r"^evaluator\.labels=\[a:b\]: not read by evaluator=by_length, only by"):
        refuse_unread(["evaluator.labels=[a:b]"], [made])


def test_emotions_of_ones_own_and_the_python_api(tmp_path: Path) -> None:
    """What only the six have is not needed; the class is made once for the jobs of a sweep."""
    words = ("emotions.names=[awe,pride]", *own("Same", "evaluator.settings={label: awe}"), "dataset.limit=1")
    made = config(tmp_path, *words)
    assert run_job(made) == 0
    result = read_result(tmp_path / "run" / Job(made).result_address[:16])
    assert result is not None and result["arms"]["steer"]["accuracy/awe"]["value"] == 1.0
    labeller = emo.load_evaluator("support.own.Lengths", settings={"by": 2})
    assert labeller.label(["abcd", "ab"]) == ["happiness", "sadness"]
    before = Lengths.made
    assert emo.load_evaluator("support.own.Lengths", settings={"by": 2}).label(["ab"], ["x", "y"]) == ["y"]
    prefetch([config(tmp_path, *own("Lengths", "evaluator.settings={by: 2}"))])
    assert Lengths.made == before
    for name in ("openai_judge", "support.own.Nothing"):
        with pytest.raises(UserError, match=r"^load_evaluator="):
            emo.load_evaluator(name)
