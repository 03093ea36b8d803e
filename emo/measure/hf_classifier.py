"""Any text-classification model of the hub as evaluator, with a map from its labels to emotions (methods 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from emo.core.console import progress
from emo.core.errors import UserError
from emo.core.types import OTHER
from emo.model.checkpoint import read_config, read_tokenizer, read_weights
from emo.model.hub import Revision, hub_commit
from emo.model.keep import KeepOne
from emo.model.load_errors import load_errors
from emo.model.passes import ignore
from emo.model.supported import check_files, check_packed

BATCH = 32
KEY = "evaluator.model"  # what errors name


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
    return _revision(model_id).commit


@lru_cache(maxsize=4)
def _revision(model_id: str) -> Revision:
    if model_id.startswith((".", "~", "/")):
        raise UserError(f"{KEY}={model_id}: no such folder (looked from {Path.cwd()})")
    return hub_commit(model_id, None, KEY)


@KeepOne
def load(model_id: str) -> Any:
    """Return the pipeline of a hub repository or a local folder, downloaded on first use.

    Raises:
        UserError: it cannot be had, needs code of its own, or its files do not hold every weight in safetensors.
    """
    name, folder = f"{KEY}={model_id}", Path(model_id).expanduser()
    files: dict[str, Any] = {}
    if folder.is_dir():
        source, local, held = str(folder), True, frozenset(path.name for path in folder.iterdir())
    else:
        source, (revision, local, held) = model_id, _revision(model_id)
        files = {"revision": revision, "local_files_only": local}
    check_files(name, held, whole=not files or not local)
    with load_errors(model_id, files.get("revision"), local, None if files else folder, KEY):
        check_packed(name, read_config(source, **files))
        model = read_weights(transformers.AutoModelForSequenceClassification, name, source, **files)
        tokenizer = read_tokenizer(name, source, **files)
        return transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)


def probabilities(
    model_id: str,
    labels: Mapping[str, str],
    texts: Sequence[str],
    heard: Callable[[int, Sequence[str], np.ndarray], None] = ignore,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return (classes, p): p (n, c) sums, per class, the chances of the model's labels that are mapped to it.

    Rows of p sum to 1: chances of a model whose labels do not exclude each other are divided by their sum.

    Args:
        model_id: hub repository, or a local folder.
        labels: {label of the model: emotion or neutral}; all labels that are left out are the last class, other.
        texts: replies.
        heard: called with every part that is done: its first place, classes, p.

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
            p[start : start + BATCH] /= p[start : start + BATCH].sum(1, keepdims=True)
            heard(start, names, p[start : start + BATCH])
            bar.advance(len(part))
    return names, p
