"""Results read back from disk: one result, all results below a folder, and the table of a sweep.

The table has one row per job, arm and metric; every key in which the jobs differ (the axes) is a column.
A key that follows from another (what a model's file brings along) is no axis of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.config.renamed import stored, stored_settings, typed
from emo.config.schema import RUNTIME_KEYS
from emo.core import console
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.metrics import Metric, declare
from emo.core.sealed import DamagedError, changed, read_sealed
from emo.results.table_files import read_table

# The key that names a group's option: it stands for all that the option brings along.
OPTIONS = {
    "model.name": "model",
    "dataset.name": "dataset",
    "elicitation.template": "elicitation",
    "intervention.kind": "intervention",
    "evaluator.name": "evaluator",
}
ALWAYS = ("model", "dataset", "intervention")  # columns of every table, swept or not
VALUES = ("arm", "metric", "value", "ci_lo", "ci_hi", "n")
BUDGET = "circuit.budget"
OWN_METRICS = "metrics"  # of result.json, where there are any: what is known of those of a user's own
SWEEP_FILE = "sweep.json"
EARLIER = "earlier"  # holds the tables of other sweeps of the same name
_warned: set[Path] = set()
VARIANT = re.compile(r"(\w+)=([^,]+)")  # behind the @ of an arm's name, in results of earlier versions


def read_result(folder: Path, address: str | None = None, *, whole: bool = False) -> dict[str, Any] | None:
    """Return a finished result, or None; a damaged one is missing, with one warning.

    Args:
        folder: where it lies.
        address: that it must have; None: any.
        whole: report, figures and rows must be there too, as they were written.
    """
    result = read_any(folder)
    if result is None or result["status"] != "done" or address not in (None, result["address"]):
        return None
    if whole and (wrong := changed(folder, result["files"])):
        _warn_once(folder, f"{folder}: {', '.join(wrong)}: gone or changed; written again from the store")
        return None
    return result


def read_any(folder: Path) -> dict[str, Any] | None:
    """Return the result.json of a job that is done or failed, or None; a damaged one is missing, with one warning."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        result = read_sealed(path)
        if not {"status", "address", "config", "arms"} <= result.keys():
            raise KeyError("keys are missing")
        declare(Metric(key, **known) for key, known in result.get(OWN_METRICS, {}).items())
        return result | {"config": stored(result["config"])}
    except (DamagedError, KeyError) as error:
        _warn_once(path, f"{path} is damaged ({error}); that job counts as not done and is computed again")
        return None


def _warn_once(path: Path, line: str) -> None:
    if path not in _warned:  # several look at a result before it is computed again
        _warned.add(path)
        console.warn(line)


def load_results(folder: str | Path) -> pd.DataFrame:
    """Return the finished results below ``folder`` as a table, one row per job, arm and metric.

    Args:
        folder: of one job, of a sweep (its own jobs only, in their order), or any folder above several.

    The table that a sweep left (results.parquet, results.csv) is read where it is of just these results.

    Returns:
        Columns ``job`` (16 hex digits), ``model``, ``dataset``, ``intervention``, one per swept key, ``arm``,
        ``metric`` (with its ``/emotion`` suffix), ``value``, ``ci_lo``, ``ci_hi`` (95 %), ``n``. Of an arm such
        as ``steer@alpha=0.5`` the column ``intervention.alpha`` holds 0.5; ``circuit.budget`` is in units, also where
        ``10x`` was typed. ``attrs["axes"]`` lists the swept keys.

    Raises:
        UserError: no such folder, or no finished result in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; type the folder of a run or of a sweep, e.g. outputs/run")
    sweep = read_sweep(root)
    folders = job_folders(root, sweep)
    kept = read_table(root, folders, sweep["axes"]) if sweep is not None else None
    if kept is not None:
        return kept[0]
    found = [result for path in folders if (result := read_result(path)) is not None]
    if not found:
        raise UserError(f"{root}: no finished result in it; type python run.py task=status to see what there is")
    return table_of(found, sweep)


def table_of(found: Sequence[dict[str, Any]], sweep: dict[str, Any] | None) -> pd.DataFrame:
    """Return the table of `load_results` for finished results, of a sweep's list where there is one."""
    if sweep is None:
        return to_table(found, axes_of(result["config"] for result in found))
    return to_table(found, sweep["axes"], {job["address"]: job["settings"] for job in sweep["jobs"]})


def read_sweep(root: Path) -> dict[str, Any] | None:
    """Return the list of jobs that a sweep left in its folder, or None."""
    try:
        sweep = read_sealed(root / SWEEP_FILE)
        return _with_new_names(sweep) if isinstance(sweep["axes"], list) and sweep["jobs"] else None
    except (DamagedError, KeyError) as error:
        if (root / SWEEP_FILE).is_file():
            _warn_once(
                root / SWEEP_FILE,
                f"{root / SWEEP_FILE} is damaged ({error}); type the sweep's line again",
            )
        return None


def _with_new_names(sweep: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's list whose axes, settings and lines may have old names of keys, with the new ones."""
    jobs = [
        job
        | {"settings": stored_settings(job["settings"])}
        | ({"overrides": typed(job["overrides"], quiet=True)} if "overrides" in job else {})
        for job in sweep["jobs"]
    ]
    return sweep | {"axes": list(stored_settings(dict.fromkeys(sweep["axes"]))), "jobs": jobs}


def name_folder(root: Path) -> Path:
    """Return the folder of a name, which has the jobs' folders, of a sweep's: it may lie in ``earlier`` below it."""
    return root.parent.parent if root.parent.name == EARLIER else root


def job_folders(root: Path, sweep: dict[str, Any] | None) -> list[Path]:
    """Return the folders of a sweep's jobs in their order, or of all results below ``root``."""
    if sweep is not None:
        return [name_folder(root) / job["address"][:16] for job in sweep["jobs"]]
    if (root / "result.json").is_file():
        return [root]
    return sorted(path.parent for path in root.rglob("result.json") if ".writing-" not in str(path))


def to_table(
    results: Sequence[dict[str, Any]], axes: Sequence[str], settings: Mapping[str, dict[str, Any]] | None = None
) -> pd.DataFrame:
    """Return the table of `load_results` for results and their axes.

    ``settings``, by address, has the swept values of each job: a job without one has none in the table either.
    """
    variants = [key for result in results for arm in result["arms"] for key in _settings(result, arm)]
    axes = list(dict.fromkeys([*axes, *variants]))
    rows = []
    for result in results:
        config = flatten(result["config"])
        fixed = {"job": result["address"][:16]}
        fixed |= {axis: value_of(config, axis) for axis in dict.fromkeys([*ALWAYS, *axes])}
        if settings and result["address"] in settings:
            fixed |= dict.fromkeys({*axes} - {*ALWAYS, *settings[result["address"]]})
        if isinstance(fixed.get(BUDGET), str) and result.get("budget") is not None:
            fixed[BUDGET] = result["budget"]  # 10x of this model: curves and the smallest budget are over units
        for arm, metrics in result["arms"].items():
            own = _settings(result, arm)
            for metric, x in metrics.items():
                lo, hi = x["ci"] or (None, None)
                measured = {"arm": arm, "metric": metric, "value": x["value"], "ci_lo": lo, "ci_hi": hi, "n": x["n"]}
                rows.append(fixed | own | measured)
    frame = pd.DataFrame(rows, columns=["job", *dict.fromkeys([*ALWAYS, *axes]), *VALUES])
    for axis in axes:
        frame[axis] = _column(frame[axis])
    for column in ("value", "ci_lo", "ci_hi"):
        frame[column] = frame[column].astype(float)
    frame.attrs["axes"] = [axis for axis in axes if frame[axis].nunique() > 1 or axis not in ALWAYS]
    return frame


def axes_of(configs: Iterable[dict[str, Any]], chosen: Sequence[str] = ()) -> list[str]:
    """Return the keys in which configurations differ, without those that follow from others.

    A key follows from those ``chosen`` (by name: ``evaluator``, ``intervention.k``) that differ, which all are kept,
    and from the ones before it.
    """
    # A list that is empty is as good as a key that the version did not have which wrote another of the results.
    flat = [{key: None if value == [] else value for key, value in flatten(config).items()} for config in configs]
    keys = [*OPTIONS, *(key for config in flat[:1] for key in config if key not in OPTIONS)]
    named = [key for key in keys if OPTIONS.get(key, key) in chosen]
    kept = [key for key in named if len({_show(config.get(key)) for config in flat}) > 1]
    for key in keys:
        seen: dict[tuple[str, ...], set[str]] = {}
        for config in flat:
            seen.setdefault(tuple(_show(config.get(k)) for k in kept), set()).add(_show(config.get(key)))
        if any(len(values) > 1 for values in seen.values()):
            kept.append(key)
    return [OPTIONS.get(key, key) for key in sorted(kept, key=keys.index)]


def value_of(config: dict[str, Any], axis: str) -> Any:
    """Return an axis' value in a flattened configuration: numbers stay numbers, lists become text."""
    key = next((key for key, name in OPTIONS.items() if name == axis), axis)
    value = config.get(key)
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else _show(value)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration by dotted key, without the keys that no result depends on."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in RUNTIME_KEYS:
            continue
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def label(settings: dict[str, Any]) -> str:
    """Return swept values as they are typed: ``model=tiny_llama intervention.alpha=1``."""
    return " ".join(f"{key}={_show(value)}" for key, value in settings.items())


def _settings(result: Mapping[str, Any], arm: str) -> dict[str, float]:
    """Return the values of lists that an arm stands for, by key; before 0.2 only its name says them."""
    told = result["settings"].get(arm, {}).items() if "settings" in result else VARIANT.findall(arm.partition("@")[2])
    return {f"intervention.{key}": float(value) for key, value in told}


def _column(column: pd.Series) -> pd.Series:
    """Return numbers where all values are numbers (a list of strengths, or None: of no single one), else text."""
    numbers = pd.to_numeric(column, errors="coerce")
    rest = [_show(value) for value in column[numbers.isna()] if pd.notna(value)]
    several = all(text.startswith("[") for text in rest)
    shown = column.astype(object).where(column.notna(), None)  # a job without this key: pandas has nan for it
    return numbers if several and numbers.notna().any() else shown.map(_show)


def _show(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_show, value)) + "]"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
