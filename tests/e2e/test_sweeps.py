"""Sweeps through the real command line: checked before the first job, resumed, tabulated, safe side by side."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.command import begin
from support.command import run as start
from support.sweep_lines import _environment, command

import emo
from emo.config.check import REPOSITORY

GRID = ("intervention.alpha=0.5,1", "intervention.layers=0-1,2-3")


def run(folder: Path, *more: str, words: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end, started in ``folder``."""
    return start(folder, *(words or command(folder, *more)[2:]))


def same_table(folder: Path, other: Path) -> None:
    """Check two sweeps' tables: the same rows, numbers equal but for the rounding of other batches."""
    one, two = (pd.read_csv(path / "outputs" / "run" / "results.csv") for path in (folder, other))
    numbers = ["value", "ci_lo", "ci_hi"]
    pd.testing.assert_frame_equal(one.drop(columns=numbers), two.drop(columns=numbers))
    pd.testing.assert_frame_equal(one[numbers], two[numbers], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and output of an uninterrupted sweep of four jobs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run(folder, *GRID)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_four_jobs_one_model_one_capture(swept: tuple[Path, str]) -> None:
    _, said = swept
    lines = said.splitlines()
    assert lines[0] == "4 jobs: 4 to run, 0 already done"
    assert sum("loaded in" in line for line in lines) == 1
    assert sum(line.startswith("capture:") for line in lines) == 1
    assert "[4/4] intervention.alpha=1 intervention.layers=2-3" in lines


def test_the_table_on_disk(swept: tuple[Path, str]) -> None:
    folder = swept[0] / "outputs" / "run"
    frame = emo.load_results(folder)
    assert frame.attrs["axes"] == ["intervention.alpha", "intervention.layers"]
    assert set(frame["job"]) == {path.parent.name for path in folder.glob("*/result.json")}
    assert not frame.duplicated(["job", "arm", "metric"]).any()
    for job, part in frame.groupby("job"):
        arms = json.loads((folder / str(job) / "result.json").read_text())["arms"]
        assert len(part) == sum(map(len, arms.values()))
        one = part[(part["arm"] == "steer") & (part["metric"] == "logprob_margin")].iloc[0]
        x = arms["steer"]["logprob_margin"]
        assert [one["value"], one["n"]] == [x["value"], x["n"]]
        assert x["ci"] is None and pd.isna(one["ci_lo"]) and pd.isna(one["ci_hi"])  # of two scenarios
    csv = pd.read_csv(folder / "results.csv")
    jsonl = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(csv) == len(jsonl) == len(frame)
    assert list(csv.columns) == list(frame.columns) == list(jsonl[0])
    assert sorted(set(csv["intervention.alpha"])) == [0.5, 1.0]
    assert list(folder.glob("*.png")) and (folder / "report.html").stat().st_size > 10_000


def test_the_same_line_again_runs_nothing(swept: tuple[Path, str]) -> None:
    folder = swept[0]
    before = (folder / "outputs" / "run" / "results.csv").read_bytes()
    again = run(folder, *GRID, "batch_size=3", "device=cpu", "console=rich", f"paths.store={folder / 'other'}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == "4 jobs: 0 to run, 4 already done"
    assert "loaded in" not in again.stdout
    assert (folder / "outputs" / "run" / "results.csv").read_bytes() == before


def test_done_under_another_name_is_copied(swept: tuple[Path, str]) -> None:
    folder = swept[0]
    other = run(folder, *GRID, "name=other")
    assert other.stdout.splitlines()[0] == "4 jobs: 0 to run, 4 already done"
    assert len(list((folder / "outputs" / "other").glob("*/report.html"))) == 4


def test_killed_three_times_and_typed_again(swept: tuple[Path, str], tmp_path: Path) -> None:
    finished: list[set[str]] = []
    for seconds in (0.0, 0.6, 1.2):
        said = tmp_path / "said" / str(seconds)
        said.mkdir(parents=True)
        process = begin(tmp_path, said, *command(tmp_path, *GRID)[2:])
        while not (said / "stdout").is_file() or "\n[" not in (said / "stdout").read_text():
            assert process.is_alive()
            time.sleep(0.02)  # until a moment within one of the jobs
        time.sleep(seconds)
        process.kill()
        process.join()
        finished.append({path.parent.name for path in (tmp_path / "outputs").glob("run/*/result.json")})
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").glob("run/*/result.json")}
    last = run(tmp_path, *GRID)
    assert last.returncode == 0, last.stderr
    done = len(finished[-1])
    assert last.stdout.splitlines()[0] == f"4 jobs: {4 - done} to run, {done} already done"
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    same_table(tmp_path, swept[0])


def test_one_wrong_job_among_valid_ones_starts_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "intervention.layers=1-2,2-9,20-30", "intervention.alpha=0.5,nan")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any("intervention.alpha=nan" in line and "3 jobs" in line for line in lines)
    assert lines[-1] == "error: 3 of 6 jobs are wrong, so none was started"
    done = run(tmp_path, "intervention.layers=1-2,2-9,20-30")
    assert [line for line in done.stderr.splitlines() if "has 4 blocks" in line or "4 blocks" in line]
    assert done.stderr.splitlines()[-1] == "error: 2 of 3 jobs are wrong, so none was started"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_edited_line_runs_its_job_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [
            {"skeleton_id": f"{name}{i}", "theme": "Work/Job", "scenario": f"Scene {name} number {i}.",
             "event": {v: f"Outcome {v} of {i}." for v in ("positive", "neutral", "negative")}}
            for i in range(6)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    words = ("dataset=jsonl", f"dataset.path={tmp_path / 'a.jsonl'},{tmp_path / 'b.jsonl'}", "evaluator=projection")
    assert run(tmp_path, *words).stdout.splitlines()[0] == "2 jobs: 2 to run, 0 already done"
    path = tmp_path / "b.jsonl"
    path.write_text(path.read_text().replace("Outcome neutral of 3.", "Another neutral outcome."))
    assert run(tmp_path, *words).stdout.splitlines()[0] == "2 jobs: 1 to run, 1 already done"


@pytest.mark.slow
def test_two_processes_on_one_store(swept: tuple[Path, str], tmp_path: Path) -> None:
    pair = [
        subprocess.Popen(
            command(tmp_path, *GRID), cwd=tmp_path, env=_environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in pair:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    same_table(tmp_path, swept[0])
    assert not list((tmp_path / "outputs").rglob(".writing-*"))


@pytest.mark.slow
def test_a_preset_from_another_directory_with_axes_of_ones_own(tmp_path: Path) -> None:
    """A key of the preset is replaced, another added; jobs of one model stand together whatever varies slowest."""
    words = [f"paths.outputs={tmp_path / 'outputs'}", "sweeps=smoke", "intervention.alpha=2", "evaluator=projection",
             "elicitation.judge=none", "dataset.limit=2,3"]  # fmt: skip
    first = run(tmp_path, words=[*words, "task=status"])
    assert first.returncode == 0 and not (tmp_path / "outputs").exists()
    assert "4 jobs: 0 done, 0 failed, 4 missing" in first.stdout
    done = run(tmp_path, words=words)
    assert done.returncode == 0, done.stderr
    assert sum("loaded in" in line for line in done.stdout.splitlines()) == 2
    assert emo.load_results(tmp_path / "outputs" / "smoke").attrs["axes"] == ["model", "dataset.limit"]
    after = run(tmp_path, words=["task=status", f"runs={tmp_path / 'outputs' / 'smoke'}"])
    assert "4 jobs: 4 done, 0 failed, 0 missing" in after.stdout
    (tmp_path / "outputs" / "smoke" / "results.csv").unlink()
    again = run(tmp_path, words=["task=summarize", f"paths.outputs={tmp_path / 'outputs'}"])
    assert again.returncode == 0 and (tmp_path / "outputs" / "smoke" / "results.csv").is_file()


@pytest.mark.slow
def test_another_sweep_of_the_same_name_keeps_the_first_table(tmp_path: Path) -> None:
    assert run(tmp_path, "intervention.alpha=0.5,1", "evaluator=projection").returncode == 0
    first = emo.load_results(tmp_path / "outputs" / "run")
    assert run(tmp_path, "intervention.alpha=1,2", "evaluator=projection").returncode == 0
    [aside] = (tmp_path / "outputs" / "run" / "earlier").iterdir()
    pd.testing.assert_frame_equal(emo.load_results(aside), first)
    assert sorted(set(emo.load_results(tmp_path / "outputs" / "run")["intervention.alpha"])) == [1.0, 2.0]
    assert 'href="../../' in (aside / "report.html").read_text()


def test_the_shipped_wandb_sweep_composes(tmp_path: Path) -> None:
    """The command line that a W&B agent makes of the file is one that runs."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((REPOSITORY / "sweeps" / "wandb" / "alpha.yaml").read_text())
    values = {
        key: {"value": p["values"][0] if "values" in p else p.get("value", p.get("min"))}
        for key, p in sweep["parameters"].items()
    }
    words = create_sweep_command_args({"args": values})["args_no_hyphens"]
    assert sweep["program"] == "run.py" and "${args_no_hyphens}" in sweep["command"]
    done = run(tmp_path, words=["--cfg", "job", *words])
    assert done.returncode == 0, done.stderr
    composed = yaml.safe_load(done.stdout)
    assert composed["tracker"]["name"] == "wandb"
    assert composed["intervention"]["alpha"] in sweep["parameters"]["intervention.alpha"]["values"]
