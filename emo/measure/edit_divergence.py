"""How far an edited model is from itself unedited, along what it writes while it is edited (methods 5.4).

    KL(edited || unedited) at every token of the greedy reply under the edit, in nats

Both distributions are of the same text, the edited reply; where it ends early, the end counts as a token too, so that
an edit that silences the model has a divergence. `emo.measure.damage` has the other one, KL(unedited || edited) along
the unedited reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emo.core.console import progress
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import NO_EDIT, Row, ignore
from emo.model.teacher_forcing import teacher_forced
from emo.model.vocabulary import divergence

AT_ONCE = 512  # replies whose states are held together
END = 0  # in place of the token that ended a reply: the state before it is read, the token is not


def edit_divergences(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    tokens: int,
    batch_size: int,
    label: str = "divergence",
    done: Callable[[int, list[float | None]], None] = ignore,
) -> list[list[float | None]]:
    """Return KL(edited || unedited) in nats at every token of each row's own greedy reply; None where it explodes.

    Args:
        lm: the model.
        prompts: token ids.
        rows: prompt, condition and decoding of each row.
        edits: the edits behind the conditions.
        tokens: length of the replies, at most.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        done: called with every row and its values, once they are there.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].prompt)  # rows of one prompt share its tokens
    out: list[list[float | None]] = [[] for _ in rows]
    with progress(label, len(rows), "replies") as bar:
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            own = [rows[i] for i in part]
            written = generate(lm, prompts, own, edits, tokens, batch_size, None)
            own = [row._replace(reply=(*ids, END)[:tokens]) for row, ids in zip(own, written, strict=True)]
            changed = _states(lm, prompts, own, edits, batch_size)
            plain = _states(lm, prompts, [row._replace(cond=NO_EDIT) for row in own], (), batch_size)
            found = divergence(lm, torch.cat(changed), torch.cat(plain)[None])[0].cpu()
            for i, values in zip(part, found.split([len(x) for x in changed]), strict=True):
                out[i] = [x if math.isfinite(x) else None for x in values.tolist()]
                done(i, out[i])
            bar.advance(len(part))
    return out


def _states(
    lm: LM, prompts: Sequence[Sequence[int]], rows: Sequence[Row], edits: Sequence[Edit], batch_size: int
) -> list[Tensor]:
    """Return the final states (t, d) before every token of each row's reply."""
    found = dict(
        pair for forced in teacher_forced(lm, prompts, rows, edits, batch_size, None) for pair in forced.each()
    )
    return [found[i] for i in range(len(rows))]
