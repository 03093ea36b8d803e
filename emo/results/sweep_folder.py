"""Where the list and the table of a sweep lie: in the folder of its name, or below it in ``earlier/<id>``.

The sweep that was started last has the folder; one of another set of jobs (finished, or still running) moves into a
folder of its own, and a part of the sweep that is there (a job of it run again, say) gets one from the start. A head
finds its own list by the eight digits of its jobs, so two sweeps of one name, at once or one after the other, keep
theirs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from emo.core import console
from emo.core.disk import writing
from emo.core.locks import held
from emo.core.sealed import seal
from emo.results.table import EARLIER, SWEEP_FILE, name_folder, read_sweep

LOCK = ".sweeps.lock"
MOVED = (".csv", ".jsonl", ".json", ".png", ".parquet")  # files of a table, beside its report


def alone(root: Path) -> AbstractContextManager[None]:
    """Let no other head move or write tables in the folder of this name."""
    return held(name_folder(root) / LOCK, f"{name_folder(root)}: its table")


def lists(root: Path) -> dict[Path, dict[str, Any]]:
    """Return every sweep's list in the folder of a name, by the folder of its table; the current one first."""
    folders = [root, *sorted(path.parent for path in (root / EARLIER).glob(f"*/{SWEEP_FILE}"))]
    return {folder: sweep for folder in folders if (sweep := read_sweep(folder)) is not None}


def home(root: Path, number: str) -> Path | None:
    """Return the folder of the sweep ``number`` (its eight digits) in the folder of a name; None: it left no list."""
    return next((folder for folder, sweep in lists(root).items() if sweep.get("id") == number), None)


def sweep_of(root: Path, job: str, folder: Path | None = None) -> dict[str, Any] | None:
    """Return the list that has a job (16 digits): of ``folder``, or the first in the folder of a name."""
    found = lists(root) if folder is None else {folder: read_sweep(folder) or {"jobs": []}}
    return next((sweep for sweep in found.values() if any(row["address"][:16] == job for row in sweep["jobs"])), None)


def take(root: Path, listing: dict[str, Any]) -> Path:
    """Leave the list of a sweep on disk and return the folder of its table; another sweep's table moves aside.

    Raises:
        DiskFullError: there is no room for it.
    """
    with writing(root / SWEEP_FILE, "the list of the sweep's jobs"), alone(root):
        folder, old = root, read_sweep(root)
        if old is not None and old.get("id") != listing["id"]:
            own, others = ({job["address"] for job in sweep["jobs"]} for sweep in (listing, old))
            if own < others:
                folder = root / EARLIER / str(listing["id"])
                console.note(f"these are some of the jobs of the sweep in {root}: their own table goes to {folder}")
            else:
                _move_aside(root, old)
        _write_list(folder, listing)
    return folder


def drop_copy(root: Path, folder: Path, number: str) -> None:
    """Remove what a sweep left aside, now that its table is in the folder of its name again."""
    if folder == root:
        shutil.rmtree(root / EARLIER / number, ignore_errors=True)


def _write_list(folder: Path, listing: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        text = json.dumps(seal(listing), indent=1, ensure_ascii=False) + "\n"
        (scratch / SWEEP_FILE).write_text(text, encoding="utf-8")
        (scratch / SWEEP_FILE).replace(folder / SWEEP_FILE)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move_aside(root: Path, old: dict[str, Any]) -> None:
    """Move the table of another sweep of the same name aside: nothing that was measured is overwritten."""
    aside = root / EARLIER / str(old["id"])
    aside.mkdir(parents=True, exist_ok=True)
    report = root / "report.html"
    if report.is_file():
        text = report.read_text(encoding="utf-8")
        for job in old["jobs"]:  # its links now start two folders further down
            for link in ("href", "src"):
                text = text.replace(f'{link}="{job["address"][:16]}/', f'{link}="../../{job["address"][:16]}/')
        (aside / report.name).write_text(text, encoding="utf-8")
        report.unlink()
    moved = [path for path in root.iterdir() if path.is_file() and path.suffix in MOVED]
    for path in sorted(moved, key=lambda path: path.name == SWEEP_FILE):  # last: until then it is where it was
        path.replace(aside / path.name)
    what = "table" if (aside / "results.csv").is_file() else "list"
    console.note(f"the {what} of another sweep of this name is now in {aside}; what it runs goes on and ends there")
