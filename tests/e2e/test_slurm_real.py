"""Sweeps on a real SLURM (``make slurm-test``): killed heads, cancelled tasks, time limits, groups, docs/cluster.md.

Skipped where no SLURM answers, and left out of the other verbs: it takes minutes.
"""

# ruff: noqa: T201 - what these print is the record

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import emo
from emo.config.check import REPOSITORY

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.environ.get("EMO_SLURM") != "1", reason="make slurm-test"),
]
SLURM = (
    "cluster=slurm",
    "hydra.launcher.partition=gpu",
    "hydra.launcher.mem_gb=4",
    "hydra.launcher.gpus_per_node=null",
)
JOB = (
    *("model=tiny_llama", "intervention=steer", "evaluator=projection", "dataset.limit=2", "intervention.layers=1-2"),
    *("control.seeds=2", "elicitation.judge=none", "evaluator.bootstrap=50"),
)
LONG = (*(word for word in JOB if not word.startswith("evaluator=")), "evaluator=margin", "dataset.limit=4")


@pytest.fixture(scope="module", autouse=True)
def _answers() -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo", "-h"], capture_output=True, check=False).returncode:
        pytest.skip("no SLURM answers here")


def line(folder: Path, *words: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "run.py"), "-m", *words, f"paths.outputs={folder}"]


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(line(folder, *words), capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def table(folder: Path) -> pd.DataFrame:
    frame = emo.load_results(folder / "run")
    return frame.sort_values(["job", "arm", "metric"]).reset_index(drop=True)


def same(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Return the largest difference of two tables of the same jobs."""
    assert list(a["job"]) == list(b["job"]) and list(a["arm"]) == list(b["arm"])
    return float((a["value"] - b["value"]).abs().max())


def wait_for(found: Callable[[], Any], seconds: float = 300.0) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if made := found():
            return made
        time.sleep(0.2)
    raise TimeoutError


def queue() -> list[str]:
    return subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def results(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("run/*/result.json")}


def logs(folder: Path) -> str:
    """Return what the tasks of a sweep printed."""
    return "".join(path.read_text() for path in sorted((folder / ".slurm").rglob("*log.out")))


def test_a_cancelled_task_loses_only_its_own(tmp_path: Path) -> None:
    head = subprocess.Popen(
        line(tmp_path, *LONG, *SLURM, "intervention.alpha=0.5,1,2,3", "cluster.jobs_per_task=2"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    running = tmp_path / "run" / ".launch" / "running"
    wait_for(lambda: len(list(running.glob("*.json"))) == 2)
    [first, second] = sorted(queue())
    subprocess.run(["scancel", first], check=True)
    said = head.communicate(timeout=600)[0]
    print(said)
    assert head.returncode == 1 and f"task {first} ended (cancelled" in said
    assert len(results(tmp_path)) == 2 and second not in re.findall(r"task (\S+) ended", said)
    before = results(tmp_path)
    said = run(tmp_path, *LONG, *SLURM, "intervention.alpha=0.5,1,2,3", "cluster.jobs_per_task=2")
    assert "2 to run, 2 already done" in said and len(results(tmp_path)) == 4
    assert {name: results(tmp_path)[name] for name in before} == before


def test_a_killed_head_and_the_line_again_at_once(tmp_path: Path) -> None:
    words = (*LONG, *SLURM, "intervention.alpha=0.5,1,2,3", "cluster.jobs_per_task=2")
    head = subprocess.Popen(line(tmp_path, *words), stdout=subprocess.DEVNULL)
    wait_for(lambda: len(queue()) == 2)
    time.sleep(3)
    head.kill()
    said = run(tmp_path, *words)
    assert "4 jobs are under way in tasks from before" in said and "array" not in said.partition("under way")[0]
    assert len(list((tmp_path / ".slurm").rglob("*_submitted.pkl"))) == 2  # two tasks in all
    local = tmp_path / "local"
    run(local, *LONG, "intervention.alpha=0.5,1,2,3")
    assert same(table(tmp_path), table(local)) < 1e-4


def test_a_time_limit_of_two_minutes(tmp_path: Path) -> None:
    """Margins that take longer than the limit: the task is warned, keeps them, goes back into the queue and goes on."""
    words = (*LONG[:-1], "dataset.limit=12", "intervention.alpha=0.5", "batch_size=1")
    said = run(tmp_path, *words, *SLURM, "hydra.launcher.timeout_min=2", "cluster.attempts=8")
    assert "[1/1]" in said and "done" in said
    printed = logs(tmp_path)
    print(printed)
    assert "stopped by SIGUSR2: what is finished is kept" in printed and "kept from before" in printed


def test_forty_eight_jobs_in_three_tasks(tmp_path: Path) -> None:
    """No job twice, none lost, the table of a local run; seconds and CPU seconds of grouped against ungrouped."""
    alphas = f"intervention.alpha={','.join(f'{0.1 * i:.1f}' for i in range(1, 49))}"
    took = {}
    for name, words in {
        "local": (), "three tasks": (*SLURM, "cluster.jobs_per_task=16"),
        "a task each": (*SLURM, "cluster.jobs_per_task=1"),
    }.items():  # fmt: skip
        folder = tmp_path / name.replace(" ", "_")
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        run(folder, *JOB, alphas, *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        head = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        tasks = re.findall(r"task ends after \d+ s, (\d+) CPU s", logs(folder))
        took[name] = time.monotonic() - start, head + sum(map(int, tasks))
        print(f"{name}: {took[name][0]:.0f} s, {took[name][1]:.0f} CPU s ({len(tasks)} tasks)")
    whole = {name: table(tmp_path / name.replace(" ", "_")) for name in took}
    assert all(frame["job"].nunique() == 48 for frame in whole.values())
    differences = [same(frame, whole["local"]) for frame in whole.values()]
    print(f"largest differences from the local table: {differences}")
    assert max(differences) < 1e-4
    numbers = re.findall(r"^\[(\d+)/48\]", logs(tmp_path / "three_tasks"), re.MULTILINE)
    assert len(list((tmp_path / "three_tasks" / ".slurm").rglob("*log.out"))) == 3
    assert sorted(map(int, numbers)) == list(range(1, 49)), "a job ran twice, or never"


def test_every_line_of_the_page_runs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    lines = [text for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for text in block.splitlines()]
    assert len(lines) >= 14
    gpus = {} if shutil.which("nvidia-smi") else {"CUDA_VISIBLE_DEVICES": "0,1"}
    for text in lines:
        words = [word.replace("outputs/", f"{tmp_path}/") for word in shlex.split(text)]
        assert words[:2] == ["python", "run.py"], text
        words += [f"paths.outputs={tmp_path}"]
        if "cluster=slurm" in words:
            words += ["hydra.launcher.gpus_per_node=null"]
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words[2:]],
            capture_output=True, text=True, check=False, env=os.environ | gpus,
        )  # fmt: skip
        print(f"$ {text}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
