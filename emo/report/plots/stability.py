"""Two models compared block by block, as curves beside their noise ceiling and control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from emo.report.plots.theme import INK, drawing, footnote, need

LINES = {"across": "#0072B2", "ceiling": INK, "control": "#D55E00"}
STYLES = {"across": "-", "ceiling": "--", "control": ":"}


def stability_figure(measures: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> Path:
    """Draw every measure in a panel of its own over blocks 0..L-1.

    Args:
        measures: what is measured -> ``across``, ``ceiling``, ``control``, each (l,); None leaves a gap.
        title: of the figure.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    need("stability_figure", measures)
    with drawing(path, title, 2.6 * len(measures)) as figure:
        panels = np.atleast_1d(figure.subplots(len(measures), 1, sharex=True))
        for axes, (name, lines) in zip(panels, measures.items(), strict=True):
            for key, colour in LINES.items():
                values: Sequence[float] = [np.nan if x is None else x for x in lines[key]]
                axes.plot(range(len(values)), values, STYLES[key], color=colour, linewidth=1.8, label=key)
            axes.axhline(0, color=INK, linewidth=0.6)
            axes.set_ylabel(name.replace(": ", ":\n"))
        panels[0].legend()
        panels[-1].set_xlabel("decoder block")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        footnote(figure, "ceiling: two halves of the data in one model; control: emotions or units exchanged.")
    return path
