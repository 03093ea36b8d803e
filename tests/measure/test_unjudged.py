"""Replies that a judge leaves without an answer, and a judge that is asked one of its two questions only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.fake_judge import FakeJudge, Request, Response, completion
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.cli.tasks import run_task, show_status
from emo.config.schema import EvaluatorConfig
from emo.core import console
from emo.measure import unjudged
from emo.report.sweep_files import summarize_sweep
from emo.results.result_file import find_result

JUDGED = ("evaluator=openai_judge", "control.arms=[]", "console=rich", "generation.max_new_tokens=8")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])


class Answers:
    """A judge that finds fear only, and answers what has ``junk`` in its words with junk."""

    def __init__(self, junk: str | None = None) -> None:
        self.junk = junk

    def __call__(self, request: Request) -> Response:
        if self.junk is not None and self.junk in request.text:
            return completion("I would rather not say.")
        if "Target emotion" in request.text:
            return completion(json.dumps({"match": int("fear" in request.text), "reason": "yes"}))
        return completion('{"emotion": "fear"}')


def kept(folder: Path) -> int:
    """Return how many artifacts of labels the store holds."""
    return len(list((folder / "store" / "labels").glob("*/manifest.json")))


def asked(server: FakeJudge, since: int = 0) -> list[str]:
    """Return the questions that reached the server, each once."""
    return list(dict.fromkeys(json.dumps(request.body["messages"]) for request in server.requests[since:]))


@pytest.mark.usefixtures("_no_figures")
def test_unjudged_replies_are_asked_for_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are in no mean, said everywhere, not kept, and the same line asks for them alone."""
    plan = Answers("anger")
    with FakeJudge(plan) as server:
        made = config(tmp_path, *JUDGED, f"evaluator.base_url={server.url}")
        assert run_job(made) == 0
        result, out = read_result(tmp_path), capsys.readouterr().out
        arms = result["arms"]
        assert result["status"] == "done" and result["unjudged"] == {"none": 0, "prompt": 4, "steer": 4}
        assert arms["prompt"]["match"]["value"] == 0.5 and arms["prompt"]["match"]["n"] == 8
        assert "match/anger" not in arms["prompt"] and arms["prompt"]["accuracy"]["n"] == 12
        line = "unjudged replies: prompt 4 of 12, steer 4 of 12; they are in no mean"
        page = next(tmp_path.glob("run/*/report.html")).read_text(encoding="utf-8")
        assert line in page and line in out and "typed again, asks for these alone" in out
        assert kept(tmp_path) == 1
        unanswered = len(server.requests)
        first = {
            question for question in asked(server) if len(json.loads(question)) == 2
        }  # a repair shows the answer too
        failed = {question for question in first if "anger" in json.loads(question)[1]["content"]}
        assert unanswered == len(first) + len(failed)  # a malformed answer is asked for twice, and no more

        show_status(tmp_path / "run", None)
        assert "done, 8 replies unjudged" in capsys.readouterr().out
        summarize_sweep(tmp_path / "run", made.tracker)
        assert "unjudged replies, in no mean of the table (" in capsys.readouterr().out
        assert line in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

        plan.junk = None
        assert run_job(made) == 0
        assert set(asked(server, unanswered)) == failed and len(server.requests) == unanswered + len(failed)
        assert "done but for 8 unjudged replies: only these" in capsys.readouterr().out
        again = read_result(tmp_path)
        assert set(again["unjudged"].values()) == {0} and kept(tmp_path) == 3
        assert again["arms"]["prompt"]["match"]["value"] == pytest.approx(1 / 3)
        assert run_job(made) == 0 and len(server.requests) == unanswered + len(failed)
        assert "already done" in capsys.readouterr().out


@pytest.mark.usefixtures("_no_figures")
def test_a_judge_that_dies_costs_no_result(tmp_path: Path) -> None:
    """What a finished result with unjudged replies says stays where asking again fails; task=judge asks again."""
    assert run_job(config(tmp_path)) == 0
    plan = Answers("anger")
    with FakeJudge(plan) as server:
        words = (*JUDGED, f"evaluator.base_url={server.url}", "task=judge", f"runs={tmp_path / 'run'}")
        words = (*words, "evaluator.retries=0")
        assert run_task(config(tmp_path, *words)) == 0
        [path] = [p for p in (tmp_path / "run").glob("*/result.json") if "unjudged" in p.read_text()]
        before = path.read_text(encoding="utf-8")
        result = json.loads(before)
        assert unjudged.total(result) > 0
        assert find_result(tmp_path, "run", result["address"]) is None
        assert find_result(tmp_path, "other", result["address"]) is None
    assert run_task(config(tmp_path, *words)) == 1  # nothing listens
    assert path.read_text(encoding="utf-8") == before
    plan.junk = None
    with FakeJudge(plan) as server:
        words = (*words, f"evaluator.base_url={server.url}")
        assert run_task(config(tmp_path, *words)) == 0
    found = [json.loads(p.read_text()) for p in (tmp_path / "run").glob("*/result.json")]
    assert any(r.get("unjudged") and not unjudged.total(r) for r in found)


@pytest.mark.parametrize(
    ("question", "junk"), [("match", None), ("blind", None), ("match", "")], ids=["match", "blind", "junk"]
)
def test_one_question_alone_runs_to_the_end(
    tmp_path: Path, question: str, junk: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures, report and the table of a sweep, with what was measured only; also where no answer can be read."""
    with FakeJudge(Answers(junk)) as server:
        words = (*JUDGED, f"evaluator.base_url={server.url}", f"evaluator.questions=[{question}]")
        assert run_job(config(tmp_path, *words, "control.arms=[random]")) == 0
        assert len(asked(server)) > 0
    arms, folder = read_result(tmp_path)["arms"], next(tmp_path.glob("run/*/report.html")).parent
    share = junk is not None
    measured = {"match": ["match"], "blind": ["accuracy", "clean_accuracy"]}[question] if not share else []
    for metric in ("match", "accuracy", "clean_accuracy", "forced_accuracy"):
        assert (metric in arms["steer"]) == (metric in measured), metric
    assert "match" not in arms["none"] and "accuracy/fear" not in (arms["steer"] if question == "match" else {})
    assert (folder / "accuracy.png").is_file() == bool(measured)
    assert (folder / "off_target.png").is_file() == ("accuracy" in measured)
    result = read_result(tmp_path)
    assert ("off_target" in result) == ("accuracy" in measured)
    metric = "clean_accuracy" if "accuracy" in measured else "logprob_margin"
    assert {row["metric"] for row in result["comparisons"]} == {metric}
    assert all(row["value"] is not None for row in result["comparisons"])
    assert result["unjudged"]["steer"] == (12 if share else 0)
    assert result["unjudged"]["none"] == 0  # no target: not asked for a match
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("unjudged replies: " in page) == share
    assert (">match</span>" in page) == (measured == ["match"])
    console.setup("rich")
    summarize_sweep(tmp_path / "run", config(tmp_path).tracker)
    out = capsys.readouterr().out
    assert "Traceback" not in out and (tmp_path / "run" / "report.html").is_file()
    assert all(metric in (tmp_path / "run" / "results.csv").read_text() for metric in measured)


def test_only_a_question_that_was_asked_can_be_unjudged() -> None:
    row: dict[str, Any] = {"emotion": "anger", "label": None, "match": None}
    both = [row, row | {"label": "fear"}, row | {"label": "fear", "match": 0}, row | {"emotion": None, "label": "fear"}]
    for questions, n in ((["blind", "match"], 2), (["match"], 2), (["blind"], 1)):
        assert unjudged.count(EvaluatorConfig(name="openai_judge", questions=questions), both) == n
    assert unjudged.line({"steer": 0}, {"steer": 3}) is None
