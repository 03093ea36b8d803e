"""Scores of units against the measured effect of zeroing each (methods 1.14.5).

Shape letter: m units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from emo.report.plots.theme import ARMS, FAINT, drawing, footnote, grid, need

COLOURS = {"top": ARMS["steer"], "random": ARMS["random"]}
LINEAR = 0.25  # quantile of |value| below which an axis is linear


class RankingPanel(NamedTuple):
    """The units of one emotion: scores (m,), effects (m,), which are the best (m,), and the correlation in words."""

    score: ArrayLike
    effect: ArrayLike
    top: ArrayLike
    rho: str


def ranking_figure(panels: Mapping[str, RankingPanel], title: str, path: Path) -> Path:
    """Draw score against effect, one panel per emotion, the best units and random ones in two colours.

    Args:
        panels: emotion -> its units, both values in activation units; one of both kinds counts as one of the best.
        title: what was ranked, on what.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    need("ranking_figure", panels)
    columns = min(3, len(panels))
    with drawing(path, title, 1.4 + 2.6 * -(-len(panels) // columns)) as figure:
        drawn = grid(figure, len(panels), columns)
        for i, (axes, (name, panel)) in enumerate(zip(drawn, panels.items(), strict=True)):
            score, effect = (np.asarray(values, dtype=float) for values in panel[:2])
            top = np.asarray(panel.top, dtype=bool)
            for part, mask in (("random", ~top), ("top", top)):
                axes.scatter(
                    score[mask], effect[mask], s=12, alpha=0.6, linewidths=0, color=COLOURS[part], label=part, zorder=3
                )
            _scale(axes, "x", score)
            _scale(axes, "y", effect)
            axes.axhline(0, color=FAINT, linewidth=1, linestyle=":", zorder=1)
            axes.axvline(0, color=FAINT, linewidth=1, linestyle=":", zorder=1)
            axes.set_title(f"{name}\nrho {panel.rho}", loc="left")
            if i + columns >= len(panels):
                axes.set_xlabel("score")
            if i % columns == 0:
                axes.set_ylabel("effect at the last block")
        handles, labels = drawn[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside lower right", ncols=2, markerscale=2)
        footnote(figure, "Projections (activation units), symmetric log scales. rho: Spearman, all units.")
    return path


def _scale(axes: Axes, which: str, values: np.ndarray) -> None:
    """Give an axis a scale that shows the few large values and the many small ones, with a tick at its ends."""
    size = np.abs(values[values != 0])
    linear = float(np.quantile(size, LINEAR)) if len(size) else 1.0
    getattr(axes, f"set_{which}scale")("symlog", linthresh=linear, linscale=0.5)
    tick = 10 ** np.floor(np.log10(size.max())) if len(size) else 1.0
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator([x for x in (-tick, 0.0, tick) if x == 0 or values.min() <= x <= values.max()]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
