"""Maps of the neurons of classes (methods 2, 3): where they lie, what editing them changes, and which sets share them.

Shape letters: c classes, l blocks, n rows and m columns of a grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from emo.report.plots.importance import NOT_MEASURED
from emo.report.plots.theme import FAINT, INK, class_axes, drawing, emotion_colours, footnote, grid, need
from emo.results.arm_order import sort_arms

MAX_NUMBERS = 16  # blocks whose counts still fit into their cells
TENTHS = 10  # columns of `depth_map`
LABEL = 44  # letters of a line of its labels
DARK = 0.55  # share of a scale from which numbers are white


def counts_figure(counts: ArrayLike, names: Sequence[str], title: str, path: Path) -> Path:
    """Draw how many neurons are selected in every block, a row per class, with their total and mean depth beside.

    Args:
        counts: (c, l) selected neurons, at least 0.
        names: c classes, top to bottom.
        title: model, selector, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, or another shape.
    """
    found = np.asarray(counts, dtype=float)
    need("counts_figure", found.size)
    if found.ndim != 2 or len(found) != len(names):
        raise ValueError(f"counts_figure: (classes, blocks) for {len(names)} classes, not {found.shape}")
    depth, totals, largest = found.shape[1], found.sum(1), max(float(found.max()), 1.0)
    colours = emotion_colours(names)
    with drawing(path, title, 2.3 + 0.4 * len(names)) as figure:
        axes, side = figure.subplots(1, 2, sharey=True, width_ratios=[3.4, 1])
        image = axes.imshow(found, cmap="Blues", vmin=0, vmax=largest, aspect="auto", interpolation="nearest")
        if depth <= MAX_NUMBERS:
            _numbers(axes, found, found / largest, "{:.0f}", 9)
        class_axes(axes, names, None, 10.5)
        axes.set_ylabel("class")
        axes.set_xlabel("decoder block")
        step = -(-depth // 8)
        axes.set_xticks(range(0, depth, step), [str(block) for block in range(0, depth, step)])
        ticks = MaxNLocator(integer=True)
        figure.colorbar(
            image, ax=axes, location="bottom", label="selected neurons in the block", aspect=40, ticks=ticks
        )
        beside: dict[str, Any] = {"transform": side.get_yaxis_transform(), "va": "center"}
        for row, (name, own, total) in enumerate(zip(names, found, totals, strict=True)):
            if total:
                at = float(own @ np.arange(depth)) / total / depth
                side.plot([0, at], [row, row], color=colours[name], linewidth=2, solid_capstyle="butt", zorder=2)
                side.plot(at, row, "o", markersize=7, color=colours[name], zorder=3, clip_on=False)
            side.text(1.08, row, f"{total:,.0f}", color=INK, **beside)
        side.text(1.08, 1.02, "total", transform=side.transAxes, va="bottom", color=FAINT)
        side.set_xlim(0, 1)
        side.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        side.grid(axis="y", visible=False)
        side.tick_params(axis="y", length=0, labelleft=False)
        side.set_xlabel("mean relative\ndepth")
        footnote(
            figure,
            f"Total: selected neurons in all {depth} blocks. Depth: their mean block / {depth}, 0 = first block.",
        )
    return path


def change_figure(matrices: Mapping[str, ArrayLike], names: Sequence[str], label: str, title: str, path: Path) -> Path:
    """Draw what editing each class's neurons changes for the texts of every class, a heat map per arm on one scale.

    Args:
        matrices: arm -> (c, c) change against the unedited model, edited class (row) by true class (column); nan =
            not measured.
        names: c classes.
        label: what changes, with its unit: ``accuracy, points``.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, or not (c, c).
    """
    arms = sort_arms(matrices)
    need("change_figure", arms and names)
    given = [np.asarray(matrices[arm], dtype=float) for arm in arms]
    for arm, matrix in zip(arms, given, strict=True):
        if matrix.shape != (len(names), len(names)):
            raise ValueError(f"change_figure, {arm}: {matrix.shape} for {len(names)} classes")
    end = max((float(np.abs(m[np.isfinite(m)]).max(initial=0)) for m in given), default=0) or 1.0
    told = "{:+z.0f}" if end >= 10 else "{:+z.2f}"
    cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=NOT_MEASURED)
    columns = _columns(len(arms))
    rows, size = -(-len(arms) // columns), _size(columns, len(names))
    with drawing(path, title, 1.5 + rows * {1: 4.4, 2: 3.0, 3: 2.1}[columns]) as figure:
        panels = grid(figure, len(arms), columns)
        for i, (axes, arm, matrix) in enumerate(zip(panels, arms, given, strict=True)):
            image = axes.imshow(matrix, cmap=cmap, vmin=-end, vmax=end, interpolation="nearest")
            _numbers(axes, matrix, 0.9 * np.abs(matrix) / end, told, size)
            for c in range(len(names)):
                axes.add_patch(Rectangle((c - 0.5, c - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.4))
            _name_outer(axes, i, columns, len(arms), names, names, size + 1)
            if i % columns == 0:
                axes.set_ylabel("edited class")
            if i + columns >= len(arms):
                axes.set_xlabel("true class of the text")
            axes.set_title(arm, loc="left", fontweight="bold")
        figure.colorbar(image, ax=panels, label=f"change in {label}", shrink=0.8 / max(rows - 1, 1), aspect=30)
        footnote(
            figure, "Against the unedited model; blue: less. Framed: texts of the edited class. Grey: not measured."
        )
    return path


def overlap_grid(
    matrices: Mapping[str, ArrayLike], rows: Sequence[str], columns: Sequence[str], title: str, path: Path
) -> Path:
    """Draw which share of their units two sets have in common, a heat map per panel, all with the same axes.

    Args:
        matrices: panel -> (n, m) Jaccard indices in 0..1 (units of both / units of either); nan = not measured.
        rows: n sets.
        columns: m sets.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, or not (n, m).
    """
    need("overlap_grid", matrices and rows and columns)
    given = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    for name, matrix in given.items():
        if matrix.shape != (len(rows), len(columns)):
            raise ValueError(f"overlap_grid, {name}: {matrix.shape} for {len(rows)} rows and {len(columns)} columns")
    cmap = mpl.colormaps["Blues"].with_extremes(bad=NOT_MEASURED)
    across = _columns(len(given))
    down, size = -(-len(given) // across), _size(across, len(columns))
    with drawing(path, title, 2.0 + down * (0.45 + len(rows) * {1: 0.42, 2: 0.38, 3: 0.3}[across])) as figure:
        panels = grid(figure, len(given), across)
        for i, (axes, (name, matrix)) in enumerate(zip(panels, given.items(), strict=True)):
            image = axes.imshow(matrix, cmap=cmap, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            _numbers(axes, matrix, matrix, "{:.2f}", size)
            _name_outer(axes, i, across, len(given), rows, columns, size + 1)
            axes.set_title(name, loc="left", fontweight="bold")
        figure.colorbar(
            image, ax=panels, label="Jaccard (shared / all units)", shrink=0.8 / max(down - 1, 1), aspect=30
        )
        footnote(figure, "1 = the same units, 0 = none shared. Grey: not measured.")
    return path


def depth_map(rows: Sequence[tuple[str, Sequence[int]]], title: str, path: Path) -> Path:
    """Draw where selections lie, a row each: the share of their neurons in every tenth of the depth, models alike.

    Args:
        rows: label and neurons per block, of models of any depth; block l of L lies from l/L to (l+1)/L.
        title: of the sweep.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    need("depth_map", rows)
    shares = np.full((len(rows), TENTHS), np.nan)
    depth = np.full(len(rows), np.nan)
    for i, (_, counts) in enumerate(rows):
        total = sum(counts)
        if total:
            shares[i] = 100 * tenths(counts) / total
            depth[i] = sum(block * count for block, count in enumerate(counts)) / total / len(counts)
    cmap = mpl.colormaps["Blues"].with_extremes(bad=NOT_MEASURED)
    with drawing(path, title, 1.9 + 0.55 * len(rows)) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap=cmap, vmin=0, aspect="auto", interpolation="nearest")
        _numbers(axes, shares, shares / max(float(np.nanmax(shares, initial=0)), 1), "{:.0f}", 9)
        axes.set_yticks(range(len(rows)), [fill(label, LABEL) for label, _ in rows], fontsize=8)
        axes.set_xticks(np.arange(0, TENTHS + 1, 2) - 0.5, [f"{x / TENTHS:g}" for x in range(0, TENTHS + 1, 2)])
        axes.set_xlabel("relative depth (block / blocks)")
        axes.grid(visible=False)
        for i, at in enumerate(depth):
            told = f"mean {at:.2f}" if np.isfinite(at) else "none"
            axes.text(1.01, i, told, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
        figure.colorbar(image, ax=axes, location="bottom", label="% of the selected neurons", aspect=40)
    return path


def tenths(counts: Sequence[int]) -> np.ndarray:
    """Return the sums of values per block over each tenth of the depth, (10,); a count is spread over its block."""
    edges = np.arange(len(counts) + 1) / len(counts)
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(np.arange(TENTHS + 1) / TENTHS, edges, total))


def _columns(count: int) -> int:
    return min(count, 2 if count in (2, 4) else 3)


def _size(columns: int, across: int) -> float:
    """Points of the numbers in cells: many cells side by side must not run into each other."""
    return min({1: 10.5, 2: 8.5, 3: 7.0}[columns], {1: 100, 2: 56, 3: 44}[columns] / across)


def _numbers(axes: Axes, matrix: np.ndarray, shades: np.ndarray, told: str, size: float) -> None:
    """Write the measured values of a heat map into its cells; shades: (n, m) how dark each cell is, 0..1."""
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            ink = "white" if shades[row, column] > DARK else "black"
            axes.text(column, row, told.format(value), ha="center", va="center", fontsize=size, color=ink)


def _name_outer(
    axes: Axes, i: int, columns: int, count: int, rows: Sequence[str], across: Sequence[str], size: float
) -> None:
    """Name rows and columns of panels that all have the same: at the left and at the bottom only."""
    class_axes(axes, rows if i % columns == 0 else None, across if i + columns >= count else None, size)
