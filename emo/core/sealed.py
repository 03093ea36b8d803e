"""What is written to disk and read back later: sealed with its own digest, so that a changed bit never passes.

A sealed JSON object carries the sha256 of its content; a line of a log that only grows carries its own; files beside
an object are listed in it with theirs. Whatever does not fit is damaged: it counts as not there and is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emo.core.slots import without

SEAL = "seal"


class DamagedError(Exception):
    """What lies on disk is not what was written."""


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the sha256 (64 hex digits) of its content.

    Raises:
        ValueError: it holds what JSON cannot.
    """
    kept = {key: x for key, x in json.loads(json.dumps(value, allow_nan=False)).items() if key != SEAL}
    return kept | {SEAL: _digest(kept)}


def unseal(value: object) -> dict[str, Any]:
    """Return the content of a sealed object.

    Raises:
        DamagedError: it has no seal, or another content.
    """
    if not isinstance(value, dict) or not isinstance(value.get(SEAL), str):
        raise DamagedError("without a seal: of an earlier version, or changed")
    kept = {key: x for key, x in value.items() if key != SEAL}
    if _digest(kept) != value[SEAL]:
        raise DamagedError("is not what was written")
    return kept


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the content of a sealed file.

    Raises:
        DamagedError: it cannot be read, or is not what was written.
    """
    try:
        return unseal(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DamagedError(f"cannot be read ({type(error).__name__})") from None


def file_digest(path: Path) -> str:
    """Return the sha256 (64 hex digits) of a file's content; of a page without what its slots hold."""
    if path.suffix == ".html":
        return hashlib.sha256(without(path.read_bytes())).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(folder: Path, but: Iterable[str] = ()) -> dict[str, str]:
    """Return the sha256 of every file below ``folder`` by its relative path, sorted; ``but``: names left out."""
    left_out = set(but)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def changed(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the files below ``folder`` that are not there, or not what they were."""

    def same(name: str, digest: str) -> bool:
        try:
            return file_digest(folder / name) == digest
        except OSError:
            return False

    return [name for name, digest in files.items() if not same(name, digest)]


def digest(value: object) -> str:
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
