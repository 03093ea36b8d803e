"""What a sweep's page says of the geometry of its models: model_geometry.csv, a sentence, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emo.core.frames import pd
from emo.core.permutations import EXACT, smallest
from emo.report import elements as page
from emo.report.plots.model_geometry import PANELS, model_geometry_figure
from emo.results import p_values
from emo.results.model_geometry import DEPTH, compare_models, findings, geometries

FILE = "model_geometry.csv"
SENTENCES = 3  # pairs of models that get one
CAPTION = (
    "Do the emotions lie alike in two models? Spearman's correlation of the cosines between emotions at equal relative "
    "depth; across and within (the noise ceiling): directions from halves of the groups."
)


class Likeness(NamedTuple):
    """What stands on the page."""

    findings: list[str]
    table: str  # HTML
    figures: list[tuple[Path, str]]


def of_sweep(
    results: Mapping[Path, dict[str, Any] | None], axes: Sequence[str], title: str, folder: Path
) -> Likeness | None:
    """Compare the directions of the models of a sweep, write `FILE` and the figure; None where there are no two.

    Args:
        results: content of result.json, by folder of the job.
        axes: swept keys.
        title: of the sweep.
        folder: where the files go.
    """
    made = compare_models(geometries(results, axes))
    if made.empty:
        return None
    made.to_csv(folder / FILE, index=False, encoding="utf-8")
    lines = findings(made)
    more = [f"{len(lines) - SENTENCES} more pairs of models: {FILE}."] if len(lines) > SENTENCES else []
    path = model_geometry_figure(made, f"{title}: geometry of the emotions", folder / "sweep_geometry.png")
    shown = f" The first {PANELS} of {len(lines)} pairs." if len(lines) > PANELS else ""
    return Likeness(lines[:SENTENCES] + more, _table(made), [(path, CAPTION + shown)])


def _table(made: pd.DataFrame) -> str:
    head = ["models", "mean r over depths", "p (Mantel)", f"r at depth {DEPTH:g}", "halves: across", "within the first",
            "within the second"]  # fmt: skip
    rows = []
    for (a, b, at), own in made.groupby(["a", "b", "at"], sort=False):
        whole, depths = own[own["depth"].isna()].iloc[0], own[own["depth"].notna()]
        near = depths.loc[(depths["depth"] - DEPTH).abs().idxmin()]
        numbers = [whole["r"], whole["p"], near["r"], whole["across"], whole["ceiling_a"], whole["ceiling_b"]]
        told = [f"{x:.2f}" if np.isfinite(x) else "not measured" for x in numbers]
        told[1] = f"{whole['p']:.2g}" if np.isfinite(whole["p"]) else "not measured"
        if p_values.unreadable(smallest(int(whole["emotions"]))):
            told[1] = "too few emotions"
        rows.append([f"{a}, {b}{f' ({at})' if at else ''}", *told])
    n = int(made["emotions"].min())
    orders = "all orders" if n <= EXACT else "10,000 random orders"
    note = (
        f"r: Spearman's correlation of the {n * (n - 1) // 2} cosines between the {n} emotions. p: {orders} of the "
        f"emotions of one model, the same at every depth; none is below {smallest(n):.2g}. Halves: directions from "
        "alternate scenarios of the groups that are kept for probes, so across and within are from as much data; what "
        f"across lacks of within is the models'. {FILE} has every depth."
    )
    return page.section(
        "Do the emotions lie alike?", page.table(head, rows) + f'<p class="small">{page.text(note)}</p>'
    )
