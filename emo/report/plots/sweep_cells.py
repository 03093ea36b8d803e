"""A sweep over two keys as heat maps, and one over names as dots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emo.core.frames import pd
from emo.core.metric_keys import metric_parts
from emo.core.metrics import BOUNDS
from emo.core.stats import Estimate
from emo.report.plots.sweep_curves import (
    BOUND,
    MAX_METRICS,
    MAX_PANELS,
    UNITS,
    arm_shapes,
    clean,
    ends_of,
    interval_remark,
    legend,
    measured_arms,
    metric_lines,
)
from emo.report.plots.theme import (
    FAINT,
    INK,
    WIDTH,
    arm_colours,
    drawing,
    footnote,
    grid,
    metric_label,
    need,
    ratio_axis,
    spans_decades,
)
from emo.report.sweep_table import Best, Setting, SweepTable, read_table, short_names

ONE_SIDED = ("degenerate", "refusal", "kl")  # nothing lies below their neutral value: a diverging map has no use
MAX_HEIGHT = 18.0  # inches of a figure: more is no longer compared by eye
MAX_LABEL = 26  # characters of a value at an axis


def sweep_heat(
    frame: pd.DataFrame, axes_pair: tuple[str, str], arm: str, metrics: Sequence[str], title: str, path: Path
) -> Path:
    """Draw one arm's metrics over two swept keys, each cell with its number.

    Colours diverge around the metric's neutral value (on a logarithmic scale for the perplexity ratio); metrics
    without one, or with values on one side of it only, run from low to high. The best setting within the damage
    bounds is framed.

    Args:
        frame: the sweep's results (see `emo.report.sweep_table.read_table`), with no other axis that varies.
        axes_pair: swept keys (across, down).
        arm: the arm shown.
        metrics: metric keys, the main one first; as many of the first six as fit. Units come from the key.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    across, down = axes_pair
    # Damage decides which setting is framed, drawn or not.
    table = read_table(frame, (down, across), list(dict.fromkeys([*metrics[:MAX_METRICS], *BOUNDS])))
    need("sweep_heat", table.settings and metrics)
    xs, ys = table.options[across], table.options[down]
    columns = 2 if len(xs) <= 8 and len(metrics) > 1 else 1
    slanted = sum(len(_label(x)) + 2 for x in xs) > 84 / columns - 20
    below = 0.075 * max(len(_label(x)) for x in xs) if slanted else 0.2  # inches of the labels under the lowest
    height = 0.4 + min(max(1.4, (0.42 if len(ys) <= 8 else 0.3) * len(ys)), 7.0)
    shown = metrics[: min(MAX_METRICS, columns * max(1, int(MAX_HEIGHT / height)))]
    rows = -(-len(shown) // columns)
    best = table.best()
    told = best is not None and not best.alike and best.metric == shown[0]
    tied = [setting for setting, own in best.tied if own == arm] if best is not None and told else []
    turn: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    with drawing(path, title, 1.1 + below + rows * height) as figure:
        cells = grid(figure, len(shown), columns, sharex=True, sharey=True)
        for i, (cell, metric) in enumerate(zip(cells, shown, strict=True)):
            _heat(figure, cell, _matrix(table, arm, metric), metric, 0.62 * WIDTH / columns / len(xs))
            cell.set_xticks(range(len(xs)), [_label(x) for x in xs], **turn)
            cell.set_yticks(range(len(ys)), [_label(y) for y in ys])
            if i + columns >= len(shown):  # the lowest of its column
                cell.tick_params(labelbottom=True)
                cell.set_xlabel(UNITS.get(across, across))
            if i % columns == 0:
                cell.set_ylabel(UNITS.get(down, down).replace(" (", "\n("))
            for setting in tied:
                corner = (xs.index(setting[1]) - 0.5, ys.index(setting[0]) - 0.5)
                cell.add_patch(
                    Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=3, clip_on=False, zorder=5)
                )
        footnote(figure, f"Arm {arm}. Hatched: not measured.{_frame_remark(best if tied else None)}")
    return path


def _matrix(table: SweepTable, arm: str, metric: str) -> np.ndarray:
    down, across = table.axes
    found = [[table.get((y, x), arm, metric) for x in table.options[across]] for y in table.options[down]]
    return np.array([[np.nan if e is None or e.value is None else e.value for e in row] for row in found])


def _heat(figure: Figure, axes: Axes, matrix: np.ndarray, metric: str, width: float) -> None:
    """Draw one heat map; ``width`` of a cell in inches decides whether a number fits."""
    cmap, norm = _colours(matrix, metric)
    axes.patch.set(facecolor="white", edgecolor="#BBBBBB", hatch="////")
    image = axes.imshow(matrix, cmap=cmap, norm=norm, aspect="auto")
    bar = figure.colorbar(image, ax=axes, label=metric_lines(metric), aspect=14)
    bar.ax.yaxis.label.set_fontsize(9)
    neutral = metric_label(metric)[1]
    known = [*matrix[~np.isnan(matrix)], *([] if neutral is None else [neutral])]
    if known and min(known) < max(known):
        bar.ax.set_ylim(min(known), max(known))  # colours that no cell has explain nothing
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_title(metric, loc="left")
    axes.grid(visible=False)
    texts = {place: _short(value) for place, value in np.ndenumerate(matrix) if not np.isnan(value)}
    size = min(10.0, 72 * width / (0.66 * max(map(len, texts.values()), default=1)))  # points
    if size < 6:
        return
    for (i, j), text in texts.items():
        red, green, blue, _ = cmap(norm(matrix[i, j]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")


def _colours(matrix: np.ndarray, metric: str) -> tuple[mpl.colors.Colormap, Normalize]:
    neutral = metric_label(metric)[1]
    known = matrix[~np.isnan(matrix)]
    if not known.size:
        return mpl.colormaps["cividis"], Normalize(0, 1)
    low, high = float(known.min()), float(known.max())
    if neutral is None or metric_parts(metric).metric in ONE_SIDED:
        low = low if neutral is None else min(low, neutral)
        return mpl.colormaps["cividis"], Normalize(low, high if high > low else low + 1)
    if spans_decades(metric, [low, high]):  # around its neutral value, 1
        reach = max(high, 1 / low)
        return mpl.colormaps["RdBu_r"], LogNorm(1 / reach, reach)
    reach = max(high - neutral, neutral - low) or 1.0
    return mpl.colormaps["RdBu_r"], Normalize(neutral - reach, neutral + reach)


def _short(value: float) -> str:
    """Write a number in few characters: it has to fit a cell."""
    size = abs(value)
    if size >= 1e4:
        return f"{value:.0e}"
    return f"{value:z.0f}" if size >= 100 else f"{value:z.1f}" if size >= 10 else f"{value:z.2f}"


def _frame_remark(best: Best | None) -> str:
    if best is None:
        return ""
    bounds = " and ".join(f"{name} <= {bound:g}" for name, bound in BOUNDS.items())
    return f" Framed: best {best.metric}" + (f" with {bounds}." if best.checked else ", damage not measured.")


def sweep_dots(frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str], title: str, path: Path) -> Path:
    """Draw every arm at every combination of swept names (models, templates): a dot with its 95 % interval.

    Args:
        frame: the sweep's results (see `emo.report.sweep_table.read_table`).
        axes: swept keys; their values name the rows. At most 36 combinations are drawn.
        metrics: metric keys, the main one first; as many of the first six as fit. Units come from the key.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    table = read_table(frame, axes, metrics[:MAX_METRICS])
    need("sweep_dots", table.settings and metrics)
    # The jobs of an experiment differ in what they measure: rows without the main metric would be empty.
    having = [s for s in table.settings if any(table.get(s, arm, table.metrics[0]) for arm in table.arms)]
    settings = having[:MAX_PANELS]
    arms = [a for a in measured_arms(table) if any(table.get(s, a, m) for s in settings for m in table.metrics)]
    varying = [i for i, axis in enumerate(table.axes) if axis in table.varying()] or list(range(len(axes)))[:1]
    names = ["\n".join(_label(setting[i]) for i in varying) or "all" for setting in settings]
    step = max(0.13 * len(arms) + 0.14, 0.2 * len(varying))  # inches of one setting
    height = 1.0 + step * len(settings)
    columns = min(2, len(table.metrics))
    shown = table.metrics[: columns * max(1, int(MAX_HEIGHT / height))]
    rows = -(-len(shown) // columns)
    with drawing(path, title, 1.1 + rows * height) as figure:
        for i, (cell, metric) in enumerate(zip(grid(figure, len(shown), columns, sharey=True), shown, strict=True)):
            _dots(cell, table, settings, arms, metric)
            cell.set_yticks(range(len(settings)), names)
            cell.set_ylim(len(settings) - 0.5, -0.5)
            if i % columns == 0 and varying:
                short = short_names(table.axes)
                cell.set_ylabel(", ".join(clean(short[table.axes[k]]) for k in varying))
        cut = f"\nThe first {MAX_PANELS} of {len(having)} settings." if len(having) > MAX_PANELS else ""
        if len(having) < len(table.settings):
            cut += f"\n{len(having)} of {len(table.settings)} settings: the others have no {table.metrics[0]}."
        bound = " Orange: damage bound, where reached." if any(metric in BOUNDS for metric in shown) else ""
        legend(figure, arms, f"Bars: {interval_remark(table)}{bound}{cut}", lines=False)
    return path


def _dots(axes: Axes, table: SweepTable, settings: Sequence[Setting], arms: list[str], metric: str) -> None:
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    ends: list[float] = []
    for i, setting in enumerate(settings):
        if i % 2:
            axes.axhspan(i - 0.5, i + 0.5, color="#F4F4F4", linewidth=0, zorder=0)  # what belongs together
        for k, arm in enumerate(arms):
            found = table.get(setting, arm, metric)
            if found is not None:
                y = i + 0.8 * ((k + 0.5) / len(arms) - 0.5)
                _dot(axes, y, found, colours[arm], shapes[arm])
                ends += [x for x in found[:3] if x is not None]
    label, neutral = metric_lines(metric), metric_label(metric)[1]
    if neutral is not None:
        axes.axvline(neutral, color=INK, linewidth=1, linestyle=":", zorder=1)
    if ratio_axis(axes, "x", metric, ends_of(table, metric)):
        label = f"{label}, log scale"
    bound = BOUNDS.get(metric)
    if bound is not None and ends and max(ends) > bound:
        axes.axvline(bound, color=BOUND, linewidth=1, linestyle=(0, (6, 2, 1, 2)), zorder=1)
    if not ends:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    axes.margins(x=0.08)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    axes.set_title(metric, loc="left")


def _dot(axes: Axes, y: float, estimate: Estimate, colour: str, shape: str) -> None:
    if estimate.value is None:
        return
    face = "white"  # hollow: no interval
    if estimate.lo is not None and estimate.hi is not None:
        face = colour
        axes.plot([estimate.lo, estimate.hi], [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
    axes.plot([estimate.value], [y], shape, markersize=5.5, color=colour, markerfacecolor=face, zorder=3)


def _label(text: str) -> str:
    """Shorten a value in its middle: both ends of a path or a checkpoint's name tell it from others."""
    shown = clean(text)
    return shown if len(shown) <= MAX_LABEL else f"{shown[: MAX_LABEL // 2 - 1]}…{shown[-MAX_LABEL // 2 :]}"
