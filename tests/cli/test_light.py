"""What is read before a job is known to be right takes no seconds: a typing error is said at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from emo.config.check import REPOSITORY

HEAVY = ("torch", "transformers", "pandas", "scipy", "sklearn", "matplotlib", "wandb", "openai", "submitit")


@pytest.mark.parametrize("words", [["--help"], ["sweeps=alpa"], ["intervention.alfa=1"], ["dataset.limit=-1"]])
def test_nothing_heavy_is_loaded_to_refuse_a_line(words: list[str]) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['run.py', *{words!r}]\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        f"print('loaded', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stdout[-500:] + done.stderr[-500:]
