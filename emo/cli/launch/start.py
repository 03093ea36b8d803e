"""Which of the ways to run a sweep's jobs its launcher asks for."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from emo.cli.launch.processes import run_processes
from emo.cli.launch.worker import work
from emo.cli.plan import Plan, Planned
from emo.config.check import REPOSITORY
from emo.core.errors import UserError

HERE, PROCESSES, SLURM = "BasicLauncher", "ProcessLauncher", "SlurmLauncher"


def check_cluster(typed: Sequence[str], launcher: DictConfig) -> None:
    """Refuse keys of the section ``cluster`` where one process runs all jobs.

    Raises:
        UserError: such a key was typed.
    """
    given = [word for word in typed if word.startswith("cluster.")]
    if given and _kind(launcher) == HERE:
        raise UserError(
            f"{given[0]}: the jobs of this line run in this process; type cluster=joblib, gpus or slurm too"
        )


def run_jobs(plan: Plan, waiting: Sequence[Planned], config: DictConfig, launcher: Any) -> bool:
    """Run the jobs of a sweep that are not done; returns False where they were only submitted.

    Args:
        plan: the sweep.
        waiting: its jobs that are not done.
        config: the keys of ``hydra.launcher``.
        launcher: Hydra's own, for kinds that are not known here.

    Raises:
        UserError: they cannot run there.
    """
    kind = _kind(config)
    if kind == HERE:
        work(waiting, stay=True)
        return True
    _make_importable()
    if kind == PROCESSES:
        run_processes(plan, waiting, config.n_jobs, bool(config.gpus))
        return True
    if kind == SLURM:
        from emo.cli.launch.slurm import run_slurm

        keys: Any = OmegaConf.to_container(config, resolve=True)
        return run_slurm(plan, waiting, {str(key): value for key, value in keys.items()})
    try:
        launcher.launch([job.overrides for job in waiting], initial_job_idx=0)
    except Exception:  # a worker that died; what the others did is on disk
        traceback.print_exc()
    return True


def _kind(config: DictConfig) -> str:
    return str(config.get("_target_", "")).rpartition(".")[2]


def _make_importable() -> None:
    """Let processes that others start find the package, from whatever directory they start."""
    here, others = str(REPOSITORY), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, others] if others else [here])
