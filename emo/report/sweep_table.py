"""A sweep's long results read for people: settings, arms and metrics in the order of every table and figure.

A setting is one combination of the swept values, written as text (``0.5``, ``9-18``, ``null``), in the order
of the axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from emo.config.choices import UNIT_CONTROLS, VARIANTS
from emo.config.values import DIVERGENCE, asks_divergence
from emo.core.frames import pd
from emo.core.metrics import BOUNDS, headline, metric_of, own_metrics
from emo.core.stats import Estimate
from emo.results.arm_order import base_name, sort_arms

REFERENCES = ("none", "prompt")  # arms that no strength or layer changes
CONTROLS = ("random", "shuffled", "prompt_random", "prompt_shuffled", *UNIT_CONTROLS, *VARIANTS)
CONSOLE_METRICS = 5  # columns that fit a terminal beside the swept values
ROUNDING = 1e-9  # values that are this near are equal
CONSOLE_OWN = 2  # of them, of a user's own

Setting = tuple[str, ...]


class Best(NamedTuple):
    """The setting with the highest main metric within the damage bounds."""

    setting: Setting
    arm: str
    metric: str
    estimate: Estimate
    candidates: int  # settings x arms that it was chosen from
    checked: bool  # False: no damage was measured, so no bound was applied
    tied: tuple[tuple[Setting, str], ...]  # settings and arms that are as high, this one first

    @property
    def alike(self) -> bool:
        """Whether all that it was chosen from are as high: then it is not the best of anything."""
        return len(self.tied) == self.candidates > 1


class ConsoleTable(NamedTuple):
    """What `emo.core.console.table` prints."""

    columns: list[str]
    rows: list[list[object]]


@dataclass(frozen=True)
class SweepTable:
    """One sweep: an estimate per setting, arm and metric; one that is absent was not measured."""

    axes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]  # axis -> values: by size where all are numbers, else as they first appear
    settings: tuple[Setting, ...]
    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: Mapping[tuple[Setting, str, str], Estimate]

    def get(self, setting: Setting, arm: str, metric: str) -> Estimate | None:
        """Return an estimate, or None where nothing was measured."""
        return self.cells.get((setting, arm, metric))

    def numeric(self, axis: str) -> bool:
        """Return True where an axis has two or more values and all are numbers of one unit."""
        texts = self.options[axis]
        return len(texts) > 1 and None not in map(number, texts) and len(set(map(asks_divergence, texts))) == 1

    def varying(self) -> list[str]:
        """Return the axes with two or more values: the others explain nothing."""
        return [axis for axis in self.axes if len(self.options[axis]) > 1]

    def combinations(self, axes: Sequence[str]) -> dict[Setting, list[Setting]]:
        """Return the combinations of some axes' values, each with the settings that have it, in order."""
        found: dict[Setting, list[Setting]] = {}
        where = [self.axes.index(axis) for axis in axes]
        for setting in self.settings:
            found.setdefault(tuple(setting[i] for i in where), []).append(setting)
        return found

    def interventions(self) -> list[str]:
        """Return the arms that are neither reference nor control; all of them where there is no other."""
        edited = [arm for arm in self.arms if arm not in REFERENCES]
        return [arm for arm in edited if arm not in CONTROLS] or edited or list(self.arms)

    def controls(self, arm: str) -> list[str]:
        """Return the controls matched to an arm: those under the emotion prompt for an arm under that prompt."""
        if arm.endswith("circuit") and arm not in VARIANTS:
            return [name for name in VARIANTS if name in self.arms]
        prefix = "prompt_" if arm.startswith("prompt_") else ""
        return [name for name in (f"{prefix}random", f"{prefix}shuffled") if name in self.arms and name != arm]

    def beside(self, setting: Setting, arm: str, metric: str) -> dict[str, Estimate]:
        """Return what an arm must be above to say anything: the unedited model and its controls, at its setting."""
        unedited = ("none", "prompt") if arm.startswith("prompt_") else ("none",)
        found = {name: self.get(setting, name, metric) for name in (*unedited, *self.controls(arm)) if name != arm}
        return {name: x for name, x in found.items() if x is not None and x.value is not None}

    def main_arm(self) -> str:
        """Return the intervention's own arm.

        A prompt_steer job also runs steer, but gives controls to prompt_steer only: the arm with controls of its
        own comes first.
        """
        arms = self.interventions()
        return next((arm for arm in arms if self.controls(arm)), arms[0])

    def best(self) -> Best | None:
        """Return the best setting of the interventions, or None where the main metric has no better end.

        A setting whose damage was not measured, while that of others was, is left out.
        """
        if not self.metrics or metric_of(self.metrics[0]).better != "higher":
            return None
        metric = self.metrics[0]
        raising = [arm for arm in self.interventions() if not arm.startswith("ablate_")]  # those take away on purpose
        pairs = [(setting, arm) for arm in raising for setting in self.settings]
        bounds = {
            name: bound for name, bound in BOUNDS.items() if any(self.get(*pair, name) is not None for pair in pairs)
        }
        found = []
        for pair in pairs:
            fine = all(self._within(*pair, name, bound) for name, bound in bounds.items())
            x = self.get(*pair, metric)
            if fine and x is not None and x.value is not None:
                found.append((x.value, pair, x))
        if not found:
            return None
        top, (setting, arm), x = max(found, key=lambda one: one[0])
        tied = tuple(pair for value, pair, _ in found if value >= top - ROUNDING)
        return Best(setting, arm, metric, x, len(found), bool(bounds), tied)

    def _within(self, setting: Setting, arm: str, metric: str, bound: float) -> bool:
        """Whether the damage of an arm was measured and is within a bound."""
        x, unedited = self.get(setting, arm, metric), self.get(setting, "none", metric)
        before = (unedited.value if unedited is not None else None) or 0.0
        return x is not None and x.value is not None and x.value - before * metric_of(metric).over_unedited <= bound


def order() -> list[str]:
    """Return the metrics of a sweep, the most direct outcome first: the first that was measured is its main one."""
    return list(dict.fromkeys(("clean_accuracy", "accuracy", *headline())))


def bounds_text() -> str:
    """Return the damage bounds in words."""
    return f"degenerate <= unedited + {BOUNDS['degenerate']:g} and ppl_ratio <= {BOUNDS['ppl_ratio']:g}"


def read_table(frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str] | None = None) -> SweepTable:
    """Read the results of a sweep.

    Args:
        frame: one row per job, arm and metric, with columns ``arm``, ``metric``, ``value``, ``ci_lo``, ``ci_hi``
            (in the metric's unit; nan = not measured), ``n`` and one per axis. ``steer@alpha=0.5`` is read as
            ``steer``: the axis holds its strength. May be empty.
        axes: swept keys, in order.
        metrics: those wanted, the main one first; None: those of `order` that were measured at all.

    Returns:
        The table. Of several rows for one cell the first measured one counts. An arm none or prompt without a
        value of its own on an axis (its job had a list of strengths) stands beside every value.
    """
    if frame.empty:
        return SweepTable(tuple(axes), dict.fromkeys(axes, ()), (), (), tuple(metrics or ()), {})
    part = frame[frame["metric"].isin(list(order() if metrics is None else metrics))]
    arms = [base_name(str(arm)) for arm in part["arm"]]
    given = [_texts(part, axis) for axis in axes]
    open_values = [_open_values(texts, arms) for texts in given]
    keys = list(zip(*given, strict=True)) if given else [()] * len(arms)
    numbers = [pd.to_numeric(part[c], errors="coerce").tolist() for c in ("value", "ci_lo", "ci_hi", "n")]
    cells: dict[tuple[Setting, str, str], Estimate] = {}
    settings: dict[Setting, None] = {}
    shared: list[tuple[Setting, str, str, Estimate]] = []
    for key, arm, metric, *row in zip(keys, arms, part["metric"], *numbers, strict=True):
        x = _estimate(*row)
        if any(text in texts for text, texts in zip(key, open_values, strict=True)):
            shared.append((key, arm, metric, x))
            continue
        settings.setdefault(key)
        if x.value is not None:
            cells.setdefault((key, arm, metric), x)
    for key, arm, metric, x in shared:
        for setting in settings:
            fits = all(k == s or k in texts for k, s, texts in zip(key, setting, open_values, strict=True))
            if fits and x.value is not None:
                cells.setdefault((setting, arm, metric), x)
    options = {axis: _sorted(dict.fromkeys(setting[i] for setting in settings)) for i, axis in enumerate(axes)}
    ranks = [{text: at for at, text in enumerate(options[axis])} for axis in axes]
    ordered = sorted(settings, key=lambda setting: [rank[text] for rank, text in zip(ranks, setting, strict=True)])
    seen = {metric for _, _, metric in cells}
    wanted = tuple(m for m in order() if m in seen) if metrics is None else tuple(metrics)
    return SweepTable(tuple(axes), options, tuple(ordered), tuple(sort_arms(arms)), wanted, cells)


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key (``intervention.alpha``: ``alpha``), or the key where two would be alike."""
    last = [axis.rpartition(".")[2] for axis in axes]
    return {axis: short if last.count(short) == 1 else axis for axis, short in zip(axes, last, strict=True)}


def number(text: str) -> float | None:
    """Return a swept value as a number, nats of ``kl:1.0``; None where it is none (``9-18``, ``null``, ``inf``)."""
    try:
        value = float(text.removeprefix(DIVERGENCE))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def console_rows(frame: pd.DataFrame, axes: Sequence[str], limit: int) -> ConsoleTable:
    """Return a sweep as a table for the terminal: the intervention's arm and its first control at each setting.

    Args:
        frame: as for `read_table`.
        axes: swept keys; the columns bear the last part of each.
        limit: rows at most; the report has all.
    """
    table = read_table(frame, axes)
    few = [metric for metric in table.metrics if metric in own_metrics()][:CONSOLE_OWN]
    others = [metric for metric in table.metrics if metric not in own_metrics()][: CONSOLE_METRICS - len(few)]
    metrics = [metric for metric in table.metrics if metric in (*few, *others)]
    names = short_names(axes)
    columns = [*(names[axis] for axis in axes), "arm", *metrics]
    if not table.arms:
        return ConsoleTable(columns, [])
    first = [table.main_arm(), *table.interventions()]
    rows: list[list[object]] = []
    for setting in table.settings:  # where interventions are swept, each setting has an arm of its own
        named = [arm for arm in first if arm in setting]
        main = next(
            (arm for arm in (*named, *first) if any(table.get(setting, arm, metric) for metric in metrics)), first[0]
        )
        for arm in (main, *table.controls(main)[:1]):
            found = [table.get(setting, arm, metric) for metric in metrics]
            if any(found):  # a job without this arm has nothing to say in its row
                rows.append([*setting, arm, *("-" if x is None else x for x in found)])
    return ConsoleTable(columns, rows[:limit])


def _texts(part: pd.DataFrame, axis: str) -> list[str]:
    if axis not in part:
        return ["null"] * len(part)
    return [_text(value) for value in part[axis]]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, float):
        return f"{value:.12g}"  # 0.1 + 0.2 is typed 0.3
    return str(value).strip()


def _open_values(texts: list[str], arms: list[str]) -> set[str]:
    """Return what stands for "no value of its own" on an axis: null or a list, unless an edited arm has it too."""
    edited = {text for text, arm in zip(texts, arms, strict=True) if arm not in REFERENCES}
    if not edited:
        return set()
    return {text for text in texts if (text == "null" or text.startswith("[")) and text not in edited}


def _sorted(texts: Iterable[str]) -> tuple[str, ...]:
    given = list(texts)
    sizes = {text: size for text in given if (size := number(text)) is not None}
    return tuple(sorted(given, key=lambda text: sizes[text]) if len(sizes) == len(given) else given)


def _estimate(value: float, lo: float, hi: float, n: float) -> Estimate:
    if not math.isfinite(value):
        return Estimate(None, None, None, 0)
    size = int(n) if math.isfinite(n) else 0
    if math.isfinite(lo) and math.isfinite(hi):
        return Estimate(value, lo, hi, size)
    return Estimate(value, None, None, size)
