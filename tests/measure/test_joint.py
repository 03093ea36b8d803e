"""The joint score of a judge: asked about what was answered, kept as an outcome beside clean accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_judge import FakeJudge, Request, Response, completion
from support.jobs import config, read_result, read_rows

from emo.cli.run import run_job
from emo.data.scenarios import load_splits

pytestmark = pytest.mark.usefixtures("quiet")


def marks(request: Request) -> Response:
    """Mark by the target: anger is expressed clearly, sadness somewhat, fear not at all."""
    system = request.body["messages"][0]["content"]
    if "You mark replies" not in system:
        return completion('{"emotion": "anger"}')
    expresses = next(n for name, n in (("anger", 2), ("sadness", 1), ("fear", 0)) if f"expresses {name}" in system)
    return completion(f'{{"expresses": {expresses}, "coherent": 2, "on_topic": 1}}')


def test_a_judge_marks_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    with FakeJudge(marks) as server:
        words = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "evaluator.questions=[blind,joint]")
        made = config(tmp_path, *words)
        assert run_job(made) == 0
        texts = [request.text for request in server.requests if request.text.startswith("Message: ")]
    result = read_result(tmp_path)
    means = {"anger": 3 / (1 / 2 + 1 / 2 + 1), "sadness": 3 / (1 + 1 / 2 + 1), "fear": 0.0}
    for name, mean in means.items():
        assert result["arms"]["steer"][f"joint/{name}"]["value"] == pytest.approx(mean), name
    assert result["arms"]["steer"]["joint"]["value"] == pytest.approx(sum(means.values()) / 3)
    assert "joint" not in result["arms"]["none"]  # no target, so nothing to express
    assert result["arms"]["none"]["accuracy/anger"]["value"] == 1.0 and not any(result["unjudged"].values())
    rows = read_rows(next(tmp_path.glob("run/*/samples.jsonl")))
    samples = {sample.id: sample.text for sample in load_splits(made.dataset, made.seed).test}
    asked = {f"Message: {samples[row['sample']]}\nReply: {row['reply']}\n" for row in rows if row["emotion"]}
    assert {text.partition("Return a compact JSON")[0] for text in texts} == asked
