"""Where the circuits of two models lie: the share of their units up to every relative depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emo.config.choices import UNITS
from emo.report.plots.theme import FAINT, drawing, grid, need
from emo.results.circuit_depths import Placed

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODELS = len(COLOURS)  # that are drawn


def circuit_depths_figure(found: Sequence[Placed], title: str, path: Path) -> Path:
    """Draw a panel per kind of unit, a thick line per model (all emotions) and thin ones for its emotions.

    Args:
        found: circuits, one per model.
        title: what was swept, on what.
        path: PNG to write.

    Raises:
        ValueError: no circuit.
    """
    need("circuit_depths_figure", found)
    kinds = [kind for kind in UNITS if any(one.quotas[kind].sum() for one in found)]
    with drawing(path, title, 3.6) as figure:
        panels = grid(figure, len(kinds), 2, sharey=True)
        for axes, kind in zip(panels, kinds, strict=True):
            for colour, one in zip(COLOURS, found, strict=False):
                ends = np.linspace(0, 1, one.quotas[kind].shape[1] + 1)
                for own in one.quotas[kind]:
                    if own.sum():
                        axes.plot(ends, _up_to(own), color=colour, linewidth=0.6, alpha=0.5)
                whole = one.quotas[kind].sum(0)
                if whole.sum():
                    axes.plot(ends, _up_to(whole), color=colour, linewidth=2.2, label=one.model)
            axes.plot([0, 1], [0, 1], ":", color=FAINT, label="spread evenly")
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="relative depth", ylabel=f"share of the circuit's {kind}")
            axes.set_title(kind, loc="left", fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return path


def _up_to(quotas: np.ndarray) -> np.ndarray:
    return np.asarray(np.concatenate([[0.0], np.cumsum(quotas) / quotas.sum()]))
