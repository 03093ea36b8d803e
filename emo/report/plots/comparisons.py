"""What a run claims: paired differences between arms, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from emo.report.plots.theme import FAINT, INK, arm_colours, drawing, footnote, metric_label, need


def claims(rows: Sequence[Mapping[str, Any]], title: str, path: Path, metric: str = "clean_accuracy") -> Path:
    """Draw every paired difference as a dot with its interval against a line at 0, the numbers beside it.

    Args:
        rows: top to bottom; ``arm`` and ``against``, ``value`` (mean of arm - against, in the unit of the metric),
            ``ci`` (lo, hi) and ``p_holm``, as `emo.results.estimates.comparisons` gives them; any number may be None
            or nan; ``named``, where it is there, stands beside the row in place of the arms.
        title: what is compared, on what.
        path: PNG to write.
        metric: key of what is compared; gives the axis its unit.

    Raises:
        ValueError: no rows.
    """
    need("claims", rows)
    colours = arm_colours([row["arm"] for row in rows])
    with drawing(path, title, 1.7 + 0.32 * len(rows)) as figure:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            _row(axes, y, row, colours[row["arm"]])
            if y and row["arm"] != rows[y - 1]["arm"]:
                axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
        axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
        axes.set_yticks(range(len(rows)), [_named(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"difference in {metric_label(metric)[0]}\nright of 0: the first arm has more")
        footnote(
            figure,
            "Paired by prompt or text. Bars: 95 % interval over scenarios or groups; grey: contains 0; hollow: none.\n"
            "p: sign flips of their means, Holm over all that are compared.",
        )
    return path


def _named(row: Mapping[str, Any]) -> str:
    return str(row.get("named") or f"{row['arm']} − {row['against']}")


def _row(axes: Axes, y: int, row: Mapping[str, Any], colour: str) -> None:
    value, p = _number(row["value"]), _number(row["p_holm"])
    lo, hi = (_number(end) for end in row["ci"] or (None, None))
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 9.5}
    if value is None:
        axes.text(1.02, y, "not measured", color=FAINT, **beside)
        return
    told = "no p" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    interval = "no interval"
    face = "white"
    if lo is not None and hi is not None:
        face = colour = FAINT if lo <= 0 <= hi else colour
        interval = f"[{lo:+z.2f}, {hi:+z.2f}]"
        axes.plot([lo, hi], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=2)
    axes.plot(value, y, "o", markersize=7, color=colour, markerfacecolor=face, zorder=3)
    axes.text(1.02, y, f"{value:+z.2f} {interval}  {told}", color=INK, **beside)


def _number(x: float | None) -> float | None:
    return None if x is None or math.isnan(x) else float(x)
