"""What replies were labelled as: where off-target replies go, and accuracy by emotion and valence (methods 4).

accuracy = the label (an emotion or neutral) is the target; clean_accuracy = that, and the reply is not degenerate;
forced_accuracy = the likeliest emotion, neutral left out, is the target.

A label row is one reply of one arm: ``{sample, emotion, seed, label, forced, degenerate}``, ``emotion`` the target or
None where the arm has none, ``label`` None where the reply was not judged. Shape letter: e emotions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.core.metric_keys import metric_key, metric_parts
from emo.core.stats import Estimate
from emo.core.types import NEUTRAL, OTHER
from emo.data.published import PAPER_EMOTIONS, paper_value

Estimates = Mapping[str, Mapping[str, Estimate]]


class OffTarget(NamedTuple):
    """Where the replies of an arm went.

    Attributes:
        matrix: (e, c) share of replies per target emotion (row) and label (column, see `label_classes`); a row sums
            to 1, or is nan where no reply to its target has a label.
        samples: (e,) labelled samples behind each row.
        unjudged: replies without a label, in no share.
    """

    matrix: np.ndarray
    samples: list[int]
    unjudged: int


def label_classes(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what replies can be called: the emotions, neutral, and other where a row bears that label."""
    return [*names, NEUTRAL, *([OTHER] if any(row["label"] == OTHER for row in rows) else [])]


class AccuracyRow(NamedTuple):
    """Accuracy of one arm on one part of the data; None: not measured, or not published.

    Attributes:
        arm: name of the arm.
        emotion: target; None: all of them together.
        valence: of the event; None: all of them together.
        accuracy: share of replies labelled as the target.
        clean_accuracy: share of replies labelled as the target and not degenerate.
        paper: accuracy that the paper has for this model, method and set, a share (see `emo.data.published`).
    """

    arm: str
    emotion: str | None
    valence: str | None
    accuracy: Estimate | None
    clean_accuracy: Estimate | None
    paper: float | None


def off_target(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], classes: Sequence[str] | None = None
) -> OffTarget:
    """Return the share of each label under each target emotion, for one arm (methods 4.2).

    Seeds are averaged per sample first, so a sample counts once however many of its seeds were judged. Replies of an
    arm without a target count for every emotion in turn.

    Args:
        rows: label rows of the arm.
        names: e emotions, order of rows and columns.
        classes: order of the columns; None: the emotions, then neutral.

    Raises:
        ValueError: a target is not in ``names``, or a label is not in ``classes``.
    """
    columns = [*names, NEUTRAL] if classes is None else list(classes)
    counts: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros(len(columns)))
    unjudged = 0
    for row in rows:
        target, label = row["emotion"], row["label"]
        if target is not None and target not in names:
            raise ValueError(f"target {target!r}: not one of {', '.join(names)}")
        if label is None:
            unjudged += 1
            continue
        if label not in columns:
            raise ValueError(f"label {label!r}: not one of {', '.join(columns)}")
        for e in range(len(names)) if target is None else [names.index(target)]:
            counts[e, row["sample"]][columns.index(label)] += 1
    matrix = np.full((len(names), len(columns)), np.nan)
    samples = []
    for e in range(len(names)):
        shares = [count / count.sum() for (target, _), count in counts.items() if target == e]
        samples.append(len(shares))
        if shares:
            matrix[e] = np.mean(shares, axis=0)
    return OffTarget(matrix, samples, unjudged)


def accuracy_table(
    estimates: Estimates,
    arms: Sequence[str],
    names: Sequence[str],
    valences: Sequence[str],
    model_id: str,
    dataset: str,
) -> list[AccuracyRow]:
    """Return accuracy by arm, emotion and valence, with the paper's value where it has one.

    Args:
        estimates: arm -> metric key (``accuracy``, ``accuracy/anger``, ``accuracy/anger/positive``) -> estimate.
        arms: those wanted, in order; one without labels is left out.
        names: target emotions.
        valences: of events.
        model_id: e.g. ``meta-llama/Llama-3.2-3B-Instruct``.
        dataset: the set that was scored, ``sev_test`` for the test part of ``dataset=sev``; any other has no
            published value.

    Returns:
        Per arm: every emotion with each valence and with all of them (valence None), then all emotions (both None).
    """
    parts: list[tuple[str | None, str | None]] = [(name, v) for name in names for v in (*valences, None)]
    rows = []
    for arm in arms:
        found = estimates.get(arm, {})
        if not any(metric_parts(key).metric in ("accuracy", "clean_accuracy") for key in found):
            continue
        for emotion, valence in [*parts, (None, None)]:
            part = [name for name in (emotion, valence) if name is not None]
            accuracy, clean = (found.get(metric_key(metric, *part)) for metric in ("accuracy", "clean_accuracy"))
            published = _paper(model_id, arm, dataset, emotion, valence, names)
            rows.append(AccuracyRow(arm, emotion, valence, accuracy, clean, published))
    return rows


def _paper(
    model_id: str, arm: str, dataset: str, emotion: str | None, valence: str | None, names: Sequence[str]
) -> float | None:
    if emotion is None and set(names) != PAPER_EMOTIONS:
        return None  # the paper's mean is over its six emotions
    return paper_value(model_id, arm.partition("@")[0], dataset, emotion, valence, "accuracy")
