"""``paths`` as they are typed: one store, or one that is written above others that are only read."""

from __future__ import annotations

from pathlib import Path

from emo.core.errors import UserError


def absolute(path: str) -> str:
    """Return where a typed path lies."""
    return str(Path(path).expanduser().absolute())  # a relative path is the user's, so relative to where he stands


def stores(given: object) -> str | list[str]:
    """Return one store, or the one that is written and those that are only read."""
    folders = [str(x) for x in (given if isinstance(given, list) else [given]) if isinstance(x, str | int) and x]
    if not folders or (isinstance(given, list) and len(folders) < len(given)):
        raise UserError(
            f"paths.store={given}: type a folder, or [FOLDER,SHARED]: the first is written, others are only read"
        )
    made = [absolute(folder) for folder in folders]
    for folder in made[1:]:
        if not Path(folder).is_dir():
            raise UserError(f"paths.store: {folder}: no such folder; a store that is only read must be there")
    return made if isinstance(given, list) else made[0]
