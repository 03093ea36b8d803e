"""What a job's page and folder hold of its directions by themselves: lens.json, reliability.json, their sections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.stats import Estimate
from emo.pipeline.lens import logit_lens
from emo.pipeline.scenario import Job
from emo.report import lens_page, reliability_page
from emo.report.titles import model_title
from emo.results.reliability import described


class Directions(NamedTuple):
    """What stands on the page."""

    sections: str  # HTML
    figures: list[tuple[Path, str]]


def write(job: Job, found: Mapping[str, Mapping[str, Estimate]], folder: Path) -> Directions:
    """Write the files and the figure to ``folder``; returns what stands on the page.

    Args:
        job: its directions are found.
        found: estimates of every arm and metric.
        folder: of the result.
    """
    read, where = logit_lens(job), f"{model_title(job.config.model)}, {job.config.dataset.name}"
    lens = None if read is None else lens_page.described(read.rows, read.meta)
    beforehand = described(job, found)
    files: dict[str, Any] = {"lens.json": lens, "reliability.json": beforehand}
    for name, content in files.items():
        if content is not None:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False)
            (folder / name).write_bytes(text.encode("utf-8", errors="replace"))  # a token may be half a character
    sections = lens_page.section(lens, job.names) + reliability_page.section(beforehand)
    return Directions(sections, reliability_page.figures(beforehand, where, folder))
