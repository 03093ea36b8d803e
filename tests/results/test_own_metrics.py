"""evaluator.metrics: a metric from outside of the package is measured, estimated and shown as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.command import refused_here
from support.jobs import config, read_rows

import emo
from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.core import console, metrics
from emo.core.errors import UserError
from emo.pipeline.scenario import Job
from emo.report.plots import arms_figure
from emo.report.runs import point_run
from emo.report.sweep_files import summarize_sweep
from emo.results.table import read_result

pytestmark = pytest.mark.usefixtures("quiet")
OWN = "evaluator.metrics=[support.own.Marks]"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Draw the figure of the arms only, and return the panels of each."""
    panels: list[list[str]] = []

    def draw(_: Job, found: Any, *__: Any) -> list[Any]:
        panels.append([m for m in found["steer"] if m in metrics.own_metrics()])
        return []

    monkeypatch.setattr("emo.report.job_page.draw", draw)
    monkeypatch.setattr(metrics, "_own", {})
    return panels


def test_it_is_measured_on_every_arm(tmp_path: Path, figures: list[list[str]]) -> None:
    """Means over replies with intervals and parts, where there was one; the values stand beside the replies."""
    made = config(tmp_path, OWN, "dataset.limit=5")
    assert run_job(made) == 0
    folder = tmp_path / "run" / Job(made).result_address[:16]
    result = read_result(folder)
    assert result is not None and result["metrics"] == {
        "marks": {"label": "marks (per reply)", "better": "higher", "neutral": 0.0}
    }
    rows = [row for row in read_rows(folder / "samples.jsonl") if row["arm"] == "steer"]
    values = [row["marks"] for row in rows if row["marks"] is not None]
    assert values == [float(len(row["reply"]) % 4) for row in rows if row["reply"]]
    x = result["arms"]["steer"]["marks"]
    assert x["value"] == pytest.approx(sum(values) / len(values)) and x["n"] == len(values)
    assert x["ci"][0] <= x["value"] <= x["ci"][1]
    assert all({"marks", "marks/anger", "marks/anger/positive"} <= set(arm) for arm in result["arms"].values())
    assert figures == [["marks", "marks/anger"][:1]]
    assert '<th title="marks (per reply)">marks</th>' in (folder / "report.html").read_text(encoding="utf-8")
    frame = emo.load_results(folder)
    [row] = frame[(frame["arm"] == "steer") & (frame["metric"] == "marks")].to_dict("records")
    assert (row["value"], row["ci_lo"], row["n"]) == (x["value"], x["ci"][0], x["n"])
    assert point_run(folder, result, None, "").summary["steer/marks"] == x["value"]
    plain = config(tmp_path, "dataset.limit=5")
    assert run_job(plain) == 0
    other = read_result(tmp_path / "run" / Job(plain).result_address[:16])
    assert other is not None and "metrics" not in other
    for arm, found in other["arms"].items():  # nothing else changes
        assert found == {key: x for key, x in result["arms"][arm].items() if not key.startswith("marks")}


def test_tables_of_finished_runs_need_its_name_only(
    tmp_path: Path, figures: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is gone: tables, labels of axes and the terminal have it from result.json."""
    printed: list[Any] = []
    for alpha in (1, 2):
        assert run_job(config(tmp_path, OWN, f"intervention.alpha={alpha}", "dataset.limit=1")) == 0
    monkeypatch.setattr(metrics, "_own", {})
    monkeypatch.setattr("emo.measure.reply_metrics.load_target", None)
    monkeypatch.setattr(console, "table", lambda *given: printed.append(given))
    summarize_sweep(tmp_path / "run", config(tmp_path).tracker)
    assert figures and metrics.own_metrics() == ["marks"]
    columns = printed[0][1]
    assert columns == ["alpha", "arm", "logprob_margin", "delta_s_rel", "delta_s_last", "marks", "dose"]
    assert "marks (per reply)" in metrics.metric_of("marks").label
    assert (tmp_path / "run" / "sweep_curves.png").is_file()


def test_the_panel_bears_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emo.core.stats import Estimate
    from emo.report.plots import arms as module

    metrics.declare([metrics.Metric("marks", "marks (per reply)", None, 0.0)])
    seen: list[str] = []
    known = module.metric_label
    monkeypatch.setattr(module, "metric_label", lambda key: seen.append(known(key)[0]) or known(key))
    arms_figure({"none": {"marks": Estimate(1.0, 0.5, 1.5, 4)}}, ["marks"], "t", tmp_path / "a.png")
    assert seen == ["marks (per reply)"]


def test_it_is_added_to_a_finished_run(
    tmp_path: Path, figures: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By task=judge, without the model; one that a run has stays with it."""
    assert run_job(config(tmp_path, "dataset.limit=1")) == 0
    monkeypatch.setattr("emo.measure.batch.generate", None)
    judge = ("evaluator._target_=support.own.Lengths", "evaluator.name=mine", "task=judge", f"runs={tmp_path / 'run'}")
    assert run_task(config(tmp_path, OWN, *judge, "dataset.limit=1")) == 0
    found = [read_result(path) for path in (tmp_path / "run").iterdir() if path.is_dir()]
    [judged] = [r for r in found if r and r["config"]["evaluator"]["name"] == "mine"]
    assert {"marks", "accuracy"} <= set(judged["arms"]["steer"]) and figures
    assert run_task(config(tmp_path, *judge, "evaluator.settings={by: 2}")) == 0
    found = [read_result(path) for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert sum("marks" in r["arms"]["steer"] for r in found if r) == 2


def test_the_order_of_metrics_is_no_other_job(tmp_path: Path) -> None:
    both = ("support.own.Marks", "support.own.SPACES")
    one, other = (Job(config(tmp_path, f"evaluator.metrics=[{','.join(m)}]")) for m in (both, both[::-1]))
    assert one.result_address == other.result_address != Job(config(tmp_path, OWN)).result_address
    assert one.replies_address(one.arms[0]) == Job(config(tmp_path)).replies_address(one.arms[0])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("support.own.Taken", "its name accuracy is taken; give its attribute name another value"),
        ("support.own.Reply", "its name reply is taken"),
        ("support.own.Marks,support.own.Twice", "support.own.Twice: its name marks is taken"),
        ("support.own.Marks,support.own.Marks", "a name stands there twice"),
        ("support.own.Lengths", "it has no name and no better and no neutral and no value"),
        ("support.own.Spelt", "its name Spelt so: small letters, digits and _ are needed"),
        ("support.own.Upwards", "better=up: not one of higher, lower, None"),
        ("support.own.Needy", "missing a required argument: 'words'; it is made without arguments"),
        ("Marks", "evaluator.metrics=Marks: type MODULE.NAME, e.g. evaluator.metrics=my_methods.Marks"),
    ],
)
def test_one_that_cannot_be_measured_is_refused(target: str, said: str, tmp_path: Path) -> None:
    line = refused_here(tmp_path, f"evaluator.metrics=[{target}]")
    assert line.startswith("evaluator.metrics=") and said in line


def test_a_value_that_is_no_number_is_refused(tmp_path: Path, figures: list[list[str]]) -> None:
    with pytest.raises(UserError, match=r"^evaluator\.metrics=support\.own\.Words: value\(\) gave '\w+'; a number or"):
        run_job(config(tmp_path, "evaluator.metrics=[support.own.Words]", "dataset.limit=1"))
    assert not figures
