"""The figures of a sweep, chosen by what was swept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emo.core.frames import pd
from emo.report.plots.sweep_cells import sweep_dots, sweep_heat
from emo.report.plots.sweep_curves import SIDE_BY_SIDE, clean, sweep_curves
from emo.report.sweep_table import SweepTable, read_table, short_names
from emo.results.training_steps import with_steps

__all__ = ["draw_sweep", "sweep_curves", "sweep_dots", "sweep_heat"]

Figure = tuple[Path, str]


def draw_sweep(frame: pd.DataFrame, axes: Sequence[str], title: str, folder: Path) -> list[Figure]:
    """Write the figures that a sweep needs; returns (path, caption), the overview first.

    Two swept keys give a heat map; a swept number gives curves (of several, the first of two, else the one with
    most values); names alone give dots. A key with one value is not drawn along, and a sweep in which nothing
    varies, or nothing was measured, has no figure.

    Args:
        frame: the sweep's results (see `emo.report.sweep_table.read_table`).
        axes: swept keys, in order.
        title: what was swept, on what; begins every figure's title.
        folder: where the PNG files go; made if it is not there.
    """
    frame = with_steps(frame, axes)
    table = read_table(frame, axes)
    varying = table.varying()
    if not varying or not table.metrics:
        return []
    title = clean(title)
    figures: list[Figure] = []
    if len(varying) == 2 and any(arm == table.main_arm() for _, arm, _ in table.cells):
        figures.append(_heat(frame, table, title, folder))
    numeric = [axis for axis in varying if table.numeric(axis)]
    if not numeric:
        path = sweep_dots(frame, axes, table.metrics, title, folder / "sweep_dots.png")
        return [*figures, (path, "Every arm at every setting; bars are 95 % intervals over scenarios or groups.")]
    along = numeric[0] if len(varying) <= 2 else max(numeric, key=lambda axis: len(table.options[axis]))
    name = short_names(axes)[along]
    path = sweep_curves(frame, along, axes, table.metrics, f"{title}: along {clean(name)}", folder / "sweep_curves.png")
    return [*figures, (path, _curve_caption(table, along))]


def _heat(frame: pd.DataFrame, table: SweepTable, title: str, folder: Path) -> Figure:
    # Numbers run from left to right; of two names the longer stand at the left, where there is room.
    across, down = sorted(table.varying(), key=lambda axis: 0 if table.numeric(axis) else _longest(table, axis))
    arm = table.main_arm()
    shown = [m for m in table.metrics if any(a == arm and metric == m for _, a, metric in table.cells)]
    path = sweep_heat(frame, (across, down), arm, shown, f"{title}: arm {arm}", folder / "sweep_heat.png")
    return path, (
        f"Means of arm {arm} at every setting. Red and blue lie on either side of the metric's neutral value; "
        "one-sided metrics and those without a neutral value run from dark to light."
    )


def _longest(table: SweepTable, axis: str) -> int:
    return max(len(text) for text in table.options[axis])


def _curve_caption(table: SweepTable, along: str) -> str:
    others = [axis for axis in table.axes if axis != along]
    several = len(table.combinations(others)) > SIDE_BY_SIDE
    what = f"{table.metrics[0]} of every arm" if several else "Every arm"
    flat = "none and prompt are level where the swept number does not touch them"
    return f"{what} along {along}; {flat}. Bands are 95 % intervals over scenarios or groups."
