"""The jobs of a sweep as a worker process reads them: their configurations as they were checked, not composed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from emo.cli.launch.claims import FOLDER
from emo.cli.plan import Plan, Planned
from emo.config.renamed import stored
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.sealed import DamagedError, read_sealed, seal


class Work(NamedTuple):
    """One job for a worker."""

    address: str
    overrides: list[str]
    config: Config


def folder_of(plan: Plan) -> Path:
    """Return the folder of all that is about the running of a sweep."""
    return plan.root / FOLDER / plan.id


def write_jobs(plan: Plan, groups: Sequence[Sequence[Planned]]) -> Path:
    """Write groups of jobs for workers; returns the file."""
    folder = folder_of(plan)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        [{"address": job.address, "overrides": job.overrides, "config": asdict(job.config)} for job in group]
        for group in groups
    ]
    text = json.dumps(seal({"groups": rows}), ensure_ascii=False)
    number = 1 + max((int(path.stem[5:]) for path in folder.glob("jobs-*.json")), default=0)
    path = folder / f"jobs-{number}.json"  # one for each launch: tasks of an earlier one may still wait in a queue
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read_jobs(path: Path) -> list[list[Work]]:
    """Return the groups of jobs in a file.

    Raises:
        UserError: it is not there, or not what was written.
    """
    try:
        rows = read_sealed(path)["groups"]
    except DamagedError as error:
        raise UserError(f"{path}: {error}; type the sweep's line again") from None
    return [[Work(row["address"], row["overrides"], _config(row["config"])) for row in group] for group in rows]


def _config(values: dict[str, object]) -> Config:
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), stored(values)))
    if not isinstance(made, Config):
        raise TypeError(type(made).__name__)
    return made
