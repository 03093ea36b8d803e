"""What a sweep's page says of where the circuits of its models lie: sentences, a table, a figure, a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emo.report import elements as page
from emo.report.geometry_page import Likeness
from emo.report.plots.circuit_depths import MODELS, circuit_depths_figure
from emo.results.circuit_depths import compare_depths, findings, placed

FILE = "circuit_depths.csv"
SENTENCES = 2  # one per kind of unit of the first pair of models
CAPTION = (
    "Where do the circuits lie? Share of their units up to every relative depth; thick: all emotions of a model, thin: "
    "each. A line above the dotted one: units lie earlier than if they were spread evenly."
)
NOTE = (
    "distance: the share of the depth by which an emotion's units would have to move to lie as the same emotion's do "
    "in the other model; to others: as another emotion's do. p: emotions of one model exchanged (one-sided). Floors "
    f"and caps of the allocation are the same in every block, which makes distances small. {FILE} has every emotion."
)


def of_sweep(
    results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str], title: str, folder: Path
) -> Likeness | None:
    """Compare where the circuits of a sweep's models lie, write `FILE` and the figure; None where there are no two.

    Args:
        results: content of result.json, by folder of the job.
        axes: swept keys.
        title: of the sweep.
        folder: where the files go.
    """
    found = placed(results, axes)
    made = compare_depths(found)
    if made.empty:
        return None
    made.to_csv(folder / FILE, index=False, encoding="utf-8")
    lines = findings(made)
    more = [f"{len(lines) - SENTENCES} more comparisons of circuits' depth: {FILE}."] if len(lines) > SENTENCES else []
    drawn = [one for one in found if one.at == found[0].at]
    path = circuit_depths_figure(drawn, f"{title}: depth of the circuits", folder / "sweep_circuit_depths.png")
    setting = f" Of {drawn[0].at}." if drawn[0].at else ""
    setting += f" The first {MODELS} of {len(drawn)} models." if len(drawn) > MODELS else ""
    head = ["models", "units", "number", "share of the model's", "mean depth", "distance", "to others", "p"]
    rows = [
        [f"{row.a}, {row.b}{f' ({row.at})' if row.at else ''}", row.kind, f"{row.units_a:.0f}, {row.units_b:.0f}",
         f"{row.share_a:.2%}, {row.share_b:.2%}", f"{row.depth_a:.2f}, {row.depth_b:.2f}", f"{row.distance:.3f}",
         _told(row.others, ".3f"), _told(row.p, ".2g")]
        for row in made[made["emotion"] == ""].itertuples()
    ]  # fmt: skip
    table = page.section("Where the circuits lie", page.table(head, rows) + f'<p class="small">{page.text(NOTE)}</p>')
    return Likeness(lines[:SENTENCES] + more, table, [(path, CAPTION + setting)])


def _told(x: float, form: str) -> str:
    return format(x, form) if np.isfinite(x) else "not measured"
