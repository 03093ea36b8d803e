"""One small run in a process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from support.command import run
from support.jobs import overrides


class Done(NamedTuple):
    """A finished process and the folder that it was started in."""

    process: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def result_folder(self) -> Path:
        """Return the one result folder below ``outputs``."""
        [path] = (self.folder / "outputs" / "run").iterdir()
        return path


def start(folder: Path, *more: str) -> Done:
    """Run a small job in ``folder``, with paths relative to it; later words win."""
    process = run(folder, *overrides(Path("outputs"), "dataset.limit=5", *more))
    return Done(process, folder)
