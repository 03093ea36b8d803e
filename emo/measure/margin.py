"""The preference for emotional replies, as a log-probability margin (methods 1.8, outcome a).

Margin = mean log-probability per token of a held-out emotional reply minus that of the neutral reply of
the same theme, after the prompt, under the edit at every step. The replies were written for the project
and define no direction, so the margin is an outcome that the vectors do not define.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emo.core.types import NEUTRAL
from emo.data.scenarios import Sample
from emo.data.texts import held_out_replies
from emo.measure.damage import mean_log_probs
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import Row, ignore
from emo.model.prompts import reply_ids
from emo.model.teacher_forcing import teacher_forced


class Question(NamedTuple):
    """One margin to measure."""

    prompt: int
    cond: int
    sample: int
    emotion: str


def without_replies(names: Sequence[str]) -> list[str]:
    """Return the emotions that have no held-out replies: with one of them the margin is not measured."""
    known = {emotion for _, emotion in held_out_replies("sev_test")}
    return [name for name in names if name not in known]


def stand_ins(samples: Sequence[Sample]) -> dict[str, str]:
    """Return, for every theme without held-out replies, the theme whose replies are used: in turn."""
    themes = list(dict.fromkeys(theme for theme, _ in held_out_replies("sev_test")))
    unknown = list(dict.fromkeys(s.theme for s in samples if s.theme not in themes))
    return {theme: themes[i % len(themes)] for i, theme in enumerate(unknown)}


def replies_for(lm: LM, samples: Sequence[Sample], part: str, names: Sequence[str]) -> list[dict[str, tuple[int, ...]]]:
    """Return, per sample, the token ids of the held-out reply in each emotion and in neutral.

    A theme that the shipped replies do not know takes the replies of another theme, in turn.
    """
    texts = held_out_replies(part)
    stand_in = stand_ins(samples)
    ids = {key: tuple(reply_ids(lm, text)) for key, text in texts.items()}
    return [{name: ids[stand_in.get(s.theme, s.theme), name] for name in (*names, NEUTRAL)} for s in samples]


def margins(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    questions: Sequence[Question],
    replies: Sequence[dict[str, tuple[int, ...]]],
    edits: Sequence[Edit],
    batch_size: int,
    label: str = "margins",
    done: Callable[[int, float | None], None] = ignore,
) -> list[float | None]:
    """Return the margin (nats per token) of every question, None where it is no number.

    A reply shared by several questions is scored once. ``done`` is called with every question and its margin, once
    that is there.
    """
    pairs = [
        (Row(q.prompt, q.cond, replies[q.sample][q.emotion]), Row(q.prompt, q.cond, replies[q.sample][NEUTRAL]))
        for q in questions
    ]
    asking: dict[Row, list[int]] = defaultdict(list)
    for k, pair in enumerate(pairs):
        for row in pair:
            asking[row].append(k)
    unique = list(asking)
    score: dict[Row, float] = {}
    found: list[float | None] = [None] * len(pairs)
    for i, chance in mean_log_probs(lm, teacher_forced(lm, prompts, unique, edits, batch_size, label)):
        row = unique[i]
        score[row] = chance
        for k in asking[row]:
            emotional, neutral = pairs[k]
            if emotional in score and neutral in score:
                value = score[emotional] - score[neutral]
                found[k] = value if math.isfinite(value) else None
                done(k, found[k])
    return found
