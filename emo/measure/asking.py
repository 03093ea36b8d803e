"""Asking which class a text is, by either kind of answer: one score per name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emo.measure.class_prediction import Asked, choice_ids, choice_scores, parsed_answers
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import ignore


def named(scores: Tensor) -> Tensor:
    """Return the class (n,) of the highest of scores (n, C), -1 where nothing was found (torch: nan is highest)."""
    return torch.where(scores.isnan().any(-1), -1, scores.nan_to_num().argmax(-1))


def asked_scores(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Asked],
    edits: Sequence[Edit],
    classes: Sequence[str],
    answer: str,
    score: str,
    batch_size: int,
    label: str,
    done: Callable[[int, Tensor], None] = ignore,
) -> Tensor:
    """Return (rows, C) scores of the names; the highest is the answer.

    Args:
        lm: the model.
        prompts: token ids of the questions.
        rows: prompt and condition of every row.
        edits: of the conditions.
        classes: the names.
        answer: choice: log-probability of every name (nats) | parsed: 0 for the name that was written and -1 for the
            others, nan where none was found.
        score: of choices, mean over a name's tokens, else their sum.
        batch_size: prompts in one forward pass.
        label: name on the progress line.
        done: called with every row and its scores (C,), once they are there.
    """
    if answer == "choice":
        choices = choice_ids(lm, classes)
        length = torch.tensor([len(own) if score == "mean" else 1 for own in choices])
        return (
            choice_scores(
                lm, prompts, rows, edits, choices, batch_size, label, lambda k, scores: done(k, scores / length)
            )
            / length
        )

    def scores_of(said: Sequence[int]) -> Tensor:
        of = torch.tensor(said)
        out = torch.nn.functional.one_hot(of.clamp(min=0), len(classes)).float() - 1
        return torch.where((of < 0)[:, None], torch.nan, out)

    return scores_of(
        parsed_answers(lm, prompts, rows, edits, classes, batch_size, lambda k, said: done(k, scores_of([said])[0]))
    )
