"""Corrected accuracies on the page of a job: beside the raw ones, with the labels that they rest on.

A page is written with its result, often long before anybody labels a reply. It has slots (`emo.core.slots`) that
`refresh` fills from corrected.json, and empties where that is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.core.console import format_estimate
from emo.core.corrected import FEWEST_LABELLED, Corrected
from emo.core.slots import filled, has_slot, slot
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.charts.corrected import job_corrected
from emo.report.charts.section import drawable, figures_of
from emo.results.corrected import Difference, Share
from emo.results.table import read_result
from emo.results.trusted import Corrections, read_corrections

FINDING, NUMBERS = "finding", "corrected"  # slots of a job's page
HEAD = "Corrected accuracy"
LEAD = "clean_accuracy"  # metric of the sentences
CORRECTED = (
    "raw: the run's own labels. prediction-powered: corrected by the replies with a trusted label, which have to be "
    "drawn at random from the arm (a label sheet draws them so). confusion matrix: assumes that what is called wrongly "
    "is called the same wrong names in every arm. would halve: labelled replies of this arm that would make the "
    "interval of the prediction-powered one half as wide; -: not even a label for each reply would, more scenarios are "
    "needed."
)
HEADS = ["raw", "prediction-powered", "confusion matrix", "labelled", "would halve"]


def slots() -> tuple[str, str]:
    """Return the empty slots of a page: of a sentence, and of the section."""
    return slot(FINDING), slot(NUMBERS)


def refresh(folder: Path) -> bool:
    """Show on the page of a finished job what its corrected.json says, or nothing where there is none.

    Returns:
        Whether the page shows corrected accuracies now; not where it is of an earlier version, without slots.
    """
    path, result = folder / "report.html", read_result(folder)
    if result is None or not path.is_file():
        return False
    found = read_corrections(folder, result)
    old = path.read_bytes().decode("utf-8")
    sentence, section = ("", "") if found is None else (_finding(found, result), _section(found, result, old))
    new = filled(filled(old, FINDING, sentence), NUMBERS, section)
    if new != old:
        partial = path.with_suffix(".tmp")
        partial.write_bytes(new.encode("utf-8"))
        os.replace(partial, path)
    return found is not None and found.current and has_slot(new, NUMBERS)


def rests(own: Corrections) -> list[str]:
    """Return what the corrected accuracies of a job rest on, a sentence each."""
    lines = [
        f"Corrected by the labels of {own.trusted}, taken for the truth: {len(own.labels)} of the job's {own.replies} "
        f"different replies have one. Raw: the job's own labels ({own.called})."
    ]
    if own.lost:
        lines.append(lost_line(own.lost, own.trusted))
    if own.lacking:
        lines.append(lacking_line(own.lacking))
    return lines


def stale(own: Corrections) -> str:
    """Return why nothing corrected is shown of a job."""
    gone = f"{own.gone} of the {len(own.labels)} labelled replies are no longer there"
    what = gone if own.gone else "the replies are the same, but the job's own labels of them are others"
    return (
        f"Labels of {own.trusted} are there, but the job has been written anew since: {what}. Nothing corrected is "
        "shown until the line of task=agreement is typed again."
    )


def lost_line(lost: int, trusted: str) -> str:
    """Return what labels of replies that are nowhere mean."""
    return (
        f"{lost} more labels of {trusted} are of replies that none of the runs has, and count nowhere. If they were of "
        "these runs, before these were written anew, what is left is no random draw: label a new sheet."
    )


def lacking_line(lacking: Mapping[str, int]) -> str:
    """Return why there is no confusion matrix."""
    few = ", ".join(f"{name} ({n})" for name, n in lacking.items())
    return f"No confusion matrix: too few labelled replies of {few}; 5 of each class are needed."


def halving(x: Corrected) -> object:
    """Return how many labelled replies would halve an interval, as tables show it."""
    return x.to_halve or ("-" if x.estimate.value is not None else f"{FEWEST_LABELLED} are needed")


def halved_line(raw: Estimate, x: Corrected, what: str) -> str:
    """Return one accuracy, raw and corrected, and what a narrower interval takes."""
    if x.estimate.value is None:
        return (
            f"{what}: {format_estimate(raw)} raw; not corrected, {x.labelled} labelled replies are too few "
            f"({FEWEST_LABELLED} are needed)."
        )
    if x.estimate.lo is None:
        more = "the labels are of too few scenarios for an interval"
    elif x.to_halve is None:
        more = "no number of labels would halve this interval, more scenarios are needed"
    else:
        more = f"{x.to_halve} labelled replies, in place of {x.labelled}, would halve this interval"
    return f"{what}: {format_estimate(raw)} raw, {format_estimate(x.estimate)} corrected; {more}."


def shares_table(shares: Iterable[Share], *, jobs: bool = False) -> str:
    """Return the table of accuracies of all emotions together, raw and corrected; ``jobs``: of several."""
    rows = [
        [f"{x.arm}, {x.metric}", *([x.job] if jobs else []), x.raw, x.powered.estimate, x.confusion, x.powered.labelled,
         halving(x.powered)]
        for x in shares
        if x.emotion is None
    ]  # fmt: skip
    return page.table(["arm", *(["job"] if jobs else []), *HEADS], rows)


def differences_table(differences: Sequence[Difference], *, jobs: bool = False) -> str:
    """Return the table of comparisons, raw and corrected; nothing where there are none."""
    pairs = [[f"{x.arm} - {x.against}, {x.metric}", *([x.job] if jobs else []), x.raw, x.powered] for x in differences]
    return page.table(["comparison", *(["job"] if jobs else []), *HEADS[:2]], pairs) if pairs else ""


def _finding(own: Corrections, result: Mapping[str, Any]) -> str:
    if not own.current:
        return f"<p><strong>{page.text(stale(own))}</strong></p>"
    lead = _lead(own, result)
    return "" if lead is None else f"<p>{page.text(_lead_line(lead, own))} See {HEAD} below.</p>"


def _lead_line(lead: Share, own: Corrections) -> str:
    what = f"{lead.metric.replace('_', ' ').capitalize()} of {lead.arm} without the errors of {own.called}"
    return halved_line(lead.raw, lead.powered, f"{what}, by the labels of {own.trusted}")


def _lead(own: Corrections, result: Mapping[str, Any]) -> Share | None:
    """Return the accuracy that the job is about."""
    whole = {x.arm: x for x in own.shares if x.emotion is None and x.metric == LEAD}
    targets = [row["arm"] for row in result.get("comparisons") or []]
    return next((whole[arm] for arm in (*targets, *reversed(whole)) if arm in whole), None)


def _section(own: Corrections, result: Mapping[str, Any], html: str) -> str:
    if not own.current:
        return page.section(HEAD, page.items([stale(own)]))
    charts, names = "", result["config"]["emotions"]["names"]
    if 'id="engine"' in html:  # the page has what draws them
        made = drawable(lambda: job_corrected(own.shares, own.differences, result.get("settings") or {}, names))
        charts = figures_of(made)
    parts = [page.items([*rests(own), CORRECTED]), charts, shares_table(own.shares)]
    parts.append(differences_table(own.differences))
    return page.section(HEAD, "".join(parts))
