"""A preset from the command line, on tiny models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from emo.config.check import REPOSITORY
from support.jobs import overrides

OWN = ("intervention.alpha", "evaluator")  # the preset's, or steering's, not those of other tests


def run(folder: Path, *words: str) -> str:
    """Run a preset on tiny models in ``folder`` and return what it prints."""
    given = [word for word in overrides(folder, "console=rich") if word.partition("=")[0] not in (*OWN, "model")]
    unread = {w.partition("=")[0] for w in words}  # and what a preset's jobs do not read, which would be refused
    unread |= {"evaluator.kl_tokens", "generation.max_new_tokens"} if "evaluator=projection" in words else set()
    unread |= {"intervention.layers"} if "sweeps=llama_vs_qwen" in words else set()
    kept = [word for word in given if word.partition("=")[0] not in unread]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *kept, *words], cwd=folder, capture_output=True, text=True,
        timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
