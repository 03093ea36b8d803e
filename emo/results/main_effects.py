"""What matters in a sweep over several keys: the effect of every value, averaged over the rest.

An additive model: the value of a job is the mean of all plus one effect per swept key,

    y[job] = m + sum over keys of effect[key, value of the job],

fitted by least squares to every scenario by itself, effects of a key centred over its values. So a key's effect is not
mixed with that of another one where a sweep changes one key at a time, or has a factorial part. Intervals resample
scenarios; a key's p flips signs of the scenarios' effects (`emo.core.paired_stats.spread_of`). What the additive model
leaves over between jobs is the interactions (and noise): their share of the variance between jobs stands beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emo.core.frames import pd
from emo.core.paired_stats import Spread, paired_many, spread_of
from emo.core.stats import Array, holm, smallest_p
from emo.results import p_values
from emo.results.values import JobValues

FILE = "main_effects.csv"
METRICS = ("clean_accuracy", "match", "logprob_margin", "accuracy", "delta_s_rel")  # the first that was measured


class Level(NamedTuple):
    """One value of a key."""

    value: str
    effect: float  # beside the mean over the key's values, in the metric's unit
    lo: float  # 95 %; nan below five scenarios
    hi: float
    mean: float  # plain mean of the jobs with it
    jobs: int


class Factor(NamedTuple):
    """One swept key."""

    axis: str
    levels: tuple[Level, ...]
    spread: Spread | None  # None below five scenarios
    p_holm: float | None  # over the keys
    p_least: float | None = None  # the smallest that it can be with so many scenarios and keys

    @property
    def p(self) -> float | None:
        """What a reader sees of ``p_holm``: None where it is not there, or where none can be small."""
        return p_values.shown(self.p_holm, self.p_least)


class MainEffects(NamedTuple):
    """What matters in a sweep, the most first."""

    metric: str
    arm: str
    beyond: str  # control taken off; empty: none
    factors: tuple[Factor, ...]
    left_over: float | None  # share of the variance between jobs that no additive effect explains; None: none is left
    jobs: int
    scenarios: int


def main_effects(
    jobs: Sequence[JobValues], beyond: str = "", draws: int = 2000, seed: int = 0, metric: str | None = None
) -> MainEffects | None:
    """Return the effects of the swept keys on the target arm; None where they cannot be told apart.

    Args:
        jobs: finished jobs, with their swept keys.
        beyond: a control, whose value is taken off.
        draws: bootstrap draws and sign patterns.
        seed: same seed, same result.
        metric: None: the first of `METRICS` that all have.
    """
    arm = next((name for name in jobs[0].arms if all(name in job.arms for job in jobs)), None) if jobs else None
    axes = list(dict.fromkeys(key for job in jobs for key in job.settings))
    axes = [axis for axis in axes if len({job.settings.get(axis) for job in jobs}) > 1]
    if arm is None or len(axes) < 2 or (beyond and any(beyond not in job.controls for job in jobs)):
        return None
    names = [arm, beyond] if beyond else [arm]
    known = [m for m in ((metric,) if metric else METRICS) if all((n, m) in job.table for job in jobs for n in names)]
    if not known:
        return None
    columns = [_by_scenario(job, arm, beyond, known[0]) for job in jobs]
    values = pd.concat(columns, axis=1, join="inner").dropna().to_numpy().T  # (jobs, scenarios)
    design, places = _design(jobs, axes)
    if values.shape[1] == 0 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None  # two keys always change together: their effects are one
    fitted = np.linalg.lstsq(design, values, rcond=None)[0]  # (1 + effects, scenarios)
    factors = [_factor(jobs, axis, places[axis], fitted, values, draws, seed) for axis in axes]
    adjusted = holm([None if factor.spread is None else factor.spread.p for factor in factors])
    least = smallest_p(values.shape[1], len(factors), draws)
    factors = [factor._replace(p_holm=p, p_least=least) for factor, p in zip(factors, adjusted, strict=True)]
    factors.sort(key=lambda factor: -np.ptp([level.effect for level in factor.levels]))
    means = values.mean(1)
    left = None
    if len(jobs) > design.shape[1] and means.var() > 0:
        left = float((means - design @ fitted.mean(1)).var() / means.var())
    return MainEffects(known[0], arm, beyond, tuple(factors), left, len(jobs), values.shape[1])


def effects_table(found: MainEffects) -> pd.DataFrame:
    """Return one row per swept key and value, the key that matters most first.

    Columns: ``axis``, ``range`` (largest effect less the smallest, in the metric's unit), ``by_chance`` (the range that
    random signs give on average), ``p_holm``, ``p_least`` (the smallest that it can be: above 0.05 pages print no p;
    all three empty below five scenarios), ``value``, ``effect`` (beside the mean over the key's values), ``ci_lo``,
    ``ci_hi``, ``mean``, ``jobs``, ``metric``, ``arm``.
    """
    rows = []
    for factor in found.factors:
        effects = [level.effect for level in factor.levels]
        of_key = {
            "axis": factor.axis,
            "range": float(np.ptp(effects)),
            "by_chance": None if factor.spread is None else factor.spread.by_chance,
            "p_holm": factor.p_holm,
            "p_least": factor.p_least,
        }
        for x in factor.levels:
            own = {"value": x.value, "effect": x.effect, "ci_lo": x.lo, "ci_hi": x.hi, "mean": x.mean, "jobs": x.jobs}
            rows.append(of_key | own | {"metric": found.metric, "arm": found.arm})
    return pd.DataFrame(rows)


def _by_scenario(job: JobValues, arm: str, beyond: str, metric: str) -> pd.Series:
    values = job.table[arm, metric] - (job.table[beyond, metric] if beyond else 0.0)
    scenario = [job.places[sample][0] for sample in values.index.get_level_values("sample")]
    return values.groupby(scenario).mean()


def _design(jobs: Sequence[JobValues], axes: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """Return the design matrix (jobs, 1 + effects), and per key what turns its coefficients into levels' effects.

    Effect coding: the last value of a key is minus the sum of the others, so that a key's effects sum to zero.
    """
    blocks, places, at = [np.ones((len(jobs), 1))], {}, 1
    for axis in axes:
        names = _names(jobs, axis)
        free = len(names) - 1
        coding = np.vstack([np.eye(free), -np.ones((1, free))])  # (levels, free)
        blocks.append(coding[[names.index(job.settings.get(axis, "")) for job in jobs]])
        whole = np.zeros((len(names), 1 + sum(len(_names(jobs, other)) - 1 for other in axes)))
        whole[:, at : at + free] = coding
        places[axis], at = whole, at + free
    return np.hstack(blocks), places


def _names(jobs: Sequence[JobValues], axis: str) -> list[str]:
    """Return the values of a key: numbers by their size, the first sweep's order else; words behind numbers."""
    names = dict.fromkeys(job.settings.get(axis, "") for job in jobs)
    return sorted(names, key=_size)


def _size(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return math.inf


def _factor(
    jobs: Sequence[JobValues], axis: str, coding: Array, fitted: Array, values: Array, draws: int, seed: int
) -> Factor:
    effects = (coding @ fitted).T  # (scenarios, levels)
    found = paired_many(effects, np.arange(len(effects)), draws, seed)
    levels = []
    for i, name in enumerate(_names(jobs, axis)):
        own = [k for k, job in enumerate(jobs) if job.settings.get(axis, "") == name]
        mean = float(values[own].mean())
        levels.append(Level(name, float(found.value[i]), float(found.lo[i]), float(found.hi[i]), mean, len(own)))
    return Factor(axis, tuple(levels), spread_of(effects, draws, seed), None)
