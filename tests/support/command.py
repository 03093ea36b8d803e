"""The command line in a process of its own, and refusals in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emo.cli import run as app
from emo.config.check import REPOSITORY
from emo.core.errors import UserError
from support.jobs import config


def run(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start run.py in ``folder``."""
    clean = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *overrides],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused_here(folder: Path, *words: str) -> str:
    """Run a job that is wrong in this process, which spares the start of another, and return what is said."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        app.run_job(config(folder / "outputs", *words))
    assert sorted(folder.rglob("*")) == before, "something was written"
    return str(caught.value)
