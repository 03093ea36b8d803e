"""The smallest sufficient budget of a circuit against the size of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from emo.report.plots.sweep_curves import clean
from emo.report.plots.theme import BESIDE, OTHERS, SHAPES, drawing, need

UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))  # of parameter counts


def min_budget_figure(points: Sequence[tuple[str, int, float]], title: str, path: Path) -> Path:
    """Draw the smallest sufficient budget of every model against its parameters, both on log scales.

    Args:
        points: (name of the model and its setting, parameters, K in units), both numbers above zero.
        title: what is shown.
        path: PNG to write.

    Raises:
        ValueError: nothing to draw.
    """
    need("min_budget_figure", points)
    with drawing(path, clean(title), 3.4) as figure:
        axes = figure.subplots()
        for i, (name, parameters, budget) in enumerate(points):
            shape = SHAPES[(i + i // len(SHAPES)) % len(SHAPES)]
            style: dict[str, Any] = {"linestyle": "none", "marker": shape, "markersize": 8}
            axes.plot([parameters], [budget], color=OTHERS[i % len(OTHERS)], label=clean(name), **style)
        for axis, values in ((axes.xaxis, [p for _, p, _ in points]), (axes.yaxis, [k for *_, k in points])):
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(FixedLocator(sorted(set(values))))
            axis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlabel("parameters of the model, log scale")
        axes.set_ylabel("smallest budget K\n(units), log scale")
        axes.margins(0.12)
        axes.legend(**BESIDE)
    return path


def count(parameters: float) -> str:
    """Return a number of parameters as it is spoken of: 135M, 7.6B."""
    size, unit = next(((size, unit) for size, unit in UNITS if parameters >= size), (1, ""))
    return f"{parameters / size:.3g}{unit}"
