"""Weights & Biases: finished jobs, curves and comparisons as runs of one group.

Only the modules ``tracking*`` use it. Everything is read from local result files, which are the truth: a
run is written once, when its numbers are complete, and what W&B cannot take is a warning, never a failure. Three kinds
of runs, whose charts are called so that models overlay in the first ones (`emo.report.panels`):

* ``point``: one job; its configuration, headline numbers, replies, figures, directions and circuit.
* ``curve``: one line over a swept number, whose history has that number as step.
* ``compare``: one sweep; the table of all points, comparisons, main effects, and its files.

All of a sweep lies in ``<root>/wandb``: ``wandb leet <root>/wandb`` shows it, ``wandb sync`` uploads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from emo.config.schema import TrackerConfig
from emo.core import console
from emo.core.frames import pd
from emo.core.sealed import DamagedError, read_sealed, seal
from emo.report import tracking_access
from emo.report.panels import is_bound, share_of
from emo.report.runs import Configs, Run, compare_run, curve_run, point_run
from emo.results.curves import curves
from emo.results.training_steps import with_steps

MARKER = "wandb.json"  # what was logged, so that it is logged once; delete it to log again
INIT_TIMEOUT = 30.0  # seconds that an online run may wait for the server


class Logged(NamedTuple):
    """What a sweep's marker keeps of one run."""

    digest: str  # sha256 of the content
    run: str  # folder under <root>/wandb


def log_point(
    folder: Path,
    tracker: TrackerConfig,
    group: str,
    root: Path,
    directions: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    charts: bool = True,
) -> int:
    """Log one finished job from its result folder; does nothing where this group has it already.

    Args:
        folder: holds result.json, samples.jsonl (optional) and figures; gets the marker.
        tracker: project, entity, mode and tags; its ``group`` wins over ``group``.
        group: name under which runs are compared.
        root: folder of the sweep.
        directions: file with the job's directions, referred to where it lies; None: no artifact.
        settings: swept values that tell this job from the others; None or empty: strength and layers.
        charts: the job has the headline charts; False where curves have them.

    Returns:
        How many runs were written: 1 or 0.
    """
    if tracker.name == "none":
        return 0
    marker, group = folder / MARKER, tracker.group or group
    logged, result = _read(marker), _read(folder / "result.json")
    if result.get("status") != "done" or (group in logged and _is_there(root, logged[group], tracker)):
        return 0
    written = _write(point_run(folder, result, directions, settings, charts=charts), tracker, group, root)
    if written is None:
        return 0
    if group in logged:
        _remove(root, logged[group])
    _save(marker, logged | {group: written})
    return 1


def log_curves(
    frame: pd.DataFrame, axes: Sequence[str], configs: Configs, tracker: TrackerConfig, group: str, root: Path
) -> int:
    """Log one run per curve over a swept number; writes only those whose content changed.

    Args:
        frame: the sweep's results, as `emo.results.curves.curves` takes them.
        axes: swept keys, columns of ``frame``.
        configs: `emo.report.runs.run_config` of every job in ``frame``.
        tracker: project, entity, mode and tags; its ``group`` wins over ``group``.
        group: name under which runs are compared.
        root: folder of the sweep; gets the marker.

    Returns:
        How many runs were written.
    """
    if tracker.name == "none":
        return 0
    return _log_changed("curve", curve_runs(frame, axes, configs), tracker, group, root)


def curve_runs(frame: pd.DataFrame, axes: Sequence[str], configs: Configs) -> dict[str, Run]:
    """Return the curves of a sweep as runs, by a key that tells them apart; arguments as for `log_curves`."""
    found = curves(with_steps(frame, axes), axes, configs)
    share = share_of(len({curve.step for curve in found}))
    return {f"curve {curve.key}": curve_run(curve, share) for curve in found}


def run_ids(root: Path, tracker: TrackerConfig, group: str, kind: str) -> list[str]:
    """Return the ids of a sweep's logged runs of a kind, ``curve`` or ``compare``."""
    logged = _read(root / MARKER).get(tracker.group or group, {})
    return [entry["run"].rpartition("-")[2] for key, entry in logged.items() if key.split()[0] == kind]


def log_compare(
    frame: pd.DataFrame,
    axes: Sequence[str],
    configs: Configs,
    tracker: TrackerConfig,
    group: str,
    root: Path,
    files: Sequence[Path] = (),
) -> int:
    """Log the sweep as a whole: a table with one row per job and arm, and its files; only where it changed.

    Args:
        frame: the sweep's results, as for `log_curves`.
        axes: swept keys, columns of ``frame``.
        configs: `emo.report.runs.run_config` of every job in ``frame``.
        tracker: project, entity, mode and tags; its ``group`` wins over ``group``.
        group: name under which runs are compared.
        root: folder of the sweep; gets the marker.
        files: tables and figures: copied into an artifact of type ``results``, and shown.

    Returns:
        How many runs were written: 1 or 0.
    """
    if tracker.name == "none":
        return 0
    runs = {} if frame.empty else {"compare": compare_run(frame, axes, configs, root.name, files)}
    return _log_changed("compare", runs, tracker, group, root)


# --- once per content ---------------------------------------------------------------------------


def _log_changed(kind: str, runs: Mapping[str, Run], tracker: TrackerConfig, group: str, root: Path) -> int:
    """Write the runs of a kind whose content is new, and remove those that they replace; returns how many."""
    marker, group = root / MARKER, tracker.group or group
    groups = _read(marker)
    logged = {key: Logged(**entry) for key, entry in groups.get(group, {}).items()}
    digests = {key: _digest(run) for key, run in runs.items()}
    stale = [
        key
        for key, one in logged.items()
        if key.split()[0] == kind and (one.digest != digests.get(key) or not _is_there(root, one.run, tracker))
    ]
    for key in stale:
        _remove(root, logged.pop(key).run)
    count = 0
    for key in [key for key in runs if key not in logged]:
        written = _write(runs[key], tracker, group, root)
        if written is None:  # the next would fail like this one
            break
        logged[key] = Logged(digests[key], written)
        count += 1
    if stale or count:
        _save(marker, groups | {group: {key: entry._asdict() for key, entry in logged.items()}})
    return count


def _is_there(root: Path, name: str, tracker: TrackerConfig) -> bool:
    """Return whether a logged run is where the tracker looks: one that lies offline is on no server."""
    return tracker.mode == "offline" or _uploaded(root, name)


def _uploaded(root: Path, name: str) -> bool:
    synced = (root / "wandb" / name).glob("*.synced")  # left there by `wandb sync`
    return not name.startswith("offline-") or any(synced)


def _remove(root: Path, name: str) -> None:
    """Remove the folder of a run that is out of date, unless it was uploaded: then only its owner can."""
    if not _uploaded(root, name):
        shutil.rmtree(root / "wandb" / name, ignore_errors=True)
    else:
        console.note(f"wandb: {name} was uploaded and is out of date; its successor is in the same group")


def _digest(run: Run) -> str:
    files = [*run.figures, *(path for one in run.attachments for path in one.files)]
    content = [asdict(run), [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]]
    text = json.dumps(content, sort_keys=True, default=lambda path: path.name)  # folders may be moved
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_sealed(path)
    except DamagedError:  # or not there: logged again
        return {}


def _save(path: Path, value: Mapping[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        scratch.write_text(json.dumps(seal(value), indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        console.warn(f"{path}: could not be written ({error.strerror}); the same runs are logged again next time")


# --- W&B itself ---------------------------------------------------------------------------------


def _write(run: Run, tracker: TrackerConfig, group: str, root: Path) -> str | None:
    """Write one run; returns the name of its folder under ``<root>/wandb``, None where W&B failed."""
    run_id = secrets.token_hex(8)  # our own: WANDB_RUN_ID would make all jobs of this process one run
    try:
        root.mkdir(parents=True, exist_ok=True)
        wandb = tracking_access.module()
        with wandb.init(
            project=tracker.project, entity=tracker.entity, mode=tracker.mode, group=group, tags=list(tracker.tags),
            job_type=run.job_type, name=run.name, id=run_id, config=run.config, dir=str(root),
            settings=_settings(wandb),
        ) as opened:  # fmt: skip
            folder = Path(opened.dir).parent
            with _staging(folder):
                _fill(wandb, opened, run)
        if folder.parent.resolve() != (root / "wandb").resolve():
            raise OSError(f"{root} cannot be written, W&B went to {folder.parent}")
        return folder.name
    except Exception as error:  # whatever it is: hours of work do not end because a dashboard is away
        _give_up(root, run_id)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        console.warn(f"wandb: {run.job_type} run {run.name} was not logged ({reason}); the local results are complete")
        return None


def _settings(wandb: Any) -> Any:
    """Return settings of one run, made anew: an object that is used twice keeps the first run's id."""
    return wandb.Settings(
        console="off",
        reinit="create_new",  # never a run that somebody else left open
        init_timeout=INIT_TIMEOUT,
        save_code=False,
        disable_code=True,
        disable_git=True,  # result.json has the versions; a remote's address may hold a password
        x_save_requirements=False,
        x_disable_stats=True,  # the work is over: what the machine does now says nothing
        x_disable_machine_info=True,
    )


def _fill(wandb: Any, opened: Any, run: Run) -> None:
    if run.step is not None:
        opened.define_metric(run.step, hidden=True)  # else it gets a chart of its own
        keys = dict.fromkeys(key for row in run.history for key in row if key != run.step)
        for key in keys:
            opened.define_metric(key, step_metric=run.step, hidden=is_bound(key))
    for row in run.history:
        opened.log(row)
    opened.summary.update(run.summary)
    shown = {f"figures/{path.stem}": wandb.Image(str(path)) for path in run.figures}
    for key, table in run.tables.items():  # mixed: layers may be 7 beside 11-20
        shown[key] = wandb.Table(columns=table.columns, data=table.rows, allow_mixed_types=True)
    if shown:
        opened.log(shown)
    for one in run.attachments:
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", one.name)[:128]  # what W&B allows
        artifact = wandb.Artifact(name, type=one.kind)
        policy = {"policy": "immutable", "skip_cache": True} if one.in_place else {}
        for path in one.files:
            artifact.add_file(str(path), **policy)
        opened.log_artifact(artifact)


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Keep copies of tables and artifacts in the run's own folder; by default they pile up in the user's home."""
    key = "WANDB_DATA_DIR"
    given = os.environ.get(key)
    os.environ[key] = given or str(folder)
    try:
        yield
    finally:
        if given is None:
            del os.environ[key]


def _give_up(root: Path, run_id: str) -> None:
    """Remove what a failed run left behind, and its service, which may be dead: the next run starts another."""
    with suppress(Exception):
        import wandb

        wandb.teardown()
    for folder in (root / "wandb").glob(f"*-{run_id}"):
        shutil.rmtree(folder, ignore_errors=True)
