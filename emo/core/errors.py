"""The one exception that a user is meant to read: printed as a single line, exit code 2."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class UserError(Exception):
    """What was given, what is allowed, what to type: one line, no traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def nearest(given: object, allowed: Iterable[object]) -> str:
    """Return ``"; did you mean X?"`` for the closest allowed name, or an empty string."""
    match = difflib.get_close_matches(str(given), [str(a) for a in allowed], n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""


def check_choice(key: str, given: object, allowed: Iterable[str]) -> None:
    """Raise `UserError` unless ``given`` is one of ``allowed``."""
    options = list(allowed)
    if given not in options:
        raise UserError(f"{key}={given}: not one of {', '.join(options)}{nearest(given, options)}")


def refuse(wrong: dict[str, list[str]], total: int) -> None:
    """Say everything that is wrong with a sweep's jobs, one line each, and stop before any job starts.

    Args:
        wrong: message -> the jobs that it is about.
        total: number of jobs of the sweep.

    Raises:
        UserError: there was something.
    """
    if not wrong:
        return
    if total == 1:
        raise UserError(next(iter(wrong)))
    for message, jobs in wrong.items():
        where = jobs[0] if len(jobs) == 1 else f"{len(jobs)} jobs, e.g. {jobs[0]}"
        sys.stderr.write(f"error: {message} ({where})\n")
    count = sum(len(jobs) for jobs in wrong.values())
    raise UserError(f"{count} of {total} jobs are wrong, so none was started")
