"""The section of a page that compares two models: what is alike, beside its noise ceiling and its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.core.console import format_estimate
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.plots.stability import stability_figure

NOTES = (
    "across: half the extraction scenarios in the first model against the other half in the second, the mean of both "
    "ways. ceiling: the two halves in one model. All are from as many scenarios, so what across lacks of the ceilings "
    "is the model's; what even the ceiling lacks of 1 is the data's.",
    "control: across, with other emotions, or with units or blocks exchanged at random (10 draws). Two pairs are no "
    "sample: there are no intervals.",
)
CAPTION = (
    "Directions and rankings of units, block by block: across the two models, within each (the noise ceiling), and "
    "with emotions or units exchanged. Means over emotions."
)


def section(found: Mapping[str, Any]) -> str:
    """Return `emo.results.stability.stability` as tables."""
    head = "".join(
        f"<th>{name}</th>"
        for name in ("what", "measure", "across", "ceiling, first", "ceiling, second", "control", "exchanged")
    )
    cells = "\n".join(
        f"<tr><th>{page.text(row['part'])}</th><td>{page.text(row['measure'])}</td>"
        + "".join(f"<td>{_number(x)}</td>" for x in (row["across"], *row["ceiling"], row["control"]))
        + f"<td>{page.text(row['exchanged'])}</td></tr>"
        for row in found["rows"]
    )
    title = f"Alike in {found['against']}?"
    return page.section(title, page.items(NOTES) + page.numbers(head, cells, "")) + _transfer(found["arms"])


def _transfer(arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return what every arm does in each model, and the first model's circuit in the second."""
    metrics = list(dict.fromkeys(m for own in arms.values() for found in own.values() for m in found))
    head = "".join(f"<th>{page.text(name)}</th>" for name in ("model", "arm", *metrics))
    cells = "\n".join(
        f"<tr><th>{page.text(model)}</th><td>{page.text(arm)}</td>"
        + "".join(f"<td>{_estimate(found.get(metric))}</td>" for metric in metrics)
        + "</tr>"
        for model, own in arms.items()
        for arm, found in own.items()
        if arm != "none"
    )
    note = "Projections of the second model are along its own directions, whichever circuit is added."
    return page.section(
        "The circuit of the first model in the second", page.items([note]) + page.numbers(head, cells, "")
    )


def figures(found: Mapping[str, Any], where: str, folder: Path) -> Sequence[tuple[Path, str]]:
    """Write the figure over depth; returns it with its caption."""
    blocks = {f"{row['part']}: {row['measure']}": row for row in found["blocks"]}
    return [(stability_figure(blocks, f"Two models, block by block: {where}", folder / "stability.png"), CAPTION)]


def _number(value: float | None) -> str:
    return page.cell(None, common=True) if value is None else f"{value:.2f}"


def _estimate(x: Mapping[str, Any] | None) -> str:
    if x is None or x["value"] is None:
        return page.cell(None, common=True)
    lo, hi = x["ci"] or (None, None)
    return page.text(format_estimate(Estimate(x["value"], lo, hi, x["n"])))
