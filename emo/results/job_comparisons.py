"""Jobs against each other on the prompts that they share: is LLaMA different from Qwen, is 2 better than 1?

Every two jobs of a sweep that differ in one key are compared in pairs, arm by arm: the difference of the means with its
95 % interval over scenarios, the p of sign flips of scenario means, and Holm's adjustment over the comparisons of one
key, metric and part of the data (methods 4.4). Where both jobs have a control, the difference of differences stands
beside: (target - control) of one job less that of the other says whether the circuit, and not any edit of its size,
does more. Draws of a control are averaged first, so intervals are given the draws. Where trusted labels cover both jobs
the difference without the labeller's error stands beside the raw one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.corrected import FEWEST_LABELLED, widened
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.metrics import headline
from emo.core.paired_stats import paired_many
from emo.core.stats import Estimate, holm, smallest_p
from emo.results.table import axes_of, job_folders, read_result, read_sweep
from emo.results.trusted import Rectified, of_jobs, rectified_job
from emo.results.values import LOGARITHMS, VALUES, JobValues, values_of_jobs

UNEDITED = ("none", "prompt")
OF_UNITS = ("delta_s", "delta_s_last", "dose")  # in activation units of a model, or set by hand: not between models
MOST = 300  # pairs: seconds
KEY = ["axis", "a", "b", "at", "arm", "beyond", "metric", "emotion", "valence"]
NUMBERS = ["value_a", "value_b", "difference", "ci_lo", "ci_hi", "n", "scenarios", "p", "p_holm", "p_least"]
CORRECTED = ["corrected", "corrected_lo", "corrected_hi"]


class Pair(NamedTuple):
    """Two jobs that differ in one key."""

    axis: str
    a: JobValues
    b: JobValues

    @property
    def at(self) -> str:
        """What they have in common, as it is typed."""
        return " ".join(f"{key}={value}" for key, value in self.a.settings.items() if key != self.axis)


def pairs(jobs: Sequence[JobValues]) -> list[Pair]:
    """Return every two jobs that differ in one swept key, in their order.

    Where these are more than `MOST`, only those with the key's first value: a grid of hundreds of jobs has thousands.
    """
    found = []
    for a, b in combinations(jobs, 2):
        keys = [key for key in {**a.settings, **b.settings} if a.settings.get(key) != b.settings.get(key)]
        if len(keys) == 1:
            found.append(Pair(keys[0], a, b))
    if len(found) <= MOST:
        return found
    first = {axis: jobs[0].settings.get(axis) for axis in jobs[0].settings}
    return [pair for pair in found if pair.a.settings.get(pair.axis) == first.get(pair.axis)]


def compare_jobs(jobs: Sequence[JobValues], draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return one row per pair of jobs, arm, metric and part of the data.

    Args:
        jobs: finished jobs, with their swept keys.
        draws: bootstrap draws, and random sign patterns.
        seed: same seed, same numbers.

    Returns:
        Columns ``axis, a, b`` (the key and its two values), ``at`` (the other keys), ``arm``, ``beyond`` (the control
        that was taken off in both jobs, or empty), ``metric, emotion, valence`` (empty: all), ``value_a, value_b,
        difference`` (a - b), ``ci_lo, ci_hi`` (95 %), ``n, scenarios, p, p_holm``, ``p_least`` (the smallest that
        ``p_holm`` can be with so many scenarios and comparisons: above 0.05 pages print no p); nan where nothing was
        measured or there are too few scenarios.
    """
    parts = [part for pair in pairs(jobs) for part in _rows(pair, draws, seed)]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEY, *NUMBERS])
    frame[["p_holm", "p_least"]] = np.nan
    kind = (frame["emotion"] != "").astype(int) + 2 * (frame["valence"] != "").astype(int)
    unedited = frame["arm"].isin(UNEDITED)  # of no intervention, so no part of its family of tests
    for _, family in frame.groupby(["axis", "metric", kind, unedited], sort=False):
        known = [None if np.isnan(p) else float(p) for p in family["p"]]
        frame.loc[family.index, "p_holm"] = [np.nan if p is None else p for p in holm(known)]
        frame.loc[family.index, "p_least"] = _least(family, draws)
    return frame[[*KEY, *NUMBERS]]


def _least(family: pd.DataFrame, draws: int) -> list[float]:
    """Return the smallest p after Holm that each of some comparisons can have; nan where it has none.

    No adjusted p is below the smallest one of the family times its size, nor below the smallest of its own scenarios.
    """
    tested = family[family["p"].notna()]
    least = [smallest_p(int(n), len(tested), draws) for n in tested["scenarios"].unique()]
    whole = min((p for p in least if p is not None), default=np.nan)
    own = {int(n): smallest_p(int(n), 1, draws) for n in family["scenarios"].unique()}
    return [
        np.nan if np.isnan(p) else max(whole, own[int(n)] or 0.0)
        for p, n in zip(family["p"], family["scenarios"], strict=True)
    ]


def compare_folder(folder: str | Path) -> pd.DataFrame:
    """Return `compare_jobs` of the finished jobs of a sweep, or of all results below a folder, `with_corrected`.

    Raises:
        UserError: no such folder, no finished result in it, or results without their values.
    """
    root = Path(folder).expanduser()
    sweep = read_sweep(root) if root.is_dir() else None
    results = {path: read_result(path) for path in job_folders(root, sweep)} if root.is_dir() else {}
    done = {path: result for path, result in results.items() if result is not None}
    if not done:
        raise UserError(f"{root}: no finished result in it; type the folder of a sweep, e.g. outputs/llama_vs_qwen")
    axes = sweep["axes"] if sweep is not None else axes_of(result["config"] for result in done.values())
    jobs = values_of_jobs(done, axes)
    if not jobs:
        raise UserError(f"{root}: its results keep no values ({VALUES}): of an earlier version")
    config = next(iter(done.values()))["config"]
    draws, seed = int(config["evaluator"]["bootstrap"]), int(config["seed"])
    return with_corrected(compare_jobs(jobs, draws, seed), jobs, done, draws, seed)


def with_corrected(
    compared: pd.DataFrame, jobs: Sequence[JobValues], results: Mapping[Path, dict[str, Any] | None], draws: int,
    seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Return comparisons with columns `CORRECTED` where trusted labels cover both jobs; as they are where none do.

    The difference is of values that stand for replies (`emo.core.corrected.rectified`), on all prompts together: parts
    have too few labels. nan: another metric, or fewer than ten labelled replies of an arm that is in the difference. No
    p: sign flips of values that a few labelled replies carry are not worth one.

    Args:
        compared: of `compare_jobs`.
        jobs: those that were compared.
        results: content of result.json, by folder of the job.
        draws: bootstrap draws.
        seed: same seed, same numbers.
    """
    found = {job: own for job, own in of_jobs(results).items() if own.current}
    folders = {folder.name: folder for folder in results}
    made = {job.job: rectified_job(job, folders[job.job], found[job.job]) for job in jobs if job.job in found}
    rows = [
        row
        for pair in pairs(jobs) if pair.a.job in made and pair.b.job in made
        for row in _corrected(pair.axis, made[pair.a.job], made[pair.b.job], draws, seed)
    ]  # fmt: skip
    if not rows:
        return compared
    frame = pd.DataFrame(rows, columns=[*KEY, *CORRECTED]).astype(dict.fromkeys(CORRECTED, float))
    return compared.merge(frame, on=KEY, how="left")


def _corrected(axis: str, a: Rectified, b: Rectified, draws: int, seed: int) -> Iterator[dict[str, Any]]:
    both, pair = (a, b), Pair(axis, a.values, b.values)
    for part in _rows(pair, draws, seed, whole=True):
        for row in part.to_dict("records"):
            arms = [row["arm"], *([row["beyond"]] if row["beyond"] else [])]
            labelled = [one.labelled.get(arm, 0) for one in both for arm in arms]
            if min(labelled) < FEWEST_LABELLED:
                continue
            samples = {sample for one in both for arm in arms for sample in one.samples[arm]}
            places = {pair.a.places[sample][0] for sample in samples if sample in pair.a.places}
            lo, hi = (None if np.isnan(row[end]) else float(row[end]) for end in ("ci_lo", "ci_hi"))
            x = widened(Estimate(float(row["difference"]), lo, hi, int(row["n"])), len(places), *labelled)
            yield {key: row[key] for key in KEY} | dict(zip(CORRECTED, x[:3], strict=True))


def _rows(pair: Pair, draws: int, seed: int, *, whole: bool = False) -> Iterator[pd.DataFrame]:
    """Yield the comparisons of two jobs, of all prompts and (but with ``whole``) of every part of them."""
    a, b = (_columns(job, pair) for job in (pair.a, pair.b))
    shared = a.index.intersection(b.index)
    columns = [column for column in a.columns if column in b.columns]
    if not len(shared) or not columns:
        return
    own, other = a.loc[shared, columns], b.loc[shared, columns]
    samples = [sample for sample, _ in shared]
    scenario = np.array([pair.a.places[sample][0] for sample in samples], dtype=object)
    valence = np.array([pair.a.places[sample][1] for sample in samples], dtype=object)
    emotion = np.array([name for _, name in shared], dtype=object)
    cuts = [("", "", np.ones(len(shared), dtype=bool))]
    cuts += [(name, "", emotion == name) for name in dict.fromkeys(emotion)]
    cuts += [("", name, valence == name) for name in dict.fromkeys(valence) if name]
    for in_emotion, in_valence, rows in cuts[:1] if whole else cuts:
        x, y = own[rows].to_numpy(), other[rows].to_numpy()
        both = ~np.isnan(x) & ~np.isnan(y)
        found = paired_many(np.where(both, x - y, np.nan), scenario[rows], draws, seed)
        counts = both.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = [np.where(both, values, 0.0).sum(0) / counts for values in (x, y)]
        frame = pd.DataFrame(columns, columns=["arm", "beyond", "metric"])
        frame = frame.assign(axis=pair.axis, a=pair.a.settings.get(pair.axis, ""), b=pair.b.settings.get(pair.axis, ""))
        frame = frame.assign(at=pair.at, emotion=in_emotion, valence=in_valence, value_a=means[0], value_b=means[1])
        frame = frame.assign(difference=found.value, ci_lo=found.lo, ci_hi=found.hi, n=found.n, p=found.p)
        yield frame.assign(scenarios=found.clusters)[frame["arm"].notna() & (found.n > 0)]


def _columns(job: JobValues, pair: Pair) -> pd.DataFrame:
    """Return values by (arm, control taken off or empty, metric), index (sample, emotion)."""
    metrics = [LOGARITHMS.get(metric, metric) for metric in headline()]
    if pair.axis == "model":
        metrics = [metric for metric in metrics if metric not in OF_UNITS]
    table = job.table
    columns = {}
    for arm in dict.fromkeys([*job.arms, *UNEDITED]):
        for beyond in ("", *(job.controls if arm in job.arms else ())):
            for metric in metrics:
                if (arm, metric) not in table or (beyond and (beyond, metric) not in table):
                    continue
                values = table[arm, metric]
                columns[arm, beyond, metric] = values - table[beyond, metric] if beyond else values
    made = pd.DataFrame(columns)
    made.columns = pd.MultiIndex.from_tuples(list(columns)) if columns else made.columns
    return made
