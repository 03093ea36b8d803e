"""From predictions to numbers: per arm and class, on texts of the edited class and on the others.

    accuracy, logprob_margin           texts of the class whose neurons are edited
    off_accuracy, off_margin           texts of the other classes
    induced                            share of the other classes' texts that are called the edited class
    reply_induced                      the same of replies written under an induction

Margin = score (``evaluator.score``) of the right name less the mean of the others, in nats. Draws are averaged per
text; intervals resample groups (topics, pairs) and draws, methods 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from emo.config.kinds import DRAWN, induces
from emo.core.frames import pd
from emo.core.metric_keys import metric_key, metric_parts
from emo.core.stats import Estimate, estimate, holm, paired
from emo.data.near import joined
from emo.measure.asking import named
from emo.measure.class_prediction import Prediction, table
from emo.pipeline.labelled import ClassJob
from emo.results.estimates import repeats, side_by_side, with_draws

COMPARED = ("accuracy", "logprob_margin", "induced")
UNPARSED = -1


def called(scores: np.ndarray) -> np.ndarray:
    """Return the class (index) of the highest score along the last axis; `UNPARSED` where nothing was read."""
    return named(torch.from_numpy(np.ascontiguousarray(scores))).numpy()


def scores_of(job: ClassJob, arm: str) -> np.ndarray:
    """Return the scores (conditions, n, C) of an arm; nan where nothing was found, or where they exploded."""
    found = job.predictions[arm].tensors["scores"].double().numpy()
    return np.where(np.isfinite(found), found, np.nan)


def long_table(job: ClassJob) -> pd.DataFrame:
    """Return one row per arm, metric, text, edited class and draw: the values behind every estimate.

    ``scenario`` numbers what is resampled, groups and nearly equal texts (`emo.data.near.joined`).
    """
    frame = pd.DataFrame([*_prediction_rows(job), *_written_rows(job)])
    test = job.splits.test
    made = joined([item.group for item in test], [item.text for item in test])
    frame["scenario"] = frame["sample"].map({item.id: k for item, k in zip(test, made, strict=True)})
    return with_draws(frame, {arm.name for arm in job.arms if arm.pick in DRAWN})


def _prediction_rows(job: ClassJob) -> Iterator[dict[str, Any]]:
    test, names = job.splits.test, job.names
    right = np.array([names.index(item.label) for item in test])
    choice = job.config.evaluator.answer == "choice"
    for arm in job.arms:
        scores = scores_of(job, arm.name)
        for k, (seed, edited) in enumerate(arm.conditions(len(names))):
            found, own = called(scores[k]), scores[k][np.arange(len(test)), right]
            margin = own - (scores[k].sum(-1) - own) / (len(names) - 1)
            # Of a choice scores are numbers; where they exploded nothing was measured, which is no wrong answer.
            known = ~np.isnan(scores[k]).any(-1) if choice else np.ones(len(test), dtype=bool)
            for target in range(len(names)) if edited is None else [edited]:
                for i, item in enumerate(test):
                    row = {"arm": arm.name, "sample": item.id, "emotion": names[target], "seed": seed}
                    off, at = "" if right[i] == target else "off_", 1.0 if known[i] else np.nan
                    yield row | {"metric": f"{off}accuracy", "value": at * (found[i] == right[i])}
                    if choice:
                        value = float(margin[i]) if known[i] else np.nan
                        yield row | {"metric": "off_margin" if off else "logprob_margin", "value": value}
                    if off:
                        yield row | {"metric": "induced", "value": at * (found[i] == target)}


def _written_rows(job: ClassJob) -> Iterator[dict[str, Any]]:
    for arm, made in job.written.items():
        for row in made.rows:
            for target in job.names if row["class"] is None else [row["class"]]:
                if row["label"] != target:
                    yield {
                        "arm": arm, "sample": row["sample"], "emotion": target, "seed": row["seed"],
                        "metric": "reply_induced",
                        "value": np.nan if "exploded" in row else float(row["called"] == target),
                    }  # fmt: skip


def estimates(job: ClassJob, frame: pd.DataFrame) -> dict[str, dict[str, Estimate]]:
    """Return {arm: {metric: estimate}}; a metric has a suffix ``/class`` for one class, empty where it has no texts."""
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    out: dict[str, dict[str, Estimate]] = {arm.name: {} for arm in job.arms}
    for cut in ([], ["emotion"]):
        for key, part in frame.groupby(["arm", "metric", *cut], sort=False):
            arm, metric, *part_of = key
            values, groups = part["value"].to_numpy(dtype=float), part["scenario"].to_numpy()
            out[arm][metric_key(metric, *part_of)] = estimate(values, groups, draws, seed, repeats=repeats(part))
    for made in out.values():
        for metric in [m for m in made if metric_parts(m).emotion is None]:
            for name in job.names:
                made.setdefault(metric_key(metric, name), Estimate(None, None, None, 0))
    return out


def comparisons(job: ClassJob, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every edited arm against the unedited model and its controls: paired difference, interval, p, Holm."""
    rows = []
    metrics = ["induced"] if induces(job.config) else [m for m in COMPARED[:2] if (frame["metric"] == m).any()]
    for metric in metrics:
        values = frame[frame["metric"] == metric]
        for arm in (a for a in job.arms if a.pick == "own"):
            same = (arm.op, arm.strength, arm.ratio, arm.device)
            for other in job.arms:
                if other.pick == "own" or (other.pick != "none" and (other.op, *_varied(other)) != same):
                    continue
                both = side_by_side(values, arm.name, other.name)
                a, b = (both[key].to_numpy(dtype=float) for key in ("value", "against"))
                draws, seed = job.config.evaluator.bootstrap, job.config.seed
                found = paired(a, b, both["scenario"].to_numpy(), draws, seed, repeats(both))
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

    nan where a class has no texts, or its numbers exploded.

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
        own = _mean(values[arm][[k for k, (_, target) in enumerate(conditions) if target == row]])
        out[row] = [_mean((own - values["none"][0])[right == c]) for c in range(len(names))]
    return out


def _mean(x: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what was measured; nan where nothing was."""
    known = np.isfinite(x)
    count = known.sum(0)
    return np.divide(np.where(known, x, 0.0).sum(0), count, out=np.full(count.shape, np.nan), where=count > 0)


def _per_text(job: ClassJob, arm: str, metric: str, right: np.ndarray) -> np.ndarray:
    scores = scores_of(job, arm)
    if metric == "accuracy":
        known = ~np.isnan(scores).any(-1) | (job.config.evaluator.answer != "choice")
        return np.where(known, called(scores) == right, np.nan)
    own = np.take_along_axis(scores, right[None, :, None], -1)[..., 0]
    return own - (scores.sum(-1) - own) / (len(job.names) - 1)


def predicted(job: ClassJob, arm: str) -> list[tuple[str, Prediction]]:
    """Return, per condition of an arm, what was edited and the table of its predictions."""
    names = job.names
    right = [names.index(item.label) for item in job.splits.test]
    scores = scores_of(job, arm)
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
