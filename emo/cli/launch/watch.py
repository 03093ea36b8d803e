"""What a head sees of jobs that run elsewhere: a line for each that ends, and at the end which did not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emo.cli.plan import Plan, Planned
from emo.core import console
from emo.results.table import label, read_any


class Watch:
    """Says which jobs of a sweep have ended since the last look."""

    def __init__(self, plan: Plan, waiting: Sequence[Planned]) -> None:
        self.plan, self.total = plan, len(waiting)
        self.open, self.ended = list(waiting), 0
        self._before = {job.address: _stamp(job.folder) for job in waiting}  # a failed job's from an earlier time

    def look(self) -> list[Planned]:
        """Print a line for every job that has ended; returns those that have not."""
        still = []
        for job in self.open:
            stamp = _stamp(job.folder)
            if stamp is None or stamp == self._before[job.address]:
                still.append(job)
                continue
            result = read_any(job.folder)
            if result is None:
                still.append(job)
                continue
            self.ended += 1
            self._say(job, result["status"], result.get("error"), result["wall_s"])
        self.open = still
        return still

    def _say(self, job: Planned, status: str, error: str | None, seconds: float) -> None:
        what = label(self.plan.settings(job)) or job.address[:16]
        told = "done" if status == "done" else f"failed ({' '.join(str(error).split())[:200]})"
        console.say(f"[{self.ended}/{self.total}] {what}: {told} ({seconds:.0f} s)")


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / "result.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
