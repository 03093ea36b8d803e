"""Jobs as tasks of a SLURM array (``cluster=slurm``): submitted by submitit, and known again later."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from emo.cli.launch import tasks_file
from emo.cli.launch.groups import grouped
from emo.cli.launch.jobs_file import folder_of, write_jobs
from emo.cli.launch.task import Task
from emo.cli.launch.tasks_file import Submitted
from emo.cli.launch.watch import Watch
from emo.cli.plan import Plan, Planned
from emo.config.schema import ClusterConfig
from emo.core import console, stopping
from emo.core.errors import UserError

LOOK_S = 2.0  # between looks at the results on disk
ASK_S = 10.0  # between questions to the cluster
UNKNOWN_S = 120.0  # a task that the cluster does not know so long after its submission is none
OURS = {
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "mem_gb",
    "nodes",
    "tasks_per_node",
    "name",
}  # of every cluster
LIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "RESIZING", "PREEMPTED", "READY")
OUT_OF_MEMORY = "OUT_OF_MEMORY"
DEAF = 'trap "" USR2; exec "$0" "$@"'  # the warning signal must not kill a Python that still imports
SHARE = 0.25  # of a time limit that the warning signal may come before its end


def run_slurm(plan: Plan, waiting: Sequence[Planned], launcher: dict[str, Any]) -> bool:
    """Submit the jobs that no live task has, and wait for all; returns False where waiting was not wanted.

    Args:
        plan: the sweep.
        waiting: its jobs that are not done.
        launcher: the keys of ``hydra.launcher``.

    Raises:
        UserError: SLURM refuses the submission, or is not there.
    """
    cluster = plan.jobs[0].config.cluster
    folder = folder_of(plan)
    before = tasks_file.read(folder)
    known = states(before)
    live = {task.task: task for task in before if is_live(known[task.task])}
    taken = {address for task in live.values() for address in task.jobs}
    rest = [job for job in waiting if job.address not in taken]
    if taken:
        names = ", ".join(live)
        console.say(f"{len(waiting) - len(rest)} jobs are under way in tasks from before: {names}")
    if rest:
        made = submit(plan, grouped(rest, cluster.jobs_per_task), launcher, cluster)
        live |= {task.task: task for task in made}
    if not cluster.wait:
        console.say("submitted; task=status in the same line shows what goes on, the line itself waits for it")
        return False
    try:
        _wait(plan, waiting, live, launcher, cluster)
    except (KeyboardInterrupt, stopping.Stopped):
        console.say("the array goes on without this process; the same line waits for it, scancel ends it")
        raise
    return True


def submit(
    plan: Plan, groups: Sequence[Sequence[Planned]], launcher: dict[str, Any], cluster: ClusterConfig, attempt: int = 1
) -> list[Submitted]:
    """Submit one array with a task for each group; returns its tasks.

    Raises:
        UserError: SLURM refuses it, or is not there.
    """
    import submitit

    if shutil.which("srun") is None:
        raise UserError("cluster=slurm: there is no srun on this machine; type cluster=joblib or gpus")
    given = {key: value for key, value in launcher.items() if not key.startswith("_") and value is not None}
    folder = given.pop("submitit_folder")
    again = max(int(given.pop("max_num_timeout", 0)), cluster.attempts - 1)
    given["signal_delay_s"] = warning_s(given)
    words = {key if key in OURS else f"slurm_{key}": value for key, value in given.items() if key != "stderr_to_stdout"}
    words |= {"stderr_to_stdout": given.get("stderr_to_stdout", True)}
    file = write_jobs(plan, groups)
    try:
        python = f"sh -c {shlex.quote(DEAF)} {shlex.quote(sys.executable)}"
        executor = submitit.AutoExecutor(
            folder=folder, cluster="slurm", slurm_max_num_timeout=again, slurm_python=python
        )
        executor.update_parameters(**words)
        with executor.batch():
            jobs = [executor.submit(Task(str(file), i)) for i in range(len(groups))]
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"cluster=slurm: SLURM refuses: {refusal(error)}; see sinfo and hydra.launcher.*") from None
    made = [
        Submitted(
            job.job_id, [one.address for one in group], str(job.paths.stdout), time.time(), attempt, given.get("mem_gb")
        )
        for job, group in zip(jobs, groups, strict=True)
    ]
    tasks_file.append(folder_of(plan), made)
    count = sum(map(len, groups))
    first = jobs[0].job_id.partition("_")[0]
    console.say(f"array {first}: {count} jobs in {number(len(groups), 'task')}; logs: {jobs[0].paths.stdout.parent}")
    return made


def warning_s(launcher: dict[str, Any]) -> int:
    """Return how many seconds before its time limit a task is warned: no more than a quarter of it."""
    limit = 60 * int(launcher.get("timeout_min", 60))
    wanted = int(launcher.get("signal_delay_s", 120))
    return max(1, min(wanted, int(SHARE * limit)))


def refusal(error: BaseException) -> str:
    """Return what SLURM says of a submission, in one line."""
    text = str(error)
    said = re.findall(r"(?:sbatch|error): *(.*)", text)
    told = said or text.strip().splitlines()[-1:]
    return "; ".join(dict.fromkeys(line.removeprefix("error:").strip() for line in told))[:300]


def _wait(
    plan: Plan, waiting: Sequence[Planned], live: dict[str, Submitted], launcher: dict[str, Any], cluster: ClusterConfig
) -> None:
    """Wait for every task, whatever becomes of others; what died of too little memory runs again with twice as much."""
    watch = Watch(plan, waiting)
    asked, shown = 0.0, ""
    while live:
        still = {job.address: job for job in watch.look()}
        now = time.monotonic()
        if now - asked >= ASK_S or not still:
            asked = now
            found = states(list(live.values()))
            counts = ", ".join(f"{n} {told(state)}" for state, n in _count(found).items())
            if counts != shown and still:
                shown = counts
                console.note(f"{len(still)} of {watch.total} jobs to go; tasks: {counts}")
            for name, state in found.items():
                if is_live(state):
                    continue
                task = live.pop(name)
                left = [still[address] for address in task.jobs if address in still]
                if left:
                    live |= {new.task: new for new in _ended(plan, task, state, left, launcher, cluster)}
        if live:
            time.sleep(LOOK_S)
    watch.look()


def _ended(
    plan: Plan, task: Submitted, state: str, left: list[Planned], launcher: dict[str, Any], cluster: ClusterConfig
) -> list[Submitted]:
    """Say that a task ended before its jobs; returns the tasks of another attempt."""
    what = f"task {task.task} ended ({state.lower()}) and left {len(left)} of {len(task.jobs)} jobs: {task.log}"
    memory = launcher.get("mem_gb")
    if not state.startswith(OUT_OF_MEMORY) or task.attempt >= cluster.attempts or memory is None:
        console.warn(what)
        return []
    more = 2 * float(task.mem_gb or memory)
    console.warn(f"{what}; attempt {task.attempt + 1} of {cluster.attempts} with {more:g} GB")
    try:
        return submit(plan, [left], launcher | {"mem_gb": more}, cluster, task.attempt + 1)
    except UserError as error:  # more than a node has; the other tasks go on
        console.warn(str(error))
        return []


def states(tasks: Sequence[Submitted]) -> dict[str, str]:
    """Return what SLURM says of tasks, in its own words: PENDING, RUNNING, COMPLETED, ...; UNKNOWN: nothing yet."""
    if not tasks:
        return {}
    from submitit.slurm.slurm import SlurmInfoWatcher

    watcher = SlurmInfoWatcher(delay_s=int(ASK_S))
    for task in tasks:
        watcher.register_job(task.task)  # one question for all of them
    watcher.update()
    found = {}
    for task in tasks:
        state = watcher.get_state(task.task, mode="cache").split(" ")[0].upper()
        if state == "UNKNOWN" and time.time() - task.submitted > UNKNOWN_S and not _queued(task.task):
            state = "GONE"
        found[task.task] = state
    return found


def is_live(state: str) -> bool:
    """Return whether a task in this state may still finish its jobs."""
    return state in (*LIVE, "UNKNOWN")


def _queued(task: str) -> bool:
    """Whether squeue knows a task: where accounting is off, sacct knows none."""
    words = ["squeue", "-h", "-j", task, "-o", "%T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return bool(done.stdout.strip())


def told(state: str) -> str:
    """Return a state as a user reads it."""
    return "submitted" if state == "UNKNOWN" else state.lower()


def number(n: int, thing: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _count(found: dict[Any, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in found.values():
        counts[state] = counts.get(state, 0) + 1
    return counts
