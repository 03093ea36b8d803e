"""Figures over labels: accuracy by emotion and arm, where replies go, and how well the classifier knows itself.

Shape letters: e emotions, c classes (the emotions and neutral).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from emo.core.metric_keys import metric_key, metric_parts
from emo.core.stats import Estimate
from emo.core.types import NEUTRAL, OTHER
from emo.report.plots.theme import (
    ARMS,
    FAINT,
    INK,
    SHAPES,
    arm_colours,
    class_axes,
    drawing,
    footnote,
    grid,
    need,
)
from emo.results.arm_order import base_name, sort_arms

# Metric -> (its axis, classes beside the emotions that a label can be; None: it is no choice among classes).
PANELS: dict[str, tuple[str, int | None]] = {
    "accuracy": ("accuracy\n(share of replies)", 1),
    "clean_accuracy": ("clean accuracy\n(share of replies)", 1),
    "forced_accuracy": ("forced accuracy\n(share of replies)", 0),
    "match": ("match\n(share of replies)", None),
}
ALL = "all"
SPREAD = 0.8  # of the distance between two emotions, for the dots of all arms
BLUE = "#0072B2"
FEW_TEXTS = 10  # of a bin of the calibration: its share is an accident


def accuracy_figure(
    estimates: Mapping[str, Mapping[str, Estimate]],
    arms: Sequence[str],
    names: Sequence[str],
    title: str,
    path: Path,
    *,
    other: bool = False,
) -> Path:
    """Draw accuracies (and match) by target emotion, one dot with its 95 % interval per arm.

    Args:
        estimates: arm -> metric key (``accuracy``, ``accuracy/anger``) -> estimate; a metric that no arm has gets no
            panel, a value that an arm lacks no dot.
        arms: those drawn.
        names: target emotions, left to right; all of them together follow.
        title: model, set and n.
        path: PNG to write.
        other: labels can be other, beside the emotions and neutral.

    Raises:
        ValueError: no arm, or no accuracy in any.
    """
    kept = [arm for arm in sort_arms(arms) if arm in estimates]
    metrics = accuracy_metrics(estimates, kept)
    need("accuracy_figure", kept and metrics)
    colours, width = arm_colours(kept), max(map(len, kept))
    per_line = max(1, min(len(kept) + 1, 96 // (7 + width)))
    with drawing(path, title, 1.0 + 2.2 * len(metrics) + 0.25 * math.ceil((len(kept) + 1) / per_line)) as figure:
        panels = grid(figure, len(metrics), 1, sharex=True)
        for axes, metric in zip(panels, metrics, strict=True):
            beside = PANELS[metric][1]
            chance = None if beside is None else 1 / (len(names) + beside + (other and beside > 0))
            _accuracy_panel(axes, metric, {arm: estimates[arm] for arm in kept}, names, colours, chance)
        panels[-1].set_xticks(range(len(names) + 1), [*names, ALL])
        keys = [Line2D([], [], color=colours[arm], marker=_shape(arm), linestyle="none", label=arm) for arm in kept]
        keys.append(Line2D([], [], color=INK, linestyle=":", linewidth=1, label="chance"))
        box = figure.legend(
            handles=keys, loc="outside lower left", ncols=per_line, alignment="left", title_fontsize=9,
            title="Bars: 95 % bootstrap interval over scenarios; hollow: none.",
        )  # fmt: skip
        box.get_title().set_color(FAINT)
    return path


def accuracy_metrics(estimates: Mapping[str, Mapping[str, Estimate]], arms: Sequence[str]) -> list[str]:
    """Return the metrics of `accuracy_figure` that an arm has."""
    return [m for m in PANELS if any(metric_parts(key).metric == m for arm in arms for key in estimates[arm])]


def _accuracy_panel(
    axes: Axes,
    metric: str,
    estimates: Mapping[str, Mapping[str, Estimate]],
    names: Sequence[str],
    colours: Mapping[str, str],
    chance: float | None,
) -> None:
    step = min(0.14, SPREAD / len(estimates))
    for i, (arm, found) in enumerate(estimates.items()):
        for place, part in enumerate([*((name,) for name in names), ()]):
            estimate = found.get(metric_key(metric, *part))
            if estimate is None or estimate.value is None:
                continue
            x = place + step * (i - (len(estimates) - 1) / 2)
            face = colours[arm]
            if estimate.lo is None or estimate.hi is None:
                face = "white"
            else:
                axes.plot([x, x], [estimate.lo, estimate.hi], color=colours[arm], linewidth=1.8, solid_capstyle="butt")
            axes.plot(x, estimate.value, _shape(arm), markersize=5, color=colours[arm], markerfacecolor=face, zorder=3)
    if chance is not None:
        axes.axhline(chance, color=INK, linewidth=1, linestyle=":", zorder=1)
    axes.axvline(len(names) - 0.5, color=FAINT, linewidth=0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlim(-0.5, len(names) + 0.5)
    axes.set_ylabel(PANELS[metric][0])
    axes.grid(axis="x", visible=False)


def _shape(arm: str) -> str:
    """Marker of an arm, the same in every figure here: its strengths differ in colour only."""
    base = base_name(arm)
    order = list(ARMS)
    return SHAPES[order.index(base) % len(SHAPES)] if base in ARMS else SHAPES[-1]


def off_target_figure(mats: Mapping[str, ArrayLike], names: Sequence[str], title: str, path: Path) -> Path:
    """Draw where the replies of every arm go: a heat map per arm, target emotion against label (methods 4.2).

    Args:
        mats: arm -> shares of replies (e, c) in 0..1, see `emo.measure.accuracy.off_target`; nan: not judged, white.
        names: e emotions, order of rows and columns; neutral follows, then other where c = e + 2.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: no matrix, or one that is neither (e, e + 1) nor (e, e + 2), or of another shape than the first.
    """
    need("off_target_figure", mats)
    arms = sort_arms(mats)
    wide = np.shape(mats[arms[0]])[-1:] == (len(names) + 2,)
    classes = [*names, NEUTRAL, *([OTHER] if wide else [])]
    columns = min(len(arms), 2 if len(arms) <= 4 else 3)
    rows = math.ceil(len(arms) / columns)
    height = {1: 4.6, 2: 3.0, 3: 2.3}[columns] * (len(names) + 1) / (len(names) + 2)
    with drawing(path, title, 1.6 + rows * height) as figure:
        panels = grid(figure, len(arms), columns)
        for i, (axes, arm) in enumerate(zip(panels, arms, strict=True)):
            matrix = np.asarray(mats[arm], dtype=float)
            if matrix.shape != (len(names), len(classes)):
                raise ValueError(f"off_target_figure, {arm}: {matrix.shape} for {len(names)} emotions and neutral")
            image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
            size = {1: 11, 2: 8.5, 3: 7}[columns]
            for (row, column), share in np.ndenumerate(matrix):
                if not np.isnan(share):
                    ink = "white" if share > 0.55 else "black"
                    axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=ink)
            for e in range(len(names)):
                axes.add_patch(Rectangle((e - 0.5, e - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1))
            # Every panel has the same axes: they are named once, at the left and at the bottom.
            class_axes(axes, names if i % columns == 0 else None, classes if i + columns >= len(arms) else None, size)
            axes.set_title(arm, loc="left")
        figure.colorbar(image, ax=panels, label="share of replies", shrink=0.8 / max(rows - 1, 1), aspect=30)
        footnote(figure, "Rows: target emotion; columns: label. Numbers: per cent of replies. Framed: on target.")
    return path


def confusion_figure(matrix: ArrayLike, names: Sequence[str], title: str, path: Path) -> Path:
    """Draw how often a classifier mistook one class for another on held-out texts: counts, coloured by share of a row.

    Args:
        matrix: (c, c) counts of texts, true class (row) against label (column).
        names: c classes.
        title: classifier and n.
        path: PNG to write.

    Raises:
        ValueError: the matrix is not (c, c).
    """
    counts = np.asarray(matrix, dtype=float)
    need("confusion_figure", names)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion_figure: {counts.shape} for {len(names)} classes")
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    with drawing(path, title, 6.2) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            ink = "white" if share > 0.55 else "black"
            told = f"{counts[row, column]:.0f}" + (f"\n{share:.0%}" if row == column and not np.isnan(share) else "")
            axes.text(column, row, told, ha="center", va="center", fontsize=9.5, color=ink)
        class_axes(axes, names, names, 10.5)
        axes.set_ylabel("true class")
        axes.set_xlabel("label")
        figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, aspect=30)
        footnote(figure, "Counts of texts of held-out scenarios; on the diagonal also their share of the row.")
    return path


def calibration_figure(bins: Sequence[Mapping[str, Any]], error: float, title: str, path: Path) -> Path:
    """Draw how often a classifier is right against how sure it was, with the number of texts below.

    Args:
        bins: ``{confidence, accuracy, n}``: mean probability of the label, share of right labels, texts.
        error: expected calibration error, the mean distance from the diagonal over texts (a share).
        title: classifier and how it was held out.
        path: PNG to write.

    Raises:
        ValueError: no bin.
    """
    need("calibration_figure", bins)
    sure, right, n = ([row[key] for row in bins] for key in ("confidence", "accuracy", "n"))
    with drawing(path, title, 6.0) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="calibrated")
        many = [x >= FEW_TEXTS for x in n]
        line = [y if enough else math.nan for y, enough in zip(right, many, strict=True)]
        top.plot(sure, line, "o-", color=BLUE, linewidth=1.5, markersize=6, label="found")
        if not all(many):
            few = [(x, y) for x, y, enough in zip(sure, right, many, strict=True) if not enough]
            top.plot(*zip(*few, strict=True), "o", color=BLUE, markersize=6, markerfacecolor="white",
                     label=f"fewer than {FEW_TEXTS} texts")  # fmt: skip
        top.set_ylabel("share of right labels")
        top.set_ylim(-0.03, 1.03)
        top.set_title(f"expected calibration error {error:.3f}, n = {sum(n)}", loc="left")
        top.legend(loc="upper left")
        bars = bottom.bar(sure, n, width=0.05, color=BLUE, alpha=0.5)
        bottom.bar_label(bars, fontsize=8.5)
        bottom.margins(y=0.25)
        bottom.set_ylabel("texts")
        bottom.set_xlabel("probability of the label (mean of each bin)")
        bottom.set_xlim(0, 1.03)
    return path
