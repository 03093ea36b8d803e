"""Who is at which job: a small file beside the results, so that several processes and heads share a sweep.

A claim only saves two processes from doing the same work; what decides is the result, which is published whole. It is a
plain file made with O_EXCL, which works on every file system, and its time of change is its holder's pulse: one that
has had none for a while, or whose process is gone from this machine, is nobody's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from emo.core import console

FOLDER = ".launch"  # of a sweep's folder: all that is about who runs what
PULSE_S = 5.0
STALE_S = 90.0  # clocks of machines that share a folder may differ by seconds


class Holder(NamedTuple):
    """Who is at a job."""

    pid: int
    host: str
    since: float  # seconds since 1970
    task: str | None  # of a cluster, as it calls it
    log: str | None  # where its output goes; None: a terminal
    stage: str | None  # what it is doing

    def __str__(self) -> str:
        who = f"task {self.task}" if self.task else f"process {self.pid}"
        return f"{who} on {self.host}"


def place(root: Path, address: str) -> Path:
    """Return the file of a job's claim."""
    return root / FOLDER / "running" / f"{address[:16]}.json"


def holder(root: Path, address: str) -> Holder | None:
    """Return who is at a job; None: nobody, or somebody who died."""
    path = place(root, address)
    try:
        age = time.time() - path.stat().st_mtime
        found = Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):  # being written
        return Holder(0, "?", time.time(), None, None, None) if age < STALE_S else None
    dead = found.host == socket.gethostname() and not _alive(found.pid)
    return None if dead or age > STALE_S else found


@contextmanager
def claimed(root: Path, address: str) -> Iterator[bool]:
    """Hold a job while its body runs; yields False where somebody else does."""
    path = place(root, address)
    if not _take(path, root, address):
        yield False
        return
    ended = threading.Event()
    pulse = threading.Thread(target=_beat, args=(path, _own(), ended), daemon=True)
    pulse.start()
    try:
        yield True
    finally:
        ended.set()
        pulse.join()
        path.unlink(missing_ok=True)


def _take(path: Path, root: Path, address: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                if holder(root, address) is not None:
                    return False
                aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                with contextlib.suppress(FileNotFoundError):  # another was faster to see that it is nobody's
                    path.rename(aside)
                    aside.unlink()
                continue
            with os.fdopen(file, "w", encoding="utf-8") as made:
                made.write(json.dumps(_own()._asdict()))
            return True
    except OSError as error:  # a full disk: the job itself will say so
        console.note(f"{path}: {error.strerror}; another process may do the same work")
        return True
    return False


def _own() -> Holder:
    task = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID"))
    if task and "SLURM_ARRAY_TASK_ID" in os.environ:
        task = f"{task}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return Holder(os.getpid(), socket.gethostname(), time.time(), task, os.environ.get("EMO_LOG"), None)


def _beat(path: Path, own: Holder, ended: threading.Event) -> None:
    while not ended.wait(PULSE_S):
        scratch = path.with_name(f".{path.name}.{own.pid}")
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(own._replace(stage=console.doing())._asdict()), encoding="utf-8")
            scratch.replace(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
