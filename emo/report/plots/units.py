"""Curves over the number of edited units (methods 1.8): delta-s by emotion, and outcomes side by side.

Shape letters: m numbers of units; f neurons and h heads of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from emo.core.metrics import BOUNDS
from emo.report.plots.sweep_curves import arm_shapes, band_line, fitting_ticks, guides, legend, metric_lines
from emo.report.plots.theme import FAINT, WIDTH, arm_colours, drawing, grid, need, spans_decades
from emo.results.arm_order import sort_arms

UNITS_EDITED = "k (units edited)"
BANDS = "Bands and bars: 95 % bootstrap interval over scenarios. Dotted: no effect."

Curve = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]  # k (m,), then mean, lo and hi (m,)
Curves = Mapping[str, Curve]  # by arm


def k_curves(
    curves: Mapping[str, Curves],
    names: Sequence[str],
    units: int,
    title: str,
    path: Path,
    metric: str = "delta_s",
    broken: Mapping[str, Iterable[float]] | None = None,
) -> Path:
    """Draw delta-s against the number of edited units, one panel per emotion, target and controls as lines.

    Args:
        curves: emotion -> arm -> (k (m,), mean (m,), lo (m,), hi (m,)); the first arm of all is the target and
            stands in front. k may be 0; nan leaves a gap.
        names: emotions in the order of the panels; those without curves are left out.
        units: f or h, what k is counted from; the upper axis shows k / units.
        title: model, what is edited, and n.
        path: PNG to write.
        metric: what is drawn; its key gives the axis its unit.
        broken: emotion -> numbers k at which the model breaks. These points are hollow and do not stretch the
            axis: where they lie beyond it they stand at its edge.

    Raises:
        ValueError: no curve.
    """
    shown = [name for name in names if curves.get(name)]
    need("k_curves", shown)
    arms = _target_first(curves[name] for name in shown)
    ks = _numbers(curves[name] for name in shown)
    columns = min(3, len(shown))
    rows, width = -(-len(shown) // columns), 0.72 * WIDTH / columns
    with drawing(path, title, 1.9 + 0.22 * -(-len(arms) // 3) + 2.3 * rows) as figure:
        panels = grid(figure, len(shown), columns, sharex=True)
        for i, (axes, name) in enumerate(zip(panels, shown, strict=True)):
            hollow = set((broken or {}).get(name, ()))
            _draw(axes, curves[name], arms, metric, hollow)
            ticks = _k_axis(axes, ks, width)
            axes.set_title(name, loc="left", fontweight="bold")
            axes.tick_params(labelbottom=i + columns >= len(shown))
            if i % columns == 0:
                axes.set_ylabel(metric_lines(metric))
            if i + columns >= len(shown):
                axes.set_xlabel(UNITS_EDITED)
        for axes in panels[:columns]:
            _share_axis(axes, ks, ticks, units, width)
        said = f"{BANDS} Thick: {arms[0]}."
        if any((broken or {}).get(name) for name in shown):
            said += "\nHollow: the model breaks; a value beyond the axis stands at its edge."
        figure.align_ylabels(panels)
        legend(figure, arms, said)
    return path


def small_multiples(
    curves: Mapping[str, Curves],
    title: str,
    path: Path,
    xlabel: str = UNITS_EDITED,
    defined: Sequence[str] = (),
) -> Path:
    """Draw several metrics against one number, a panel each: signs of failure, or outcomes of one intervention.

    Args:
        curves: metric key (or a label of its own, with its unit) -> arm -> (k (m,), mean (m,), lo (m,), hi (m,));
            the first arm of all is the target and stands in front. A metric without a value has no panel.
        title: model, intervention, and n.
        path: PNG to write.
        xlabel: what k is, with its unit.
        defined: metrics that the edited direction itself defines. If there are any, every panel says whether it is
            one: agreement counts only between those that are and those that are not (methods 1.8).

    Raises:
        ValueError: no value.
    """
    shown = {metric: kept for metric, own in curves.items() if (kept := _measured(own))}
    need("small_multiples", shown)
    arms, ks = _target_first(shown.values()), _numbers(shown.values())
    columns = 2 if len(shown) <= 4 else 3
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    with drawing(path, title, 1.5 + 0.22 * -(-len(arms) // 3) + rows * (2.5 if columns <= 2 else 2.1)) as figure:
        panels = grid(figure, len(shown), columns, sharex=True)
        for i, (axes, (metric, own)) in enumerate(zip(panels, shown.items(), strict=True)):
            ends = _draw(axes, own, arms, metric, set())
            _k_axis(axes, ks, 0.68 * WIDTH / columns)
            axes.set_ylabel(metric_lines(metric) + ("\nlog scale" if spans_decades(metric, ends) else ""))
            if defined:
                axes.set_title(f"{'' if metric in defined else 'not '}defined by v", loc="left")
            axes.tick_params(labelbottom=i + columns >= len(shown))
            if i + columns >= len(shown):
                axes.set_xlabel(xlabel)
        bound = "\nOrange: damage bound, where reached." if any(metric in BOUNDS for metric in shown) else ""
        figure.align_ylabels(panels)
        legend(figure, arms, f"{BANDS} Thick: {arms[0]}.{bound}")
    return path


def _measured(curves: Curves) -> Curves:
    return {arm: curve for arm, curve in curves.items() if np.isfinite(np.asarray(curve[1], dtype=float)).any()}


def _target_first(panels: Iterable[Curves]) -> list[str]:
    target, *rest = dict.fromkeys(arm for own in panels for arm in own)
    return [target, *sort_arms(rest)]


def _numbers(panels: Iterable[Curves]) -> list[float]:
    return sorted({float(k) for own in panels for curve in own.values() for k in np.asarray(curve[0]).ravel()})


def _draw(axes: Axes, curves: Curves, arms: Sequence[str], metric: str, hollow: set[float]) -> list[float]:
    """Draw the arms of a panel; returns the values and interval ends that are not broken, the reach of its y axis."""
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    lines = {arm: np.array([np.asarray(x, dtype=float) for x in curves[arm]]) for arm in arms if arm in curves}
    for arm, line in lines.items():
        target = arm == arms[0]
        ks, band = line[0], np.where(np.isin(line[0], list(hollow)), np.nan, line[1:])
        band_line(
            axes, ks.tolist(), band.tolist(), colours[arm], marker=shapes[arm], markersize=4.5 if len(ks) <= 20 else 2,
            linewidth=2.4 if target else 1.2, zorder=5 if target else 3,
        )  # fmt: skip
    ends = _ends(lines.values(), hollow) or _ends(lines.values(), set())
    guides(axes, metric, ends)
    if not ends:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    elif hollow:
        margin = 0.08 * (max(ends) - min(ends)) or 1.0
        lowest, highest = axes.set_ylim(min(ends) - margin, max(ends) + margin)
        for arm, (ks, mean, _, _) in lines.items():
            out = np.isin(ks, list(hollow))
            # Not filled: several arms may stand at one edge.
            axes.plot(
                ks[out], np.clip(mean[out], lowest, highest), shapes[arm], markersize=6, color=colours[arm],
                markerfacecolor="none", markeredgewidth=1.5, clip_on=False, zorder=6,
            )  # fmt: skip
    return ends


def _ends(lines: Iterable[np.ndarray], hollow: set[float]) -> list[float]:
    kept = [line[1:, ~np.isin(line[0], list(hollow))].ravel() for line in lines]
    return [float(y) for values in kept for y in values if np.isfinite(y)]


def _k_axis(axes: Axes, ks: list[float], width: float) -> list[float]:
    """Scale and tick the x axis, ``width`` inches long; returns its ticks."""
    _scale(axes, ks)
    shown = ks
    if len(ks) > 10 and axes.get_xscale() == "symlog":
        first = next(k for k in ks if k > 0)
        shown = [k for k in ks if k == 0 or math.log2(k / first).is_integer()]
    ticks = _fitting(axes, {k: f"{k:g}" for k in shown}, width)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.margins(x=0.06)
    return ticks


def _fitting(axes: Axes, labels: Mapping[float, str], width: float) -> list[float]:
    ks = list(labels)
    places = axes.xaxis.get_transform().transform(np.array(ks)).tolist()
    return fitting_ticks(ks, places, list(labels.values()), width) if ks else []


def _scale(axes: Axes, ks: list[float]) -> None:
    """Give numbers that span more than a factor of ten a scale on which doubling is a step, and 0 has a place."""
    first = next((k for k in ks if k > 0), 1.0)
    if ks[0] >= 0 and ks[-1] > 10 * first:
        # linscale: from 0 to the first k it is as far as from there to its double.
        axes.set_xscale("symlog", base=2, linthresh=first, linscale=0.5)


def _share_axis(axes: Axes, ks: list[float], ticks: list[float], units: int, width: float) -> None:
    """Write k / units above a panel whose x axis has its final limits."""
    top = axes.twiny()
    _scale(top, ks)
    top.set_xlim(axes.get_xlim())
    top.grid(visible=False)
    top.spines["top"].set_visible(True)
    shares = {k: f"{float(f'{100 * k / units:.2g}'):g}" for k in ticks if k > 0}
    kept = _fitting(top, shares, width)
    top.set_xticks(kept, [shares[k] for k in kept], fontsize=9, color=FAINT)
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel(f"k / {units:,} (%)", fontsize=9, color=FAINT)
