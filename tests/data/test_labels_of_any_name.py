"""Jobs on labels as people write them: slashes, signs of arms and settings; and what of a file is in no split."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from support.jobs import read_rows

from emo.cli.run import run_job
from emo.config.check import REPOSITORY, to_config
from emo.core.metric_keys import MetricParts, metric_key, metric_parts
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from emo.report.plots.theme import metric_label
from emo.results.table import load_results

NAMES = ("joy/happy", "rage@work=100%", "50%2F50/positive")
SMALL = (
    "model=tiny_llama", "dataset=labelled", "dataset.task=rhetoric", "intervention=mask", "control.units=[]",
    "control.seeds=1", "evaluator.bootstrap=20", "selector.ratio=0.2", "device=cpu", "dataset.limit=2",
)  # fmt: skip


@pytest.mark.parametrize("part", [(), ("anger",), ("anger", "positive"), NAMES[:1], (NAMES[2], "negative"), ("%2F",)])
def test_a_key_is_read_as_it_was_made(part: tuple[str, ...]) -> None:
    """Whatever a name holds; and of ordinary names it is what it always was."""
    assert metric_parts(metric_key("accuracy", *part)) == MetricParts("accuracy", *part)
    assert metric_key("accuracy", "anger", "positive") == "accuracy/anger/positive"
    assert metric_key("accuracy", "joy/happy") == "accuracy/joy%2Fhappy"
    assert metric_label("accuracy/anger/positive")[0].endswith("\nanger, positive")
    assert metric_label(metric_key("accuracy", "joy/happy"))[0].endswith("\njoy/happy")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Run a job on such labels, with texts that are left out; returns its folder, its result and its page."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [
        (f"Text {i} of {name}", name.upper() if name == NAMES[0] and i < 3 else name)
        for i in range(8)
        for name in NAMES
    ]
    path = folder / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows, ("Text without", ""), ("", NAMES[0])])
    words = [*SMALL, f"dataset.path={path}", f"paths.outputs={folder}", "console=quiet"]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("config", overrides=words))
    job = make_job(config)
    assert isinstance(job, ClassJob) and run_job(config) == 0
    where = folder / "run" / job.result_address[:16]
    result = json.loads((where / "result.json").read_text(encoding="utf-8"))
    return where, result, (where / "report.html").read_text(encoding="utf-8")


def test_metrics_of_a_class_are_under_its_name(done: tuple[Path, dict[str, Any], str]) -> None:
    """joy/happy was the emotion joy with the valence happy."""
    where, result, page = done
    rows = [row for row in read_rows(where / "metrics.jsonl") if row["metric"] == "accuracy" and row["arm"] == "mask"]
    assert [(row["emotion"], row["valence"]) for row in rows] == [(None, None), *((name, None) for name in NAMES)]
    for row in rows[1:]:
        assert result["arms"]["mask"][metric_key("accuracy", row["emotion"])]["value"] == row["value"]
    frame = load_results(where)
    found = {metric_parts(key).emotion for key in frame["metric"]}
    assert found == {None, *NAMES} and set(frame["arm"]) == {"none", "mask"}
    table = page.partition("By edited class")[2].partition("</table>")[0]
    assert table.count("not measured") == 0 and all(name in table for name in NAMES)


def test_what_is_in_no_split_is_in_the_result_and_on_the_page(done: tuple[Path, dict[str, Any], str]) -> None:
    _, result, page = done
    assert result["left_out"] == {"(no label)": 1, "(no text)": 1}
    assert result["matched"] == {NAMES[0].upper(): NAMES[0]} and result["joined"] == result["several"] == 0
    assert "Left out: 2 texts: 1 (no label), 1 (no text)." in page
    assert "Labels matched whatever their case and spaces: JOY/HAPPY as joy/happy." in page


def test_the_console_says_it_before_the_job_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line of counts by value; nothing where nothing is left out."""
    path = tmp_path / "t.jsonl"
    rows = [{"text": f"Text {i}", "label": "ab?"[i % 3]} for i in range(30)] + [{"text": "x", "label": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = ["dataset.labels=[a:metaphor,b:literal]", f"dataset.path={path}", f"paths.outputs={tmp_path}"]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("config", overrides=[*SMALL, *told, "intervention=none", "evaluator=prediction"]))
    assert run_job(config) == 0
    assert "left out: 11 texts: 10 ?, 1 (no label)\n" in capsys.readouterr().out
