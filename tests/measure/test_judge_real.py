"""A judge that is a real model behind a real server on the loopback: fifty replies from request to kappa."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from support.jobs import config
from support.model_server import ModelServer

import emo
from emo.cli.tasks import run_task
from emo.data.texts import read_jsonl

pytestmark = pytest.mark.slow
REPLIES = 50


def test_an_embedded_model_judges_fifty_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question gets an answer that can be read, once; what it is worth is said by its agreement."""
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    rows = [row for row in read_jsonl("corpus/h.jsonl") if row["emotion"] != "neutral"][:REPLIES]
    file = tmp_path / "replies.jsonl"
    lines = (
        {"text": r["text"], "target": r["emotion"], "scenario": r["scenario_id"], "label": r["emotion"]} for r in rows
    )
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with ModelServer(emo.load_model("smollm2_135m")) as server:
        six = "emotions.names=[anger,sadness,happiness,fear,surprise,disgust]"
        words = ("evaluator=openai_judge", "evaluator.model=smollm2", f"evaluator.base_url={server.url}", six)
        words += ("evaluator.questions=[blind]", "evaluator.timeout_s=600")
        task = config(tmp_path, "task=agreement", f"agreement.file={file}", *words)
        assert run_task(task) == 0
        asked = server.answered
        assert run_task(task) == 0
        assert server.answered == asked == len({row["text"] for row in rows})
    with (tmp_path / "run" / "agreement" / "agreement.csv").open(encoding="utf-8") as found:
        pairs = list(csv.DictReader(found))
    [blind] = [row for row in pairs if (row["first"], row["second"]) == ("column label", "openai_judge smollm2")]
    assert int(blind["replies"]) == REPLIES and -0.5 < float(blind["kappa"]) < 1
    books = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("judge/*.jsonl")]
    answers = [json.loads(line) for book in books for line in book.splitlines()]
    assert len(answers) == asked
    print(Counter(str(a["label"]) for a in answers), blind)  # noqa: T201 - what it says, for who runs it
