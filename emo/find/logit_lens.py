"""What a direction says by itself: the tokens that it raises and lowers most (methods 5.3.1).

    score = W_U (g * v)     g: gain of the final norm (1 + w where a family stores it so), W_U: the unembedding

Scores are in no unit: a state's length, which the norm divides by, is left out, and so are caps on logits. Where the
norm takes off the mean of a state (LayerNorm) it is taken off v.

    family share = share of the first 20 tokens that are words of the emotion's own family (emo/data/texts)

A token is such a word if it is one (any case), or at least five letters with which one begins: vocabularies cut words.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emo.model.lm import LM

COUNTED = 20  # tokens of which the family share is taken
BEGINNING = 5  # letters of a token that may stand for a longer word
AT_ONCE = 16384  # tokens of the vocabulary whose weights are float32 together


class LensTokens(NamedTuple):
    """Token ids, the largest (top) and the smallest (bottom) score first, each (n, k)."""

    top: Tensor
    bottom: Tensor


@torch.inference_mode()
def gained(lm: LM, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return g * v in float32, of a norm that takes off the mean without it."""
    norm = lm.final_norm
    own = vectors.float().to(lm.head_device)
    if isinstance(norm, nn.LayerNorm):
        return norm.weight.to(own).float() * (own - own.mean(-1, keepdim=True))
    some = next(norm.parameters())
    ones = torch.ones(1, own.shape[-1], dtype=some.dtype, device=some.device)
    return norm(ones).float().to(own.device) * own  # of ones the norm leaves its gain, however the family stores it


@torch.inference_mode()
def lens(lm: LM, vectors: Float[Tensor, "n d"], k: int = COUNTED) -> LensTokens:
    """Return the k tokens that each vector raises, and lowers, most.

    Args:
        lm: the model.
        vectors: directions in the residual stream, of any length.
        k: tokens of each end.
    """
    states, weight = gained(lm, vectors), lm.unembedding
    best: list[tuple[Tensor, Tensor]] = []
    for sign in (1, -1):
        values, ids = states.new_zeros(len(states), 0), torch.zeros(len(states), 0, dtype=torch.long)
        for start in range(0, len(weight), AT_ONCE):
            scores = sign * (states @ weight[start : start + AT_ONCE].float().T)
            joined = torch.cat([values, scores], 1)
            here = torch.arange(start, start + scores.shape[1]).expand(len(states), -1)
            known = torch.cat([ids, here], 1)
            values, places = joined.topk(min(k, joined.shape[1]), dim=1)
            ids = known.gather(1, places.cpu())
        best.append((values, ids))
    return LensTokens(best[0][1], best[1][1])


def texts_of(lm: LM, ids: Sequence[int]) -> list[str]:
    """Return tokens as they are read, without the space in front."""
    found = [str(lm.tokenizer.decode([i])) for i in ids]
    return [text.strip() if text.strip() and text.strip().isprintable() else repr(text) for text in found]


def is_word(token: str, family: Collection[str]) -> bool:
    """Return whether a token is a word of a family, or the beginning of one."""
    word = token.lower()
    return word in family or (
        len(word) >= BEGINNING and word.isalpha() and any(full.startswith(word) for full in family)
    )


def family_share(tokens: Sequence[str], family: Collection[str]) -> float:
    """Return the share of tokens that are words of a family."""
    return sum(is_word(token, family) for token in tokens) / max(1, len(tokens))
