"""From predictions to numbers: per arm and class, on texts of the edited class and on the others.

    accuracy, logprob_margin           texts of the class whose neurons are edited
    off_accuracy, off_margin           texts of the other classes
    induced                            share of the other classes' texts that are called the edited class
    reply_induced                      the same of replies written under an induction

Margin = score (``evaluator.score``) of the right name less the mean of the others, in nats. Draws are averaged per text
first; intervals resample groups (topics, pairs), methods 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from emo.metric_keys import metric_key
from emo.neurons.asking import named
from emo.neurons.job import ClassJob
from emo.neurons.prediction import Prediction, table
from emo.stats import Estimate, estimate, holm, paired

COMPARED = ("accuracy", "logprob_margin", "induced")
UNPARSED = -1


def called(scores: np.ndarray) -> np.ndarray:
    """Return the class (index) of the highest score along the last axis; `UNPARSED` where nothing was read."""
    return named(torch.from_numpy(np.ascontiguousarray(scores))).numpy()


def long_table(job: ClassJob) -> pd.DataFrame:
    """Return one row per arm, metric, text and edited class (draws averaged): the values behind every estimate."""
    frame = pd.DataFrame([*_prediction_rows(job), *_written_rows(job)])
    keys = ["arm", "metric", "sample", "scenario", "emotion"]
    return frame.groupby(keys, sort=False)["value"].mean().reset_index()


def _prediction_rows(job: ClassJob) -> Iterator[dict[str, Any]]:
    test, names = job.splits.test, job.names
    right = np.array([names.index(item.label) for item in test])
    choice = job.config.evaluator.answer == "choice"
    for arm in job.arms:
        scores = job.predictions[arm.name].tensors["scores"].double().numpy()
        for k, (_, edited) in enumerate(arm.conditions(len(names))):
            found, own = called(scores[k]), scores[k][np.arange(len(test)), right]
            margin = own - (scores[k].sum(-1) - own) / (len(names) - 1)
            for target in range(len(names)) if edited is None else [edited]:
                for i, item in enumerate(test):
                    row = {"arm": arm.name, "sample": item.id, "scenario": item.group, "emotion": names[target]}
                    off = "" if right[i] == target else "off_"
                    yield row | {"metric": f"{off}accuracy", "value": float(found[i] == right[i])}
                    if choice:
                        yield row | {"metric": "off_margin" if off else "logprob_margin", "value": float(margin[i])}
                    if off:
                        yield row | {"metric": "induced", "value": float(found[i] == target)}


def _written_rows(job: ClassJob) -> Iterator[dict[str, Any]]:
    groups = {item.id: item.group for item in job.splits.test}
    for arm, made in job.written.items():
        for row in made.rows:
            for target in job.names if row["class"] is None else [row["class"]]:
                if row["label"] != target:
                    yield {
                        "arm": arm, "sample": row["sample"], "scenario": groups[row["sample"]], "emotion": target,
                        "metric": "reply_induced", "value": float(row["called"] == target),
                    }  # fmt: skip


def estimates(job: ClassJob, frame: pd.DataFrame) -> dict[str, dict[str, Estimate]]:
    """Return {arm: {metric: estimate}}; a metric has a suffix ``/class`` for one class."""
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    out: dict[str, dict[str, Estimate]] = {arm.name: {} for arm in job.arms}
    for cut in ([], ["emotion"]):
        for key, part in frame.groupby(["arm", "metric", *cut], sort=False):
            arm, metric, *part_of = key
            found = estimate(part["value"].to_numpy(dtype=float), list(part["scenario"]), draws, seed)
            out[arm][metric_key(metric, *part_of)] = found
    return out


def comparisons(job: ClassJob, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every edited arm against the unedited model and its controls: paired difference, interval, p, Holm."""
    kind, rows = job.config.intervention.kind, []
    metrics = ["induced"] if kind == "induce" else [m for m in COMPARED[:2] if (frame["metric"] == m).any()]
    for metric in metrics:
        values = frame[frame["metric"] == metric].set_index(["arm", "sample", "emotion"])
        for arm in (a for a in job.arms if a.pick == "own"):
            same = (arm.op, arm.strength, arm.ratio, arm.device)
            for other in job.arms:
                if other.pick == "own" or (other.pick != "none" and (other.op, *_varied(other)) != same):
                    continue
                a = values.loc[arm.name]
                b = values.loc[other.name].reindex(a.index)
                found = paired(
                    a["value"].to_numpy(dtype=float), b["value"].to_numpy(dtype=float), list(a["scenario"]),
                    job.config.evaluator.bootstrap, job.config.seed,
                )  # fmt: skip
                rows.append(
                    {
                        "arm": arm.name,
                        "against": other.name,
                        "metric": metric,
                        **found.difference.to_dict(),
                        "p": found.p,
                    }
                )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _varied(arm: Any) -> tuple[Any, ...]:
    return arm.strength, arm.ratio, arm.device


def change_matrix(job: ClassJob, arm: str, metric: str) -> np.ndarray:
    """Return (C, C): row masked class, column true class, change against the unedited model, draws averaged.

    Args:
        job: with predictions.
        arm: name of an edited arm.
        metric: accuracy (share) | margin (nats).
    """
    names, test = job.names, job.splits.test
    right = np.array([names.index(item.label) for item in test])
    values = {name: _per_text(job, name, metric, right) for name in ("none", arm)}
    conditions = next(a for a in job.arms if a.name == arm).conditions(len(names))
    out = np.zeros((len(names), len(names)))
    for row in range(len(names)):
        own = values[arm][[k for k, (_, target) in enumerate(conditions) if target == row]].mean(0)
        out[row] = [(own - values["none"][0])[right == c].mean() for c in range(len(names))]
    return out


def _per_text(job: ClassJob, arm: str, metric: str, right: np.ndarray) -> np.ndarray:
    scores = job.predictions[arm].tensors["scores"].double().numpy()
    if metric == "accuracy":
        return (called(scores) == right).astype(float)
    own = np.take_along_axis(scores, right[None, :, None], -1)[..., 0]
    return own - (scores.sum(-1) - own) / (len(job.names) - 1)


def predicted(job: ClassJob, arm: str) -> list[tuple[str, Prediction]]:
    """Return, per condition of an arm, what was edited and the table of its predictions."""
    names = job.names
    right = [names.index(item.label) for item in job.splits.test]
    scores = job.predictions[arm].tensors["scores"].double().numpy()
    conditions = next(a for a in job.arms if a.name == arm).conditions(len(names))
    return [
        ("-" if target is None else names[target], table(right, called(scores[k]).tolist(), len(names)))
        for k, (_, target) in enumerate(conditions)
    ]


def chance(job: ClassJob) -> float:
    """Return the accuracy of naming one class always: the share of the largest class of the test texts."""
    count = Counter(item.label for item in job.splits.test)
    return max(count.values()) / len(job.splits.test)


def at_chance(job: ClassJob, found: dict[str, dict[str, Estimate]]) -> bool:
    """Whether the unedited model's accuracy is not above `chance`: its interval reaches down to it."""
    x, least = found["none"]["accuracy"], chance(job)
    return (x.value or 0.0) <= least or (x.lo is not None and x.lo <= least)
