"""Figures of where emotions lie in a block's state space: scatter along two components, and cosines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from emo.report.plots.theme import drawing, emotion_colours, emotion_shapes, grid, need

Panel = tuple[ArrayLike, Sequence[str], ArrayLike]
MAX_NUMBERS = 12  # emotions up to which a cell is wide enough for its number


def pca_figure(panels: Mapping[str, Panel], title: str, path: Path) -> Path:
    """Draw states along their first two principal components, one panel per block and kind.

    Args:
        panels: panel title (``block 9, raw``) -> (points (n, 2), n emotion names, shares of variance
            explained (2,)).
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: no panel, or points and labels differ in number.
    """
    need("pca_figure", panels)
    names = list(dict.fromkeys(label for _, labels, _ in panels.values() for label in labels))
    colours, shapes = emotion_colours(names), emotion_shapes(names)
    columns = min(len(panels), 2)  # side by side: raw states and their within-group differences
    rows = -(-len(panels) // columns)
    with drawing(path, title, 0.9 + rows * (3.3 if columns > 1 else 4.5)) as figure:
        for axes, (name, (points, labels, explained)) in zip(
            grid(figure, len(panels), columns), panels.items(), strict=True
        ):
            xy = np.asarray(points, dtype=float).reshape(-1, 2)
            if len(xy) != len(labels):
                raise ValueError(f"pca_figure, {name}: {len(xy)} points with {len(labels)} labels")
            kinds = np.asarray(labels, dtype=object)
            for label in dict.fromkeys(labels):
                own = xy[kinds == label]
                axes.scatter(
                    own[:, 0],
                    own[:, 1],
                    s=26,
                    c=colours[label],
                    marker=shapes[label],
                    alpha=0.8,
                    edgecolors="white",
                    linewidths=0.4,
                )
            share = np.asarray(explained, dtype=float)
            axes.set_xlabel(f"PC 1 ({share[0]:.0%} of variance)")
            axes.set_ylabel(f"PC 2 ({share[1]:.0%})")
            axes.set_title(f"{name}, n = {len(xy)}", loc="left")
            # One unit is equally long both ways: a stretched second component would fake a separation.
            axes.set_aspect("equal", adjustable="datalim")
        keys = [
            Line2D([], [], linestyle="", marker=shapes[name], color=colours[name], markersize=7, label=name)
            for name in names
        ]
        fit = 90 // (5 + max((len(name) for name in names), default=0))  # keys that fit side by side
        figure.legend(handles=keys, loc="outside lower center", ncols=max(1, min(fit, len(keys))))
    return path


def cosine_figure(mats: Mapping[str, ArrayLike], names: Sequence[str], title: str, path: Path) -> Path:
    """Draw cosines between emotion directions as heat maps with their numbers.

    Args:
        mats: panel title (``block 9``) -> cosines (e, e) in -1..1; nan = not measured, left white.
        names: e emotion names, order of rows and columns.
        title: what is shown, and n.
        path: PNG to write.

    Raises:
        ValueError: no matrix, or one that is not (e, e).
    """
    need("cosine_figure", mats)
    columns = min(len(mats), 2)
    rows = -(-len(mats) // columns)
    with drawing(path, title, 0.6 + rows * (3.35 if columns > 1 else 4.6)) as figure:
        panels = grid(figure, len(mats), columns)
        for axes, (name, given) in zip(panels, mats.items(), strict=True):
            matrix = np.asarray(given, dtype=float)
            if matrix.shape != (len(names), len(names)):
                raise ValueError(f"cosine_figure, {name}: {matrix.shape} for {len(names)} emotions")
            image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set_title(name, loc="left")
            size = min(10.5, 115 / len(names))  # points; many names must not run into each other
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
            axes.set_yticks(range(len(names)), names, fontsize=size)
            axes.grid(visible=False)
            if len(names) <= MAX_NUMBERS:
                _numbers(axes, matrix, 6 if len(names) > 7 else 9 if columns > 1 else 11)
        figure.colorbar(image, ax=panels, label="cosine", shrink=0.8 / max(rows - 1, 1), aspect=30)
    return path


def _numbers(axes: Axes, matrix: np.ndarray, size: int) -> None:
    for (i, j), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(j, i, f"{value:z.2f}", ha="center", va="center", fontsize=size, color=colour)
