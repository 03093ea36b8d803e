"""Figures over depth: one value per decoder block, with its band. Shape letter: l blocks, 0..L-1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from emo.core.errors import check_choice
from emo.report.plots.theme import BESIDE, INK, OTHERS, arm_colours, drawing, emotion_colours, footnote, need
from emo.results.arm_order import sort_arms

PROBES = {"raw states": INK, "within-group differences": "#0072B2"}
Band = tuple[ArrayLike, ArrayLike | None, ArrayLike | None]


def layer_curves(curves: Mapping[str, Band], xlabel: str, ylabel: str, title: str, colours: str, path: Path) -> Path:
    """Draw lines with bands over blocks 0..L-1.

    Args:
        curves: name -> (mean (l,), lo (l,) or None, hi (l,) or None); nan leaves a gap.
        xlabel: e.g. ``decoder block``.
        ylabel: quantity and unit.
        title: what is shown, and n.
        colours: ``arm`` or ``emotion``: which palette the names belong to.
        path: PNG to write.

    Raises:
        ValueError: no curve.
        UserError: another palette.
    """
    need("layer_curves", curves)
    check_choice("colours", colours, ("arm", "emotion"))
    names = sort_arms(curves) if colours == "arm" else list(curves)
    palette = arm_colours(names) if colours == "arm" else emotion_colours(names)
    banded = False
    with drawing(path, title, 4.2) as figure:
        axes = figure.subplots()
        for name in names:
            mean, lo, hi = curves[name]
            _line(axes, np.asarray(mean, dtype=float), palette[name], name)
            if lo is not None and hi is not None:
                low, high = np.asarray(lo, dtype=float), np.asarray(hi, dtype=float)
                axes.fill_between(range(len(low)), low, high, color=palette[name], alpha=0.18, linewidth=0)
                banded = True
        _block_axis(axes, xlabel)
        axes.set_ylabel(ylabel)
        axes.legend(**BESIDE)
        footnote(figure, f"Bands: {'95 % bootstrap interval over scenarios' if banded else 'not measured'}.")
    return path


def probe_figure(f1: Mapping[str, ArrayLike], chance: float, title: str, path: Path, marker: int | None = None) -> Path:
    """Draw how well a linear probe reads the emotion from each block (methods 1.3).

    Args:
        f1: ``raw states``, ``within-group differences`` -> macro F1 (l,) on held-out scenarios;
            nan = not measured.
        chance: F1 of guessing, a line.
        title: what is shown, and n.
        path: PNG to write.
        marker: first block whose raw states separate the emotions; None: none does.

    Raises:
        ValueError: nothing to draw.
    """
    need("probe_figure", f1)
    with drawing(path, title, 4.2) as figure:
        axes = figure.subplots()
        for i, (name, values) in enumerate(f1.items()):
            colour = PROBES.get(name, OTHERS[i % len(OTHERS)])
            _line(axes, np.asarray(values, dtype=float), colour, name)
        axes.axhline(chance, color=INK, linewidth=1, linestyle=":", label=f"chance ({chance:.2f})")
        if marker is not None:
            label = f"raw states first separate:\nblock {marker}"
            axes.axvline(marker, color="#D55E00", linewidth=1.5, linestyle="--", label=label)
        axes.set_ylim(0, 1.05)
        _block_axis(axes, "decoder block")
        axes.set_ylabel("macro F1 on held-out scenarios")
        axes.legend(**BESIDE)
        footnote(figure, "A within-group difference uses all states of its test group, a raw state only itself.")
    return path


def _line(axes: Axes, values: np.ndarray, colour: str, label: str) -> None:
    # Dots at every block: on a shallow model, or beside a gap, a line alone would show nothing.
    size = 4 if len(values) <= 40 else 2
    axes.plot(range(len(values)), values, "o-", markersize=size, linewidth=1.8, color=colour, label=label)


def _block_axis(axes: Axes, label: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(label)
