"""Where the unfinished jobs of a sweep stand: running (since when, at what), queued, or with nobody."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from emo.cli.launch import tasks_file
from emo.cli.launch.claims import FOLDER, holder
from emo.cli.launch.slurm import is_live, states, told
from emo.cli.launch.tasks_file import Submitted, ago


class Standing(NamedTuple):
    """Of one job that is not done."""

    state: str  # running | queued
    since: str  # 5 min
    where: str  # task or process, what it is at, and its log


def standings(root: Path, sweep: dict[str, Any] | None, unfinished: Iterable[str]) -> dict[str, Standing]:
    """Return, by address, where jobs stand that somebody is at, or that wait in a queue.

    Args:
        root: the folder of the sweep.
        sweep: content of its sweep.json; None: there is none.
        unfinished: addresses of the jobs that are not done, 16 digits or all.
    """
    queued = _queued(root / FOLDER / str(sweep["id"])) if sweep else {}
    found = {}
    for address in unfinished:
        who = holder(root, address)
        if who is not None:
            doing = f", {who.stage}" if who.stage else ""
            found[address] = Standing("running", ago(who.since), f"{who}{doing}{f': {who.log}' if who.log else ''}")
        elif address[:16] in queued:
            task, state = queued[address[:16]]
            found[address] = Standing("queued", ago(task.submitted), f"task {task.task} ({told(state)}): {task.log}")
    return found


def _queued(folder: Path) -> dict[str, tuple[Submitted, str]]:
    """Return the live task of every job that has one; without SLURM on this machine there are none."""
    tasks = tasks_file.read(folder)
    if not tasks:
        return {}
    try:
        known = states(tasks)
    except ImportError:  # submitit is not installed here: results and claims are all that is known
        return {}
    live = [task for task in tasks if is_live(known[task.task])]
    return {job[:16]: (task, known[task.task]) for task in live for job in task.jobs}


def time_left(seconds: list[float], left: int, running: int) -> str | None:
    """Return how long the rest takes, from what finished jobs took; None where none is finished or nobody is at one."""
    if not seconds or not left or not running:
        return None
    whole = statistics.median(seconds) * left / running
    each = f"{running} at a time, {statistics.median(seconds):.0f} s each"
    return f"about {ago(time.time() - whole)} left for {left} jobs ({each}, by those that are done)"
