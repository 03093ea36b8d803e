"""The first figure of README.md is drawn from a job's own files, and its example is found by a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from docs.figures import make_readme_figure as first
from emo.report.first_look import example

ARMS = {"none": 0.0, "prompt": 0.3, "steer": 0.5, "random": 0.0, "shuffled": 0.1}


def reply(arm: str, sample: str, label: str, *, degenerate: bool = False) -> dict[str, Any]:
    """Return a row of samples.jsonl: a reply to a prompt under an arm, for anger."""
    emotion = None if arm == "none" else "anger"
    told = {"scenario": "I waited for the bus.", "event": "It never came."}
    return {"arm": arm, "sample": sample, "emotion": emotion, "reply": f"{arm} says {label}", "label": label,
            "degenerate": degenerate} | told  # fmt: skip


def job(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the files of a finished job."""
    arms = {
        name: {
            "clean_accuracy": {"value": y, "ci": [y - 0.1, y + 0.1], "n": 12},
            "ppl_ratio": {"value": 1 + y, "ci": None},
        }
        for name, y in ARMS.items()
    }
    result = {"arms": arms, "config": {"model": {"id": "OWNER/a-model"}}}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def rows(sample: str, **labels: str) -> list[dict[str, Any]]:
    """Return the replies of every arm to a prompt: neutral, but where a label is given."""
    return [reply(arm, sample, labels.get(arm, "neutral")) for arm in ARMS]


def test_the_example_is_one_that_steering_alone_gets_right(tmp_path: Path) -> None:
    broken = [reply("steer", "c", "anger", degenerate=True)]
    given = [*broken, *rows("a", steer="anger", random="anger"), *rows("b", steer="anger", prompt="anger"), *rows("d")]
    found = first.choose(first.rows_of(job(tmp_path, given)), [])
    assert (found.sample, found.emotion) == ("b", "anger") and "2 of 4" in found.how and found.right
    assert {arm: row["reply"] for arm, row in found.replies.items()} == {
        "none": "none says neutral", "prompt": "prompt says anger", "steer": "steer says anger",
        "random": "random says neutral",
    }  # fmt: skip


def test_a_job_shows_a_prompt_also_where_the_edit_did_nothing(tmp_path: Path) -> None:
    """And says so: the page of a job that failed begins with its failure, not with nothing."""
    found = example(first.rows_of(job(tmp_path, [*rows("a"), *rows("b")])), first.REPLIES)
    assert found is not None and (found.sample, found.right) == ("a", False)
    assert found.how == "Not among the 0 of 2 replies that the edit got right and unbroken."
    assert example([reply("steer", "a", "anger")], first.REPLIES) is None


def test_it_is_drawn(tmp_path: Path) -> None:
    first.main([str(job(tmp_path, rows("a", steer="anger"))), str(tmp_path / "first.png")])
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")


def test_a_job_without_such_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no prompt has a reply"):
        first.main([str(job(tmp_path, rows("a"))), str(tmp_path / "first.png")])
    assert not (tmp_path / "first.png").exists()
