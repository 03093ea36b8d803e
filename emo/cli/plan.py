"""The jobs of a sweep before and after they run: addresses, what is done, the list on disk, what failed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from emo.cli.check_job import check_job
from emo.cli.job_lists import key_of
from emo.config import error_text as cli
from emo.config.kinds import induces, on_classes
from emo.config.schema import Config
from emo.core import console
from emo.core.errors import UserError, refuse
from emo.core.store import writable
from emo.measure import unjudged
from emo.pipeline.context_length import check_length, length_key
from emo.pipeline.jobs import make_job
from emo.report.sweep_files import summarize_sweep
from emo.results.result_file import find_result
from emo.results.sweep_folder import alone, drop_copy, home, sweep_of, take
from emo.results.table import axes_of, flatten, label, read_any, value_of


class Planned(NamedTuple):
    """One job of a sweep."""

    overrides: list[str]  # as Hydra takes them
    config: Config
    address: str  # of its result
    prompts: int  # test prompts for each emotion
    dtype: str  # what dtype=auto came to

    @property
    def folder(self) -> Path:
        """Where its result goes."""
        return Path(self.config.paths.outputs) / self.config.name / self.address[:16]


class Plan(NamedTuple):
    """A sweep: its jobs in the order in which they run, and the line that continues it."""

    jobs: list[Planned]
    axes: list[str]
    command: str
    keys: Sequence[str] = ()  # those that the jobs of a list set; none: a grid

    @property
    def root(self) -> Path:
        """The folder of the sweep."""
        return self.jobs[0].folder.parent

    @property
    def id(self) -> str:
        """Eight hex digits that name this set of jobs."""
        return hashlib.sha256("".join(sorted(job.address for job in self.jobs)).encode()).hexdigest()[:8]

    def listing(self) -> dict[str, Any]:
        """Return what is kept of the sweep on disk: its line, its axes and its jobs."""
        rows = [
            {
                "address": job.address,
                "settings": self.settings(job),
                "overrides": job.overrides,
                "dtype": job.dtype,
            }
            for job in self.jobs
        ]
        return {
            "id": self.id, "command": self.command, "axes": self.axes, "experiment": bool(self.keys), "jobs": rows,
        }  # fmt: skip

    def settings(self, job: Planned) -> dict[str, Any]:
        """Return the swept values of a job, without those that its kind of intervention does not read."""
        flat = flatten(asdict(job.config))
        return {axis: value_of(flat, axis) for axis in self.axes if self._reads(job, axis)}

    def _reads(self, job: Planned, axis: str) -> bool:
        """Whether a job of the same kind has a key of the list: k of neurons says nothing of a steering job."""
        if axis not in self.keys or not axis.startswith(("intervention.", "circuit.")):
            return True
        alike = [one for one in self.jobs if one.config.intervention.kind == job.config.intervention.kind]
        return any(key_of(word) == axis for one in alike for word in one.overrides)


def make(configs: Sequence[tuple[list[str], Config]], command: str, keys: Sequence[str] = ()) -> Plan:
    """Return the plan of a sweep; jobs of one model stand together, equal jobs stand there once.

    Args:
        configs: overrides and configuration of every job.
        command: the line that continues the sweep.
        keys: what the jobs of a list set: axes where they differ, though others may tell the jobs apart already.

    Raises:
        UserError: jobs that cannot run here; all of them are named.
    """
    jobs: dict[str, Planned] = {}
    models: dict[str, int] = {}
    order: dict[str, int] = {}
    wrong: dict[str, list[str]] = {}
    for words, config in configs:
        try:
            job = make_job(config)
            check_job(job)
            address = job.result_address
        except UserError as error:
            wrong.setdefault(str(error), []).append(" ".join(words))
            continue
        own = [word for word in words if key_of(word).partition(".")[0] != "cluster"]  # where a sweep runs, not what
        jobs.setdefault(address, Planned(own, config, address, len(job.splits.test), job.spec.dtype))
        order[address] = models.setdefault(str(job.spec), len(models))
    refuse(wrong, len(configs))
    roots = {job.folder.parent for job in jobs.values()}
    if len(roots) > 1:
        raise UserError(
            "name, paths.outputs: a sweep needs one value for all of its jobs; its table lies in one folder"
        )
    if len(jobs) < len(configs):
        console.note(f"{len(configs)} combinations are {len(jobs)} different jobs")
    sorted_jobs = sorted(jobs.values(), key=lambda job: order[job.address])
    return Plan(sorted_jobs, axes_of([asdict(config) for _, config in configs], keys), command, keys)


def announce(plan: Plan) -> list[Planned]:
    """Say how much there is to do, leave the list of jobs on disk, and return those that are not done.

    Raises:
        UserError: the sweep's folder cannot be written and a job is not done, or texts do not fit into a model.
        DiskFullError: there is no room for the list.
    """
    can = _can_be_written(plan.root)
    waiting = [job for job in plan.jobs if find_result(plan.root.parent, plan.root.name, job.address) is None]
    _check_lengths(waiting)
    failed = sum((read_any(job.folder) or {}).get("status") == "failed" for job in waiting)
    unanswered = sum(unjudged.total(read_any(job.folder)) > 0 for job in waiting)
    console.say(
        f"{len(plan.jobs)} jobs: {len(waiting)} to run, {len(plan.jobs) - len(waiting)} already done"
        + (f" ({failed} failed before and run again)" if failed else "")
        + (f" ({unanswered} done but for unjudged replies, which are asked for again)" if unanswered else "")
    )
    if plan.keys:
        console.note(_extent(plan))
    if can:
        take(plan.root, plan.listing())
    elif waiting:
        writable(plan.root)
    else:
        console.note(f"{plan.root}: cannot be written, so what is there is shown and nothing is written")
    return waiting


def _can_be_written(folder: Path) -> bool:
    try:
        writable(folder)
    except UserError:
        return False
    return True


def _check_lengths(waiting: Sequence[Planned]) -> None:
    """Refuse jobs with texts that do not fit into their model, before one starts; jobs of the same texts count once."""
    wrong: dict[str, list[str]] = {}
    said: dict[str, str] = {}  # key -> what is wrong with it; empty: nothing
    for job in waiting:
        key = length_key(job.config)
        if key not in said:
            try:
                check_length(make_job(job.config))
                said[key] = ""
            except UserError as error:
                said[key] = str(error)
        if said[key]:
            wrong.setdefault(said[key], []).append(" ".join(job.overrides))
    refuse(wrong, len(waiting))


def _extent(plan: Plan) -> str:
    """Return how much the jobs of an experiment measure, which ``size`` decides where its file says so."""
    prompts = dict.fromkeys(
        f"{job.prompts} test texts"
        if on_classes(job.config)
        else f"{job.prompts} test prompts x {len(job.config.emotions.names)} emotions"
        for job in plan.jobs
    )
    writing = [job.config for job in plan.jobs if not on_classes(job.config) or induces(job.config)]
    tokens = dict.fromkeys(str(config.generation.max_new_tokens) for config in writing)
    replies = f", replies of up to {' or '.join(tokens)} tokens" if tokens else ""
    return f"size={plan.jobs[0].config.size}: {' or '.join(prompts)}{replies}"


def conclude(plan: Plan, ran: Sequence[Planned] | None = None) -> bool:
    """Write and show the table of a sweep, then everything that failed; returns whether something did.

    ``ran``: the jobs that were not done before; None: any.
    """
    c = plan.jobs[0].config
    if _can_be_written(plan.root):
        folder = home(plan.root, plan.id) or take(plan.root, plan.listing())
        with alone(plan.root):
            folder = home(plan.root, plan.id) or folder  # another sweep of this name may have moved it meanwhile
            summarize_sweep(folder, c.tracker)
            drop_copy(plan.root, folder, plan.id)
    else:
        folder = plan.root
        summarize_sweep(folder, c.tracker, sweep=plan.listing(), write=False)
    console.answer(folder)
    failures = []
    for job in plan.jobs if ran is None else ran:
        result = read_any(job.folder)
        if result is None or result["status"] != "done":
            failures.append((job, "nothing was written" if result is None else str(result.get("error"))))
    for job, error in failures:
        console.warn(f"failed: {label(plan.settings(job)) or 'the only job'}: {error}")
        console.say(f"  alone: {cli.command(job.overrides)}")
    if failures:
        console.say(f"{len(failures)} of {len(plan.jobs)} jobs failed; only these run again: {plan.command}")
    return bool(failures)


def place(root: Path, address: str) -> str:
    """Return ``[2/6] intervention.alpha=1`` of a job in the sweep whose list lies in ``root``."""
    sweep = sweep_of(root, address[:16])
    for i, job in enumerate(sweep["jobs"] if sweep else [], start=1):
        if job["address"] == address:
            return f"[{i}/{len(sweep['jobs']) if sweep else i}] {label(job['settings'])}"
    return f"[{address[:16]}]"
