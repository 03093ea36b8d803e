"""task=gc: what may go from the store and the outputs, shown first and deleted only with ``gc.delete=true``.

What a result needs stays: result.json lists the artifacts that its job read or wrote. So does what a running process
has read or written (`emo.core.in_use`), and all that is younger than ``gc.hours``: an interrupted line goes on from
there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from emo.config.schema import Config
from emo.core import console, in_use
from emo.core.locks import is_held, try_lock
from emo.results.places import first_store
from emo.results.result_file import RESULT
from emo.results.table import read_any

HOUR = 3600.0  # seconds
# Logs of launchers below the outputs: a folder per task of SLURM, a file per process of one machine.
LOGS = (".slurm/.submitit/*", ".submitit/*", "*/.launch/*/worker-*.log")
SUBMITTED = "_submitted.pkl"
SCRATCH = (".writing-*", ".partial-*")
KEY = re.compile(r"[0-9a-f]{16}")
KINDS = ("scratch", "locks without a holder", "artifacts of no result", "logs of launchers")


class Item(NamedTuple):
    """One file or folder that may go."""

    kind: str  # one of `KINDS`
    path: Path
    size: int  # bytes


class Found(NamedTuple):
    """What may go, and why the rest of the artifacts stays."""

    items: list[Item]
    needed: int  # artifacts that results need
    held: int  # artifacts of no result that running processes have read or written
    young: int  # artifacts of no result that are too young
    silent: list[Path]  # results that do not say what they need: no artifact goes


def collect(config: Config) -> None:
    """Show what may go and, with ``gc.delete``, free it."""
    outputs, store = Path(config.paths.outputs), first_store(config)
    given = config.runs if isinstance(config.runs, list) else [config.runs] if config.runs else []
    others = [Path(str(folder)).expanduser() for folder in given]
    found = find(store, [outputs, *others], config.gc.hours)
    rows = [[kind, *_count([item for item in found.items if item.kind == kind])] for kind in KINDS]
    title = "freed" if config.gc.delete else "would be freed"
    console.table(f"{outputs}: {title}", ["what", "count", "size"], [*rows, ["in all", *_count(found.items)]])
    console.say(
        f"artifacts that stay: {found.needed} that results need, {found.held} in use by running processes, "
        f"{found.young} of no result but younger than {config.gc.hours:g} hours"
    )
    if found.silent:
        console.warn(
            f"{len(found.silent)} results do not say what they need (damaged, or of an earlier version: "
            f"{found.silent[0]}), so every artifact stays; type the lines of these results again, or delete them"
        )
    if not found.items:
        console.say("there is nothing to free")
    elif config.gc.delete:
        kept = [item for item in found.items if not _delete(item, store)]
        gone = [item for item in found.items if item not in kept]
        console.say(f"freed {_size(gone)}" + (f"; {len(kept)} came into use meanwhile and stay" if kept else ""))
    else:
        console.say(f"nothing is deleted yet; the same line with gc.delete=true frees these {_size(found.items)}")


def find(store: Path, outputs: Sequence[Path], hours: float) -> Found:
    """Return what may go.

    Args:
        store: the store that is written; those that are only read belong to others.
        outputs: folders whose results need their artifacts; of the first, scratch and logs are looked at too.
        hours: what is younger stays.
    """
    before = time.time() - hours * HOUR
    needed, silent = _needed(outputs, store)
    held = {name for names in in_use.running(store).values() for name in names}
    items = [*_scratch([outputs[0], store], before), *_locks(outputs[0], store)]
    items += [_item("logs of launchers", path) for path in _logs(outputs[0]) if _newest(path) < before]
    counts = {"needed": 0, "held": 0, "young": 0}
    for path in _artifacts(store):
        name = f"{path.parent.name}/{path.name}"
        if name in needed:
            counts["needed"] += 1
        elif name in held or is_held(path.parent / f".{path.name}.lock"):
            counts["held"] += 1
        elif _newest(path) > before:
            counts["young"] += 1
        elif not silent:
            items.append(_item("artifacts of no result", path))
    return Found(items, counts["needed"], counts["held"], counts["young"], silent)


def _needed(outputs: Sequence[Path], store: Path) -> tuple[set[str], list[Path]]:
    """Return the artifacts that results below ``outputs`` need, and the results that do not say."""
    needed: set[str] = set()
    silent = []
    for root in dict.fromkeys(outputs):
        for path in sorted(root.rglob(RESULT)):
            if store in path.parents or ".writing-" in str(path.relative_to(root)):
                continue
            result = read_any(path.parent)
            if result is None or not isinstance(result.get("artifacts"), list):
                silent.append(path)
            else:
                needed |= set(result["artifacts"])
    return needed, silent


def _artifacts(store: Path) -> Iterator[Path]:
    for path in sorted(store.glob("*/*")):
        if KEY.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and not path.parent.is_symlink():
            yield path


def _scratch(roots: Sequence[Path], before: float) -> Iterator[Item]:
    """Yield folders that a process which died was writing to; one that lives holds the lock of its artifact."""
    seen: set[Path] = set()
    for path in sorted(path for root in roots for pattern in SCRATCH for path in root.rglob(pattern)):
        if path in seen or any(parent in seen for parent in path.parents):
            continue
        seen.add(path)
        key = KEY.search(path.name)
        if _newest(path) < before and not (key and is_held(path.parent / f".{key.group()}.lock")):
            yield _item("scratch", path)


def _locks(outputs: Path, store: Path) -> Iterator[Item]:
    paths = {*store.glob("*/.*.lock"), *outputs.glob("*/.*.lock"), *(store / in_use.FOLDER).glob("*")}
    for path in sorted(paths):
        if path.is_file() and not is_held(path):
            yield _item("locks without a holder", path)


def _logs(outputs: Path) -> Iterator[Path]:
    for pattern in LOGS:
        yield from (path for path in sorted(outputs.glob(pattern)) if not _is_queued(path))


def _is_queued(folder: Path) -> bool:
    """Whether SLURM may still run a task whose files lie in ``folder``: submitit's pickles are all that it is."""
    ended = {path.name for path in folder.glob("*_result.pkl")}
    open_ = [path.name.removesuffix(SUBMITTED) for path in folder.glob(f"*{SUBMITTED}")]
    open_ = [task for task in open_ if not any(name.startswith(f"{task}_") for name in ended)]
    if not open_:
        return False
    if shutil.which("squeue") is None:  # nobody to ask here
        return True
    asked = subprocess.run(
        ["squeue", "--noheader", "--job", ",".join(open_)], capture_output=True, text=True, check=False
    )
    gone = asked.returncode != 0 and "invalid job id" in asked.stderr.lower()
    return not gone and (asked.returncode != 0 or bool(asked.stdout.strip()))


def _delete(item: Item, store: Path) -> bool:
    """Delete an item; False: a process has taken it meanwhile."""
    key = KEY.search(item.path.name)
    lock = item.path
    if item.kind != "locks without a holder":
        if key is None:
            _remove(item.path)
            return True
        lock = item.path.parent / f".{key.group()}.lock"
    descriptor = _lock(lock)
    if descriptor is None:
        return False
    try:
        name = f"{item.path.parent.name}/{item.path.name}"
        if any(name in names for names in in_use.running(store).values()):
            return False
        if lock != item.path:
            _remove(item.path)
        return True
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    try:
        return try_lock(path)
    except OSError:  # without locks nobody can tell who is at work: it stays
        return None


def _remove(path: Path) -> None:
    """Delete a file, or a folder that is gone at once for whoever looks for it."""
    if path.is_dir() and not path.is_symlink():
        gone = path.with_name(f".writing-gone-{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def _item(kind: str, path: Path) -> Item:
    return Item(kind, path, sum(_stat(file)[0] for file in _files(path)))


def _newest(path: Path) -> float:
    """Return when anything in ``path`` was last written, in seconds since 1970."""
    return max((_stat(file)[1] for file in _files(path)), default=_stat(path)[1])


def _files(path: Path) -> list[Path]:
    return [path] if not path.is_dir() else [file for file in path.rglob("*") if not file.is_dir()]


def _stat(path: Path) -> tuple[int, float]:
    try:
        found = path.lstat()
    except OSError:  # its process has just finished
        return 0, time.time()
    return found.st_size, found.st_mtime


def _count(items: Sequence[Item]) -> tuple[int, str]:
    return len(items), _size(items)


def _size(items: Sequence[Item]) -> str:
    size = float(sum(item.size for item in items))
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.1f} GB"
