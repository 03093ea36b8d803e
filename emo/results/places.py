"""Where a job writes: checked before it starts; what is done already needs no place to be written to."""

from __future__ import annotations

from pathlib import Path

from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.store import writable
from emo.measure import unjudged
from emo.results.table import read_result


def check_places(config: Config, address: str) -> None:
    """Check that the result of a job can be written, and its artifacts.

    A job whose result is there is only shown, and a store that can only be read may hold all that a job needs.

    Args:
        config: of the job.
        address: of its result.

    Raises:
        UserError: a folder cannot be written.
    """
    folder = Path(config.paths.outputs) / config.name
    try:
        writable(folder)
        store = first_store(config)
        if not any(store.glob("*/*/manifest.json")):
            writable(store)
    except UserError:
        own = read_result(folder / address[:16], address, whole=True)
        if own is None or unjudged.total(own):
            raise


def first_store(config: Config) -> Path:
    """Return the store that is written; the others of ``paths.store`` are only read."""
    given = config.paths.store
    return Path(given[0] if isinstance(given, list) else given)
