"""A full disk: one line that names the place, whatever was being written there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class DiskFullError(Exception):
    """There is no room left where something was to be written; what is finished is kept."""


def is_full(error: BaseException | None) -> bool:
    """Whether there was no room left: safetensors tells it in its text only, others may wrap it."""
    return isinstance(error, DiskFullError) or _why(error) is not None


def _why(error: BaseException | None) -> str | None:
    """Return what the system says of a full disk; None: it is something else."""
    while error is not None:
        told = re.search(r"Os \{ code: (\d+)|\(os error (\d+)\)", str(error))
        number = int(told.group(1) or told.group(2)) if told else getattr(error, "errno", None)
        if number in FULL:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def writing(place: Path, what: str) -> Iterator[None]:
    """Name ``place`` where the disk is full while the block writes ``what``.

    Raises:
        DiskFullError: there is no room left.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        why = _why(error)
        if why is None:
            raise
        raise DiskFullError(
            f"{place}: {why}: {what} is not written, what is finished is kept; make room (python run.py task=gc shows "
            "what can go) and type the same line again"
        ) from error
