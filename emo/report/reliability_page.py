"""What a job's page says of directions before anything is generated (`emo.results.reliability`), and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emo.report import elements as page
from emo.report.plots.reliability import reliability_figure
from emo.results.reliability import MEASURES, sentences

NOTE = (
    "cosine: of each group's difference (a scenario with one outcome, less the mean over the emotions) with the "
    "emotion's direction; d': how far apart the emotion and the others lie along it, in standard deviations. The "
    "direction is always from the half of the scenarios that the group is not in: 0 is what noise gives. {groups} "
    "groups of {scenarios} scenarios; reliability.json has every block."
)
CAPTION = (
    "Directions before anything is generated: do the groups agree on them (left), do they tell the emotion (right)? "
    "Cross-fitted on halves of the scenarios; shaded: the edited blocks."
)


def section(made: Mapping[str, Any] | None) -> str:
    """Return the numbers beforehand beside the effects, as tables; nothing where nothing was measured."""
    if made is None:
        return ""
    note = page.items([NOTE.format(**made), *sentences(made)])
    rows = made["effects"]
    tables = [
        _beside(made, [row for row in rows if row["arm"] == arm]) for arm in dict.fromkeys(r["arm"] for r in rows)
    ]
    return page.section("Directions, before anything is generated", note + "".join(tables or [_alone(made)]))


def _beside(made: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> str:
    """Return the table of one arm: means over its blocks, and its effects."""
    first = rows[0]
    head = ["emotion", *MEASURES.values(), *(f"{row['arm']} - none, {row['metric']}" for row in rows)]
    body = [
        [
            name,
            *(f"{first['beforehand'][key][name]:.2f}" for key in MEASURES),
            *(f"{row['value'][name]:.2f}" for row in rows),
        ]
        for name in made["emotions"]
    ]
    return page.table(head, body)


def _alone(made: Mapping[str, Any]) -> str:
    """Return the table without an edit: the mean over blocks, and the best block."""
    head = ["emotion", *(f"{label}, mean over blocks (best)" for label in MEASURES.values())]
    body = []
    for e, name in enumerate(made["emotions"]):
        own = {key: np.array(made[key][e]) for key in MEASURES}
        body.append([name, *(f"{x.mean():.2f} ({x.max():.2f} in block {x.argmax()})" for x in own.values())])
    return page.table(head, body)


def figures(made: Mapping[str, Any] | None, where: str, folder: Path) -> list[tuple[Path, str]]:
    """Write the figure over blocks into ``folder``; returns it with its caption."""
    if made is None:
        return []
    curves = {label: dict(zip(made["emotions"], made[key], strict=True)) for key, label in MEASURES.items()}
    blocks: list[int] = next((row["blocks"] for row in made["effects"]), [])
    title = f"Directions before anything is generated: {where}, {made['groups']} groups"
    return [(reliability_figure(curves, blocks, title, folder / "reliability.png"), CAPTION)]
