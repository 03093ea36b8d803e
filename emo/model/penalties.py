"""How the released code decodes (methods 1.2), for all replies of a batch at once and without asking the device.

As the processors of transformers' ``generate`` do it, one after the other:

    repetition penalty p:  a token of the prompt or the reply has its logit divided by p, multiplied where negative
    no n-gram twice:       a token that would end an n-gram of prompt and reply again is ruled out
    minimum length:        tokens that end a reply are ruled out before so many were written

Replies of one batch may be decoded in different ways; a plain one keeps its logits to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo.model.on_device import on_device


class Decoding(NamedTuple):
    """How one arm is decoded."""

    min_new_tokens: int = 0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0


DECODINGS = {"plain": Decoding(), "steering": Decoding(10, 3, 1.05), "circuit": Decoding(10, 3, 1.1)}


class Texts:
    """What rows have said so far: their prompts, and room for ``limit`` tokens each; (n, prompt + limit) on a device.

    Prompts are padded on the left with their own first token, which a penalty so meets once more to the same effect;
    n-grams begin behind the padding. Where every row is decoded plainly no prompt is held.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], decodings: Sequence[str], limit: int, device: torch.device
    ) -> None:
        how = [DECODINGS[name] for name in decodings]
        self.plain = all(name == "plain" for name in decodings)
        self.shortest = max((one.min_new_tokens for one in how), default=0)
        self.width = 0 if self.plain else max(map(len, prompts))
        self.written = 0
        table = np.zeros((len(how), self.width + limit), dtype=np.int64)
        for row, ids in enumerate(prompts if self.width else ()):
            table[row, : self.width] = ids[0]
            table[row, self.width - len(ids) : self.width] = ids
        self.ids = on_device(table, device)
        begins = np.array([self.width - len(ids) if self.width else 0 for ids in prompts])
        self.begins = on_device(begins, device)[:, None]
        self.minimum = on_device([one.min_new_tokens for one in how], device)[:, None]
        self.ngram = on_device([one.no_repeat_ngram for one in how], device)[:, None]
        self.sizes = sorted({one.no_repeat_ngram for one in how} - {0})
        kinds = sorted({one.repetition_penalty for one in how})
        which = on_device([kinds.index(one.repetition_penalty) for one in how], device)
        self.penalty = torch.ones(len(how), 1, device=device)
        for k, value in enumerate(kinds):
            self.penalty.masked_fill_((which == k)[:, None], value)

    def append(self, tokens: Int[Tensor, " n"]) -> None:
        """Write one more token of every row."""
        self.ids[:, self.width + self.written] = tokens
        self.written += 1

    def keep(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with some of the rows, by their places."""
        for name in ("ids", "begins", "minimum", "ngram", "penalty"):
            setattr(self, name, getattr(self, name)[rows])

    @torch.inference_mode()
    def penalised(self, logits: Float[Tensor, "m v"], rows: slice, stop: Int[Tensor, " k"]) -> Float[Tensor, "m v"]:
        """Return the logits behind the rows' last tokens as their decodings change them.

        Args:
            logits: of the rows ``rows``; they may be written into.
            rows: which ones.
            stop: tokens that end a reply.
        """
        if self.plain:
            return logits
        said = self.ids[rows, : self.width + self.written]
        score, penalty = logits.gather(1, said), self.penalty[rows]
        logits = logits.scatter_(1, said, torch.where(score < 0, score * penalty, score / penalty))
        for size in self.sizes:
            if size > said.shape[1]:
                continue
            grams = said.unfold(1, size, 1)  # (m, places, size)
            place = torch.arange(grams.shape[1], device=said.device)
            again = (grams[..., :-1] == said[:, None, said.shape[1] + 1 - size :]).all(-1)
            again &= (place >= self.begins[rows]) & (self.ngram[rows] == size)
            ban = torch.where(again, -torch.inf, torch.inf)
            logits = logits.scatter_reduce_(1, grams[..., -1], ban, "amin")
        if self.written < self.shortest and len(stop):
            early = self.written < self.minimum[rows]
            logits[:, stop] = torch.where(early, -torch.inf, logits[:, stop])
        return logits
