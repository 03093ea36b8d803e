"""Runs jobs one after another, leaves those that somebody else is at, and never one twice.

A process of its own: ``python -m emo.cli.launch.worker FILE --group N``, in which ``cluster=joblib`` and
``cluster=gpus`` start it; a task of a cluster calls `work` itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from emo.cli.launch.claims import claimed, holder
from emo.config import error_text as cli
from emo.config.schema import Config
from emo.core import console, stopping
from emo.core.errors import UserError

LOOK_S = 1.0  # between looks at a job that somebody else is at
GRACE_S = 30.0  # for a worker that was told to end


class AnyWork(Protocol):
    """What is needed of a job: a `Planned` of this process, or a `Work` from a file."""

    @property
    def address(self) -> str:
        """Of its result, 64 hex digits."""

    @property
    def overrides(self) -> list[str]:
        """As they are typed."""

    @property
    def config(self) -> Config:
        """As it was checked."""


def work(jobs: Iterable[AnyWork], *, stay: bool = False) -> None:
    """Run jobs in this process; whatever goes wrong in one is reported there, and the others go on.

    Args:
        jobs: in their order.
        stay: wait for those that somebody else is at, and take over where he dies; else they are left to him.
    """
    held = [job for job in jobs if not _try(job)]
    while stay and held:
        first = held[0]
        who = holder(_root(first.config), first.address)
        if who is not None:
            since = time.strftime("%H:%M:%S", time.localtime(who.since))
            console.say(f"{len(held)} jobs wait for {who} (at {first.address[:16]} since {since}); Ctrl-C ends waiting")
        while holder(_root(first.config), first.address) is not None:
            time.sleep(LOOK_S)
        held = [job for job in held if not _try(job)]


def _try(job: AnyWork) -> bool:
    """Run a job, unless somebody else is at it (False)."""
    from emo.cli.run import run_job

    with claimed(_root(job.config), job.address) as ours:
        if not ours:
            return False
        try:
            run_job(job.config, cli.command(job.overrides), in_sweep=True)
        except UserError as error:  # of what is found only now, such as a file that went away
            console.warn(f"error: {error}")
        except Exception:
            traceback.print_exc()
        return True


def _done(job: AnyWork) -> bool:
    from emo.results.result_file import find_result

    return find_result(Path(job.config.paths.outputs), job.config.name, job.address) is not None


def _root(config: Config) -> Path:
    return Path(config.paths.outputs) / config.name


def end_with(parent: int) -> None:
    """End this process when its parent is gone: nobody would read what it says, and its cores are wanted."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(stopping.STOPPED)

    threading.Thread(target=watch, daemon=True).start()


def main(words: Sequence[str]) -> int:
    """Run the jobs of a file: a group first, then what of the other groups nobody is at; returns the exit code."""
    from emo.cli.launch.jobs_file import read_jobs

    parser = argparse.ArgumentParser(prog="python -m emo.cli.launch.worker", description=main.__doc__)
    parser.add_argument("file", type=Path, help="jobs-N.json of a sweep")
    parser.add_argument("--group", type=int, default=0, help="the group to begin with")
    parser.add_argument("--parent", type=int, help="process to end with")
    given = parser.parse_args(words)
    if given.parent is not None:
        end_with(given.parent)
    groups = read_jobs(given.file)
    first = given.group % max(1, len(groups))
    work(job for group in (*groups[first:], *groups[:first]) for job in group if not _done(job))
    return 0


if __name__ == "__main__":
    stopping.install()
    sys.exit(cli.guard(lambda: main(sys.argv[1:])))
