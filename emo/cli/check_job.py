"""What a job needs from this machine, checked before anything runs."""

from __future__ import annotations

from emo.pipeline.jobs import AnyJob
from emo.report import tracking_access
from emo.results.places import check_places


def check_job(job: AnyJob) -> None:
    """Check where the job writes, its tracker, and what it reads beyond the model.

    Raises:
        UserError: something is not there, cannot be written, or cannot be used.
    """
    check_places(job.config, job.result_address)
    tracking_access.check(job.config.tracker)
    job.check()
