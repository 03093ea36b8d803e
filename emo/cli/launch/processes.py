"""Jobs in several processes of this machine (``cluster=joblib``, ``cluster=gpus``).

Every process goes through all groups from another one on and leaves what somebody is at: a process that dies loses only
the job it was in. (A pool of joblib or concurrent.futures ends whole when one of its processes is killed.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from emo.cli.launch.groups import grouped
from emo.cli.launch.jobs_file import folder_of, write_jobs
from emo.cli.launch.watch import Watch
from emo.cli.plan import Plan, Planned
from emo.core import console
from emo.core.errors import UserError

LOOK_S = 0.5
END_S = 30.0  # for processes that are told to end


def run_processes(plan: Plan, waiting: Sequence[Planned], n_jobs: int | None, gpus: bool) -> None:
    """Run jobs in several processes and say how they end.

    Args:
        plan: the sweep.
        waiting: its jobs that are not done.
        n_jobs: processes; None: one for each GPU.
        gpus: each process has a GPU of its own.

    Raises:
        UserError: there is no GPU, or fewer than processes.
    """
    given = plan.jobs[0].config.cluster
    devices = devices_of_machine() if gpus else []
    if gpus and not devices:
        raise UserError("cluster=gpus: this machine has no GPU that torch can use; type cluster=joblib")
    if gpus and n_jobs is not None and n_jobs > len(devices):
        raise UserError(
            f"hydra.launcher.n_jobs={n_jobs}: this machine has {len(devices)} GPUs; type that or leave it out"
        )
    count = len(devices) if n_jobs is None else n_jobs
    if count < 1:
        raise UserError(f"hydra.launcher.n_jobs={n_jobs}: a whole number from 1 on is needed")
    watch = Watch(plan, waiting)
    for attempt in range(given.attempts):
        groups = grouped(watch.open, given.jobs_per_task)
        count = min(count, len(watch.open))
        if given.jobs_per_task == "auto" and len(groups) < count:  # no process shall have nothing to do
            groups = grouped(watch.open, -(-len(watch.open) // count))
        if attempt:
            console.say(f"{len(watch.open)} jobs were left by processes that died: attempt {attempt + 1}")
        _run(write_jobs(plan, groups), count, devices, watch, folder_of(plan))
        if not watch.open:
            return


def _run(file: Path, count: int, devices: Sequence[str], watch: Watch, folder: Path) -> None:
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    logs = [folder / f"worker-{i}.log" for i in range(count)]
    console.say(f"{count} processes of {threads} threads each; what they print: {folder}/worker-*.log")
    workers = []
    try:
        for i, log in enumerate(logs):
            words = [sys.executable, "-m", "emo.cli.launch.worker", str(file), "--group", str(i)]
            with log.open("ab") as out:
                workers.append(
                    subprocess.Popen(
                        [*words, "--parent", str(os.getpid())],
                        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                        env=_environment(log, threads, devices[i] if devices else None),
                        start_new_session=True,  # Ctrl-C is the head's, which tells them
                    )
                )  # fmt: skip
        while any(worker.poll() is None for worker in workers):
            watch.look()
            time.sleep(LOOK_S)
        watch.look()
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in workers:
            try:
                worker.wait(END_S)
            except subprocess.TimeoutExpired:
                worker.kill()
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode not in (0, None):
            how = f"signal {-worker.returncode}" if worker.returncode < 0 else f"exit code {worker.returncode}"
            console.warn(f"process {worker.pid} died ({how}): {log}")


def _environment(log: Path, threads: int, device: str | None) -> dict[str, str]:
    own = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "EMO_LOG": str(log),
        "PYTHONUNBUFFERED": "1",
    }
    if device is not None:
        own["CUDA_VISIBLE_DEVICES"] = device
    return os.environ | own


def devices_of_machine() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() and name.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
