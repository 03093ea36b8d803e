"""Which kind of job a configuration is: replies to scenarios, or classes of labelled texts."""

from __future__ import annotations

from emo.config.kinds import on_classes
from emo.config.schema import Config
from emo.pipeline.labelled import ClassJob
from emo.pipeline.scenario import Job

AnyJob = Job | ClassJob


def make_job(config: Config) -> AnyJob:
    """Return the job of a configuration; its addresses are known at once, nothing has run."""
    return ClassJob(config) if on_classes(config) else Job(config)
