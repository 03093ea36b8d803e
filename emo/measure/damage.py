"""What an arm does to the language of the replies (methods 4.3).

NLL per token of a reply under the UNEDITED model given the emotion-free prompt, and KL(unedited ||
edited) per token on the unedited greedy reply. Ratios to arm none are formed where results are summarised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emo.core.console import progress
from emo.model.generate import teacher_forced
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import NO_EDIT, Row, ignore


def reply_nll(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[tuple[int, Sequence[int]]],
    batch_size: int,
    label: str = "perplexity",
    done: Callable[[int, float | None], None] = ignore,
) -> list[float | None]:
    """Return the mean NLL per token (nats) of every (prompt index, reply ids); None for an empty reply.

    Equal replies to the same prompt are scored once. ``done`` is called with every reply and its value, once that is
    there.
    """
    unique: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for k, (prompt, ids) in enumerate(replies):
        if ids:
            unique.setdefault((prompt, tuple(ids)), []).append(k)
        else:
            done(k, None)
    rows = [Row(prompt, NO_EDIT, ids) for prompt, ids in unique]
    scores: dict[tuple[int, tuple[int, ...]], float | None] = {}
    for scored in teacher_forced(lm, prompts, rows, [], batch_size, label):
        row = rows[scored.row]
        nll = -float(picked(scored.log_probs, row.reply).mean())
        value = scores[row.prompt, row.reply] = nll if math.isfinite(nll) else None
        for k in unique[row.prompt, row.reply]:
            done(k, value)
    return [scores[prompt, tuple(ids)] if ids else None for prompt, ids in replies]


def kl_per_token(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    greedy: Sequence[Sequence[int]],
    pairs: Sequence[tuple[int, int]],
    edits: Sequence[Edit],
    tokens: int,
    batch_size: int,
    label: str = "KL",
    done: Callable[[int, float | None], None] = ignore,
) -> list[float | None]:
    """Return KL(unedited || edited) per token (nats) for every (prompt index, condition); None where it is no number.

    Args:
        lm: the model.
        prompts: emotion-free prompts.
        greedy: the unedited greedy reply of each prompt.
        pairs: prompt index and condition.
        edits: the edits behind the conditions.
        tokens: tokens of the greedy reply that are used.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        done: called with every pair and its value, once that is there.
    """
    out: list[float | None] = [None] * len(pairs)
    used = sorted({prompt for prompt, _ in pairs if greedy[prompt]})
    with progress(label, len(pairs), "replies") as bar:
        for start in range(0, len(used), batch_size):  # the reference distributions of one slice at a time
            part = set(used[start : start + batch_size])
            mine = [k for k, (p, _) in enumerate(pairs) if p in part]
            rows = [Row(p, NO_EDIT, tuple(greedy[p][:tokens])) for p in sorted(part)]
            base = {rows[s.row].prompt: s.log_probs for s in teacher_forced(lm, prompts, rows, [], batch_size, None)}
            rows = [Row(pairs[k][0], pairs[k][1], tuple(greedy[pairs[k][0]][:tokens])) for k in mine]
            for scored in teacher_forced(lm, prompts, rows, edits, batch_size, None):
                reference = base[rows[scored.row].prompt]
                kl = float((reference.exp() * (reference - scored.log_probs)).sum(-1).mean())
                out[mine[scored.row]] = kl if math.isfinite(kl) else None
            bar.advance(len(mine))
            for k in mine:
                done(k, out[k])
    for k, (prompt, _) in enumerate(pairs):
        if not greedy[prompt]:
            done(k, None)
    return out


def picked(log_probs: Tensor, ids: Sequence[int]) -> Tensor:
    """Return the log-probability of each reply token (t) from (t, V)."""
    return log_probs.gather(-1, torch.tensor(list(ids), device=log_probs.device)[:, None])[:, 0]
