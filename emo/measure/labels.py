"""What an evaluator calls the replies: labels, and from them accuracy (methods 1.12, 4.3).

    accuracy        = the label (emotions, neutral, or other: what a map of labels leaves out) equals the target
    clean_accuracy  = that, and the reply is not degenerate
    forced_accuracy = the likeliest of the emotions alone equals the target (not for a judge, which gives no chances)
    unsure          = the label's chance is below 0.5: rather another one is right (nor for a judge)
    match           = a judge that was told the target says that the style matches it
    joint           = its marks for expressing the target, coherence and topic, harmonic mean, 0 to 2

A reply without a label (an evaluator that failed on it) is unjudged: counted, in no mean, and asked for again by the
next call (`emo.measure.unjudged`). A reply of an arm without a target counts once for every emotion.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from typing import Any

import numpy as np

from emo.config.schema import Config
from emo.core.partial import Done, Owner, fill
from emo.core.store import Store
from emo.measure.labeller import Evaluator, Rows
from emo.measure.own_labeller import OwnEvaluator

# Evaluators that label replies; each is loaded where it is used: two of them bring large libraries along.
SURE = 0.5  # chance of a label from which it is more likely right than wrong
EVALUATORS = {
    "classifier": ("emo.measure.classifier", "ClassifierEvaluator"),
    "hf_classifier": ("emo.measure.hf_classifier", "HubEvaluator"),
    "openai_judge": ("emo.measure.judge_labels", "JudgeEvaluator"),
    "llm_judge": ("emo.measure.llm_judge", "LocalJudge"),
}


def evaluator_of(config: Config, store: Store) -> Evaluator | None:
    """Return what labels the replies of a job; None where nothing does.

    Args:
        config: of the job.
        store: holds what an evaluator keeps: the fitted classifier, a judge's answers.
    """
    if config.evaluator._target_ is not None:
        return OwnEvaluator(config, store)
    if config.evaluator.name not in EVALUATORS:
        return None
    module, name = EVALUATORS[config.evaluator.name]
    evaluator: Evaluator = getattr(import_module(module), name)(config, store)
    return evaluator


def check_labels(config: Config, store: Store) -> None:
    """Check that the replies of this job can be labelled, before any is written.

    Raises:
        UserError: the evaluator says what it lacks.
    """
    evaluator = evaluator_of(config, store)
    if evaluator is not None:
        evaluator.check()


def labeller_address(config: Config) -> str | None:
    """Return the address of what labels this job's replies, or None where nothing does."""
    evaluator = evaluator_of(config, Store(config.paths.store))
    return None if evaluator is None else evaluator.address()


def label_all(store: Store, config: Config, replies: dict[str, Rows]) -> dict[str, Rows]:
    """Return one row per reply of several arms, as `emo.measure.labeller.Evaluator.label` gives them.

    Args:
        store: holds what the evaluator keeps.
        config: of the job.
        replies: per arm, rows with sample, emotion (None: no target), seed and reply.

    Raises:
        ValueError: the job's evaluator labels nothing.
    """
    evaluator = evaluator_of(config, store)
    if evaluator is None:
        raise ValueError(f"evaluator={config.evaluator.name} labels nothing")
    flat = [row for rows in replies.values() for row in rows]
    labels: Rows
    if evaluator.remembers:
        labels = [{} for _ in flat]
        evaluator.label(flat, labels.__setitem__)
    else:
        owners: list[list[Owner]] = [
            [(arm, [row["sample"], row["emotion"], row["seed"], hashlib.sha256(row["reply"].encode()).hexdigest()])]
            for arm, rows in replies.items()
            for row in rows
        ]

        def compute(left: list[int], done: Done) -> None:
            evaluator.label([flat[i] for i in left], done)

        labels = fill("labels", "labels", "replies", owners, compute)
    ends = [int(end) for end in np.cumsum([len(rows) for rows in replies.values()])]
    return {arm: labels[end - len(rows) : end] for (arm, rows), end in zip(replies.items(), ends, strict=True)}


def hits(row: dict[str, Any], target: str, degenerate: bool) -> dict[str, float | None]:
    """Return the outcomes of one labelled reply against ``target``, 0 or 1 (joint: 0 to 2); None: it is unjudged."""
    right = None if row["label"] is None else float(row["label"] == target)
    return {
        "accuracy": right,
        "clean_accuracy": None if right is None else right * (not degenerate),
        "forced_accuracy": None if row["forced"] is None else float(row["forced"] == target),
        "unsure": None if row.get("p") is None else float(row["p"] < SURE),
        "match": None if row.get("match") is None else float(row["match"]),
        "joint": None if row.get("joint") is None else float(row["joint"]),
    }
