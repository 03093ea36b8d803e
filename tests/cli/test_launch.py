"""Jobs of a sweep in several processes: grouped, claimed, taken over where somebody dies, never run twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import config
from support.launched import finish, job

from emo.cli import run as app
from emo.cli.launch import claims, processes, status, tasks_file, worker
from emo.cli.launch.groups import MOST, SETTING, grouped
from emo.cli.launch.jobs_file import read_jobs, write_jobs
from emo.cli.launch.tasks_file import Submitted
from emo.cli.launch.watch import Watch
from emo.cli.plan import Plan, make
from emo.config import error_text as cli
from emo.config.schema import Config
from emo.core.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return config(tmp_path_factory.mktemp("launch"), "intervention=none", "evaluator=projection")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    own = config(tmp_path, "intervention=none", "evaluator=projection")
    return Plan([job(own, i) for i in range(4)], ["seed"], "python run.py -m seed=0,1,2,3")


# --- groups ------------------------------------------------------------------------------------


@given(models=st.lists(st.sampled_from("abc"), max_size=60), size=st.sampled_from(["auto", 1, 2, 7, 100]))
def test_groups_hold_every_job_once(made: Config, models: list[str], size: int | str) -> None:
    jobs = [job(made, i, model) for i, model in enumerate(models)]
    groups = grouped(jobs, size)
    assert sorted(one.address for group in groups for one in group) == [one.address for one in jobs]
    assert all(0 < len(group) <= (MOST if size == "auto" else size) for group in groups)
    if size == "auto":
        assert all(len({one.config.model.name for one in group}) == 1 for group in groups)
    else:
        assert [one for group in groups for one in group] == jobs
    assert set(SETTING) <= set(vars(made))


@pytest.mark.parametrize("size", [0, -1, True, "many", 1.5, None])
def test_a_group_of_no_size_is_refused(made: Config, size: object) -> None:
    with pytest.raises(UserError, match=r"cluster.jobs_per_task=.*a whole number from 1 on is needed, or auto"):
        grouped([job(made, 0)], size)


def test_workers_read_the_jobs_as_they_were_checked(plan: Plan) -> None:
    path = write_jobs(plan, [plan.jobs[:3], plan.jobs[3:]])
    groups = read_jobs(path)
    assert [[one.config for one in group] for group in groups] == [
        [one.config for one in plan.jobs[:3]],
        [plan.jobs[3].config],
    ]
    assert write_jobs(plan, [plan.jobs]) != path  # tasks of an earlier launch may still wait in a queue
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="type the sweep's line again"):
        read_jobs(path)


def test_a_launcher_that_is_not_installed() -> None:
    error = RuntimeError(
        "Could not find 'hydra/launcher/submitit_slurm'\n\nAvailable options in 'hydra/launcher':\n\tbasic\n"
    )
    said = str(cli.explain(error))
    assert said == "hydra/launcher=submitit_slurm: not installed; type: pip install hydra-submitit-launcher==1.2.0"


# --- claims ------------------------------------------------------------------------------------


def test_one_job_has_one_holder(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "a" * 64) as ours:
        assert ours
        who = claims.holder(tmp_path, "a" * 64)
        assert who is not None and who.pid == os.getpid() and who.host == socket.gethostname()
        with claims.claimed(tmp_path, "a" * 64) as again:
            assert not again
        assert claims.holder(tmp_path, "a" * 64) is not None  # who was refused leaves the other's claim
        with claims.claimed(tmp_path, "b" * 64) as other:
            assert other
    assert claims.holder(tmp_path, "a" * 64) is None


def test_of_many_at_once_one_gets_the_job(tmp_path: Path) -> None:
    together, got = threading.Barrier(16), []

    def take() -> None:
        together.wait()
        with claims.claimed(tmp_path, "a" * 64) as ours:
            got.append(ours)
            together.wait()

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 1


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    path = claims.place(tmp_path, "a" * 64)
    path.parent.mkdir(parents=True)
    dead = claims.Holder(int(done.stdout), socket.gethostname(), time.time(), None, None, None)
    path.write_text(json.dumps(dead._asdict()))
    assert claims.holder(tmp_path, "a" * 64) is None
    with claims.claimed(tmp_path, "a" * 64) as ours:
        assert ours
    path.write_text(json.dumps(dead._replace(host="elsewhere")._asdict()))
    assert claims.holder(tmp_path, "a" * 64) is not None  # nobody can tell from here
    os.utime(path, (0, time.time() - 2 * claims.STALE_S))
    assert claims.holder(tmp_path, "a" * 64) is None


def test_a_claim_has_a_pulse_and_says_what_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PULSE_S", 0.01)
    monkeypatch.setattr(claims.console, "doing", lambda: "test: replies")
    with claims.claimed(tmp_path, "a" * 64):
        path = claims.place(tmp_path, "a" * 64)
        os.utime(path, (0, 0))
        until = time.monotonic() + 10
        while (claims.holder(tmp_path, "a" * 64) or dead()).stage != "test: replies" and time.monotonic() < until:
            time.sleep(0.01)
        who = claims.holder(tmp_path, "a" * 64)
        assert who is not None and who.stage == "test: replies"
        [standing] = status.standings(tmp_path, None, ["a" * 16, "b" * 16]).values()
        assert standing.state == "running" and "test: replies" in standing.where


def dead() -> claims.Holder:
    return claims.Holder(0, "", 0, None, None, None)


# --- one process -------------------------------------------------------------------------------


def test_jobs_of_others_are_left_and_taken_over(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(app, "run_job", lambda _, line, **__: ran.append(line))
    monkeypatch.setattr(worker, "LOOK_S", 0.01)
    with claims.claimed(plan.root, plan.jobs[1].address):
        worker.work(plan.jobs)
        assert ran == [f"python run.py seed={i}" for i in (0, 2, 3)]
        ran.clear()
        head = threading.Thread(target=worker.work, args=(plan.jobs,), kwargs={"stay": True})
        head.start()
        time.sleep(0.2)
        assert head.is_alive()
    head.join(10)
    assert not head.is_alive() and ran[-1] == "python run.py seed=1" and len(ran) == 4


def test_whatever_goes_wrong_in_a_job_the_others_run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(_: Config, line: str, **__: object) -> None:
        ran.append(line)
        raise (UserError("x"), RuntimeError("y"), OSError("z"), ValueError("w"))[len(ran) - 1]

    monkeypatch.setattr(app, "run_job", run)
    worker.work(plan.jobs)
    assert len(ran) == 4 and not any(claims.holder(plan.root, one.address) for one in plan.jobs)


def test_a_head_says_what_ended_since_its_last_look(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    finish(plan.jobs[0], "failed")  # of an earlier time: no news
    watch = Watch(plan, plan.jobs)
    assert watch.look() == plan.jobs
    finish(plan.jobs[2])
    time.sleep(0.01)
    finish(plan.jobs[0], "failed")
    assert watch.look() == [plan.jobs[1], plan.jobs[3]]
    said = capsys.readouterr().out
    assert "[1/4] seed=0: failed (E: x)" in said and "[2/4] seed=2: done (1 s)" in said
    watch.look()
    assert not capsys.readouterr().out


# --- several processes -------------------------------------------------------------------------


def test_gpus_of_a_machine(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert processes.devices_of_machine() == ["3", "5"]
    started: list[tuple[int, list[str]]] = []

    def run(_: Path, count: int, devices: list[str], watch: Watch, __: Path) -> None:
        started.append((count, devices))
        for one in watch.open:
            finish(one)
        watch.look()

    monkeypatch.setattr(processes, "_run", run)
    processes.run_processes(plan, plan.jobs, None, gpus=True)
    assert started == [(2, ["3", "5"])]
    with pytest.raises(UserError, match="n_jobs=3: this machine has 2 GPUs"):
        processes.run_processes(plan, plan.jobs, 3, gpus=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="this machine has no GPU that torch can use; type cluster=joblib"):
        processes.run_processes(plan, plan.jobs, None, gpus=True)
    with pytest.raises(UserError, match=r"n_jobs=0: a whole number from 1 on"):
        processes.run_processes(plan, plan.jobs, 0, gpus=False)


def test_what_dead_processes_left_is_tried_as_often_as_asked(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    plan.jobs[0].config.cluster.attempts = 3
    tried = []
    monkeypatch.setattr(processes, "_run", lambda *given: tried.append(len(given[3].open)))
    processes.run_processes(plan, plan.jobs, 2, gpus=False)
    assert tried == [4, 4, 4]


def test_a_damaged_line_is_no_task(tmp_path: Path) -> None:
    one = Submitted("7_0", ["a" * 64], "log", 1.0, 1, 4.0)
    tasks_file.append(tmp_path, [one])
    tasks_file.append(tmp_path, [one._replace(task="7_1")])
    path = tmp_path / tasks_file.FILE
    path.write_text(path.read_text().replace('"7_0"', '"7_5"') + '{"torn')
    assert tasks_file.read(tmp_path) == [one._replace(task="7_1")]


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_head(tmp_path: Path) -> None:
    """Two workers, one is killed, then the head: nothing runs on, the line typed again runs what is missing, once."""
    words = [
        *("-m", "model=tiny_llama", "intervention=steer", "evaluator=margin", "dataset.limit=4", "cluster=joblib"),
        *("intervention.alpha=0.5,1,2,3", "intervention.layers=1-2", "control.seeds=2", "elicitation.judge=none"),
        f"paths.outputs={tmp_path}",
    ]
    line = [sys.executable, str(app.__file__).replace("emo/cli/run.py", "run.py"), *words]
    head = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    running = tmp_path / "run" / claims.FOLDER / "running"
    held = wait_for(lambda: sorted(running.glob("*.json")) if len(list(running.glob("*.json"))) == 2 else None)
    victim, other = (json.loads(path.read_text())["pid"] for path in held)
    os.kill(victim, 9)
    wait_for(lambda: len(list((tmp_path / "run").glob("*/result.json"))) >= 1 or None)
    head.kill()
    head.wait()
    wait_for(lambda: True if not alive(other) else None)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/result.json")}
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{4 - len(done)} to run, {len(done)} already done" in ended.stdout
    assert len(list((tmp_path / "run").glob("*/result.json"))) == 4
    assert {path: path.stat().st_mtime_ns for path in done} == done


def wait_for(found: object, seconds: float = 120.0) -> list[Path]:
    """Return what a function gives as soon as it is not None."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (made := found()) is not None:  # type: ignore[operator]
            return made
        time.sleep(0.05)
    raise TimeoutError


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_line_of_one_job_says_nothing_of_a_cluster(tmp_path: Path) -> None:
    """It runs here, and ``cluster=`` is refused without a sweep."""
    words = ["intervention=none", "evaluator=projection", "cluster=slurm", "cluster.jobs_per_task=2"]
    made = make([([*words, "seed=1"], config(tmp_path, "intervention=none", "evaluator=projection"))], "line")
    assert made.jobs[0].overrides == ["intervention=none", "evaluator=projection", "seed=1"]
