"""Sublayers (methods 1.9): how alike their emotion directions are, and how much each one moves the final state.

Shape letters: a strengths alpha, e emotions, l blocks, L their number. The 2L sublayers stand in the order of the
forward pass: attention 0, MLP 0, attention 1 ...
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from emo.report.plots.theme import FAINT, INK, OTHERS, block_list, drawing, footnote, grid, need, stretches

SUBLAYERS: dict[str, tuple[str, Any]] = {"attention": (OTHERS[0], "--"), "MLP": (OTHERS[3], "-")}  # colour and line
NOT_MEASURED = "#CCCCCC"
FRAME = [withStroke(linewidth=3.6, foreground="black")]  # white on black is seen on dark and on light cells
PAPER_SIMILARITY = "0.90 and 0.85"  # mean and minimum in the stable blocks 21-25 of 28, section 1.9 of the methods


def similarity_map(matrix: ArrayLike, names: Sequence[str], stable: Sequence[int], title: str, path: Path) -> Path:
    """Draw the cosines between the directions of all sublayers, a heat map per emotion, the stable blocks framed.

    The mean and the minimum of a panel's heading are over pairs of different sublayers of the stable blocks.

    Args:
        matrix: (e, 2L, 2L) cosines in -1..1, rows and columns in the order of the forward pass; nan = not measured.
        names: e emotions, a panel each.
        stable: blocks whose directions make the reference (indices 0..L-1); several stretches get a frame for each
            pair of them.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw, another shape, or a stable block that the model does not have.
    """
    cosines = np.asarray(matrix, dtype=float)
    need("similarity_map", cosines.size)
    if cosines.ndim != 3 or len(cosines) != len(names) or cosines.shape[1] != cosines.shape[2] or len(cosines[0]) % 2:
        raise ValueError(f"similarity_map: (emotions, 2L, 2L) for {len(names)} emotions, not {cosines.shape}")
    depth, blocks = cosines.shape[1] // 2, sorted(set(stable))
    if not blocks or blocks[0] < 0 or blocks[-1] >= depth:
        raise ValueError(f"similarity_map: stable blocks of 0..{depth - 1}, not {list(stable)}")
    inside = np.isin(np.arange(2 * depth) // 2, blocks)
    pairs = np.outer(inside, inside) & ~np.eye(2 * depth, dtype=bool)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=NOT_MEASURED)
    with drawing(path, title, 1.3 + rows * {1: 4.6, 2: 3.5, 3: 2.45}[columns]) as figure:
        panels = grid(figure, len(names), columns, sharex=True, sharey=True)
        for i, (axes, name, own) in enumerate(zip(panels, names, cosines, strict=True)):
            image = axes.imshow(own, cmap=cmap, vmin=-1, vmax=1, origin="lower", interpolation="nearest")
            for one, other in product(stretches(blocks), repeat=2):
                corner = (2 * one[0] - 0.5, 2 * other[0] - 0.5)
                size = (2 * (one[1] - one[0] + 1), 2 * (other[1] - other[0] + 1))
                axes.add_patch(
                    Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=1.2, path_effects=FRAME)
                )
            kept = own[pairs & ~np.isnan(own)]
            told = f"mean {kept.mean():z.2f}, min {kept.min():z.2f}" if len(kept) else "not measured"
            axes.set_title(f"{name}\n{told}", loc="left")
            _sublayer_axes(axes, depth)
            axes.tick_params(labelbottom=i + columns >= len(names))
            if i + columns >= len(names):
                axes.set_xlabel("decoder block")
            if i % columns == 0:
                axes.set_ylabel("decoder block")
        figure.colorbar(image, ax=panels, label="cosine", shrink=0.8 / max(rows - 1, 1), aspect=30)
        footnote(
            figure,
            f"Each block is two rows: attention, then MLP. Framed: the stable {block_list(blocks)}; mean and minimum "
            f"over pairs\nin them (paper: {PAPER_SIMILARITY}). Grey: not measured.",
        )
    return path


def _sublayer_axes(axes: Axes, depth: int) -> None:
    """Tick blocks, between the two rows of each."""
    shown = [int(b) for b in MaxNLocator(5, integer=True).tick_values(0, depth - 1) if 0 <= b < depth and b == int(b)]
    places = [2 * b + 0.5 for b in shown]
    axes.set_xticks(places, [str(b) for b in shown])
    axes.set_yticks(places, [str(b) for b in shown])
    axes.grid(visible=False)


def importance_curves(values: ArrayLike, alphas: Sequence[float], names: Sequence[str], title: str, path: Path) -> Path:
    """Draw the importance of every sublayer over depth, a panel per emotion: the mean over alphas and their range.

    Args:
        values: (a, e, l, 2) importance of attention and MLP sublayers: change of the projection of the final state on
            the reference direction per unit of length added (methods 1.9), so without a unit; nan leaves a gap.
        alphas: a strengths.
        names: e emotions, all on one scale.
        title: model, set and n.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw or another shape.
    """
    found = np.asarray(values, dtype=float)
    need("importance_curves", found.size)
    if found.ndim != 4 or found.shape[:2] != (len(alphas), len(names)) or found.shape[3] != 2:
        raise ValueError(
            f"importance_curves: (alphas, emotions, blocks, 2) for {len(alphas)} alphas and {len(names)} emotions, "
            f"not {found.shape}"
        )
    count = np.isfinite(found).sum(0)
    mean = np.divide(np.nansum(found, 0), count, out=np.full(count.shape, np.nan), where=count > 0)
    low, high = np.fmin.reduce(found), np.fmax.reduce(found)  # nan only where all are
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with drawing(path, title, 1.6 + rows * (2.1 if columns == 3 else 2.8)) as figure:
        panels = grid(figure, len(names), columns, sharex=True, sharey=True)
        for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
            axes.axhline(0, color=INK, linewidth=1, linestyle=":", zorder=1)
            for p, (colour, dash) in enumerate(SUBLAYERS.values()):
                blocks = np.arange(found.shape[2])
                dots = "o" if len(blocks) <= 3 else ""  # beside a gap a line alone would show nothing
                axes.plot(blocks, mean[i, :, p], dash, marker=dots, color=colour, linewidth=1.8, zorder=3)
                axes.fill_between(blocks, low[i, :, p], high[i, :, p], color=colour, alpha=0.25, linewidth=0)
            _peak(axes, mean[i])
            axes.set_title(name, loc="left", fontweight="bold")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.margins(y=0.16)
            if i + columns >= len(names):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("decoder block")
            if i % columns == 0:
                axes.set_ylabel("importance\n(projection per\nunit added)")
        told = ", ".join(f"{alpha:g}" for alpha in alphas)
        keys = [Line2D([], [], color=c, linestyle=dash, label=name) for name, (c, dash) in SUBLAYERS.items()]
        box = figure.legend(
            handles=keys, loc="outside lower left", ncols=2, alignment="left", title_fontsize=9,
            title="Importance: how far the final state moves along the emotion per unit added to a sublayer.\n"
            f"Lines: mean over alpha = {told}; bands: their range. Dot: the largest.",
        )  # fmt: skip
        box.get_title().set_color(FAINT)
    return path


def _peak(axes: Axes, mean: np.ndarray) -> None:
    """Mark and name the most important sublayer of a panel; mean: (l, 2)."""
    if np.isnan(mean).all():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)
        return
    block, p = np.unravel_index(np.nanargmax(mean), mean.shape)
    name, (colour, _) = list(SUBLAYERS.items())[p]
    axes.plot(block, mean[block, p], "o", markersize=5, color=colour, markeredgecolor="white", zorder=4)
    side = "right" if block > len(mean) / 2 else "left"
    axes.annotate(
        f"{name} {block}", (float(block), float(mean[block, p])), xytext=(0, 6), textcoords="offset points",
        ha=side, fontsize=9, color=colour,
    )  # fmt: skip
