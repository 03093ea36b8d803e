"""Which artifacts a process has read or written: what its results need, and what nobody may free while it runs.

The list of a running process lies in its store (``.in-use/PID-HOST-N``), locked as long as the process lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path

from emo.core.disk import READ_ONLY, is_full
from emo.core.locks import UNSUPPORTED, is_held

FOLDER = ".in-use"
_numbers = itertools.count()


class InUse:
    """The artifacts that this process has read or written in one store, ``stage/first 16 digits`` each."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, None] = {}
        self._descriptor: int | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def add(self, name: str) -> None:
        """Note an artifact; where the store cannot be written, for this process only: nobody can free it there."""
        if name in self._names:
            return
        self._names[name] = None
        try:
            if self._descriptor is None:
                self._open()
            os.write(self._descriptor or 0, f"{name}\n".encode())
        except OSError as error:
            if error.errno not in (*READ_ONLY, errno.ENOENT) and not is_full(error):
                raise

    def _open(self) -> None:
        folder = self._root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{socket.gethostname()}-{next(_numbers)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        weakref.finalize(self, _close, os.getpid(), descriptor, path)


def running(root: Path) -> dict[str, list[str]]:
    """Return what running processes have read or written in the store ``root``, by process."""
    found = {}
    for path in sorted((root / FOLDER).glob("*")):
        if is_held(path):
            with contextlib.suppress(OSError):
                found[path.name] = path.read_text(encoding="utf-8").split()
    return found


def _close(owner: int, descriptor: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        if os.getpid() == owner:  # not a process that it started
            path.unlink()
            path.parent.rmdir()  # not empty: others run
    with contextlib.suppress(OSError):
        os.close(descriptor)
