"""Curves of edited classes (methods 2, 3): how adaptive masking gets there, and outcomes over a share or strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from emo.report.plots.sweep_curves import DASHES, arm_shapes, band_line, guides, legend, metric_lines, number_axis
from emo.report.plots.theme import WIDTH, arm_colours, drawing, grid, need
from emo.results.arm_order import sort_arms

# Metrics of replies that are measured on texts here, and on those of the edited class.
ON_TEXTS = {
    "accuracy": "accuracy on the edited class (share of texts)",
    "logprob_margin": "log-prob. margin on the edited class (nats)",
}
CONTROLS = ("random", "other_emotion")  # thinner than what they are compared with
NONE = "none"  # the unedited model, among arms
HALO = [withStroke(linewidth=3, foreground="white")]  # what is written over lines stays readable
LINE_HEIGHT, LABEL_WIDTH, PANEL_HEIGHT = 0.15, 0.9, 1.6  # inches: of a label beside a loop, and of its panel

Ends = tuple[float | None, float | None, float | None]  # value, lo, hi; None: not measured
Points = Sequence[tuple[float | None, Mapping[str, Ends]]]


class LoopLine(NamedTuple):
    """One run of the feedback loop of adaptive masking.

    Attributes:
        arm: whose neurons: the class's own, random ones, those of another class.
        label: the class whose accuracy is to fall.
        accuracy: dev accuracy of that class after every round, in points.
        alpha: attenuation of every round, 0..1.
        tau: share of the neurons that are attenuated in every round, 0..1.
        reached: the last round's accuracy had fallen by the margin.
    """

    arm: str
    label: str
    accuracy: list[float]
    alpha: list[float]
    tau: list[float]
    reached: bool


def loop_figure(
    loops: Sequence[LoopLine], base: Mapping[str, float], names: Sequence[str], title: str, path: Path
) -> Path:
    """Draw dev accuracy over the rounds of adaptive masking, one panel per class, a line per arm and draw.

    Args:
        loops: several of one arm and class are draws of a control, and thin.
        base: class -> dev accuracy of the unedited model, in points.
        names: classes in the order of the panels; those without a loop are left out.
        title: model, dev set and n.
        path: PNG to write.

    Raises:
        ValueError: no loop of these classes, one without rounds, or numbers that do not belong together.
    """
    shown = [name for name in names if any(line.label == name for line in loops)]
    need("loop_figure", shown)
    for line in loops:
        rounds = len(line.accuracy)
        if not rounds or len(line.alpha) != rounds or len(line.tau) != rounds or line.label not in base:
            raise ValueError(f"loop_figure, {line.arm}, {line.label}: accuracy, alpha and tau per round, and a base")
    arms = sort_arms(line.arm for line in loops)
    last = max(len(line.accuracy) for line in loops)
    columns = min(3, len(shown))
    rows, width = -(-len(shown) // columns), 0.78 * WIDTH / columns
    with drawing(path, title, 2.0 + rows * 2.2) as figure:
        panels = grid(figure, len(shown), columns, sharex=True)
        for i, (axes, name) in enumerate(zip(panels, shown, strict=True)):
            _loops(axes, [line for line in loops if line.label == name], arms, base[name])
            axes.set_title(name, loc="left", fontweight="bold")
            axes.set_xlim(0.5, 0.5 + last * width / (width - LABEL_WIDTH))
            axes.set_xticks(range(1, last + 1, -(-last // 5)))
            axes.tick_params(labelbottom=i + columns >= len(shown))
            if i % columns == 0:
                axes.set_ylabel("dev accuracy of\nthe class (points)")
            if i + columns >= len(shown):
                axes.set_xlabel("round")
        figure.align_ylabels(panels)
        legend(
            figure, [NONE, *arms],
            "Every round attenuates more neurons of the arm. Filled: accuracy fell by the margin; hollow: it did not.\n"
            "Beside: α (attenuation) and τ (share of the neurons) of the last round. Thin: single draws. "
            "Dashed: unedited.",
        )  # fmt: skip
    return path


def _loops(axes: Axes, loops: Sequence[LoopLine], arms: Sequence[str], base: float) -> None:
    """Draw the lines of one class, and write beside their ends where they stopped."""
    colours, shapes = arm_colours([NONE, *arms]), arm_shapes([NONE, *arms])
    last = max(len(line.accuracy) for line in loops)
    axes.plot([0.5, last + 0.5], [base, base], DASHES[NONE], color=colours[NONE], linewidth=1.6, zorder=2)
    ends: dict[tuple[str, int, str], list[float]] = {}
    for line in loops:
        draws, rounds = sum(other.arm == line.arm for other in loops), len(line.accuracy)
        colour, end = colours[line.arm], line.accuracy[-1]
        axes.plot(
            range(1, rounds + 1), line.accuracy, color=colour, linewidth=0.9 if draws > 1 else 2.2,
            zorder=3 if draws > 1 else 4,
        )  # fmt: skip
        axes.plot(
            rounds, end, shapes[line.arm], markersize=6, color=colour,
            markerfacecolor=colour if line.reached else "white", zorder=5 if draws > 1 else 6,
        )  # fmt: skip
        ends.setdefault((line.arm, rounds, f"α {line.alpha[-1]:.2g}  τ {line.tau[-1]:.2g}"), []).append(end)
    values = [base, *(y for line in loops for y in line.accuracy)]
    room = 0.12 * max(max(values) - min(values), 1.0)
    low, high = axes.set_ylim(min(values) - room, max(values) + room)
    # Draws that stopped in one round share a label.
    places = sorted((sum(ys) / len(ys), *key) for key, ys in ends.items())
    apart = _apart([y for y, *_ in places], low, high, LINE_HEIGHT / PANEL_HEIGHT * (high - low))
    for (_, arm, rounds, told), y in zip(places, apart, strict=True):
        dark = tuple(0.65 * channel for channel in to_rgb(colours[arm]))  # letters are thinner than lines
        axes.annotate(
            told, (rounds, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            color=dark, path_effects=HALO, zorder=7,
        )  # fmt: skip


def _apart(ys: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Move the rising ``ys`` as little as it takes to stand ``gap`` apart, between low and high if they fit there."""
    # With every y lowered by its rank times the gap, they only have to rise: neighbours that do not are averaged.
    blocks: list[list[float]] = []
    for i, y in enumerate(ys):
        blocks.append([y - i * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    flat = [float(np.mean(block)) for block in blocks for _ in block]
    highest = high - (len(ys) - 0.5) * gap
    return [min(max(y, low + gap / 2), highest) + i * gap for i, y in enumerate(flat)]


def strength_figure(points: Mapping[str, Points], xlabel: str, metrics: Sequence[str], title: str, path: Path) -> Path:
    """Draw metrics against a share or a strength, one panel per metric, a line with its 95 % band per arm.

    Args:
        points: arm -> (x, metric key -> (value, lo, hi)) in any order; x None: the arm has no number, a dashed line.
        xlabel: what x is, with its unit.
        metrics: metric keys in the order of the panels; those without a value have none.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: no value.
    """
    shown = [m for m in metrics if any(_measured(own, m) for own in points.values())]
    need("strength_figure", shown)
    arms = sort_arms(arm for arm in points if any(_measured(points[arm], m) for m in shown))
    xs = sorted({x for own in points.values() for x, _ in own if x is not None})
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with drawing(path, title, 1.5 + 0.22 * -(-len(arms) // 3) + rows * {1: 3.0, 2: 2.3}[columns]) as figure:
        panels = grid(figure, len(shown), columns, sharex=True)
        for i, (axes, metric) in enumerate(zip(panels, shown, strict=True)):
            guides(axes, metric, _strengths(axes, points, metric, arms))
            if xs:
                number_axis(axes, xs, 0.7 * WIDTH / columns)
            axes.set_ylabel(metric_lines(ON_TEXTS.get(metric, metric)))
            axes.tick_params(labelbottom=i + columns >= len(shown))
            if i + columns >= len(shown):
                axes.set_xlabel(xlabel + (", log scale" if axes.get_xscale() == "log" else ""))
        figure.align_ylabels(panels)
        legend(figure, arms, "Bands and bars: 95 % bootstrap interval. Dotted: no effect. Dashed: unedited.")
    return path


def _measured(points: Points, metric: str) -> list[tuple[float | None, np.ndarray]]:
    """Return the points of a metric that have a value, x rising: (x, [value, lo, hi]) with nan for no interval."""
    found = [(x, np.array(values[metric], dtype=float)) for x, values in points if metric in values]
    return sorted(((x, ends) for x, ends in found if np.isfinite(ends[0])), key=lambda point: point[0] or 0.0)


def _strengths(axes: Axes, points: Mapping[str, Points], metric: str, arms: Sequence[str]) -> list[float]:
    """Draw the arms of one metric; returns all values and interval ends."""
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    ends: list[float] = []
    for arm in arms:
        own = _measured(points.get(arm, ()), metric)
        ends += [float(y) for _, three in own for y in three if np.isfinite(y)]
        for value, low, high in (three for x, three in own if x is None):
            axes.axhline(value, color=colours[arm], linewidth=1.6, linestyle=DASHES.get(arm, "--"), zorder=2)
            axes.axhspan(low, high, color=colours[arm], alpha=0.07, linewidth=0, zorder=0)
        line = [(x, three.tolist()) for x, three in own if x is not None]
        if line:
            band = list(zip(*(three for _, three in line), strict=True))
            thin = arm.startswith(CONTROLS)
            band_line(
                axes, [x for x, _ in line], band, colours[arm], marker=shapes[arm], markersize=4 if thin else 6,
                linewidth=1.1 if thin else 2.2, zorder=3 if thin else 4,
            )  # fmt: skip
    return ends
