"""Plans of small sweeps, and what their jobs do."""

from __future__ import annotations

from pathlib import Path

import emo
from emo.cli import plan
from emo.cli.plan import Plan
from emo.cli.run import run_job
from support.jobs import config

FAST = "evaluator=projection"


def make(folder: Path, *alphas: float) -> Plan:
    """Return the plan of a sweep over strengths, named ``run``."""
    words = [[FAST, f"intervention.alpha={alpha:g}"] for alpha in alphas]
    line = f"python run.py -m {FAST} intervention.alpha={','.join(f'{alpha:g}' for alpha in alphas)}"
    return plan.make([(own, config(folder, *own)) for own in words], line)


def work(jobs: list[plan.Planned]) -> None:
    """Run jobs as a launcher does."""
    for job in jobs:
        assert run_job(job.config, in_sweep=True) == 0


def strengths(folder: Path) -> list[float]:
    """Return the values of the axis in the table of a sweep."""
    return sorted(set(emo.load_results(folder)["intervention.alpha"]))
