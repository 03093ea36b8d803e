"""One small run in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from emo.config.check import REPOSITORY
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
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "HYDRA_FULL_ERROR")}
    line = [sys.executable, str(REPOSITORY / "run.py"), *overrides(Path("outputs"), "dataset.limit=5", *more)]
    process = subprocess.run(
        line,
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(process, folder)
