"""Tables of a job on neurons or heads, as HTML: target against control, and the paper's delta-s beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emo.core.metric_keys import metric_key
from emo.core.stats import Estimate
from emo.data.published import CITATION, paper_delta_s
from emo.report import elements as page
from emo.results.arm_order import base_name

Found = Mapping[str, Mapping[str, Estimate]]


def section(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of `emo.report.unit_results.ratios`: all emotions together, a line per arm and control."""
    whole = [row for row in rows if row["emotion"] is None]
    if not whole:
        return ""
    head = "".join(
        f"<th>{name}</th>"
        for name in ("arm", "control", "target / control", "SD over draws", "units in common", "size")
    )
    cells = [
        f"<tr><th>{page.text(row['arm'])}</th><td>{page.text(row['against'])}</td><td>{ratio_text(row)}</td>"
        f"<td>{_number(row['seeds_sd'])}</td>"
        f"<td>{row['overlap']:.0%}</td><td>{_number(row['size'])}</td></tr>"
        for row in whole
    ]
    note = page.items(
        [
            "SD over draws: of the control's mean delta_s. units in common: share of the target's units that the "
            "control edits too. size: mean magnitude of the control's units / the target's."
        ]
    )
    return page.section("delta_s: target against control", note + page.numbers(head, "\n".join(cells), ""))


def ratio_text(row: Mapping[str, Any]) -> str:
    """Return a ratio with its interval, or why it has none."""
    if row["value"] is None:
        return "control is 0" if row["n"] else "not measured"
    if row["ci"] is None:
        return f"{row['value']:.1f}" + (" (control not different from 0)" if row["different"] is False else "")
    return f"{row['value']:.1f} [{row['ci'][0]:.1f}, {row['ci'][1]:.1f}]"


def published(
    found: Found, arms: Sequence[tuple[str, str, int]], names: Sequence[str], model_id: str, dataset: str
) -> str:
    """Return ours beside the paper's delta-s, for exactly its model, set and numbers of units; empty where it has none.

    Args:
        found: estimates per arm and metric.
        arms: (arm, kind of intervention, k) of the target arms and of the random control.
        names: emotions.
        model_id: as the hub names it.
        dataset: the set under the paper's name.
    """
    lines = []
    for arm, kind, k in arms:
        columns = ["random"] if base_name(arm) == "random" else names
        for column in columns:
            theirs = paper_delta_s(model_id, kind, dataset, column, k)
            ours = found[arm].get("delta_s" if column == "random" else metric_key("delta_s", column))
            if theirs is not None and ours is not None and ours.value is not None:
                band = f" [{ours.lo:.1f}, {ours.hi:.1f}]" if ours.lo is not None and ours.hi is not None else ""
                lines.append(
                    f"<tr><th>{k}</th><td>{page.text(column)}</td><td>{ours.value:.1f}{band}</td>"
                    f"<td>{theirs:.1f}</td></tr>"
                )
    if not lines:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("k", "units of", "delta_s, ours", "delta_s, paper"))
    note = page.items([f"Published: {CITATION}, tables 4-7, on the authors' own scenarios."])
    return page.section("delta_s beside the paper's", note + page.numbers(head, "\n".join(lines), ""))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
