"""Where the scores of neurons and heads lie (methods 1.5, 1.6): maps over depth, and how few units carry them.

Shape letters: e emotions, l blocks, h heads, f neurons, u units of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from emo.find.longtail import cumulated, reach
from emo.report.plots.theme import FAINT, INK, drawing, emotion_colours, footnote, grid, need

SCORE = "score (projection, activation units)"
SHARES = {0.5: "o", 0.8: "s", 0.95: "^"}  # parts of the sum that are marked, and how
SATURATED = 99.0  # percentile of |score| at which colours end: a few large heads would leave the rest white
DECADES = 4  # that the colours of neuron scores span at most
NOT_POSITIVE = "#DDDDDD"
PLAIN = FuncFormatter(lambda x, _: f"{x:,.15g}")  # powers would need mathematics, which our style does not read
CELLS: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}


def head_map(scores: ArrayLike, names: Sequence[str], title: str, path: Path) -> Path:
    """Draw the score of every head, block against head, one panel per emotion on one colour scale around 0.

    Args:
        scores: (e, l, h) projections in activation units (methods 1.6), finite.
        names: e emotions.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, not finite, or not one panel per name.
    """
    values = _checked("head_map", scores, names)
    _, depth, heads = values.shape
    columns = min(len(names), 6 if heads <= 12 else 3)
    rows = -(-len(names) // columns)
    size = np.abs(values)
    end = float(np.percentile(size, SATURATED)) or float(size.max()) or 1.0
    with drawing(path, title, 1.3 + rows * _height(depth)) as figure:
        panels = grid(figure, len(names), columns, sharex=True, sharey=True)
        for i, (axes, name, own) in enumerate(zip(panels, names, values, strict=True)):
            box = (-0.5, heads - 0.5, -0.5, depth - 0.5)
            image = axes.imshow(own, cmap="RdBu_r", vmin=-end, vmax=end, extent=box, **CELLS)
            _map_axes(axes, name, i, columns, len(names), "head")
        extend = "both" if size.max() > end else "neither"
        figure.colorbar(image, ax=panels, label=SCORE, extend=extend, aspect=30)
        footnote(figure, f"Colours end at the {SATURATED:g}th percentile of |score| over all emotions and heads.")
    return path


def neuron_map(scores: ArrayLike, names: Sequence[str], title: str, path: Path, top: int = 64) -> Path:
    """Draw the largest scores of every block, sorted, with the block's sum of positive scores at the side.

    Args:
        scores: (e, l, f) projections in activation units (methods 1.5), finite.
        names: e emotions, a panel each, all on one colour scale.
        title: model, set and n.
        path: PNG to write.
        top: ranks shown; at most f.

    Raises:
        ValueError: nothing to draw, not finite, or not one panel per name.
    """
    values = _checked("neuron_map", scores, names)
    count, depth, _ = values.shape
    best = -np.sort(-values, axis=2)[:, :, :top]
    sums = np.where(values > 0, values, 0).sum(2)
    positive = best[best > 0] if best.max() > 0 else np.ones(1)
    largest = float(positive.max())
    smallest = max(float(np.percentile(positive, 100 - SATURATED)), largest / 10**DECADES) / 1.001  # never equal
    columns = min(3, count)
    rows = -(-count // columns)
    cmap = mpl.colormaps["viridis"].with_extremes(bad=NOT_POSITIVE)
    with drawing(path, title, 1.3 + rows * _height(depth)) as figure:
        cells = grid(figure, 2 * count, 2 * columns, sharey=True, width_ratios=[2.2, 1] * columns)
        for i, (axes, bars, name, own) in enumerate(zip(cells[::2], cells[1::2], names, best, strict=True)):
            box = (0.5, own.shape[1] + 0.5, -0.5, depth - 0.5)
            # Scores have a long tail: on a linear scale all but the first ranks of the last blocks look alike.
            image = axes.imshow(
                np.where(own > 0, own, np.nan), cmap=cmap, norm=LogNorm(smallest, largest), extent=box, **CELLS
            )
            _map_axes(axes, name, i, columns, count, "rank")
            bars.barh(range(depth), sums[i], height=0.8, color=INK)
            bars.set_xlim(0, 1.05 * float(sums.max()) or 1.0)
            bars.grid(axis="y", visible=False)
            bars.tick_params(left=False, labelleft=False, labelbottom=i + columns >= count)
            bars.xaxis.set_major_locator(MaxNLocator(2, prune="lower"))
            if i + columns >= count:
                bars.set_xlabel("sum")
        bar = figure.colorbar(image, ax=cells, label=SCORE + ", log scale", extend="min", aspect=30)
        bar.ax.yaxis.set_major_formatter(PLAIN)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        footnote(
            figure, "Rank: within a block. Bars: sum of all its positive scores, in the same unit. Grey: not positive."
        )
    return path


def long_tail(scores: ArrayLike, names: Sequence[str], what: str, title: str, path: Path) -> Path:
    """Draw which share of the summed positive score the best units reach, all blocks together, a line per emotion.

    Args:
        scores: (e, l, u) finite projections in activation units (methods 1.5, 1.6).
        names: e emotions.
        what: the units, in the plural: ``neurons``, ``heads``.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, not finite, or not one line per name.
    """
    values = _checked("long_tail", scores, names)
    colours, total = emotion_colours(names), values[0].size
    with drawing(path, title, 4.8) as figure:
        axes = figure.subplots()
        for name, sums, marks in zip(names, cumulated(values), reach(values, tuple(SHARES)), strict=True):
            told = " / ".join(f"{n:,}" for n in marks.values())
            label = f"{name}: {told}" if len(sums) else f"{name}: none positive"
            shares = sums / sums[-1] if len(sums) else sums
            axes.plot(range(1, len(sums) + 1), shares, color=colours[name], linewidth=1.8, label=label)
            for share, shape in SHARES.items() if len(sums) else ():
                axes.plot(
                    marks[share], share, shape, color=colours[name], markeredgecolor="white", markersize=7, zorder=3
                )
        for share in SHARES:
            axes.axhline(share, color=INK, linewidth=1, linestyle=":", zorder=1)
        axes.set_yticks([0, 0.2, 0.5, 0.8, 0.95], ["0", "20", "50", "80", "95"])
        axes.set_ylim(0, 1.02)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_xlim(0.9, total * 1.1)
        axes.set_xlabel(f"{what}, best first, of {total:,} in all blocks (log scale)")
        axes.set_ylabel("summed positive score (% of all)")
        box = figure.legend(
            loc="outside lower left", ncols=3, alignment="left", title_fontsize=9,
            title=f"Numbers and markers: {what} that reach 50 / 80 / 95 % of the summed positive score.",
        )  # fmt: skip
        box.get_title().set_color(FAINT)
    return path


def _checked(what: str, scores: ArrayLike, names: Sequence[str]) -> np.ndarray:
    values = np.asarray(scores, dtype=float)
    need(what, values.size)
    if values.ndim != 3 or len(values) != len(names) or not np.isfinite(values).all():
        raise ValueError(f"{what}: finite (emotions, blocks, units) for {len(names)} emotions, not {values.shape}")
    return values


def _height(depth: int) -> float:
    """Inches of a panel with ``depth`` blocks."""
    return min(max(2.2, 0.09 * depth), 4.5)


def _map_axes(axes: Axes, name: str, i: int, columns: int, count: int, across: str) -> None:
    """Name a panel, and its axes where it is the first of its row or the lowest of its column."""
    axes.set_title(name, loc="left", fontweight="bold")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.tick_params(labelbottom=i + columns >= count)
    if i + columns >= count:
        axes.set_xlabel(across)
    if i % columns == 0:
        axes.set_ylabel("decoder block")
