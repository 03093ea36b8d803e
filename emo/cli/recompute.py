"""task=verify: a finished job once more from nothing, in a store of its own, and every number beside the stored one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from emo.cli.check_job import check_job
from emo.config.schema import Config
from emo.core import console
from emo.core.errors import UserError
from emo.core.sealed import DamagedError, changed
from emo.core.store import Store, read_artifact
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from emo.report.class_page import write_result as write_classes
from emo.report.job_page import write_result
from emo.results.places import first_store
from emo.results.table import job_folders, read_any, read_sweep

CLOSE = 1e-5  # of the larger of 1 and the stored number: what another machine, or another batch size, may round
SHOWN = 10  # numbers that differ
# Of a result.json: how, when and where it was computed, and what says a number in words.
ASIDE = (
    "status",
    "address",
    "config",
    "versions",
    "wall_s",
    "peak_mb",
    "files",
    "artifacts",
    "facts",
    "figures",
    "settings",
)
MACHINE = ("device", "batch_size", "console")


class Comparison(NamedTuple):
    """The numbers of two results."""

    equal: int  # to the last bit
    close: int  # within `CLOSE`
    largest: float  # difference of two numbers
    wrong: list[str]  # what differs by more, or stands in one of them only


def verify(folders: Sequence[Path], config: Config) -> int:
    """Recompute the finished jobs in ``folders`` and compare; returns 0 where all agree and nothing is damaged.

    Raises:
        UserError: no result in ``folders``.
    """
    paths = list(dict.fromkeys(path for root in folders for path in job_folders(root, read_sweep(root))))
    paths = [path for path in paths if (path / "result.json").is_file()]
    if not paths:
        raise UserError("task=verify: no result there; type runs=FOLDER of a job or a sweep, e.g. runs=outputs/run")
    with tempfile.TemporaryDirectory(prefix="emo-verify-") as scratch:  # shared by the jobs
        good = [_verify_one(path, config, Path(scratch)) for path in paths]
    console.say(f"{sum(good)} of {len(good)} results are what their jobs give")
    return 0 if all(good) else 1


def compare(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Compare the numbers, and the texts that stand for choices, of two contents of result.json."""
    old, new = (dict(_leaves({key: x for key, x in result.items() if key not in ASIDE})) for result in (stored, now))
    equal = close = 0
    largest, wrong = 0.0, []
    for key in dict.fromkeys([*old, *new]):
        if key not in old or key not in new:
            wrong.append(f"{key}: only in the {'stored' if key in old else 'new'} result")
            continue
        a, b = old[key], new[key]
        if a == b and isinstance(a, bool) == isinstance(b, bool):
            equal += 1
        elif all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b)):
            largest = max(largest, abs(a - b))
            if abs(a - b) <= CLOSE * max(1.0, abs(a)):
                close += 1
            else:
                wrong.append(f"{key}: stored {a:.10g}, now {b:.10g}")
        else:
            wrong.append(f"{key}: stored {a}, now {b}")
    return Comparison(equal, close, largest, wrong)


def _verify_one(folder: Path, config: Config, scratch: Path) -> bool:
    result = read_any(folder)  # says itself what is damaged
    if result is None or result["status"] != "done":
        console.warn(
            f"{folder}: " + ("its seal is wrong" if result is None else "failed when it ran; nothing to compare")
        )
        return False
    damaged = [f"{folder / name}" for name in changed(folder, result["files"])] + _damaged(result, config)
    for path in damaged:
        console.warn(f"{path}: gone or not what was written; the job's line, typed again, makes it anew")
    try:
        now = _again(result, config, scratch)
    except UserError as error:
        console.warn(f"{folder}: cannot be computed again ({error})")
        return False
    found = compare(result, now)
    console.say(
        f"{folder}: {found.equal + found.close + len(found.wrong)} values: {found.equal} agree exactly, {found.close} "
        f"within {CLOSE:g}, {len(found.wrong)} differ; largest difference {found.largest:.3g}"
    )
    for line in found.wrong[:SHOWN]:
        console.warn(line)
    if len(found.wrong) > SHOWN:
        console.warn(f"and {len(found.wrong) - SHOWN} more")
    return not damaged and not found.wrong


def _again(result: Mapping[str, Any], config: Config, scratch: Path) -> dict[str, Any]:
    """Run the job of ``result`` with nothing that is stored, but for what a judge has answered."""
    now = asdict(config)
    own = {key: now[key] for key in MACHINE} | {"task": "run", "runs": None, "name": "run", "tracker": {"name": "none"}}
    own["paths"] = {"outputs": str(scratch / "outputs"), "store": str(scratch / "store")}
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), result["config"], own))
    assert isinstance(made, Config)
    answers = first_store(config) / "judge"
    if answers.is_dir():  # each has been paid for
        shutil.copytree(answers, scratch / "store" / "judge", dirs_exist_ok=True)
    job = make_job(made)
    check_job(job)
    if job.result_address != result["address"]:
        raise UserError("its data, its model or a stage of the program is another now: its line gives another result")
    folder = scratch / "outputs" / "run" / job.result_address[:16]
    start = time.perf_counter()
    if isinstance(job, ClassJob):
        return write_classes(job, folder, "python run.py", start)
    return write_result(job, folder, "python run.py", start)


def _damaged(result: Mapping[str, Any], config: Config) -> list[str]:
    """Return the artifacts that the job used and that are not what was written; one that is gone is no fault."""
    store, wrong = Store(config.paths.store), []
    for name in result.get("artifacts", []):
        stage, _, key = name.partition("/")
        folder = store.find(stage, key)
        try:
            if folder.is_dir():
                read_artifact(folder, key)
        except DamagedError:
            wrong.append(str(folder))
    return wrong


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested objects and lists by their dotted path."""
    if isinstance(value, Mapping):
        for key, x in value.items():
            yield from _leaves(x, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, x in enumerate(value):
            yield from _leaves(x, f"{path}[{i}]")
    else:
        yield path, value
