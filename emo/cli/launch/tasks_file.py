"""Which tasks of a cluster a sweep has submitted, and for which jobs: lines that are only ever appended."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emo.core.sealed import DamagedError, seal, unseal

FILE = "tasks.jsonl"


class Submitted(NamedTuple):
    """One task of an array."""

    task: str  # as the cluster calls it: 1234_0
    jobs: list[str]  # addresses
    log: str
    submitted: float  # seconds since 1970
    attempt: int
    mem_gb: float | None


def append(folder: Path, tasks: Sequence[Submitted]) -> None:
    """Keep tasks that were submitted just now."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(seal(task._asdict())) + "\n" for task in tasks)
    with (folder / FILE).open("ab") as file:
        file.write(lines.encode())


def read(folder: Path) -> list[Submitted]:
    """Return the tasks of a sweep, the earliest first; a damaged line is none."""
    try:
        lines = (folder / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in filter(None, lines):
        try:
            found.append(Submitted(**unseal(json.loads(line))))
        except (DamagedError, ValueError, TypeError):
            continue
    return found


def ago(then: float) -> str:
    """Return how long ago, in words."""
    seconds = max(0.0, time.time() - then)
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
