"""Figures over arms and strengths: the headline of a run, and how its strength was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emo.core.stats import Estimate
from emo.report.plots.theme import (
    BESIDE,
    FAINT,
    INK,
    OTHERS,
    SHAPES,
    arm_colours,
    drawing,
    footnote,
    grid,
    metric_label,
    need,
    ratio_axis,
)
from emo.results.arm_order import sort_arms

NOT_CHECKED = "#B0B0B0"
Row = Mapping[str, Any]


def arms_figure(arms: Mapping[str, Mapping[str, Estimate]], metrics: Sequence[str], title: str, path: Path) -> Path:
    """Draw one panel per metric: a dot with its 95 % interval for each arm (the headline figure of a run).

    Args:
        arms: arm -> metric key -> estimate; a metric that an arm lacks is written as not measured.
        metrics: panels, in order; units come from the metric's key.
        title: what is compared, on what.
        path: PNG to write.

    Raises:
        ValueError: no arm or no metric.
    """
    need("arms_figure", arms and metrics)
    names, colours = sort_arms(arms), arm_colours(arms)
    columns = len(metrics) if len(metrics) <= 2 else 2
    rows = -(-len(metrics) // columns)
    with drawing(path, title, 1.0 + rows * (0.85 + 0.3 * len(names))) as figure:
        for axes, metric in zip(grid(figure, len(metrics), columns, sharey=True), metrics, strict=True):
            _arm_panel(axes, names, [arms[name].get(metric) for name in names], colours, metric)
        footnote(figure, "Bars: 95 % bootstrap interval over scenarios or groups; hollow: none. Dotted: no effect.")
    return path


def _arm_panel(
    axes: Axes, names: list[str], estimates: list[Estimate | None], colours: dict[str, str], metric: str
) -> None:
    label, neutral = metric_label(metric)
    for y, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
        if estimate is None or estimate.value is None:
            where = axes.get_yaxis_transform()  # x in shares of the panel, y in arms
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.text(0.5, y, "not measured", transform=where, ha="center", va="center", color=FAINT, bbox=box)
            continue
        lo, hi = estimate.lo, estimate.hi
        colour = face = colours[name]
        if lo is None or hi is None:
            face = "white"
        else:
            axes.plot([lo, hi], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(estimate.value, y, "o", markersize=7, color=colour, markerfacecolor=face)
    known = [e for e in estimates if e is not None and e.value is not None]
    ends = [x for e in known for x in e[:3] if x is not None]
    if ratio_axis(axes, "x", metric, ends):
        label = f"{label}, log scale"
    if neutral is not None:
        axes.axvline(neutral, color=INK, linewidth=1, linestyle=":")
    if not known:
        axes.set_xticks([])
    axes.margins(x=0.08)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    sizes = sorted({e.n for e in known})
    if sizes:
        n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        axes.set_title(f"{metric}, n = {n}", loc="left")
    else:
        axes.set_title(metric, loc="left")


def selection_figure(
    rows: Sequence[Row], title: str, path: Path, metric: str = "logprob_margin", what: str = "strength alpha"
) -> Path:
    """Draw how a strength was chosen: margin against alpha, one line per layer range, with the damage below.

    Args:
        rows: one per setting tried: ``alpha`` (in units of the dose), ``layers`` (name of the range),
            ``score`` with ``lo`` and ``hi`` (in the unit of ``metric``), ``degenerate`` (share of
            replies), ``ppl_ratio`` (to unedited replies), ``feasible`` (True: within the damage bound, False:
            breaks it, None: not checked) and ``chosen``. Any number may be None.
        title: model, emotion or split, and n.
        path: PNG to write.
        metric: what ``score`` is.
        what: name of the strength.

    Raises:
        ValueError: no rows.
    """
    need("selection_figure", rows)
    ranges = list(dict.fromkeys(str(row["layers"]) for row in rows))
    damage = [key for key in ("degenerate", "ppl_ratio") if any(row.get(key) is not None for row in rows)]
    ratios = [3.0, *([1.3] * len(damage))]
    with drawing(path, title, 3.9 + 1.4 * len(damage)) as figure:
        axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios).ravel()
        axes[0].axhline(0, color=INK, linewidth=1, linestyle=":")
        for i, name in enumerate(ranges):
            own = [row for row in rows if str(row["layers"]) == name]
            own.sort(key=lambda row: float(row["alpha"]))
            for panel, key in zip(axes, ("score", *damage), strict=True):
                _range_line(panel, own, key, OTHERS[i % len(OTHERS)], SHAPES[i % len(SHAPES)])
        axes[0].set_ylabel(metric_label(metric)[0].replace(" (", "\n("))
        for panel, key in zip(axes[1:], damage, strict=True):
            panel.set_ylabel(metric_label(key)[0].replace(" (", "\n("))
            panel.margins(y=0.15)
        _alpha_axis(axes[-1], sorted({float(row["alpha"]) for row in rows}), f"{what} (units of the dose)")
        axes[0].legend(handles=_selection_keys(ranges, rows), **BESIDE)
        footnote(figure, "Bars: 95 % bootstrap interval over scenarios or groups.")
    return path


def _range_line(axes: Axes, rows: list[Row], key: str, colour: str, shape: str) -> None:
    seen = [row for row in rows if row.get(key) is not None]
    alphas, values = [row["alpha"] for row in seen], [row[key] for row in seen]
    axes.plot(alphas, values, color=colour, linewidth=1.2, alpha=0.6)
    for row in seen:
        x, y = row["alpha"], row[key]
        if key == "score" and row.get("lo") is not None and row.get("hi") is not None:
            axes.plot([x, x], [row["lo"], row["hi"]], color=colour, linewidth=1.2, alpha=0.6)
        edge = NOT_CHECKED if row["feasible"] is None else colour
        face = {True: colour, False: "white", None: NOT_CHECKED}[row["feasible"]]
        axes.plot(x, y, shape, markersize=7, markeredgecolor=edge, markerfacecolor=face, zorder=3)
        if row["chosen"]:
            axes.plot(x, y, "*", markersize=19, markeredgecolor="black", markerfacecolor=colour, zorder=4)


def _alpha_axis(axes: Axes, tried: list[float], label: str) -> None:
    """Tick what was tried; a logarithmic axis where the strengths span it, so that small ones stay apart."""
    if len(tried) > 2 and tried[0] > 0 and tried[-1] >= 8 * tried[0]:
        axes.set_xscale("log")
        label = f"{label}, log scale"
    axes.xaxis.set_major_locator(FixedLocator(tried))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.margins(x=0.08)
    axes.set_xlabel(label)


def _selection_keys(ranges: list[str], rows: Sequence[Row]) -> list[Line2D]:
    def key(label: str, **style: Any) -> Line2D:
        defaults: dict[str, Any] = {"linestyle": "none", "markersize": 7}
        return Line2D([], [], **(defaults | style), label=label)

    keys = [
        key(f"layers {name}", color=OTHERS[i % len(OTHERS)], marker=SHAPES[i % len(SHAPES)], linestyle="-")
        for i, name in enumerate(ranges)
    ]
    states = {row["feasible"] for row in rows}
    if False in states:
        keys.append(key("breaks the damage bound", marker="o", markeredgecolor=INK, markerfacecolor="white"))
    if None in states:
        keys.append(key("not checked", marker="o", color=NOT_CHECKED))
    if any(row["chosen"] for row in rows):
        keys.append(key("chosen", marker="*", color="black", markerfacecolor="white", markersize=15))
    return keys
