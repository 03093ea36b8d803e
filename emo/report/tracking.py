"""Weights & Biases: finished jobs, curves and comparisons as runs of one group. The only file that uses it.

Everything is read from local result files, which are the truth: a run is written once, when its numbers are
complete, and what W&B cannot take is a warning, never a failure. Three kinds of runs, so that models overlay
in its own charts (group them by ``config.model.family``):

* ``point``: one job; its configuration, headline numbers, replies, figures and directions.
* ``curve``: one line over a swept number, whose history has that number as step.
* ``compare``: one sweep; the table of all points, and its files.

All of a sweep lies in ``<root>/wandb``: ``wandb leet <root>/wandb`` shows it, ``wandb sync`` uploads it.
"""

from __future__ import annotations

import hashlib
import importlib.util
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
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.sealed import DamagedError, read_sealed, seal
from emo.report.runs import Configs, Run, compare_run, curve_run, point_run
from emo.results.curves import curves
from emo.results.training_steps import with_steps

MARKER = "wandb.json"  # what was logged, so that it is logged once; delete it to log again
INIT_TIMEOUT = 30.0  # seconds that an online run may wait for the server


class Logged(NamedTuple):
    """What a sweep's marker keeps of one run."""

    digest: str  # sha256 of the content
    run: str  # folder under <root>/wandb


def check(tracker: TrackerConfig) -> None:
    """Refuse a tracker that cannot work, before anything runs; needs no network.

    Raises:
        UserError: W&B is not installed, or its online mode has no key.
    """
    if tracker.name == "none":
        return
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:  # no origin: a folder of runs named wandb/, which Python would import
        raise UserError(
            "tracker=wandb: the package wandb is not installed; type pip install -c constraints.txt wandb, "
            "or tracker=none"
        )
    if tracker.mode == "online" and not _has_key():
        raise UserError(
            "tracker.mode=online: no key of Weights & Biases in WANDB_API_KEY or ~/.netrc; type "
            "export WANDB_API_KEY=... or wandb login, or tracker.mode=offline"
        )


def log_point(
    folder: Path, tracker: TrackerConfig, group: str, root: Path, directions: Path | None = None, label: str = ""
) -> int:
    """Log one finished job from its result folder; does nothing where this group has it already.

    Args:
        folder: holds result.json, samples.jsonl (optional) and figures; gets the marker.
        tracker: project, entity, mode and tags; its ``group`` wins over ``group``.
        group: name under which runs are compared.
        root: folder of the sweep.
        directions: file with the job's directions, referred to where it lies; None: no artifact.
        label: what tells this job from the others, e.g. ``alpha=0.5``; empty: strength and layers.

    Returns:
        How many runs were written: 1 or 0.
    """
    if tracker.name == "none":
        return 0
    marker, group = folder / MARKER, tracker.group or group
    logged, result = _read(marker), _read(folder / "result.json")
    if group in logged or result.get("status") != "done":
        return 0
    written = _write(point_run(folder, result, directions, label), tracker, group, root)
    if written is None:
        return 0
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
    runs = {f"curve {curve.key}": curve_run(curve) for curve in curves(with_steps(frame, axes), axes, configs)}
    return _log_changed("curve", runs, tracker, group, root)


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
        files: results.csv and figures: copied into an artifact of type ``results``, figures also shown.

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
    stale = [k for k in logged if k.split()[0] == kind and logged[k].digest != digests.get(k)]
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


def _remove(root: Path, name: str) -> None:
    """Remove the folder of a run that is out of date, unless it was uploaded: then only its owner can."""
    folder = root / "wandb" / name
    if name.startswith("offline-") and not list(folder.glob("*.synced")):  # left there by `wandb sync`
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.note(f"wandb: {name} was uploaded and is out of date; its successor is in the same group")


def _digest(run: Run) -> str:
    files = [*run.figures, *(run.attachment.files if run.attachment else ())]
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
        wandb = _wandb()
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


def _wandb() -> Any:
    """Return the module, which is imported here only: it takes a second and starts a process."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # for all runs, and for lines from outside one, e.g. about keys
    return wandb


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
        opened.define_metric("curve/*", step_metric=run.step)
    for row in run.history:
        opened.log(row)
    opened.summary.update(run.summary)
    shown = {f"figures/{path.stem}": wandb.Image(str(path)) for path in run.figures}
    for key, table in run.tables.items():  # mixed: layers may be 7 beside 11-20
        shown[key] = wandb.Table(columns=table.columns, data=table.rows, allow_mixed_types=True)
    if shown:
        opened.log(shown)
    if run.attachment is not None:
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", run.attachment.name)[:128]  # what W&B allows
        artifact = wandb.Artifact(name, type=run.attachment.kind)
        policy = {"policy": "immutable", "skip_cache": True} if run.attachment.in_place else {}
        for path in run.attachment.files:
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


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from wandb.sdk.lib.wbauth import read_netrc_auth  # what init reads; the public wandb.login asks the server

    settings = _wandb().setup().settings
    return bool(settings.api_key or read_netrc_auth(host=settings.base_url))
