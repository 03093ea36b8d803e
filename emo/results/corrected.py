"""Accuracies of finished runs with the error of their labeller in them (`emo.core.corrected`, methods 4.3).

Of every arm: the accuracy of the run's own labels, the prediction-powered one, and the one by the confusion matrix of
all arms together. Results on disk stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.config.choices import DRAWN_CIRCUITS, DRAWN_UNITS
from emo.core.corrected import FEWEST_LABELLED, Confusion, Corrected, powered, rectified, widened
from emo.core.frames import pd
from emo.core.stats import Estimate, estimate
from emo.core.types import NEUTRAL, OTHER
from emo.results.agreement import Labels
from emo.results.arm_order import base_name
from emo.results.estimates import repeats, side_by_side, with_draws
from emo.results.replies import Replies, Reply

METRICS = ("accuracy", "clean_accuracy")
DRAWN = ("random", "shuffled", *DRAWN_UNITS, *DRAWN_CIRCUITS)  # controls that are drawn: `emo.results.estimates`


class Share(NamedTuple):
    """One accuracy, raw and corrected."""

    job: str
    arm: str
    metric: str
    emotion: str | None  # None: all
    raw: Estimate
    powered: Corrected
    confusion: Estimate | None  # of all emotions together only


class Difference(NamedTuple):
    """One comparison of a result, raw and corrected."""

    job: str
    arm: str
    against: str
    metric: str
    raw: Estimate
    powered: Estimate


class Tables(NamedTuple):
    """Everything that was corrected."""

    shares: list[Share]
    differences: list[Difference]
    lacking: dict[str, int]  # class -> labelled replies, too few for a confusion matrix (of all, or of clean ones)
    labelled: int  # different replies with a trusted label


def correct(replies: Replies, called: Labels, trusted: Mapping[str, str], draws: int, seed: int) -> Tables:
    """Return the accuracies and comparisons of all runs.

    Args:
        replies: of finished runs.
        called: labels of all of them, one for each.
        trusted: {id of the text: label} of a part of them, drawn at random.
        draws: bootstrap draws.
        seed: same seed, same intervals.
    """
    table = _confusions(replies, called, trusted, draws, seed)
    shares: list[Share] = []
    differences: list[Difference] = []
    for job in replies.results:
        rows = [(r, label) for r, label in zip(replies.rows, called.labels, strict=True) if r.row["job"] == job]
        frame = values_of(rows, trusted, replies.names)
        for key, part in frame.groupby(["arm", "metric"], sort=False):
            arm, metric = map(str, key)
            for emotion in (None, *replies.names):
                own = part if emotion is None else part[part["emotion"] == emotion]
                if own["value"].notna().any():
                    matrix = None if emotion else _by_confusion(table[metric], own)
                    shares.append(Share(job, arm, metric, emotion, *_measured(own, draws, seed), matrix))
        differences += _differences(job, replies.results[job], frame, draws, seed)
    told = {one.id for one in replies.rows if one.id in trusted}
    whole = {f"{name} that are not broken": n for name, n in table["clean_accuracy"].lacking.items()}
    return Tables(shares, differences, table["accuracy"].lacking or whole, len(told))


def values_of(rows: Sequence[tuple[Reply, Any]], trusted: Mapping[str, str], names: Sequence[str]) -> pd.DataFrame:
    """Return one row per arm, metric, sample, target and draw: value (F), truth (Y, nan: not labelled).

    Args:
        rows: replies of one run, each with the label that is corrected.
        trusted: as of `correct`.
        names: emotions; a reply without a target stands for each.
    """
    made = []
    for reply, label in rows:
        row, true = reply.row, trusted.get(reply.id)
        for target in names if reply.target is None else [reply.target]:
            for metric in METRICS:
                whole = not (metric == "clean_accuracy" and row["degenerate"])
                made.append(
                    {
                        "arm": row["arm"], "metric": metric, "sample": row["sample"], "emotion": target,
                        "seed": row["seed"], "scenario": reply.cluster, "id": reply.id, "called": label, "whole": whole,
                        "value": np.nan if label is None else float(label == target and whole),
                        "truth": np.nan if true is None else float(true == target and whole),
                    }
                )  # fmt: skip
    frame = pd.DataFrame(made)
    drawn = {arm for arm in frame["arm"].unique() if base_name(arm).removeprefix("prompt_") in DRAWN}
    return with_draws(frame, drawn)


def _measured(part: pd.DataFrame, draws: int, seed: int) -> tuple[Estimate, Corrected]:
    value, truth = part["value"].to_numpy(dtype=float), part["truth"].to_numpy(dtype=float)
    scenarios, drawn = part["scenario"].to_numpy(), repeats(part)
    labelled = part[part["truth"].notna() & part["value"].notna()]["id"].nunique()
    raw = estimate(value, scenarios, draws, seed, repeats=drawn)
    return raw, powered(value, truth, scenarios, labelled, draws, seed, drawn)


def _confusions(
    replies: Replies, called: Labels, trusted: Mapping[str, str], draws: int, seed: int
) -> dict[str, Confusion]:
    """Return the confusion matrix per metric: of all labelled replies, and of those that are not broken."""
    known = [
        (trusted[r.id], label, r)
        for r, label in zip(replies.rows, called.labels, strict=True)
        if r.id in trusted and label is not None
    ]
    named = {x for true, label, _ in known for x in (true, label)} | set(replies.names)
    classes = [*replies.names, *(x for x in (NEUTRAL, OTHER) if x in named)]
    made = {}
    for metric in METRICS:
        part = [x for x in known if metric == "accuracy" or not x[2].row["degenerate"]]
        made[metric] = Confusion(
            [true for true, *_ in part], [str(label) for _, label, _ in part], [r.cluster for *_, r in part], classes,
            draws, seed,
        )  # fmt: skip
    return made


def _by_confusion(table: Confusion, part: pd.DataFrame) -> Estimate:
    there = part[part["called"].notna() & part["called"].isin(table.classes)]
    return table.share(
        there["called"].tolist(), there["emotion"].tolist(), there["scenario"].tolist(), there["whole"].tolist()
    )


def _differences(job: str, result: Mapping[str, Any], frame: pd.DataFrame, draws: int, seed: int) -> list[Difference]:
    found = []
    for row in result.get("comparisons") or []:
        part = frame[frame["metric"] == row["metric"]].copy()
        if part.empty or row["value"] is None:
            continue
        lo, hi = row["ci"] or (None, None)
        raw = Estimate(row["value"], lo, hi, row["n"])
        labelled = [_labelled(part, row[key]) for key in ("arm", "against")]
        if min(labelled) < FEWEST_LABELLED:
            corrected = Estimate(None, None, None, row["n"])
        else:
            for arm in (row["arm"], row["against"]):
                own = part["arm"] == arm
                values = part[own]["value"].to_numpy(dtype=float), part[own]["truth"].to_numpy(dtype=float)
                part.loc[own, "value"] = rectified(*values)
            both = side_by_side(part, row["arm"], row["against"])
            change = (both["value"] - both["against"]).to_numpy(dtype=float)
            told = part[part["truth"].notna() & part["arm"].isin([row["arm"], row["against"]])]
            corrected = widened(
                estimate(change, both["scenario"].to_numpy(), draws, seed, repeats=repeats(both)),
                told["scenario"].nunique(), *labelled,
            )  # fmt: skip
        found.append(Difference(job, row["arm"], row["against"], row["metric"], raw, corrected))
    return found


def _labelled(part: pd.DataFrame, arm: str) -> int:
    own = part[(part["arm"] == arm) & part["truth"].notna() & part["value"].notna()]
    return int(own["id"].nunique())
