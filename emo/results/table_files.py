"""The long table of a sweep on disk: results.parquet beside results.csv, read back instead of hundreds of results.

Which results a table was made of is kept with the digests of their files. Where all of these still fit, the table is
what it would be if it were made again, at a hundredth of the time; where one does not, it is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emo.core import console
from emo.core.frames import pd
from emo.core.sealed import DamagedError, changed, file_digest, read_sealed

STATES = ".table.json"  # of what, and how, the files of a table were made
RESULT = "result.json"
CSV, JSONL, PARQUET = "results.csv", "results.jsonl", "results.parquet"
MANY = 100_000  # rows beyond which results.jsonl, forty times as large as results.parquet, is left out
KINDS = ("str", "float64", "int64")  # what a column may be so that both files give it back as it was


def digests(folders: Sequence[Path], name: str = RESULT) -> list[str | None]:
    """Return the sha256 of every job's file of a name; None where there is none."""
    return [file_digest(path) if (path := folder / name).is_file() else None for folder in folders]


def write_table(frame: pd.DataFrame, folder: Path) -> None:
    """Write the table: results.csv, results.parquet where pyarrow is installed, results.jsonl where it is not huge."""
    frame.to_csv(folder / CSV, index=False, encoding="utf-8")
    if len(frame) <= MANY:
        frame.to_json(folder / JSONL, orient="records", lines=True, force_ascii=False)
    else:
        console.note(f"{len(frame):,} rows: no {JSONL}; {PARQUET if has_parquet() else CSV} has them all")
    if has_parquet():
        plain = frame.copy()
        plain.attrs = {}
        plain.to_parquet(folder / PARQUET, index=False, compression="zstd")


def has_parquet() -> bool:
    """Whether tables can be written to and read from parquet."""
    return find_spec("pyarrow") is not None


def described(frame: pd.DataFrame, found: Sequence[str | None], axes: Sequence[str]) -> dict[str, Any]:
    """Return what is kept of a table so that its files can be read in its place.

    Args:
        frame: the table.
        found: `digests` of the results that it was made of.
        axes: those of the sweep's list.
    """
    return {
        "results": list(found),
        "of_axes": list(axes),
        "axes": frame.attrs["axes"],
        "kinds": {str(name): str(kind) for name, kind in frame.dtypes.items()},
    }


def read_table(root: Path, folders: Sequence[Path], axes: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return the table in ``root`` with what is kept of it; None where it is not there or of other results.

    Args:
        root: the sweep's folder.
        folders: of its jobs.
        axes: of its list.
    """
    try:
        kept = read_sealed(root / STATES)
        if kept["of_axes"] != list(axes) or kept["results"] != digests(folders):
            return None
        if not set(kept["kinds"].values()) <= set(KINDS):
            return None
        names = [
            name for name in (PARQUET, CSV) if name in kept["files"] and not (name == PARQUET and not has_parquet())
        ]
        name = next(name for name in names if not changed(root, {name: kept["files"][name]}))
        frame = _read(root / name, kept["kinds"])
    except (DamagedError, KeyError, StopIteration, OSError, ValueError):
        return None  # of an earlier version, or damaged: made again from the results
    frame.attrs["axes"] = kept["axes"]
    return frame, kept


def _read(path: Path, kinds: dict[str, str]) -> pd.DataFrame:
    """Return a table with columns of these kinds; a text such as ``null`` stays a text."""
    if path.name == PARQUET:
        return pd.read_parquet(path)[list(kinds)].astype(kinds)
    numbers = [name for name, kind in kinds.items() if kind == "float64"]
    return pd.read_csv(
        path, dtype=kinds, keep_default_na=False, na_values={name: [""] for name in numbers},
        encoding="utf-8",
    )  # fmt: skip
