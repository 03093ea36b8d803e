"""A whole set in another language, as a user has it: written, killed, gone on with, looked at, and used by a job."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.command import begin, run
from support.fake_judge import KEY, FakeJudge, Request, Response
from support.fake_languages import TONGUES, writing
from support.jobs import SMALL

from emo.data.language_words import read_language
from emo.data.scenarios import broken_rules, read_records
from emo.data.text_rules import event_rules, scenario_rules

SERVER = {"OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "COLUMNS": "300"}
JOB = tuple(word for word in SMALL if not word.startswith(("paths.", "dataset.", "console")))
RULES = {"length", "first person", "one sentence", "emotion words", "language", "duplicate"}
RULES |= {"spread", "same participants", "alike", "restates", "unreadable"}


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("code", TONGUES)
def test_a_set_of_another_language_is_built_killed_resumed_and_used(code: str, tmp_path: Path) -> None:
    plan, language = writing(code, 1.0), read_language(code)

    def slow(request: Request) -> Response:
        return plan(request)._replace(delay=0.02)

    with FakeJudge(slow) as server:
        typed = ["task=build_sev", f"build.language={code}", "build.model=fake", f"build.base_url={server.url}"]
        typed += ["build.path=set", "build.themes=[Work/Job,Housing/Living facilities]", "build.count=5"]
        typed += [f"paths.outputs={tmp_path / 'outputs'}", "build.at_once=1", "build.tries=6", "build.concurrency=2"]
        child = begin(tmp_path, tmp_path, *typed, **SERVER)
        deadline = time.monotonic() + 60
        while len(server.requests) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert child.pid is not None
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL and not (tmp_path / "set" / "sev.jsonl").exists()
        time.sleep(0.1)  # what the server was still writing
        asked, logged = len(server.requests), len(lines(tmp_path / "set" / "log.jsonl")) - 1
        built = run(tmp_path, *typed, **SERVER)
        assert built.returncode == 0, built.stderr
        log = [row for row in lines(tmp_path / "set" / "log.jsonl") if "slot" in row]
        # Nothing that was answered is asked again; an answer may have come, and not been logged.
        assert asked - logged <= 2 and 0 <= len(log) - logged - (len(server.requests) - asked) <= 2

    file = tmp_path / "set" / "sev.jsonl"
    records, lost = read_records(file), lines(tmp_path / "set" / "missing.jsonl")
    assert len(records) + len({row["id"] for row in lost}) == 10 and len(records) >= 9
    for record in records:
        assert scenario_rules(record["scenario"], language) == event_rules(record["event"], language) == []
    assert {rule for row in log for rule, _ in row["broken"]} >= RULES
    assert broken_rules(records) == {}  # by the rules of its language, not of English
    request = server.requests[0].text
    assert f"in {language.name}" in request and ", ".join(language.persons["first"][:2]) in request
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert f"{language.scenario[0]} to {language.scenario[1]} {language.unit}" in card and "know English only" in card
    page = (tmp_path / "set" / "report.html").read_text(encoding="utf-8")
    assert f'lang="{code}">{records[0]["scenario"]}' in page
    assert f"next, try: python run.py dataset=jsonl dataset.path={file}" in built.stdout + built.stderr

    done = run(tmp_path, "dataset=jsonl", f"dataset.path={file}", "intervention=steer", "dataset.limit=2",
               f"paths.outputs={tmp_path / 'outputs'}", *JOB)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "outside the rules" not in done.stdout + done.stderr
    assert len(list((tmp_path / "outputs").rglob("result.json"))) == 1


@pytest.mark.parametrize(("code", "kind", "key"), [("zh", "dialogues", "dialogue"), ("de", "stories", "text")])
def test_labelled_texts_of_another_language_are_built_and_used(code: str, kind: str, key: str, tmp_path: Path) -> None:
    """Their emotion has its name in that language, which no text may have."""
    outputs, called = f"paths.outputs={tmp_path / 'outputs'}", {"de": "Langeweile", "zh": "无聊"}[code]
    with FakeJudge(writing(code, 1.0, named=called)) as server:
        built = run(
            tmp_path, f"task=build_{kind}", f"build.language={code}", "build.model=fake",
            f"build.base_url={server.url}", "build.path=set", "build.count=5", "build.tries=25", outputs,
            "build.concurrency=1",  # which answer a text gets then never depends on which of two came first
            "emotions.names=[boredom,pride]", f"emotions.words={{boredom: '{called}'}}", **SERVER,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        assert any(f"Emotion: {called}." in request.text for request in server.requests)
    log = [row for row in lines(tmp_path / "set" / "log.jsonl") if "slot" in row]
    assert {rule for row in log for rule, _ in row["broken"]} >= {"language", "emotion words"}
    rows = lines(tmp_path / "set" / f"{kind}.jsonl")
    lost = lines(tmp_path / "set" / "missing.jsonl")  # invented texts are alike: what 25 tries did not give is listed
    assert len(rows) + len({row["id"] for row in lost}) == 10 and len(rows) >= 4
    assert not any(called in row[key] for row in rows if row["emotion"] == "boredom")
    [line] = [line for line in (built.stdout + built.stderr).splitlines() if "next, try: python run.py" in line]
    words = line.partition("run.py ")[2].split()
    assert any(f"emotions.names=[{names}]" in line for names in ("boredom,pride", "pride,boredom"))
    done = run(
        tmp_path, *(word.strip("'") for word in words), "model=tiny_llama", "control.seeds=2", "device=cpu", outputs
    )
    assert done.returncode == 0, done.stderr
