"""The sha256 of large files, computed once: kept under what the file system says of them.

A digest counts as long as device, inode, size and the times of the last change of content and of inode (nanoseconds)
are the same. A file that was changed within the last seconds is not kept: a second change inside one tick of the file
system's clock would not show.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from emo.core.console import note
from emo.core.sealed import DamagedError, file_digest, read_sealed, seal

SETTLED = 2.0  # seconds after its last change from which on a file's digest is kept
SLOW = 2e9  # bytes that take seconds to read


def digests(name: str, files: Sequence[Path], home: Path) -> list[str]:
    """Return the sha256 (64 hex digits) of files; those that are kept are not read again.

    Args:
        name: what they belong to, for the line that says why this takes long.
        files: each must be there.
        home: folder in which digests are kept; where it cannot be written, none is.
    """
    kept = [home / f"{_key(file)}.json" for file in files]
    known = [_read(path) for path in kept]
    unread = sum(file.stat().st_size for file, one in zip(files, known, strict=True) if one is None)
    if unread > SLOW:
        note(f"{name}: {unread / 1e9:.3g} GB are read once for their sha256, which is kept")
    found = []
    for file, path, one in zip(files, kept, known, strict=True):
        if one is None:
            one = file_digest(file)
            if path.name == f"{_key(file)}.json" and time.time() - file.stat().st_mtime > SETTLED:
                _write(path, one)
        found.append(one)
    return found


def _key(file: Path) -> str:
    """Return what names the present content of a file without reading it; links are followed."""
    s = file.stat()
    told = [s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return str(read_sealed(path)["sha256"])
    except (DamagedError, KeyError):
        return None


def _write(path: Path, digest: str) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(seal({"sha256": digest})), encoding="utf-8")
        os.replace(scratch, path)
    except OSError:  # a home that cannot be written, or is full: read again the next time
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
