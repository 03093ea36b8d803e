"""What an arm does to the language of the replies (methods 4.3).

NLL per token of a reply under the UNEDITED model given the emotion-free prompt, and KL(unedited ||
edited) per token on the unedited greedy reply. Ratios to arm none are formed where results are summarised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from emo.core.console import progress
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import NO_EDIT, Row, ignore
from emo.model.teacher_forcing import Forced, teacher_forced
from emo.model.vocabulary import divergence, picked


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
    for i, chance in mean_log_probs(lm, teacher_forced(lm, prompts, rows, [], batch_size, label)):
        row = rows[i]
        value = scores[row.prompt, row.reply] = -chance if math.isfinite(chance) else None
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
        for start in range(0, len(used), batch_size):  # the states to compare with, of one slice at a time
            part = set(used[start : start + batch_size])
            mine = [k for k, (p, _) in enumerate(pairs) if p in part]
            rows = [Row(p, NO_EDIT, tuple(greedy[p][:tokens])) for p in sorted(part)]
            plain = (pair for f in teacher_forced(lm, prompts, rows, [], batch_size, None) for pair in f.each())
            base = {rows[i].prompt: states for i, states in plain}
            rows = [Row(pairs[k][0], pairs[k][1], tuple(greedy[pairs[k][0]][:tokens])) for k in mine]
            for forced in teacher_forced(lm, prompts, rows, edits, batch_size, None):
                for i, kl in zip(forced.rows, _divergences(lm, forced, rows, base), strict=True):
                    out[mine[i]] = kl if math.isfinite(kl) else None
            bar.advance(len(mine))
            for k in mine:
                done(k, out[k])
    for k, (prompt, _) in enumerate(pairs):
        if not greedy[prompt]:
            done(k, None)
    return out


def _divergences(lm: LM, forced: Forced, rows: Sequence[Row], base: dict[int, Tensor]) -> list[float]:
    """Return KL(unedited || edited), mean over tokens, of every row of a pass; ``base``: unedited states by prompt."""
    found, start = [], 0
    each = list(forced.each())
    for count in forced.trees:  # rows of one prompt, whose replies are the same
        own = each[start : start + count]
        start += count
        here = base[rows[own[0][0]].prompt]
        found.append(divergence(lm, here, torch.stack([states for _, states in own])).mean(-1))
    return torch.cat(found).tolist()


def mean_log_probs(lm: LM, passes: Iterable[Forced]) -> Iterator[tuple[int, float]]:
    """Yield every teacher-forced row with the mean log-probability of its reply's tokens, in nats."""
    for forced in passes:
        found = picked(lm, forced.states, forced.tokens).cpu()  # one wait for the device per pass
        means = torch.stack([own.mean() for own in found.split(forced.lengths)])
        yield from zip(forced.rows, means.tolist(), strict=True)
