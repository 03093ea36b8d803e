"""How alike the emotions lie in two models, over relative depth, beside the noise ceilings."""

from __future__ import annotations

from pathlib import Path

from emo.core.frames import pd
from emo.report.plots.theme import FAINT, INK, drawing, grid, need

PANELS = 6  # pairs of models that are drawn
LINES = (
    ("r", "all groups", "#0072B2", "-"),
    ("across", "halves: across the models", "#56B4E9", "--"),
    ("ceiling_a", "halves: within the first", INK, ":"),
    ("ceiling_b", "halves: within the second", FAINT, ":"),
)


def model_geometry_figure(made: pd.DataFrame, title: str, path: Path) -> Path:
    """Draw a panel per pair of models.

    Args:
        made: `emo.results.model_geometry.compare_models`.
        title: what was swept, on what.
        path: PNG to write.

    Raises:
        ValueError: no pair.
    """
    pairs = [(names, own) for names, own in made[made["depth"].notna()].groupby(["a", "b", "at"], sort=False)][:PANELS]
    need("model_geometry_figure", pairs)
    columns = min(2, len(pairs))
    with drawing(path, title, 1.3 + 2.8 * -(-len(pairs) // columns)) as figure:
        panels = grid(figure, len(pairs), columns, sharey=True)
        for axes, ((a, b, at), own) in zip(panels, pairs, strict=True):
            for key, label, colour, style in LINES:
                if own[key].notna().any():
                    axes.plot(own["depth"], own[key], style, color=colour, linewidth=1.8, label=label)
            axes.axhline(0, color=INK, linewidth=0.6)
            axes.set_xlim(0, 1)
            axes.set_ylim(min(-0.2, float(own[[key for key, *_ in LINES]].min().min()) - 0.05), 1.05)
            axes.set_title(f"{a}, {b}{f' ({at})' if at else ''}", loc="left", fontsize=10)
            axes.set_xlabel("relative depth")
            axes.set_ylabel("Spearman of the cosines")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return path
