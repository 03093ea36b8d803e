"""A sweep along one number: outcomes against the swept value, one line per arm."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from emo.config.values import asks_divergence
from emo.core.frames import pd
from emo.core.metrics import BOUNDS
from emo.core.stats import Estimate
from emo.report.plots.theme import (
    FAINT,
    INK,
    SHAPES,
    WIDTH,
    arm_colours,
    drawing,
    metric_label,
    need,
    ratio_axis,
    spans_decades,
)
from emo.report.sweep_table import REFERENCES, Setting, SweepTable, number, read_table, short_names

MAX_METRICS = 6  # panels of one setting that a page still shows at a readable size
SIDE_BY_SIDE = 4  # combinations of other axes that stand beside each other
MAX_PANELS = 36  # small multiples; beyond that a figure is no longer looked at
DASHES = {"none": "--", "prompt": "-."}
BOUND = "#A84A00"  # colour of a damage bound
DIGIT = 0.085  # inches that a character of a tick label takes
# Swept key -> what it is, with its unit; other keys are their own label.
UNITS = {
    "model.revision": "training step",
    "intervention.alpha": "strength alpha (units of the dose)",
    "intervention.layers": "layers edited",
    "intervention.k": "k (units edited)",
    "intervention.scale": "scale lambda",
    "intervention.decay": "strength decay (factor per token)",
    "dataset.limit": "scenarios per split",
    "generation.max_new_tokens": "reply length at most (tokens)",
    "control.seeds": "draws per control",
}


class Panel(NamedTuple):
    """One panel of a figure: which settings, which metric, and its headings."""

    settings: list[Setting]
    metric: str
    title: str
    ylabel: str


def sweep_curves(
    frame: pd.DataFrame, axis: str, axes: Sequence[str], metrics: Sequence[str], title: str, path: Path
) -> Path:
    """Draw metrics against a swept number, one line with its 95 % band per arm; none and prompt are reference lines.

    With one setting of the other axes there is one panel per metric. Up to four settings of the others stand side
    by side, one row per metric, so that equal metrics share their scale. More get one panel each (36 at most), on
    the first metric.

    Args:
        frame: the sweep's results (see `emo.report.sweep_table.read_table`).
        axis: swept key on the x axis; its values are numbers, in the unit of the key; others are left out.
        axes: all swept keys, ``axis`` among them.
        metrics: metric keys, the main one first; six are drawn. Units come from the key.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    table = read_table(frame, axes, metrics[:MAX_METRICS])
    need("sweep_curves", table.settings and metrics)
    others = [name for name in axes if name != axis]
    combinations = table.combinations(others)
    columns, panels = _panels(table, combinations, others)
    rows = -(-len(panels) // columns)
    arms = measured_arms(table)
    values = [x for text in table.options[axis] if (x := number(text)) is not None]
    several = len(combinations) > 1
    wide = len(combinations) > SIDE_BY_SIDE  # one metric: one scale for all
    share: dict[str, Any] = {"sharex": True, "sharey": "all" if wide else "row" if several else "none"}
    with drawing(path, title, 1.5 + rows * (2.35 if columns <= 2 else 1.95)) as figure:
        cells = list(figure.subplots(rows, columns, squeeze=False, **share).ravel())
        for spare in cells[len(panels) :]:
            spare.set_axis_off()
        for i, (cell, panel) in enumerate(zip(cells, panels, strict=False)):
            _curves(cell, table, panel, table.axes.index(axis), arms)
            number_axis(cell, values, 0.8 * WIDTH / columns)
            cell.set_title(panel.title, loc="left", fontsize=10 if columns < SIDE_BY_SIDE else 9)
            if i % columns == 0 or not several:
                cell.set_ylabel(panel.ylabel)
            if i + columns >= len(panels):  # the lowest of its column
                cell.tick_params(labelbottom=True)
                cell.set_xlabel(_axis_label(_told(axis, table.options[axis]), values, columns))
        legend(figure, arms, _remarks(table, panels, len(combinations)))
    return path


def _panels(
    table: SweepTable, combinations: dict[Setting, list[Setting]], others: list[str]
) -> tuple[int, list[Panel]]:
    """Return the number of columns and the panels, row by row."""
    if len(combinations) == 1:
        [settings] = combinations.values()
        panels = [Panel(settings, metric, metric, _metric_axis(table, metric)) for metric in table.metrics]
        return min(2, len(panels)), panels
    beside = len(combinations) <= SIDE_BY_SIDE
    names = short_names(others)
    varying = [i for i, axis in enumerate(others) if axis in table.varying()]
    last = len(table.options[others[varying[-1]]])  # one column each where they fit: the panels line up
    columns = len(combinations) if beside else last if 2 <= last <= SIDE_BY_SIDE else 3
    return columns, [
        Panel(
            settings, metric, _heading([(names[others[i]], key[i]) for i in varying], columns),
            _metric_axis(table, metric),
        )
        for metric in (table.metrics if beside else table.metrics[:1])
        for key, settings in list(combinations.items())[:MAX_PANELS]
    ]  # fmt: skip


def measured_arms(table: SweepTable) -> list[str]:
    """Return the arms with at least one value, in the order of every figure."""
    measured = {arm for _, arm, _ in table.cells}
    return [arm for arm in table.arms if arm in measured]


def arm_shapes(arms: Sequence[str]) -> dict[str, str]:
    """Marker of each arm, a second channel beside its colour; the first arm that is no reference has a dot."""
    order = sorted(arms, key=lambda arm: arm in REFERENCES)
    # Shifted where it repeats: colours repeat after as many, and a pair of both would not tell arms apart.
    return {arm: SHAPES[(i + i // len(SHAPES)) % len(SHAPES)] for i, arm in enumerate(order)}


def _metric_axis(table: SweepTable, metric: str) -> str:
    log = "\nlog scale" if spans_decades(metric, ends_of(table, metric)) else ""
    return metric_lines(metric) + log


def metric_lines(metric: str) -> str:
    """Return the label of a metric in short lines: panels are lower than their labels are long."""
    name, bracket, unit = metric_label(metric)[0].partition(" (")
    return "\n".join([*_balanced(name), *_balanced(bracket.strip() + unit)])


def _balanced(text: str) -> list[str]:
    return [text] if 0 < len(text) <= 24 else textwrap.wrap(text, len(text) // 2 + 4)


def _told(axis: str, texts: Sequence[str]) -> str:
    """Return what an axis is called: strengths that were found have the unit of their divergence."""
    return f"{axis} (KL, nats)" if any(map(asks_divergence, texts)) else UNITS.get(axis, axis)


def _axis_label(told: str, values: list[float], columns: int) -> str:
    label = told + (", log scale" if _logarithmic(values) else "")
    if columns > 2:
        label = label.replace(" (", "\n(")
    return label.replace("), ", "),\n") if columns > 1 else label


def ends_of(table: SweepTable, metric: str) -> list[float]:
    """Return all values and interval ends of a metric, in its unit."""
    return [y for (_, _, m), e in table.cells.items() if m == metric for y in e[:3] if y is not None]


def _heading(parts: list[tuple[str, str]], columns: int) -> str:
    """Write ``model=a``, ``layers=9-18`` as lines that fit above a panel."""
    width = 96 // columns - 4
    lines = []
    for name, value in parts:
        text = clean(f"{name}={value}")
        lines += [text] if len(text) <= width else [clean(f"{name}="), *textwrap.wrap(clean(value), width)[:2]]
    return "\n".join(lines)


def clean(text: str) -> str:
    """Replace characters that have no glyph (controls, half surrogate pairs): they would stop the drawing."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _curves(axes: Axes, table: SweepTable, panel: Panel, where: int, arms: list[str]) -> None:
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    empty = True
    for arm in arms:
        found = [(number(s[where]), table.get(s, arm, panel.metric)) for s in panel.settings]
        points = [(x, e) for x, e in found if x is not None and e is not None]
        if arm in REFERENCES and _flat([e for _, e in points]):
            _reference(axes, points[0][1], colours[arm], arm)
        elif points:
            _line(axes, points, colours[arm], shapes[arm], arm)
        empty = empty and not points
    if empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    guides(axes, panel.metric, ends_of(table, panel.metric))


def guides(axes: Axes, metric: str, ends: Sequence[float]) -> None:
    """Scale and tick the y axis of a metric whose values end at ``ends``; mark no effect, and the bound if reached."""
    neutral = metric_label(metric)[1]
    if neutral is not None:
        axes.axhline(neutral, color=INK, linewidth=1, linestyle=":", zorder=1)
    if not ratio_axis(axes, "y", metric, ends):
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))  # left to itself, a low panel has two
    bound = BOUNDS.get(metric)
    if bound is not None and ends and max(ends) > bound:
        axes.axhline(bound, color=BOUND, linewidth=1, linestyle=(0, (6, 2, 1, 2)), zorder=1)


def _flat(estimates: list[Estimate]) -> bool:
    values = [e.value for e in estimates if e.value is not None]
    return bool(values) and math.isclose(min(values), max(values), rel_tol=1e-6, abs_tol=1e-12)


def _reference(axes: Axes, estimate: Estimate, colour: str, arm: str) -> None:
    """Draw an arm that the axis does not change."""
    if estimate.value is None:
        return
    axes.axhline(estimate.value, color=colour, linewidth=1.6, linestyle=DASHES[arm], zorder=2)
    if estimate.lo is not None and estimate.hi is not None:
        axes.axhspan(estimate.lo, estimate.hi, color=colour, alpha=0.07, linewidth=0, zorder=0)


def _line(axes: Axes, points: list[tuple[float, Estimate]], colour: str, shape: str, arm: str) -> None:
    ends = [[math.nan if y is None else y for y in e[:3]] for _, e in points]
    mean, lo, hi = zip(*ends, strict=True)
    band_line(axes, [x for x, _ in points], (mean, lo, hi), colour, linestyle=DASHES.get(arm, "-"), marker=shape)


def band_line(axes: Axes, xs: Sequence[float], band: Sequence[Sequence[float]], colour: str, **style: Any) -> None:
    """Draw one arm: a line with its band.

    Args:
        axes: where.
        xs: (m,) places.
        band: mean, lo and hi, each (m,), in the unit of the axis; nan leaves a gap.
        colour: of all of it.
        style: of the line, as matplotlib's ``plot`` takes it.
    """
    mean, lo, hi = band
    axes.plot(xs, mean, **({"markersize": 5.5, "linewidth": 1.7, "zorder": 3} | style), color=colour)
    axes.fill_between(xs, lo, hi, color=colour, alpha=0.14, linewidth=0, zorder=1)
    if len(xs) <= 10:  # a lone point has no band; many bars would be a band again
        axes.vlines(xs, lo, hi, color=colour, linewidth=1.2, alpha=0.8, zorder=2)


def _logarithmic(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def number_axis(axes: Axes, values: list[float], width: float) -> None:
    """Scale and tick the x axis, ``width`` inches long, at ``values``; of those that stand too close, only some."""
    place = math.log if _logarithmic(values) else float
    if _logarithmic(values):
        axes.set_xscale("log")
    ticks = fitting_ticks(values, [place(x) for x in values], [f"{x:g}" for x in values], width)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.margins(x=0.06)


def fitting_ticks(values: Sequence[float], places: Sequence[float], labels: Sequence[str], width: float) -> list[float]:
    """Return those of the rising ``values`` whose ``labels`` fit side by side at ``places`` along ``width`` inches."""
    length = (places[-1] - places[0]) or 1.0
    widest = max(map(len, labels)) if len(values) > 10 else 0  # many: ticks at equal distances
    kept: list[int] = []
    for i, label in enumerate(labels):
        gap = DIGIT * (max(widest, len(label), *(len(labels[k]) for k in kept[-1:])) + 1) / width * length
        if kept and places[i] - places[kept[-1]] < gap:
            if i == len(values) - 1 and len(kept) > 1:
                kept[-1] = i  # the largest value is worth more than its neighbour
            continue
        kept.append(i)
    return [values[i] for i in kept]


def legend(figure: Figure, arms: list[str], remark: str, lines: bool = True) -> None:
    """Write the keys of the arms below the panels, under a small grey remark.

    Args:
        figure: where.
        arms: those drawn.
        remark: what bars and lines mean.
        lines: arms are drawn as lines, references without markers; False: as dots.
    """
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    keys = []
    for arm in arms:
        style: dict[str, Any] = {"marker": shapes[arm], "linestyle": "-" if lines else "none"}
        if lines and arm in REFERENCES:
            style = {"linestyle": DASHES[arm]}
        keys.append(Line2D([], [], color=colours[arm], label=arm, **style))
    fit = 90 // (8 + max(map(len, arms), default=0))  # keys that stand side by side
    # One box for both: a legend outside the panels and a footnote would be laid over each other.
    box = figure.legend(
        handles=keys, loc="outside lower left", ncols=max(1, min(fit, len(keys))),
        title=remark, title_fontsize=9, alignment="left",
    )  # fmt: skip
    box.get_title().set_color(FAINT)


def interval_remark(table: SweepTable) -> str:
    """Say what bars are, and on how many values."""
    sizes = sorted({x.n for x in table.cells.values() if x.n})
    n = f", n = {sizes[0]}" if len(sizes) == 1 else f", n = {sizes[0]} to {sizes[-1]}" if sizes else ""
    return f"95 % bootstrap interval over scenarios or groups{n}. Dotted: no effect."


def _remarks(table: SweepTable, panels: list[Panel], count: int) -> str:
    said = f"Bands and bars: {interval_remark(table)}"
    if any(panel.metric in BOUNDS for panel in panels):
        said += " Orange: damage bound, where reached."
    if count > MAX_PANELS:
        said += f"\nThe first {MAX_PANELS} of {count} combinations."
    return said
