"""Locks of the operating system, freed when their process dies: they save two processes from doing the same work.

Nothing relies on them: what is written is renamed when it is whole, so where a file system has no locks both compute
and the rename decides. Whoever waits says for whom.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emo.core import console
from emo.core.sealed import DamagedError, read_sealed, seal

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # what file systems without locks answer
PATIENCE = 1.0  # seconds of waiting before it is said
POLL = 0.1  # seconds between two attempts
_told: set[Path] = set()  # folders whose file system has no locks


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; it is gone afterwards.

    Args:
        path: of the lock file; its folder is made.
        what: is being done, as another process that waits reads it.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor = _acquire(path, what)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # before it is free: who waits sees that its file is gone and makes another
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a running process holds the lock file ``path``; where locks are not supported nobody can tell: True."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """Return the descriptor of ``path``, made and locked, or None: another process holds it.

    Raises:
        OSError: it cannot be written, or locks are not supported.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # held; or its holder took it away between the two lines
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def me() -> str:
    """Return what other processes read of this one: ``pid 123 on host``."""
    return f"pid {os.getpid()} on {socket.gethostname()}"


def _acquire(path: Path, what: str) -> int | None:
    """Return the descriptor of the locked file; None where the file system has no locks."""
    start, said = time.monotonic(), False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = try_lock(path)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            with contextlib.suppress(OSError):
                path.unlink()
            _tell(path.parent, error)
            return None
        if descriptor is not None:
            holder = {"who": me(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "what": what}
            with contextlib.suppress(OSError):  # only a message: a full disk must not stop here
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(seal(holder)).encode(), 0)
            return descriptor
        if not said and time.monotonic() - start > PATIENCE:
            said = True
            console.say(_waiting(path, what))
        time.sleep(POLL)


def _waiting(path: Path, what: str) -> str:
    """Return the line that says for whom this process waits, and what can be done."""
    try:
        holder = read_sealed(path)
        who, since = str(holder["who"]), f" (since {holder['since']})"
    except (DamagedError, KeyError):
        who, since = "another process", ""
    return (
        f"{what}: waiting for {who}, at work on it{since}; its outcome is used, nothing is computed twice. "
        f"Ctrl-C loses nothing; should that process hang, end it, and this one goes on"
    )


def _tell(folder: Path, error: OSError) -> None:
    """Say once per folder of locks that its file system has none."""
    top = folder.parent
    if top not in _told:
        _told.add(top)
        console.note(
            f"{top}: this file system has no locks ({(error.strerror or str(error)).lower()}): two processes at once "
            "may compute the same, and the first to finish is kept"
        )
