"""Which jobs run one after another in one process, so that a model is loaded and an interpreter started once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emo.cli.plan import Planned
from emo.config.schema import Config
from emo.core.errors import UserError

MOST = 16  # jobs of one task where none is typed: one that dies loses little
SETTING = ("model", "dataset", "emotions", "elicitation", "directions", "seed", "dtype", "device")


def grouped(jobs: Sequence[Planned], per_task: Any = "auto") -> list[list[Planned]]:
    """Return the jobs in groups, in their order.

    Args:
        jobs: those to run.
        per_task: jobs of one group at most; ``auto``: 16, and only jobs that share a model and setting.

    Raises:
        UserError: ``per_task`` is neither.
    """
    if per_task != "auto" and (not isinstance(per_task, int) or isinstance(per_task, bool) or per_task < 1):
        raise UserError(f"cluster.jobs_per_task={per_task}: a whole number from 1 on is needed, or auto")
    alike: dict[str, list[Planned]] = {}
    for job in jobs:
        alike.setdefault(_setting(job.config) if per_task == "auto" else "", []).append(job)
    size = MOST if per_task == "auto" else per_task
    return [own[start : start + size] for own in alike.values() for start in range(0, len(own), size)]


def _setting(config: Config) -> str:
    whole = asdict(config)
    return json.dumps({key: whole[key] for key in SETTING}, sort_keys=True, default=str)
