"""Any text-classification model of the hub as evaluator, with a map from its labels to emotions (methods 4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import transformers

from emo.console import progress
from emo.errors import UserError
from emo.models.hub import hub_errors

BATCH = 32


@lru_cache(maxsize=1)
def _load(model_id: str) -> Any:
    with hub_errors(model_id):
        return transformers.pipeline("text-classification", model=model_id, top_k=None, trust_remote_code=False)


def probabilities(model_id: str, labels: Mapping[str, str], texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return (classes, p): p (n, c) sums, per class, the chances of the model's labels that are mapped to it.

    Args:
        model_id: hub repository.
        labels: {label of the model: emotion or neutral}; labels that are left out count for no class.
        texts: replies.

    Raises:
        UserError: the model cannot be had, or has no label of such a name.
    """
    classify = _load(model_id)
    names = tuple(dict.fromkeys(labels.values()))
    p = np.zeros((len(texts), len(names)))
    own = list(classify.model.config.id2label.values())
    unknown = [label for label in labels if label not in own]
    if unknown:
        raise UserError(f"evaluator.labels: {model_id} has no label {', '.join(unknown)}; it has {', '.join(own)}")
    with progress("classifier", len(texts), "replies") as bar:
        for start in range(0, len(texts), BATCH):
            part = [text or " " for text in texts[start : start + BATCH]]
            for i, found in enumerate(classify(part, truncation=True)):
                for one in found:
                    if one["label"] in labels:
                        p[start + i, names.index(labels[one["label"]])] += one["score"]
            bar.advance(len(part))
    return names, p
