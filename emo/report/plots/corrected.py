"""Accuracies beside what they are when the labeller's error is taken off: by arm, and along a swept setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emo.core.stats import Estimate
from emo.report.plots.theme import BESIDE, FAINT, INK, OTHERS, drawing, footnote, metric_label, need

KINDS = {"raw": FAINT, "prediction-powered": OTHERS[0], "confusion matrix": OTHERS[6]}
SHAPES = {"raw": "o", "prediction-powered": "s", "confusion matrix": "D"}
NOTE = "Bars: 95 % interval over scenarios; that of the raw labels knows nothing of their error."
Shares = Mapping[str, Estimate]  # by `KINDS`; one that was not measured is left out


def corrected_arms(rows: Sequence[tuple[str, Shares]], metric: str, title: str, path: Path) -> Path:
    """Draw, per arm, the raw accuracy and the corrected ones as dots with their intervals.

    Args:
        rows: (arm, its accuracies), top to bottom.
        metric: key of the accuracy; gives the axis its label.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: no rows.
    """
    need("corrected_arms", rows)
    with drawing(path, title, 1.7 + 0.5 * len(rows)) as figure:
        axes = figure.subplots()
        for y, (_, shares) in enumerate(rows):
            for i, (kind, colour) in enumerate(KINDS.items()):
                x = shares.get(kind)
                if x is None or x.value is None:
                    continue
                place = y + (i - 1) * 0.22
                if x.lo is not None and x.hi is not None:
                    axes.plot([x.lo, x.hi], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
                axes.plot(x.value, place, SHAPES[kind], color=colour, markersize=6)
        for kind, colour in KINDS.items():
            axes.plot([], [], SHAPES[kind], color=colour, label=kind)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(metric_label(metric)[0])
        axes.legend(**BESIDE)
        footnote(figure, NOTE)
    return path


def corrected_curve(points: Sequence[tuple[float, Shares]], setting: str, metric: str, title: str, path: Path) -> Path:
    """Draw the raw and the corrected accuracies of an arm along a number that was swept.

    Args:
        points: (value of the setting, accuracies), in its order.
        setting: name of the x axis.
        metric: key of the accuracy.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: no points.
    """
    need("corrected_curve", points)
    with drawing(path, title, 3.6) as figure:
        axes = figure.subplots()
        for kind, colour in KINDS.items():
            known = [(x, shares[kind]) for x, shares in points if kind in shares and shares[kind].value is not None]
            if not known:
                continue
            value, lo, hi = np.array([e[:3] for _, e in known], dtype=float).T  # None, no interval, is nan
            places = [x for x, _ in known]
            axes.plot(places, value, SHAPES[kind] + "-", color=colour, label=kind)
            axes.fill_between(places, lo, hi, color=colour, alpha=0.15)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set_xlabel(setting)
        axes.set_ylabel(metric_label(metric)[0].replace(" (", "\n("))
        axes.legend(**BESIDE)
        footnote(figure, NOTE.replace("Bars", "Bands"))
    return path
