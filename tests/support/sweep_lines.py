"""Command lines of small sweeps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from emo.config.check import REPOSITORY
from support.jobs import overrides


def command(folder: Path, *more: str) -> list[str]:
    """Return the words of a sweep over a tiny model that writes into ``folder/outputs``."""
    return [sys.executable, str(REPOSITORY / "run.py"), "-m", *overrides(folder / "outputs", "console=rich", *more)]


def _environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "HYDRA_FULL_ERROR")}
    return clean | {"OMP_NUM_THREADS": "1"}
