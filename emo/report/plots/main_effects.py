"""What matters in a sweep over several keys: a panel per key, the effect of each of its values over the rest."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np

from emo.report.plots.theme import FAINT, INK, drawing, footnote, metric_label, need
from emo.results import p_values
from emo.results.main_effects import Factor, MainEffects

PER_ROW = 3
WRAP = 26  # letters of a line of an axis label
HEIGHT = 2.6  # inches of a row of panels


def main_effects_figure(found: MainEffects, title: str, path: Path) -> Path:
    """Draw the effect of every value of every key with its interval, the key that matters most first.

    Args:
        found: `emo.results.main_effects.main_effects`.
        title: what was swept, on what.
        path: PNG to write.

    Raises:
        ValueError: no keys.
    """
    need("main_effects_figure", found.factors)
    columns = min(PER_ROW, len(found.factors))
    rows = -(-len(found.factors) // columns)
    with drawing(path, title, 1.1 + HEIGHT * rows) as figure:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, factor in zip(panels.flat, found.factors, strict=False):
            x = np.arange(len(factor.levels))
            for i, level in enumerate(factor.levels):
                sure = np.isfinite(level.lo) and not level.lo <= 0 <= level.hi
                colour = INK if sure else FAINT
                if np.isfinite(level.lo):
                    axes.plot([i, i], [level.lo, level.hi], color=colour, linewidth=2.5, solid_capstyle="butt")
                axes.plot(i, level.effect, "o", color=colour, markerfacecolor=colour if sure else "white")
            axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
            axes.set_xticks(x, [level.value for level in factor.levels], rotation=30 if len(x) > 3 else 0, fontsize=9)
            axes.margins(x=0.15)
            axes.grid(axis="x", visible=False)
            axes.set_title(_title(factor), fontsize=9, loc="left")
        for axes in list(panels.flat)[len(found.factors) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(fill(f"effect on {metric_label(found.metric)[0]}", WRAP), fontsize=9)
        footnote(
            figure,
            f"Arm {found.arm}{f' less {found.beyond}' if found.beyond else ''}. Additive effects, each averaged over "
            f"the other keys ({found.jobs} jobs, {found.scenarios} scenarios).\nBars: 95 % interval over scenarios; "
            "grey: contains 0. p: sign flips of scenarios, Holm over the keys.",
        )
    return path


def _title(factor: Factor) -> str:
    name = factor.axis.rpartition(".")[2]
    if factor.spread is None:
        return name
    p = "" if factor.p is None else f"\n{p_values.told(factor.p)}"
    return f"{name}\nrange {factor.spread.range:.2f} ({factor.spread.by_chance:.2f} by chance){p}"
