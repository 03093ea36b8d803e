"""Corrected accuracies beside the raw ones: on the pages of jobs and of sweeps, in their charts and comparisons."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import config, read_rows

from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.core.frames import pd
from emo.measure.people import text_id
from emo.report.charts.export import CHART
from emo.report.charts.spec import unpacked
from emo.report.corrected_section import refresh
from emo.results.job_comparisons import compare_folder
from emo.results.table import read_result
from emo.results.trusted import FILE

OWN = ("evaluator._target_=support.own.Lengths", "evaluator.name=by_length")
ALPHAS = (1, 4)
NAMES = ("anger", "sadness", "fear")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of two jobs of other strengths, whose replies are labelled by their length."""
    folder = tmp_path_factory.mktemp("corrected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emo.report.job_page.draw", lambda *_: [])
        for alpha in ALPHAS:
            assert run_job(config(folder, "dataset.limit=6", f"intervention.alpha={alpha}", *OWN)) == 0
    return folder


@pytest.fixture
def runs(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of both; two labelled replies are enough, a tiny model repeats itself."""
    monkeypatch.setattr("emo.report.sweep_files.draw_sweep", lambda *_: [])
    for module in ("core.corrected", "results.corrected", "results.job_comparisons"):
        monkeypatch.setattr(f"emo.{module}.FEWEST_LABELLED", 2)
    return shutil.copytree(done, tmp_path / "outputs") / "run"


def jobs(runs: Path) -> dict[str, Path]:
    """Return the folders by their alpha."""
    found = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in runs.glob("*/result.json")}
    return {f"{result['config']['intervention']['alpha']:g}": folder for folder, result in found.items()}


def told(row: Row) -> str:
    """Return a person's label: the run's own, but for every second text, which is the next emotion."""
    return NAMES[(NAMES.index(row["label"]) + int(text_id(row["reply"]), 16) % 2) % len(NAMES)]


def label(runs: Path, which: Callable[[Row], bool] = lambda _: True, more: str = "") -> None:
    """Correct all runs by the labels of a person."""
    rows = [row for folder in jobs(runs).values() for row in read_rows(folder / "samples.jsonl") if which(row)]
    lines = dict.fromkeys(f"{text_id(row['reply'])},{told(row)}" for row in rows)
    file = runs.parent / "ada.csv"
    file.write_text("\n".join(["id,label", *lines, more]) + "\n", encoding="utf-8")
    task(runs, "agreement", f"agreement.people=[{file}]")


def task(runs: Path, name: str, *words: str) -> None:
    labeller = OWN if name == "agreement" else ()
    assert run_task(config(runs.parent, f"task={name}", f"runs={runs}", "console=rich", *labeller, *words)) == 0


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def cells(page: str, after: str, first: str) -> list[str]:
    """Return the texts of the row that begins with ``first``, in the part of a page after a heading."""
    part = page.partition(f"<h2>{after}</h2>")[2].partition("<h2>")[0]
    [row] = re.findall(rf"<tr><th>{re.escape(html.escape(first))}</th>(.*?)</tr>", part)
    return [html.unescape(re.sub("<[^>]*>", "", x)) for x in re.findall("<td>(.*?)</td>", row)]


def right(folder: Path, arm: str, of: Callable[[Row], str], *, clean: bool = False) -> float:
    """Return the accuracy of an arm by somebody's labels."""
    rows = [row for row in read_rows(folder / "samples.jsonl") if row["arm"] == arm]
    pairs = [(row, name) for row in rows for name in ([row["emotion"]] if row["emotion"] else NAMES)]  # none: of each
    return sum(of(row) == name and not (clean and row["degenerate"]) for row, name in pairs) / len(pairs)


def own(row: Row) -> str:
    """Return the job's own label."""
    return str(row["label"])


def test_a_planted_error_is_corrected_on_the_page_of_a_job(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The raw figure is the result's, the corrected one the person's; nothing on disk changes but the page's slots."""
    folder = jobs(runs)["1"]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    label(runs)
    raw, true = right(folder, "steer", own), right(folder, "steer", told)
    assert raw != true
    page = page_of(folder)
    assert page.index("<h2>All numbers</h2>") < page.index("<h2>Corrected accuracy</h2>") < page.index("<h2>Notes</h2>")
    shown = cells(page, "Corrected accuracy", "steer, accuracy")
    assert shown[0].startswith(f"{raw:.2f} ") and shown[1].startswith(f"{true:.2f} ")
    compared = cells(page, "Corrected accuracy", "steer - random, clean_accuracy")
    result = json.loads(before["result.json"])
    [kept] = [
        row for row in result["comparisons"]
        if (row["arm"], row["against"], row["metric"]) == ("steer", "random", "clean_accuracy")
    ]  # fmt: skip
    apart = right(folder, "steer", told, clean=True) - right(folder, "random", told, clean=True)
    assert compared[0].startswith(f"{kept['value']:.2f} ") and compared[1].startswith(f"{apart:.2f} ")
    different = len({row["reply"] for row in read_rows(folder / "samples.jsonl")})
    assert f"labels of ada, taken for the truth: {different} of the job&#x27;s {different} different replies" in page
    assert "Clean accuracy of steer without the errors of by_length, by the labels of ada: " in page
    charts = {name: unpacked(json.loads(spec)) for name, spec in CHART.findall(page)}
    drawn = [
        row["value"] for row in charts["corrected"]["data"]["values"]
        if (row["x"], row["metric"], row["part"], row["series"])
        == ("steer", "accuracy", "all", "prediction-powered")
    ]  # fmt: skip
    assert drawn == [pytest.approx(true, abs=1e-5)]
    kinds = {row["series"] for row in charts["corrected_differences"]["data"]["values"]}
    assert kinds == {"raw", "prediction-powered"}
    for name, content in before.items():
        assert name == "report.html" or (folder / name).read_bytes() == content
    assert read_result(folder, whole=True) is not None
    assert "the pages of 2 jobs show corrected accuracies" in " ".join(capsys.readouterr().out.split())
    (folder / FILE).unlink()
    assert not refresh(folder)
    assert (folder / "report.html").read_bytes() == before["report.html"]


def test_a_sweep_shows_both_in_its_table_its_curves_and_its_comparisons(runs: Path) -> None:
    task(runs, "summarize")
    assert "orrected" not in page_of(runs) and not (runs / "corrected.csv").exists()
    assert "corrected" not in pd.read_csv(runs / "comparisons.csv").columns
    table = (runs / "results.csv").read_bytes()
    label(runs)
    task(runs, "summarize")
    assert (runs / "results.csv").read_bytes() == table
    page, folders = page_of(runs), jobs(runs)
    raw = {alpha: right(folder, "steer", own) for alpha, folder in folders.items()}
    true = {alpha: right(folder, "steer", told) for alpha, folder in folders.items()}
    rows = pd.read_csv(runs / "corrected.csv").query("arm == 'steer' and metric == 'accuracy'")
    for row in rows.to_dict("records"):
        alpha = f"{row['intervention.alpha']:g}"
        assert row["value"] == pytest.approx(raw[alpha]) and row["powered"] == pytest.approx(true[alpha])
        shown = cells(page, "Corrected accuracy", f"alpha={row['intervention.alpha']:g}, steer, accuracy")
        assert shown[0].startswith(f"{raw[alpha]:.2f} ") and shown[1].startswith(f"{true[alpha]:.2f} ")
    assert len(rows) == len(ALPHAS)
    assert "clean_<wbr>accuracy, corrected (prediction-powered)" in page
    assert "in 2 of 2 finished jobs" in page and "Without the labeller&#x27;s errors that value is" in page
    pair = "axis == 'intervention.alpha' and arm == 'steer' and beyond.isna() and metric == 'accuracy'"
    compared = pd.read_csv(runs / "comparisons.csv").query(f"{pair} and emotion.isna() and valence.isna()")
    [found] = compared.to_dict("records")
    assert found["difference"] == pytest.approx(raw["1"] - raw["4"]) or found["a"] == 4
    sign = 1 if found["a"] == 1 else -1
    assert found["corrected"] == pytest.approx(sign * (true["1"] - true["4"]))
    assert found["corrected_lo"] <= found["corrected"] <= found["corrected_hi"]
    again = compare_folder(runs).query("arm == 'steer' and beyond == '' and metric == 'accuracy'")
    assert again.query("emotion == '' and valence == ''")["corrected"].tolist() == pytest.approx([found["corrected"]])
    names = [name for name, _ in CHART.findall(page)]
    assert names == ["outcomes", "corrected", "comparisons", "corrected_differences"]


def test_a_table_is_written_again_once_labels_are_there(runs: Path) -> None:
    """What has not changed is not drawn again; trusted labels are a change."""
    from emo.config.schema import TrackerConfig
    from emo.report.sweep_files import summarize_sweep

    task(runs, "summarize")
    label(runs)
    summarize_sweep(runs, TrackerConfig(name="none"))
    assert "<h2>Corrected accuracy</h2>" in page_of(runs)


def test_few_labels_correct_nothing_and_say_so(runs: Path) -> None:
    """Only replies of one job are labelled: the other's accuracies stay raw, and no pair of the two is corrected."""
    folders = jobs(runs)
    only = {row["reply"] for row in read_rows(folders["1"] / "samples.jsonl") if row["arm"] == "steer"}
    only -= {row["reply"] for row in read_rows(folders["4"] / "samples.jsonl")}
    assert len(only) >= 2
    label(runs, lambda row: row["reply"] in only)
    task(runs, "summarize")
    page = page_of(folders["4"])
    assert cells(page, "Corrected accuracy", "steer, clean_accuracy")[1:] == [
        "not measured",
        "not measured",
        "0",
        "10 are needed",
    ]
    assert "not corrected, 0 labelled replies are too few (10 are needed)" in page
    assert "corrected" not in pd.read_csv(runs / "comparisons.csv").columns


def test_labels_of_replies_that_are_gone_are_counted_and_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label(runs, more="0123456789ab,anger\nba9876543210,fear")
    said = " ".join(capsys.readouterr().out.split())
    assert "ada.csv: 2 of its labels are of replies that are not here" in said
    folder = jobs(runs)["1"]
    assert "2 more labels of ada are of replies that none of the runs has" in page_of(folder)
    rows = read_rows(folder / "samples.jsonl")
    known = dict.fromkeys(row["reply"] for row in rows)
    lost = list(known)[:3]
    for row in rows:
        row["reply"] += " Anew." if row["reply"] in lost else ""
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    assert not refresh(folder)
    page = page_of(folder)
    assert f"3 of the {len(known)} labelled replies are no longer there" in page
    assert "prediction-powered" not in page
    task(runs, "summarize")
    sweep = page_of(runs)
    assert f"3 of the {len(known)} labelled replies are no longer there" in sweep and "in 1 of 2 finished jobs" in sweep
    assert "corrected" not in pd.read_csv(runs / "comparisons.csv").columns


def test_labels_stay_when_a_job_is_written_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    label(runs)
    folder = jobs(runs)["1"]
    before = cells(page_of(folder), "Corrected accuracy", "steer, clean_accuracy")
    (folder / "report.html").unlink()
    assert run_job(config(runs.parent, "dataset.limit=6", "intervention.alpha=1", *OWN)) == 0
    assert cells(page_of(folder), "Corrected accuracy", "steer, clean_accuracy") == before


def test_what_is_not_the_jobs_own_label_is_not_put_on_its_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The job's own labels are the trusted ones here: there is nothing on its page to correct."""
    same = ("evaluator._target_=support.own.Same", "evaluator.name=same", "evaluator.settings={label: anger}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emo.cli.labelling.with_evaluator", lambda *_: config(runs.parent, *same))
        task(runs, "agreement", "agreement.labellers=[classifier]", "agreement.trusted=by_length")
    assert not list(runs.glob(f"*/{FILE}"))
    assert "they show labels of by_length, and same's were corrected" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_file_costs_no_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label(runs)
    folder = jobs(runs)["1"]
    (folder / FILE).write_text((folder / FILE).read_text(encoding="utf-8").replace("ada", "bob"), encoding="utf-8")
    assert not refresh(folder)
    assert "orrected accuracy" not in page_of(folder)
    assert "corrected.json is damaged" in " ".join(capsys.readouterr().out.split())
