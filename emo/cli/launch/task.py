"""One task of an array: what submitit keeps and calls on the node."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from emo.core import console, stopping

HUB, REACH_S = ("huggingface.co", 443), 3.0


class Task:
    """A group of jobs; after a time limit it goes on where it was stopped, as often as was asked for."""

    def __init__(self, file: str, group: int) -> None:
        self.file, self.group = file, group

    def __call__(self) -> int:
        """Run the jobs that are not done; returns 0."""
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's: back into the queue, or the end of this task
        start = time.monotonic()
        stopping.install()
        os.environ["EMO_LOG"] = _log()
        offline_where_no_network()
        from emo.cli.launch.jobs_file import read_jobs
        from emo.cli.launch.worker import work

        try:
            with stopping.catching():
                work(read_jobs(Path(self.file))[self.group])
        except stopping.Stopped as stop:
            console.say(str(stop))
            _took(start)
            if stop.signal == "SIGUSR2" and callable(requeue):
                requeue(signal.SIGUSR2, None)
            sys.exit(stopping.STOPPED)
        _took(start)
        return 0

    def checkpoint(self) -> Any:
        """Return what runs when the task is started again: the same, of which only the unfinished is run."""
        import submitit

        return submitit.helpers.DelayedSubmission(Task(self.file, self.group))


def _took(start: float) -> None:
    """Say what the task cost, Python's start counted in the CPU seconds: what grouping jobs is judged by."""
    console.say(f"task ends after {time.monotonic() - start:.0f} s, {time.process_time():.0f} CPU s")


def _log() -> str:
    import submitit

    return str(submitit.JobEnvironment().paths.stdout)


def offline_where_no_network() -> None:
    """On a node without a network read models from this machine's cache at once, without minutes of repeats."""
    if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_ENDPOINT"):
        return
    try:
        socket.create_connection(HUB, REACH_S).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
        console.note(f"no network on {socket.gethostname()}: models are read from its cache (task=prefetch fills it)")
