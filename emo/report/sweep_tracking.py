"""A sweep in Weights & Biases: its runs, and the saved workspace and report that show them (``task=report``)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from emo.config.schema import Config, TrackerConfig
from emo.core import console
from emo.core.disk import writing
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.store import Store
from emo.report import tracking, tracking_access, tracking_views
from emo.report.runs import SHOWN, headline_of, run_config
from emo.report.workspace import Views, views
from emo.results.curves import LABELS
from emo.results.random_weights import random_weights
from emo.results.sweep_folder import sweep_of
from emo.results.table import BUDGET, job_folders, load_results, name_folder, read_any, read_result, read_sweep
from emo.results.training_steps import REVISION

PLANNED = "wandb_report.json"  # what a workspace and a report hold, or would hold
NUMBERS = (BUDGET, REVISION)  # keys that are drawn as numbers, however they were typed


def group_of(root: Path, tracker: TrackerConfig, job: str | None = None) -> str:
    """Return the W&B group of a sweep, its name and the eight digits of its set of jobs; of a single job, its name."""
    sweep = read_sweep(root) if job is None else sweep_of(root, job)
    name = name_folder(root).name
    return tracker.group or (f"{name}-{sweep['id']}" if sweep else name)


def track_point(folder: Path, config: Config) -> None:
    """Log the finished job in ``folder`` to W&B, once per group."""
    _point(folder, config.tracker, group_of(folder.parent, config.tracker, folder.name), config.paths.store)


def track(root: Path, frame: pd.DataFrame, tracker: TrackerConfig) -> None:
    """Log a sweep to W&B: points that are not there yet, its curves and its table."""
    group, configs = group_of(root, tracker), {}
    for folder, result in _finished(root).items():
        _point(folder, tracker, group, result["config"]["paths"]["store"])
        configs[folder.name] = run_config(result)
    axes = frame.attrs["axes"]
    tracking.log_curves(frame, axes, configs, tracker, group, root)
    tables = [root / name for name in ("results.csv", *SHOWN) if (root / name).is_file()]
    tracking.log_compare(frame, axes, configs, tracker, group, root, [*tables, *sorted(root.glob("*.png"))])
    console.say(f"W&B ({tracker.mode}): group {group} in {root / 'wandb'}")


def report(root: Path, tracker: TrackerConfig) -> None:
    """Make a saved workspace and a report of a sweep whose runs are logged; offline, write what they would hold.

    Args:
        root: the sweep's folder, with its table; gets `PLANNED`.
        tracker: W&B.

    Raises:
        UserError: nothing is finished, or W&B refuses what it is given.
    """
    made = _views(root, tracker)
    urls: dict[str, str] = {}
    if tracker.mode == "online":
        urls = tracking_views.save(made, tracker)
    path = root / PLANNED
    with writing(path, "what W&B shows"):
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        scratch.write_text(json.dumps({"urls": urls, **made._asdict()}, indent=1) + "\n", encoding="utf-8")
        os.replace(scratch, path)
    for what, url in urls.items():
        console.say(f"{what}: {url}")
    if not urls:
        console.say(f"offline: what a workspace and a report would hold is in {path}")
        console.say("to make them: the same line with tracker.mode=online, which uploads the runs first")


def check(tracker: TrackerConfig) -> None:
    """Refuse a tracker that can make no workspace and no report, before anything is logged.

    Raises:
        UserError: a package, the key or the server is missing.
    """
    tracking_access.check(tracker)
    if tracker.mode == "online":
        tracking_views.check()


def _views(root: Path, tracker: TrackerConfig) -> Views:
    found = _finished(root)
    if not found:
        raise UserError(f"runs={root}: no finished result in it; type python run.py task=status to see what there is")
    frame = load_results(root)
    configs = {folder.name: run_config(result) for folder, result in found.items()}
    group = group_of(root, tracker)
    curves = tracking.curve_runs(frame, frame.attrs["axes"], configs)
    return views(
        root, group, list(curves.values()), [headline_of(result) for result in found.values()],
        list(frame.attrs["axes"]), tracking.run_ids(root, tracker, group, "curve"), random_weights(found.values()),
    )  # fmt: skip


def _finished(root: Path) -> dict[Path, dict[str, Any]]:
    folders = job_folders(root, read_sweep(root))
    return {folder: result for folder in folders if (result := read_result(folder, whole=True)) is not None}


def _point(folder: Path, tracker: TrackerConfig, group: str, store: str | list[str]) -> None:
    result = read_any(folder) or {}
    directions = Store(store).find("directions", str(result.get("directions"))) / "tensors.safetensors"
    sweep = sweep_of(folder.parent, folder.name) or {"axes": [], "jobs": []}
    own: dict[str, Any] = next((job["settings"] for job in sweep["jobs"] if job["address"][:16] == folder.name), {})
    tracking.log_point(
        folder, tracker, group, folder.parent, directions if directions.is_file() else None, own,
        charts=not _has_curves(sweep, result),
    )  # fmt: skip


def _has_curves(sweep: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Return whether a sweep will be drawn over a number: a swept one, or one of a list in its jobs."""
    if len({str(values) for values in (result.get("settings") or {}).values()}) > 1:
        return True
    axes = [axis for axis in sweep["axes"] if axis not in LABELS]
    values = {axis: {job["settings"].get(axis) for job in sweep["jobs"]} for axis in axes}
    numbers = {axis: [x for x in values[axis] if isinstance(x, Real)] for axis in axes}
    return any(len(numbers[axis]) > 1 or (axis in NUMBERS and len(values[axis]) > 1) for axis in axes)
