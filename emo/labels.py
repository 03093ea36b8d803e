"""What an evaluator calls the replies: labels, and from them accuracy (methods 4.3).

    accuracy        = the label (emotions and neutral) equals the target
    clean_accuracy  = that, and the reply is not degenerate
    forced_accuracy = the likeliest of the emotions alone equals the target

A reply without a label (an evaluator that failed on it) is unjudged: counted, and in no mean. A reply of an arm
without a target counts once for every emotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo.config import Config
from emo.errors import UserError
from emo.evaluators.classifier import classes, classifier_address, load_classifier
from emo.store import Store
from emo.types import NEUTRAL

LABELLERS = ("classifier",)  # evaluators that label replies


def check_labels(config: Config) -> None:
    """Raise `UserError` where the classifier is to label replies and does not know one of the emotions."""
    unknown = [name for name in config.emotions.names if name not in classes()]
    asked = {"evaluator": config.evaluator.name, "elicitation.judge": config.elicitation.judge}
    for key, value in asked.items():
        if value == "classifier" and unknown:
            other = "evaluator=margin" if key == "evaluator" else f"{key}=none"
            raise UserError(
                f"{key}=classifier: no class {', '.join(unknown)} in it; it knows {', '.join(classes())}; type {other}"
            )


def labeller_address(config: Config) -> str | None:
    """Return the address of what labels this job's replies, or None where nothing does."""
    return classifier_address(config.emotions.names) if config.evaluator.name in LABELLERS else None


def label_rows(store: Store, names: Sequence[str], replies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per reply: sample, emotion, seed, label, forced (among the emotions), p (of the label).

    Args:
        store: holds the classifier.
        names: the emotions.
        replies: rows with sample, emotion (None: no target), seed and reply.
    """
    if not replies:
        return []
    made = load_classifier(store, names)
    p = made.probabilities([row["reply"] for row in replies])
    emotions = [i for i, name in enumerate(made.names) if name != NEUTRAL]
    rows = []
    for reply, chances in zip(replies, p, strict=True):
        best = int(chances.argmax()) if reply["reply"].strip() else made.names.index(NEUTRAL)
        forced = max(emotions, key=lambda i: chances[i])
        keys = {key: reply[key] for key in ("sample", "emotion", "seed")}
        rows.append(keys | {"label": made.names[best], "forced": made.names[forced], "p": float(chances[best])})
    return rows


def hits(row: dict[str, Any], target: str, degenerate: bool) -> dict[str, float | None]:
    """Return the accuracies of one labelled reply against ``target``, 0 or 1; None where it is unjudged."""
    if row["label"] is None:
        return {"accuracy": None, "clean_accuracy": None, "forced_accuracy": None}
    right = row["label"] == target
    forced = None if row["forced"] is None else float(row["forced"] == target)
    return {"accuracy": float(right), "clean_accuracy": float(right and not degenerate), "forced_accuracy": forced}
