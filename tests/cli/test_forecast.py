"""task=plan: what is there, how much there is to do, and how long it takes, told from what was measured only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.class_jobs import made as class_config
from support.jobs import config

from emo.cli import plan
from emo.cli.forecast import look, show, stages
from emo.cli.rates import Rate, Rates, duration, size
from emo.cli.run import run_job
from emo.config.schema import Config
from emo.core import console
from emo.core.store import Store
from emo.model.demand import demand_lines

PROJECTION = "evaluator=projection"
KINDS = {
    "steer": ["control.arms=[random,shuffled]"],
    "ablate_heads": [PROJECTION, "intervention.k=[0,2]", "control.score_seeds=2"],
    "circuit": ["circuit.budget=10", "circuit.reference_layers=1-2", "control.circuits=[random_circuit]"],
}


def said(capsys: pytest.CaptureFixture[str], *jobs: Config, asked: float | None = None) -> str:
    """Return what the plan of some jobs prints."""
    console.setup("rich")
    made = plan.make([([], job) for job in jobs], "python run.py")
    capsys.readouterr()
    show(made, asked, "python run.py")
    out = capsys.readouterr()
    return " ".join((out.out + out.err).split())


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", [x if x == "ablate_heads" else pytest.param(x, marks=pytest.mark.slow) for x in KINDS])
def test_every_stage_that_runs_was_in_the_plan(tmp_path: Path, kind: str) -> None:
    """Addresses and rows of the plan are those of the artifacts that the job then writes."""
    job = config(tmp_path, f"intervention={kind}", *KINDS[kind])
    before = stages(look(job))
    assert before
    assert not any(one.there for one in before)
    assert not files(tmp_path)
    assert run_job(job) == 0
    after = stages(look(job))
    assert after == [one._replace(there=True) for one in before]
    store = Store(job.paths.store)
    for one in after:
        made = json.loads((store.folder(one.stage, one.key) / "manifest.json").read_text(encoding="utf-8"))["made"]
        assert made["rows"] == one.rows, one
        assert made["together"] >= 1
        assert made["by"]["model"] == job.model.id


def test_the_plan_of_a_class_job(tmp_path: Path) -> None:
    job = class_config(tmp_path, "intervention=mask")
    before = stages(look(job))
    assert {one.stage for one in before} == {"predictions"}
    assert run_job(job) == 0
    assert stages(look(job)) == [one._replace(there=True) for one in before]


def test_strengths_that_are_chosen_take_replies_too(tmp_path: Path) -> None:
    """The plan counts the dev grid, and after the choice the strengths are known: so are all addresses."""
    words = ["intervention.alpha=auto", "intervention.select.alpha=[0.5,1]", "intervention.select.prompts=2"]
    job = config(tmp_path, *words, "intervention.select.extend=0", "control.arms=[]")
    [choice] = [one for one in stages(look(job)) if one.stage == "selection"]
    assert (choice.rows, choice.there) == (2 * 3 * 2, False)  # prompts, emotions, strengths
    assert run_job(job) == 0
    assert all(one.there for one in stages(look(job)))


def test_nothing_is_written_and_nothing_invented(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = config(tmp_path, "console=rich"), config(tmp_path, "console=rich", "intervention.alpha=2")
    told = said(capsys, one, two)
    assert "plan of 2 jobs: nothing has started" in told
    assert "not measured yet" in told
    assert "to run it: python run.py" in told
    assert not files(tmp_path)


def test_rates_are_those_of_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = config(tmp_path, "console=rich"), config(tmp_path, "console=rich", "intervention.alpha=2")
    run_job(one)
    there = files(tmp_path)
    told = said(capsys, one, two)
    assert files(tmp_path) == there
    assert "measured on cpu" in told
    assert "(this kind of machine)" in told
    assert "not measured yet" not in told
    other = said(capsys, config(tmp_path, "console=rich", "model=tiny_gpt2"))
    assert "its rates are not measured yet" in other  # another model's say nothing
    assert "all is done" in said(capsys, one)


def test_memory_against_what_is_asked_for(tmp_path: Path) -> None:
    job = config(tmp_path, "generation.max_new_tokens=100")
    spec = look(job).spec._replace(n_layers=10_000_000)
    [line] = demand_lines(look(job).spec, job, 0.00001)
    assert "weights 0.00019 GB (float32)" in line
    assert "hydra.launcher.mem_gb=1e-05 is asked for: TOO LITTLE" in line
    [enough] = demand_lines(look(job).spec, job, 8)
    assert enough.endswith("hydra.launcher.mem_gb=8 is asked for")
    assert "cache of about" in demand_lines(spec, job, None)[0]


def test_time_is_a_range_where_replies_end_is_not_known() -> None:
    from emo.cli.forecast import Work

    rates = Rates("cpu", True, {"replies": Rate(10, 20.0, 100, 1000), "labels": Rate(10, 5.0, 0, 100)})
    work = [Work("replies", "a", False, 30, 40), Work("labels", "b", False, 30, 0)]
    assert rates.seconds(work) == (pytest.approx(75.0), pytest.approx(255.0))  # 10 tokens each, or 40
    measured = rates._replace(stages=rates.stages | {"damage": Rate(10, 10.0, 0, 0)})
    assert measured.seconds([Work("selection", "d", False, 30, 40)]) == (pytest.approx(90.0), pytest.approx(270.0))
    assert rates.bytes(work) == 3300
    assert rates.seconds([Work("damage", "c", False, 1, 0)]) is None
    assert duration(None) == "not measured yet"
    assert duration((75.0, 255.0)) == "75 s to 4 min"
    assert size(3300) == "3.3 KB"
