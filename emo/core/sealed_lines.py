"""A file of sealed JSON lines that only grows: every line is on disk the moment it is added.

A line that is torn by a kill, changed or foreign is as good as not there, and does not swallow the one after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emo.core.errors import UserError
from emo.core.sealed import DamagedError, seal, unseal


class SealedLines:
    """``with SealedLines(path) as lines: lines.add(row)``; `read` needs no opening."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the content of every whole line.

        Raises:
            UserError: the file is there and cannot be read.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); give another folder") from None
        for line in lines:
            try:
                yield unseal(json.loads(line))
            except (DamagedError, ValueError):
                continue

    def __enter__(self) -> SealedLines:
        """Open it to be added to; raises `UserError` where it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+", buffering=0)  # one write per line: it is in the file or not
        except OSError as error:
            raise UserError(f"{self.path.parent}: cannot be written ({error.strerror}); give another folder") from None
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")  # a torn line must not swallow the next one
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one row of JSON values."""
        self._file.write(json.dumps(seal(row)).encode() + b"\n")
