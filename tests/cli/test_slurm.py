"""The array of a sweep, with programs that answer as SLURM's do."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.jobs import config
from support.launched import finish, job

from emo.cli.launch import slurm, status, tasks_file
from emo.cli.launch.jobs_file import folder_of, read_jobs
from emo.cli.plan import Plan
from emo.core.errors import UserError

pytest.importorskip("submitit")

LAUNCHER = {"_target_": "x", "timeout_min": 8, "mem_gb": 4, "partition": "gpu", "signal_delay_s": 120, "gres": None}
SBATCH = """#!{python}
import pathlib, re, sys
here = pathlib.Path({here!r})
if (here / "refuse").exists():
    sys.exit((here / "refuse").read_text())
number = len(list(here.glob("*.sbatch"))) + 7
(here / f"{{number}}.sbatch").write_text(pathlib.Path(sys.argv[-1]).read_text())
print(f"Submitted batch job {{number}}")
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
cat {here}/states
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sbatch, sacct, srun and squeue, first on the PATH; the states of tasks stand in its file states."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "states").write_text("")
    for name, text in {"sbatch": SBATCH, "sacct": SACCT, "srun": "#!/bin/sh\n", "squeue": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text.format(python=sys.executable, here=str(folder)))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(slurm, "LOOK_S", 0.01)
    monkeypatch.setattr(slurm, "ASK_S", 0.0)
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    made = config(tmp_path, "intervention=none", "evaluator=projection", "cluster.jobs_per_task=2")
    return Plan([job(made, i) for i in range(4)], ["seed"], "python run.py -m seed=0,1,2,3")


def launcher(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return LAUNCHER | {"submitit_folder": str(tmp_path / "logs" / "%j")} | more


def run(plan: Plan, tmp_path: Path, here: Path, states: str, **more: Any) -> bool:
    (here / "states").write_text(states)
    return slurm.run_slurm(plan, [one for one in plan.jobs if not one.folder.exists()], launcher(tmp_path, **more))


def test_a_dead_task_does_not_end_the_wait_for_the_others(
    plan: Plan, tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first task was cancelled; the second runs on, and its jobs come in later."""
    asked = []

    def look(tasks: Any) -> dict[str, str]:
        asked.append([task.task for task in tasks])
        if len(asked) == 5:
            finish(plan.jobs[2])
            finish(plan.jobs[3])
        return {task.task: "CANCELLED" if task.task == "7_0" else "RUNNING" for task in tasks if len(asked) < 9}

    monkeypatch.setattr(slurm, "states", lambda tasks: look(tasks) or {t.task: "COMPLETED" for t in tasks})
    assert run(plan, tmp_path, here, "")
    said = capsys.readouterr().out
    assert "array 7: 4 jobs in 2 tasks" in said and "seed=2: done" in said and "seed=3: done" in said
    assert re.search(r"task 7_0 ended \(cancelled\) and left 2 of 2 jobs: \S+7_0_0_log.out", said)


def test_live_tasks_are_known_again_and_nothing_is_submitted_twice(
    plan: Plan, tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.jobs[0].config.cluster.wait = False
    assert not run(plan, tmp_path, here, "")
    assert len(tasks_file.read(folder_of(plan))) == 2
    assert not run(plan, tmp_path, here, "7_0|RUNNING|vm\n7_1|PENDING|None\n")
    assert len(list(here.glob("*.sbatch"))) == 1
    sweep = {"id": plan.id, "jobs": []}
    stand = status.standings(plan.root, sweep, [one.address for one in plan.jobs])
    assert [stand[one.address].state for one in plan.jobs] == ["queued"] * 4  # with a task, and nobody is at them yet
    assert "task 7_0 (running)" in stand[plan.jobs[0].address].where
    capsys.readouterr()
    assert not run(plan, tmp_path, here, "7_0|FAILED|vm\n7_1|PENDING|None\n")
    assert "2 jobs are under way in tasks from before: 7_1" in capsys.readouterr().out
    groups = read_jobs(folder_of(plan) / "jobs-2.json")
    assert [[one.address for one in group] for group in groups] == [[one.address for one in plan.jobs[:2]]]


def test_too_little_memory_is_doubled_as_often_as_asked(
    plan: Plan, tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.jobs[0].config.cluster.attempts = 2
    finish(plan.jobs[2])
    finish(plan.jobs[3])
    assert run(plan, tmp_path, here, "7|OUT_OF_MEMORY|vm\n8|OUT_OF_MEMORY|vm\n")
    said = capsys.readouterr().out
    assert "attempt 2 of 2 with 8 GB" in said and "task 8 ended (out_of_memory) and left 2 of 2 jobs" in said
    asked = [re.search(r"--mem=(\S+)", (here / f"{n}.sbatch").read_text()) for n in (7, 8)]
    assert [found[1] if found else None for found in asked] == ["4GB", "8GB"]
    assert not (here / "9.sbatch").exists()


def test_memory_that_no_node_has_ends_only_that_task(
    plan: Plan, tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.jobs[0].config.cluster.attempts = 2
    finish(plan.jobs[2])
    asked: list[int] = []

    def states(tasks: Any) -> dict[str, str]:
        asked.append(len(tasks))
        if tasks:  # none was submitted before
            (here / "refuse").write_text("sbatch: error: Memory specification can not be satisfied")
        if len(asked) > 3:
            finish(plan.jobs[3])
        ended = "COMPLETED" if len(asked) > 3 else "RUNNING"
        return {task.task: "OUT_OF_MEMORY" if task.task == "7_0" else ended for task in tasks}

    monkeypatch.setattr(slurm, "states", states)
    assert slurm.run_slurm(plan, plan.jobs, launcher(tmp_path))
    said = capsys.readouterr().out
    assert "Memory specification can not be satisfied" in said and "seed=3: done" in said


def test_a_refused_submission_is_one_line(plan: Plan, tmp_path: Path, here: Path) -> None:
    (here / "refuse").write_text("sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job x")
    with pytest.raises(UserError, match="SLURM refuses: .*Memory specification can not be satisfied") as refused:
        run(plan, tmp_path, here, "")
    assert "\n" not in str(refused.value)
    assert not tasks_file.read(folder_of(plan))


def test_without_slurm_one_line_says_so(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="cluster=slurm: .*srun.*; type cluster=joblib or gpus"):
        slurm.run_slurm(plan, plan.jobs, launcher(tmp_path))


@pytest.mark.parametrize(("limit", "delay", "warned"), [(480, 120, 120), (2, 120, 30), (8, 60, 60), (1, 120, 15)])
def test_the_warning_comes_in_the_last_quarter(limit: int, delay: int, warned: int) -> None:
    assert slurm.warning_s({"timeout_min": limit, "signal_delay_s": delay}) == warned


def test_a_task_that_nobody_knows_is_gone(here: Path) -> None:
    old = tasks_file.Submitted("3_0", [], "log", time.time() - 2 * slurm.UNKNOWN_S, 1, None)
    assert slurm.states([old, old._replace(task="3_1", submitted=time.time())]) == {"3_0": "GONE", "3_1": "UNKNOWN"}
    (here / "squeue").write_text("#!/bin/sh\necho RUNNING\n")  # accounting is off
    assert slurm.states([old]) == {"3_0": "UNKNOWN"}
