"""Any text-classification model of the hub as evaluator, with a map from its labels to emotions (methods 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import transformers

from emo.config.schema import Config
from emo.core.console import progress
from emo.core.errors import UserError
from emo.core.store import Store, address
from emo.core.types import NEUTRAL, OTHER
from emo.measure.hub_model import commit_of, read_parts
from emo.measure.labeller import Done, Rows, from_chances
from emo.model.keep import KeepOne
from emo.model.passes import ignore

BATCH = 32
KEY = "evaluator.model"  # what errors name
VERSION = 2
ABSENT = "absent"  # in place of a LABEL: the model has none for this CLASS


class HubEvaluator:
    """``evaluator=hf_classifier``: an `emo.measure.labeller.Evaluator`."""

    remembers = False

    def __init__(self, config: Config, store: Store) -> None:  # noqa: ARG002 - every evaluator is made of both
        self.config, self.model = config, str(config.evaluator.model)

    def address(self) -> str:
        """Return the address of the model's commit and the map of its labels."""
        e = self.config.evaluator
        return address("hf_classifier", VERSION, model=e.model, commit=commit(self.model), labels=e.labels)

    def check(self) -> None:
        """Raise `UserError` where the map of labels is not one."""
        given, names = self.config.evaluator.labels, self.config.emotions.names
        known = [*names, NEUTRAL]
        pairs = [pair.rpartition(":")[::2] for pair in given]
        wrong = [pair for pair, (label, name) in zip(given, pairs, strict=True) if not label or name not in known]
        absent = [name for label, name in pairs if label == ABSENT]
        mapped = [name for label, name in pairs if label != ABSENT]
        twice = [label for label, _ in pairs if label != ABSENT and [one for one, _ in pairs].count(label) > 1]
        missing = [name for name in names if name not in mapped]
        said = ""
        if wrong:
            said = f"{wrong[0]} is none"
        elif twice:
            said = f"{twice[0]} has several"
        elif any(name != NEUTRAL for name in absent):
            said = f"only {NEUTRAL} can be {ABSENT}"
        elif missing or self.config.evaluator.model is None:
            said = f"{', '.join(missing) or 'each emotion'} needs one"
        elif (NEUTRAL in mapped) == (NEUTRAL in absent):
            said = f"{NEUTRAL} needs one, or {ABSENT}:{NEUTRAL} where the model has no such label"
        if OTHER in names:
            said = f"{OTHER} is the name of what is mapped to no class: give the emotion another"
        if said:
            raise UserError(
                "evaluator=hf_classifier: type evaluator.model=OWNER/NAME 'evaluator.labels=[LABEL:CLASS,...]', "
                f"CLASS one of {', '.join(known)}; {said}"
            )

    def prefetch(self) -> str:
        """Download the model where it is not on this machine."""
        load(self.model)
        return f"classifier: {self.model} is on this machine"

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies by the likeliest class, with its chance."""
        pairs = (pair.rpartition(":")[::2] for pair in self.config.evaluator.labels)
        classes = {label: name for label, name in pairs if label != ABSENT}

        def heard(start: int, names: Sequence[str], p: np.ndarray) -> None:
            for i, row in enumerate(from_chances(names, p, replies[start : start + len(p)]), start):
                done(i, row)

        probabilities(self.model, classes, [row["reply"] for row in replies], heard)


def commit(model_id: str) -> str:
    """Return what `emo.measure.hub_model.commit_of` calls the version of the model."""
    return commit_of(model_id, KEY)


@KeepOne
def load(model_id: str) -> Any:
    """Return the pipeline of a hub repository or a local folder; see `emo.measure.hub_model.read_parts`."""
    model, tokenizer = read_parts(transformers.AutoModelForSequenceClassification, model_id, KEY)
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
