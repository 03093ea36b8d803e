"""The jobs behind a comparison of two models: each model on each half of the extraction scenarios.

Halves are alternate scenarios. What is found on half a data set of one model is compared with what is found on the
other half: of the same model (a noise ceiling: how alike two findings are where nothing but the data differs) and of
the second one. Both are from as many samples, and no sample is in both, so what is lost beyond the ceiling is the
model's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from emo.core.errors import UserError
from emo.pipeline.scenario import Job
from emo.pipeline.second_model import second_config


class TwoModels(NamedTuple):
    """Jobs that differ from one in their model and data.

    Attributes:
        first: the model of the job, on each half.
        second: the other, on each half.
        own: the other, on all the data, with the circuit found in it.
        moved: the same with the first model's circuit.
    """

    first: tuple[Job, Job]
    second: tuple[Job, Job]
    own: Job
    moved: Job


def two_models(job: Job) -> TwoModels:
    """Return the jobs that compare the models of a job; raises `UserError` where the data has no halves."""
    config = replace(job.config, against=None)
    other = replace(config, model=second_config(job.config))
    ids = list(dict.fromkeys(sample.scenario_id for sample in job.splits.extract))
    if len(ids) < 2:
        raise UserError(f"against={job.config.against}: one scenario has no halves; type a larger dataset.limit")

    def half(one: Job, which: int) -> Job:
        wanted = set(ids[which::2])
        one.splits = one.splits._replace(extract=[s for s in job.splits.extract if s.scenario_id in wanted])
        return one

    own, moved = Job(other), Job(other)
    moved.__dict__["saved_circuit"] = job.circuit  # in the place of the property's own value
    first, second = ((half(Job(c), 0), half(Job(c), 1)) for c in (config, other))
    made = TwoModels(first, second, own, moved)
    for one in (*first, *second, own, moved):
        one.store.used = job.store.used  # one list of what the result is made of: task=gc keeps it
    for one in (*made.first, *made.second):  # one model after the other: each is read once
        _ = one.directions, one.attribution, one.circuit
    return made
