"""The ranking check of a job on neurons or heads: the stage, its rows in result.json, and how it is shown.

It needs no intervention: jobs that share directions and scores share it, whatever they do to the units.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emo.addresses import digest
from emo.data import spread
from emo.directions import MLP
from emo.pipeline import Job
from emo.plots import RankingPanel, ranking_figure
from emo.prompts import prompt_ids
from emo.ranking import UNITS, Unit, measure, table
from emo.store import Artifact

CAPTION = (
    "Every dot is one unit of a block below the last: its score (on extraction samples) against how much the "
    "projection at the last block drops when that unit alone is zeroed (on test prompts). rho: Spearman's rank "
    "correlation with a 95 % bootstrap interval over units."
)


def points(job: Job) -> list[Unit]:
    """Return the units that were zeroed one at a time; none where the job edits no units or asks for no check."""
    c = job.config
    if job.units is None or not c.attribution.check:
        return []
    samples = [job.splits.test[i] for i in spread(job.splits.test, c.attribution.check)]

    def compute() -> Artifact:
        assert job.units is not None
        v = job.directions.tensors["v"][:, :, MLP]
        prompts = [prompt_ids(job.lm, c.elicitation, samples, name) for name in job.names]
        found = measure(job.lm, job.units, v, prompts, job.names, c.seed, c.batch_size)
        return Artifact(rows=[unit._asdict() for unit in found], meta={"samples": len(samples)})

    key = job.address(
        "ranking",
        attribution=job.attribution_address,
        samples=digest(samples),
        on=job.on,
        units=UNITS,
        seed=c.seed,
    )
    config = {"on": job.on, "samples": len(samples), "units": UNITS}
    return [Unit(**row) for row in job.store.get_or_compute("ranking", key, config, compute).rows]


def rows(job: Job) -> list[dict[str, Any]]:
    """Return what result.json holds of the check (`emo.ranking.table`); nothing where it was not asked for."""
    found = points(job)
    if not found:
        return []
    samples = len(spread(job.splits.test, job.config.attribution.check))
    return table(found, job.names, samples, job.config.evaluator.bootstrap, job.config.seed)


def line(checked: Sequence[dict[str, Any]], units: str) -> str:
    """Return the check in one line: all units, mean over emotions, then the parts.

    Args:
        checked: `rows`.
        units: neurons or heads.
    """
    whole = {row["part"]: row for row in checked if row["emotion"] is None}
    said = f"rho {_rho(whole['all'])} over {whole['all']['n_units']} {units}, mean over emotions"
    said += f"; top {_rho(whole['top'])}, random {_rho(whole['random'])}"
    shared = whole["top"]["shared"]
    return said + (f"; {shared} of {whole['top']['n_units']} units are in both" if shared else "")


def _rho(row: dict[str, Any]) -> str:
    if row["rho"] is None:
        return "not measured"
    return f"{row['rho']:.2f}" + (f" [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]" if row["ci"] else "")


def figures(job: Job, where: str, folder: Path) -> list[tuple[Path, str]]:
    """Draw score against effect, where the check was asked for."""
    found = points(job)
    if not found:
        return []
    said = {row["emotion"]: _rho(row) for row in rows(job) if row["part"] == "all"}
    own = {name: [unit for unit in found if unit.emotion == name] for name in job.names}
    panels = {
        name: RankingPanel([u.score for u in us], [u.effect for u in us], [u.top for u in us], said[name])
        for name, us in own.items()
    }
    title = f"Is the ranking of {job.on} right? {where}, {len(own[job.names[0]])} {job.on} per emotion"
    path = ranking_figure(panels, title, folder / "ranking.png")
    return [(path, CAPTION)]
