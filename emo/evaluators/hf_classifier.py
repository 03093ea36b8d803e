"""Any text-classification model of the hub as evaluator, with a map from its labels to emotions (methods 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from emo.console import progress
from emo.errors import UserError
from emo.models.hub import hub_commit, hub_errors
from emo.types import OTHER

BATCH = 32


@lru_cache(maxsize=4)
def commit(model_id: str) -> str:
    """Return the commit that a hub repository stands at, or the sha256 of a local folder's files.

    Raises:
        UserError: it is neither on this machine nor to be had.
    """
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    with _named():
        return hub_commit(model_id, None).commit


@lru_cache(maxsize=1)
def load(model_id: str) -> Any:
    """Return the pipeline of a hub repository or a local folder, downloaded on first use."""
    folder = Path(model_id).expanduser()
    source, revision = (str(folder), None) if folder.is_dir() else (model_id, commit(model_id))
    with _named(), hub_errors(model_id):
        return transformers.pipeline(
            "text-classification", model=source, revision=revision, top_k=None, trust_remote_code=False
        )


@contextmanager
def _named() -> Iterator[None]:
    """Let the hub's errors name the key that was typed."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("model.id=", "evaluator.model=")) from None


def probabilities(model_id: str, labels: Mapping[str, str], texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return (classes, p): p (n, c) sums, per class, the chances of the model's labels that are mapped to it.

    Rows of p sum to 1: chances of a model whose labels do not exclude each other are divided by their sum.

    Args:
        model_id: hub repository, or a local folder.
        labels: {label of the model: emotion or neutral}; all labels that are left out are the last class, other.
        texts: replies.

    Raises:
        UserError: the model cannot be had, or has no label of such a name.
    """
    classify = load(model_id)
    own = list(classify.model.config.id2label.values())
    names = tuple(dict.fromkeys([*labels.values(), *(OTHER for label in own if label not in labels)]))
    p = np.zeros((len(texts), len(names)))
    unknown = [label for label in labels if label not in own]
    if unknown:
        raise UserError(f"evaluator.labels: {model_id} has no label {', '.join(unknown)}; it has {', '.join(own)}")
    with progress("classifier", len(texts), "replies") as bar:
        for start in range(0, len(texts), BATCH):
            part = [text or " " for text in texts[start : start + BATCH]]
            for i, found in enumerate(classify(part, truncation=True)):
                for one in found:
                    p[start + i, names.index(labels.get(one["label"], OTHER))] += one["score"]
            bar.advance(len(part))
    return names, p / p.sum(1, keepdims=True)
