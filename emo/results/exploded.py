"""Numbers that exploded (nan, inf) under an arm: they cost that arm's own values, and are counted."""

from __future__ import annotations

import numpy as np

from emo.pipeline.labelled import ClassJob
from emo.pipeline.scenario import Job

Counts = dict[str, dict[str, list[int]]]  # arm -> what was measured -> [exploded, of]


def exploded(job: Job) -> Counts:
    """Return, for arms of which numbers exploded, how many of how many did."""
    replied = job.config.evaluator.name != "projection"
    greedy = {row["sample"]: bool(row.get("ids") or row["reply"]) for row in job.replies["none"]} if replied else {}
    found = {}
    for arm in job.arms:
        bad = {"projections": (~np.isfinite(job.projections[arm.name].numpy())).any((1, 2))}
        if arm.steered and bad["projections"].any():  # else a dose is missing where nothing was changed
            bad["doses"] = np.array([row["dose"] is None for row in job.doses[arm.name]])
        if replied:
            bad["replies"] = np.array(["exploded" in row for row in job.replies[arm.name]])
            if job.margins:
                bad["margins"] = np.array([row["margin"] is None for row in job.margins[arm.name]])
            if arm.steered and not arm.prompted:
                bad["KL"] = np.array([row["kl"] is None and greedy[row["sample"]] for row in job.damage[arm.name]])
        found[arm.name] = bad
    return _counted(found)


def exploded_classes(job: ClassJob) -> Counts:
    """Return the same of a job on classes: predictions by choice, and replies."""
    found: dict[str, dict[str, np.ndarray]] = {arm.name: {} for arm in job.arms}
    for name, bad in found.items():
        if job.config.evaluator.answer == "choice":  # of a parsed answer nan means that no name was found
            scores = job.predictions[name].tensors["scores"].numpy()
            bad["predictions"] = ~np.isfinite(scores).all(-1).ravel()
        if name in job.written:
            bad["replies"] = np.array(["exploded" in row for row in job.written[name].rows])
    return _counted(found)


def lines(counts: Counts) -> list[str]:
    """Return a remark per arm."""
    return [
        f"{arm}: numbers exploded (nan or inf) in "
        + ", ".join(f"{k} of {n} {what}" for what, (k, n) in own.items())
        + "; they are left out, the other arms are as they are without it."
        for arm, own in counts.items()
    ]


def _counted(found: dict[str, dict[str, np.ndarray]]) -> Counts:
    counts = {arm: {what: [int(x.sum()), len(x)] for what, x in bad.items() if x.any()} for arm, bad in found.items()}
    return {arm: own for arm, own in counts.items() if own}
