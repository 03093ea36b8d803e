"""task=agreement and task=label_sheet, from finished runs and from files: numbers, files, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_judge import FakeJudge, Request, Response, completion
from support.jobs import config, read_result, read_rows

from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.core.errors import UserError
from emo.measure.people import text_id

NAMES = ("anger", "sadness", "fear")
OWN = ("evaluator._target_=support.own.Lengths", "evaluator.name=by_length")
SAME = ("evaluator._target_=support.own.Same", "evaluator.name=same", "evaluator.settings={label: anger}")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of a run whose replies are labelled by their length."""
    folder = tmp_path_factory.mktemp("labelled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emo.report.job_page.draw", lambda *_: [])
        assert run_job(config(folder, "dataset.limit=6", *OWN)) == 0
    return folder


@pytest.fixture
def outputs(done: Path, tmp_path: Path) -> Path:
    return shutil.copytree(done, tmp_path / "outputs")


def samples(outputs: Path) -> list[Row]:
    return read_rows(next(outputs.glob("run/*/samples.jsonl")))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def people(path: Path, rows: list[Row], label: Callable[[Row], str]) -> str:
    """Write a filled sheet of all different replies; returns its path."""
    lines = dict.fromkeys(f"{text_id(row['reply'])},{label(row)}" for row in rows)
    path.write_text("\n".join(["id,label", *lines]) + "\n", encoding="utf-8")
    return str(path)


def told(row: Row) -> str:
    """Return a person's label: the run's own, but for anger, which to half of the people is fear."""
    return "fear" if row["label"] == "anger" and int(text_id(row["reply"]), 16) % 2 else str(row["label"])


def task(outputs: Path, name: str, *words: str) -> int:
    return run_task(config(outputs, f"task={name}", f"runs={outputs / 'run'}", "console=rich", *OWN, *words))


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two different replies be enough: a tiny model says the same over and over."""
    for module in ("emo.core.corrected", "emo.results.corrected"):
        monkeypatch.setattr(f"{module}.FEWEST_LABELLED", 2)


@pytest.mark.usefixtures("_few")
def test_people_correct_a_run(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All replies are labelled by a person: the corrected accuracy is that of the person's labels."""
    file = people(outputs / "ada.csv", samples(outputs), told)
    assert task(outputs, "agreement", f"agreement.people=[{file}]") == 0
    folder, rows, result = outputs / "run" / "agreement", samples(outputs), read_result(outputs)
    [pair] = table(folder / "agreement.csv")
    equal = [row["label"] == told(row) for row in {row["reply"]: row for row in rows}.values()]  # a text counts once
    assert (pair["first"], pair["second"]) == ("by_length", "ada")
    assert (int(pair["texts"]), int(pair["replies"])) == (len(equal), len(rows)) and len(equal) < len(rows)
    assert float(pair["equal"]) == pytest.approx(sum(equal) / len(equal)) and float(pair["kappa_lo"]) < 1
    shares = {(x["arm"], x["metric"], x["emotion"], x["against"]): x for x in table(folder / "corrected.csv")}
    steer = [row for row in rows if row["arm"] == "steer"]
    own = shares["steer", "accuracy", "", ""]
    assert float(own["raw"]) == pytest.approx(result["arms"]["steer"]["accuracy"]["value"])
    assert float(own["powered"]) == pytest.approx(sum(told(r) == r["emotion"] for r in steer) / len(steer))
    clean = shares["steer", "clean_accuracy", "", ""]
    assert float(clean["powered"]) == pytest.approx(
        sum(told(r) == r["emotion"] and not r["degenerate"] for r in steer) / len(steer)
    )
    assert shares["none", "accuracy", "fear", ""]["raw"] != ""
    compared = shares["steer", "clean_accuracy", "", "none"]
    none = shares["none", "clean_accuracy", "", ""]
    assert float(compared["powered"]) == pytest.approx(float(clean["powered"]) - float(none["powered"]))
    differ = table(folder / "disagreements.csv")
    assert len(differ) == len({row["reply"] for row in rows if told(row) != row["label"]}) > 0
    assert differ[0]["by_length"] == "anger" and differ[0]["ada"] == "fear"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "prediction-powered" in page and "recall of ada" in page
    said = capsys.readouterr().out
    assert "clean accuracy, corrected by" in said and "report: " in said
    assert f"{len(equal)} (of {len(rows)} replies)" in page
    assert re.search(rf"│ +{len(equal)} \(of", said)  # in a narrow terminal the cell goes on in the next line


@pytest.mark.usefixtures("_few")
def test_several_labellers_two_raters_and_a_part_of_the_replies(outputs: Path) -> None:
    """Raters agree as far as they do; what another evaluator labels is drawn; nothing is corrected without a truth."""
    rows = samples(outputs)
    one, two = (people(outputs / f"{name}.csv", rows, told) for name in ("ada", "bob"))
    assert task(outputs, "agreement", f"agreement.people=[{one},{two}]", "agreement.limit=7", *SAME) == 0
    pairs = {(x["first"], x["second"]): x for x in table(outputs / "run" / "agreement" / "agreement.csv")}
    assert float(pairs["ada", "bob"]["kappa"]) == 1.0
    assert int(pairs["by_length", "same"]["texts"]) == 7
    assert 7 <= int(pairs["by_length", "same"]["replies"]) < len(rows)
    assert "Fleiss" in (outputs / "run" / "agreement" / "report.html").read_text(encoding="utf-8")
    assert task(outputs, "agreement", *SAME) == 0
    assert not (outputs / "run" / "agreement" / "corrected.csv").exists()
    assert task(outputs, "agreement", "agreement.trusted=same", *SAME) == 0
    shares = table(outputs / "run" / "agreement" / "corrected.csv")
    assert all(float(x["powered"]) == 1.0 for x in shares if x["emotion"] == "anger" and x["metric"] == "accuracy")


def test_a_sheet_goes_round(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert task(outputs, "label_sheet", "agreement.limit=12") == 0
    path = outputs / "run" / "label_sheet" / "labels.csv"
    rows = table(path)
    assert len(rows) == 12 and set(rows[0]) == {"id", "label", "text"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": "anger" if i else ""} for i, row in enumerate(rows))
    assert task(outputs, "agreement", f"agreement.people=[{path}]") == 0
    assert "11 replies labelled, 1 left empty" in capsys.readouterr().out


def judged(request: Request) -> Response:
    """Say that every style matches, and call it anger."""
    match = "Target emotion" in request.text
    return completion('{"match": 1, "reason": ""}' if match else '{"emotion": "anger"}')


def test_texts_of_a_file_and_what_the_match_question_inflates(tmp_path: Path) -> None:
    """Half of the targets are anger: told the target the judge finds all of them, blind half."""
    rows = [
        {"text": f"Text {i}.", "emotion": ("anger", "fear")[i % 2], "match": int(i != 3), "scenario": f"s{i // 2}"}
        for i in range(20)
    ]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with FakeJudge(judged) as server:
        words = ("evaluator=openai_judge", "evaluator.model=fake", f"evaluator.base_url={server.url}")
        made = config(tmp_path, "task=agreement", f"agreement.file={file}", "agreement.labellers=[llm_judge]", *words)
        made.evaluator.bootstrap = 200
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("emo.cli.labelling.with_evaluator", lambda *_: config(tmp_path, *SAME))
            assert run_task(made) == 0
    found = table(tmp_path / "run" / "agreement" / "agreement.csv")
    pairs = {(x["first"], x["second"], x["of"]): x for x in found}
    assert float(pairs["target where match = 1", "openai_judge fake", "class"]["equal"]) == pytest.approx(10 / 19)
    assert float(pairs["column match", "openai_judge fake, match", "target"]["equal"]) == 0.95
    page = (tmp_path / "run" / "agreement" / "report.html").read_text(encoding="utf-8")
    assert "openai_judge fake, match finds the target in 1.00 [1.00, 1.00], openai_judge fake in 0.50" in page


WRONG = {
    "id,label\nabc,anger\n": "1 of 1 ids are of no reply here",
    "id,label\n{id},joy\n": "label 'joy': not one of anger, sadness, fear, neutral, other",
    "id,label\n{id},anger\n{id},fear\n": "another label than before",
    "id,label\n{id},\n": "no label in it",
    "id,emotion\n{id},anger\n": "columns label, and id or text, are needed; it has emotion, id",
}


@pytest.mark.parametrize("content", WRONG)
def test_labels_that_cannot_be_are_refused(outputs: Path, content: str) -> None:
    file = outputs / "ada.csv"
    file.write_text(content.replace("{id}", text_id(samples(outputs)[0]["reply"])), encoding="utf-8")
    with pytest.raises(UserError, match=WRONG[content]):
        task(outputs, "agreement", f"agreement.people=[{file}]")
    assert not (outputs / "run" / "agreement").exists()


def test_what_agrees_with_nothing_is_refused(outputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("text,target\nHm.,joy\n", encoding="utf-8")
    for words, line in (
        ((), "one labeller \\(by_length\\) agrees with itself"),
        (("agreement.people=[nobody.csv]",), "agreement.people=nobody.csv: no such file"),
        (("agreement.people=nobody.csv",), "agreement.people=nobody.csv: no such file"),
        (("agreement.trusted=people", *SAME), "no labels by people"),
        (("agreement.trusted=by_lengths", *SAME), "did you mean by_length"),
        (("agreement.trusted=by_length", *SAME, "agreement.limit=3"), "no other labeller labelled all replies"),
        (("agreement.labellers=[clasifier]",), "did you mean classifier"),
        (("agreement.labellers=[projection]",), "agreement.labellers=projection: labels nothing"),
        ((f"agreement.file={file}",), "texts of a file or of runs"),
    ):
        with pytest.raises(UserError, match=line):
            task(outputs, "agreement", *words)
    with pytest.raises(UserError, match="target 'joy': not one of anger"):
        run_task(config(outputs, "task=agreement", f"agreement.file={file}", *OWN))
