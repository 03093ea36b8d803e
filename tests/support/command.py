"""The command line in a process of its own, and refusals in this one."""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from emo.cli import run as app
from emo.config.check import REPOSITORY
from emo.core.errors import UserError
from support.jobs import config

# What a process reads that all others are forked from; the module of the command line itself is read by each of them.
_READ = [
    "emo.cli.run", "emo.cli.tasks", "hydra.main", "sklearn.decomposition", "sklearn.linear_model", "torch._dynamo",
    "transformers.models.llama.modeling_llama",
]  # fmt: skip
_OWN = ("COLUMNS", "HYDRA_FULL_ERROR")  # of the terminal in which the tests were typed
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_READ)


def run(
    folder: Path, *words: str, anew: bool = False, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run run.py in ``folder``, in a process of its own.

    It is forked from one that has read the libraries, which spares seconds. ``anew``: started from nothing, where
    ``environment`` has a variable that is looked at while they are read.
    """
    if anew:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words], cwd=folder, env=_variables(environment),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as said:
        process = begin(folder, Path(said), *words, **environment)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(words), timeout)
        texts = [(Path(said) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(list(words), process.exitcode, *texts)


def begin(folder: Path, said: Path, *words: str, **environment: str) -> ForkServerProcess:
    """Begin run.py in ``folder``; what it says goes to the files stdout and stderr of ``said``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # who forks must have no threads
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        forkserver.ensure_running()
    process = _context.Process(target=_main, args=(str(folder), words, _variables(environment), str(said)))
    process.start()
    return process


def _variables(more: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in _OWN} | {"OMP_NUM_THREADS": "1"} | more


def _main(folder: str, words: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    """Be run.py: its directory, words, variables and streams."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", encoding="utf-8", buffering=1) for stream in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(REPOSITORY / "run.py"), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


def refused_here(folder: Path, *words: str) -> str:
    """Run a job that is wrong in this process, which spares the start of another, and return what is said."""
    gc.collect()  # a store is marked as in use as long as a job of this process holds it
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        app.run_job(config(folder / "outputs", *words))
    after = sorted(folder.rglob("*"))
    assert after == before, f"something was written: {set(after) ^ set(before)}"
    return str(caught.value)
