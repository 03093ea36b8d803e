"""Effect against damage: what each method reaches at the same perplexity ratio, on dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.report.plots.theme import BESIDE, OTHERS, SHAPES, drawing, footnote, metric_label, need


def frontier_figure(
    tried: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: Path, metric: str = "clean_accuracy"
) -> Path:
    """Draw score against ppl_ratio, one line per method and layer range; hollow points break a damage bound.

    Args:
        tried: method -> rows of `emo.measure.strength_tuning.Choice`: alpha, layers, score, lo, hi, ppl_ratio,
            feasible, chosen.
        title: model, split and n.
        path: PNG to write.
        metric: what the score is.

    Raises:
        ValueError: nothing to draw.
    """
    need("frontier_figure", tried)
    seen = {name: [row for row in rows if None not in (row["ppl_ratio"], row["score"])] for name, rows in tried.items()}
    lines = [
        (f"{method}, layers {layers}", [row for row in rows if row["layers"] == layers])
        for method, rows in seen.items()
        for layers in dict.fromkeys(row["layers"] for row in rows)
    ]
    with drawing(path, title, 4.2) as figure:
        axes = figure.subplots()
        for i, (name, own) in enumerate(lines):
            colour, shape = OTHERS[i % len(OTHERS)], SHAPES[i % len(SHAPES)]
            rows = sorted(own, key=lambda row: row["ppl_ratio"])
            line = [[row[key] for row in rows] for key in ("ppl_ratio", "score")]
            axes.plot(*line, color=colour, linewidth=1.2, label=name)
            for row in rows:
                x, y = row["ppl_ratio"], row["score"]
                if row["lo"] is not None and row["hi"] is not None:
                    axes.plot([x, x], [row["lo"], row["hi"]], color=colour, linewidth=1.2, alpha=0.6)
                face = colour if row["feasible"] else "white"
                axes.plot(x, y, shape, markersize=7, markeredgecolor=colour, markerfacecolor=face, zorder=3)
                if row["chosen"]:
                    axes.plot(x, y, "*", markersize=18, markeredgecolor="black", markerfacecolor=colour, zorder=4)
        axes.set_xlabel(metric_label("ppl_ratio")[0])
        axes.set_ylabel(metric_label(metric)[0].replace(" (", "\n("))
        axes.legend(**BESIDE)
        footnote(figure, "Star: used on test. Hollow: breaks a damage bound. Bars: 95 % interval over scenarios.")
    return path
