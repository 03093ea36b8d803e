"""The command line in a process of its own, and refusals in this one."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

import pytest

from emo.cli import run as app
from emo.config.check import REPOSITORY
from emo.core.errors import UserError
from support.jobs import config

# A process that has read its libraries, and nothing of ours: all others start from it, with nothing a test left behind.
_READ = [
    "torch", "transformers", "transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2",
    "torch._dynamo", "hydra.main", "pandas", "scipy.stats", "sklearn.linear_model", "matplotlib.backends.backend_agg",
    "accelerate", "rich.console",
]  # fmt: skip
_OWN = ("COLUMNS", "HYDRA_FULL_ERROR")  # of the terminal in which the tests were typed
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_READ)


def run(folder: Path, *words: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run run.py in ``folder``, in a process that was forked: seconds less than one that reads torch again.

    Libraries look at some variables only while they are read: where a test gives any, the process is started anew.
    """
    own = {key: value for key, value in os.environ.items() if key not in _OWN} | {"OMP_NUM_THREADS": "1"}
    if environment:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words], cwd=folder, env=own | environment,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the first call: who forks must have no threads
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as said:
        process = _context.Process(target=_main, args=(str(folder), words, own, said))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(words), timeout)
        texts = [(Path(said) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(list(words), process.exitcode, *texts)


def _main(folder: str, words: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    """Be run.py: its directory, words, variables and streams."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", buffering=1, closefd=False) for stream in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(REPOSITORY / "run.py"), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


def refused_here(folder: Path, *words: str) -> str:
    """Run a job that is wrong in this process, which spares the start of another, and return what is said."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        app.run_job(config(folder / "outputs", *words))
    assert sorted(folder.rglob("*")) == before, "something was written"
    return str(caught.value)
