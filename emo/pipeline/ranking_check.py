"""The ranking check of a job on neurons or heads: the stage, its rows in result.json.

It needs no intervention: jobs that share directions and scores share it, whatever they do to the units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo.core.sealed import digest
from emo.core.store import Artifact
from emo.data.scenarios import spread
from emo.find.directions import MLP
from emo.measure.unit_ablation import UNITS, Unit, measure, table
from emo.model.prompts import prompt_ids
from emo.pipeline.scenario import Job


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
    """Return what result.json holds of the check (`emo.measure.unit_ablation.table`); nothing if not asked for."""
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
    said = f"rho {rho(whole['all'])} over {whole['all']['n_units']} {units}, mean over emotions"
    said += f"; top {rho(whole['top'])}, random {rho(whole['random'])}"
    shared = whole["top"]["shared"]
    return said + (f"; {shared} of {whole['top']['n_units']} units are in both" if shared else "")


def rho(row: dict[str, Any]) -> str:
    """Return a rank correlation with its interval, as it is shown."""
    if row["rho"] is None:
        return "not measured"
    return f"{row['rho']:.2f}" + (f" [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]" if row["ci"] else "")
