"""The values behind a job's estimates, per sample or text: what comparisons of jobs are made of.

``values.parquet`` beside result.json: one row per arm, metric, sample, target emotion and draw. delta_s_rel is divided
by the mean gap of its job, perplexity ratios are logarithms (nats per token), so that a mean of differences means
something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.frames import pd
from emo.results.table import BUDGET, flatten, value_of
from emo.results.table_files import has_parquet

VALUES = "values.parquet"
COLUMNS = ["arm", "metric", "sample", "emotion", "draw", "scenario", "valence", "value"]
LOGARITHMS = {"ppl_ratio": "log_ppl_ratio", "ppl_ratio_prompt": "log_ppl_ratio_prompt"}


def write_values(frame: pd.DataFrame, folder: Path) -> None:
    """Write the values of a long table (`long_table` of scenario or class results); nothing without a parquet writer.

    Texts of classes have no valence.
    """
    if not has_parquet():
        return
    kept = frame[frame["value"].notna()].copy()
    if "valence" not in kept:
        kept["valence"] = ""
    if "base" in kept:
        relative = kept["metric"] == "delta_s_rel"
        gaps = kept[relative].groupby("arm")["base"].mean()
        kept.loc[relative, "value"] = kept[relative]["value"].astype(float) / kept[relative]["arm"].map(gaps)
    kept["metric"] = kept["metric"].replace(LOGARITHMS)
    kept["value"] = kept["value"].astype(float)
    kept = kept[np.isfinite(kept["value"])]
    for column in ("arm", "metric", "sample", "emotion", "valence"):
        kept[column] = kept[column].astype("category")
    kept[COLUMNS].astype({"value": "float32"}).to_parquet(folder / VALUES, index=False, compression="zstd")


class JobValues(NamedTuple):
    """One finished job as a comparison sees it.

    Attributes:
        job: 16 hex digits.
        settings: swept key -> its value, as it is shown.
        table: values by (arm, metric), each with the index (sample, emotion): controls averaged over their draws.
        places: sample -> (scenario, valence).
        arms: target arms: what the job is about.
        controls: arms of like strength that a target stands beside.
    """

    job: str
    settings: dict[str, str]
    table: pd.DataFrame
    places: dict[str, tuple[Any, Any]]
    arms: tuple[str, ...]
    controls: tuple[str, ...]


def read_values(folder: Path, result: dict[str, Any], settings: dict[str, str]) -> JobValues | None:
    """Return the values of a finished job; None where they were not kept (results of earlier versions).

    Args:
        folder: of the job.
        result: content of its result.json.
        settings: its swept keys.
    """
    path = folder / VALUES
    if not path.is_file() or not has_parquet():
        return None
    frame = pd.read_parquet(path)
    frame = frame.astype({name: str for name in ("arm", "metric", "sample", "emotion", "valence")})
    places = {row.sample: (row.scenario, row.valence) for row in frame.drop_duplicates("sample").itertuples()}
    table = frame.pivot_table(
        index=["sample", "emotion"], columns=["arm", "metric"], values="value", aggfunc="mean", sort=False
    )
    tests = result.get("comparisons") or []
    arms = tuple(dict.fromkeys(row["arm"] for row in tests))
    beside = dict.fromkeys(row["against"] for row in tests if row["against"] not in ("none", "prompt"))
    return JobValues(folder.name, settings, table.astype(float), places, arms, tuple(beside))


def values_of_jobs(results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str]) -> list[JobValues]:
    """Return the values of the finished jobs whose values were kept, each with its value of every axis that varies.

    Args:
        results: content of result.json, by folder.
        axes: swept keys.
    """
    done = {folder: result for folder, result in results.items() if result and result["status"] == "done"}
    configs = {folder: flatten(result["config"]) for folder, result in done.items()}
    told = {
        folder: {axis: _shown(value_of(config, axis), axis, done[folder]) for axis in axes}
        for folder, config in configs.items()
    }
    kept = [axis for axis in axes if len({settings[axis] for settings in told.values()}) > 1]
    found = [
        read_values(folder, result, {axis: told[folder][axis] for axis in kept}) for folder, result in done.items()
    ]
    return [values for values in found if values is not None]


def _shown(value: Any, axis: str, result: dict[str, Any]) -> str:
    if axis == BUDGET and result.get("budget") is not None:
        return str(result["budget"])  # 10x of this model
    return f"{value:.12g}" if isinstance(value, float) else str(value)
