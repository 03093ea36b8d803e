"""How well the data fix each emotion's direction, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from emo.report.plots.theme import INK, drawing, emotion_colours, need, stretches


def reliability_figure(
    curves: Mapping[str, Mapping[str, Sequence[float]]], edited: Sequence[int], title: str, path: Path
) -> Path:
    """Draw a panel per measure with a curve per emotion over blocks 0..L-1.

    Args:
        curves: measure -> emotion -> values (l,).
        edited: blocks that are shaded.
        title: of the figure.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    need("reliability_figure", curves)
    with drawing(path, title, 3.9) as figure:
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (label, own) in zip(panels, curves.items(), strict=True):
            colours = emotion_colours(own)
            for first, last in stretches(edited):
                axes.axvspan(first - 0.5, last + 0.5, color="#EEEEEE", zorder=0)
            for name, values in own.items():
                axes.plot(range(len(values)), values, color=colours[name], linewidth=1.8, label=name)
            axes.axhline(0, color=INK, linewidth=0.6)
            axes.set_xlabel("decoder block")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
    return path
