"""Teacher-forced rows one by one, with all their log-probabilities: small vocabularies only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.teacher_forcing import teacher_forced
from emo.model.vocabulary import log_probs


class Scored(NamedTuple):
    """A row and its log-probabilities over the vocabulary before each reply token, (t, V)."""

    row: int
    log_probs: Tensor


def scored(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    batch_size: int,
    label: str | None = None,
) -> Iterator[Scored]:
    """Yield what `teacher_forced` gives, row by row."""
    for forced in teacher_forced(lm, prompts, rows, edits, batch_size, label):
        for row, states in forced.each():
            yield Scored(row, log_probs(lm, states))
