"""Numbers over the vocabulary, taken in pieces: float32 logits of all positions of a pass are never there together.

A vocabulary of 262,144 takes a mebibyte per position. Only positions that are asked for go through the head, at most
`BYTES` of their logits at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo.model.lm import LM

BYTES = 2**28  # of the float32 logits of one piece; a few copies of it are there at once


def positions(lm: LM) -> int:
    """Return how many positions one piece holds."""
    return max(1, BYTES // (4 * lm.config.vocab_size))


def pieces(lm: LM, n: int) -> Iterator[slice]:
    """Cut ``n`` positions into pieces of which the logits fit into `BYTES`."""
    size = positions(lm)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def log_probs(lm: LM, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
    """Return the log-probabilities (..., V) of the token behind final hidden states (..., d), all at once."""
    return torch.log_softmax(lm.logits(states), -1)


@torch.inference_mode()
def picked(lm: LM, states: Float[Tensor, "n d"], ids: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the log-probability of one token each behind ``states``, in nats."""
    parts = [
        log_probs(lm, states[own]).gather(-1, ids[own].to(lm.head_device)[:, None])[:, 0]
        for own in pieces(lm, len(states))
    ]
    return torch.cat(parts) if parts else states.new_zeros(0)


@torch.inference_mode()
def divergence(lm: LM, base: Float[Tensor, "t d"], states: Float[Tensor, "r t d"]) -> Float[Tensor, "r t"]:
    """Return KL(base || states) in nats at every position, of rows that are compared with the same states ``base``."""
    count, length = states.shape[:2]
    room = positions(lm)
    wide = min(length, max(1, room // (count + 1)))  # positions of a piece
    out = []
    for start in range(0, length, wide):
        here = slice(start, start + wide)
        reference = log_probs(lm, base[here])
        chances, tall = reference.exp(), max(1, room // len(reference))
        found = [
            (chances * (reference - log_probs(lm, states[k : k + tall, here]))).sum(-1) for k in range(0, count, tall)
        ]
        out.append(torch.cat(found))
    return torch.cat(out, 1)
