"""What a sweep's page shows of each of its jobs: what was run, all figures, and the way to the job's own report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from emo.core.sealed import changed
from emo.report import elements as page

EMBEDDED = 2_000_000  # bytes of the jobs' figures, as they stand in a page, that it holds itself; beyond, it links them


class JobFigures(NamedTuple):
    """One finished job."""

    name: str  # its swept values
    folder: str  # of its result, relative to the page
    facts: dict[str, str]  # name -> value
    figures: list[tuple[str, str]]  # (file in the folder, caption)


def read_figures(name: str, folder: str, where: Path, result: dict[str, Any]) -> JobFigures:
    """Return what there is to show of a finished job.

    Args:
        name: its swept values.
        folder: of its result, relative to the page.
        where: the same folder.
        result: content of its result.json; one without captions has the figures' names for them.
    """
    captions = {row["file"]: row["caption"] for row in result.get("figures", [])}
    listed = captions or {path.name: path.stem for path in sorted(where.glob("*.png"))}
    wrong = changed(where, result.get("files", {}))  # its line, typed again, draws them anew
    there = [(file, caption) for file, caption in listed.items() if (where / file).is_file() and file not in wrong]
    return JobFigures(name, folder, dict(result.get("facts", {})), there)


def linked(jobs: Sequence[JobFigures], root: Path, limit: float = EMBEDDED) -> bool:
    """Whether the figures of ``jobs`` (folders relative to ``root``) are too large for one page."""
    size = sum((root / job.folder / file).stat().st_size for job in jobs for file, _ in job.figures)
    return size * page.BASE64 > limit


def job_sections(jobs: Sequence[JobFigures], root: Path, *, unfolded: bool, link: bool) -> str:
    """Return one section per job; nothing where there are none.

    Args:
        jobs: the finished ones.
        root: their folders are relative to it.
        unfolded: sections are open: the jobs are an experiment, not points of a grid.
        link: figures stay where they are; else the page holds them.
    """
    return "".join(_section(job, root, " open" if unfolded else "", link) for job in jobs)


def _section(job: JobFigures, root: Path, state: str, link: bool) -> str:
    figures = ""
    for file, caption in job.figures:
        href = quote(f"{job.folder}/{file}")
        figures += page.linked_figure(href, caption) if link else page.figure(root / job.folder / file, caption)
    report = page.text(quote(f"{job.folder}/report.html"))
    return (
        f'<details class="job"{state}><summary>{page.text(job.name)}</summary>\n{page.facts(job.facts)}'
        f'<p><a href="{report}">Table, comparisons and replies of this job</a></p>\n{figures}</details>\n'
    )
