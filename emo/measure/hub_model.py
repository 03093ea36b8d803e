"""A model that labels or reads replies, of the hub or of a folder: which version, and its parts, never its own code."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from emo.core.errors import UserError
from emo.model.checkpoint import read_config, read_tokenizer, read_weights
from emo.model.hub import Revision, hub_commit
from emo.model.load_errors import load_errors
from emo.model.supported import check_files, check_packed


@lru_cache(maxsize=4)
def commit_of(given: str, key: str) -> str:
    """Return the commit that a hub repository stands at, or the sha256 of a local folder's files.

    Args:
        given: OWNER/NAME or a folder.
        key: what errors name, e.g. ``evaluator.model``.

    Raises:
        UserError: it is neither on this machine nor to be had.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    return _revision(given, key).commit


@lru_cache(maxsize=4)
def _revision(given: str, key: str) -> Revision:
    if given.startswith((".", "~", "/")):
        raise UserError(f"{key}={given}: no such folder (looked from {Path.cwd()})")
    return hub_commit(given, None, key)


def read_parts(kind: Any, given: str, key: str) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a hub repository or a local folder, downloaded on first use.

    Args:
        kind: transformers' class, e.g. ``AutoModel``.
        given: OWNER/NAME or a folder.
        key: what errors name.

    Raises:
        UserError: it cannot be had, needs code of its own, or its files do not hold every weight in safetensors.
    """
    name, folder = f"{key}={given}", Path(given).expanduser()
    files: dict[str, Any] = {}
    if folder.is_dir():
        source, local, held = str(folder), True, frozenset(path.name for path in folder.iterdir())
    else:
        source, (revision, local, held) = given, _revision(given, key)
        files = {"revision": revision, "local_files_only": local}
    check_files(name, held, whole=not files or not local)
    with load_errors(given, files.get("revision"), local, None if files else folder, key):
        check_packed(name, read_config(source, **files))
        return read_weights(kind, name, source, **files), read_tokenizer(name, source, **files)
