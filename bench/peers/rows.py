"""What an expert adds by hand: the prompt is read once, and every condition is a row that reads its last token.

All rows go through one pass over a cache of keys and values that is repeated for each of them, so a condition costs
one token instead of a prompt. Every package that hands ``past_key_values`` on can be driven so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor

ROWS = 64  # rows of one pass over heads, a clean one beside them


def read_prefix(base: Any, prompt: Sequence[int]) -> transformers.DynamicCache:
    """Return keys and values of all but the last token of ``prompt``."""
    cache = transformers.DynamicCache()
    base(input_ids=torch.tensor([list(prompt[:-1])], device=base.device), past_key_values=cache, use_cache=True)
    return cache


def for_rows(prefix: transformers.DynamicCache, rows: int) -> transformers.DynamicCache:
    """Return a copy that holds ``prefix`` for every row; a pass writes into it."""
    cache = copy.deepcopy(prefix)
    cache.batch_repeat_interleave(rows)
    return cache


def last_token(prompt: Sequence[int], rows: int, device: torch.device) -> Tensor:
    """Return the last token (rows, 1)."""
    return torch.full((rows, 1), prompt[-1], device=device)


def keeping_units(conditions: Sequence[Sequence[Tensor]], width: int, device: torch.device) -> list[Tensor]:
    """Return factors (c, 1, f) per block: 0 where a condition zeroes a unit, otherwise 1."""
    kept = torch.ones(len(conditions[0]), len(conditions), 1, width)
    for c, units in enumerate(conditions):
        for layer, own in enumerate(units):
            kept[layer, c, 0, own] = 0
    return list(kept.to(device))


class HeadRows(NamedTuple):
    """Rows of one pass: a clean one, and one for each head (its place among the layers, block, head)."""

    heads: list[tuple[int, int, int]]
    width: int  # of a head
    n_heads: int

    @property
    def count(self) -> int:
        """Number of rows."""
        return 1 + len(self.heads)

    @property
    def layers(self) -> list[int]:
        """Blocks that are edited and read, in order."""
        return sorted({layer for _, layer, _ in self.heads})

    def keeping(self, layer: int, device: torch.device) -> Tensor:
        """Return factors (rows, 1, h * p): 0 in the columns of the head that a row is without in ``layer``."""
        kept = torch.ones(self.count, 1, self.n_heads, self.width)
        for row, (_, own, head) in enumerate(self.heads, 1):
            if own == layer:
                kept[row, 0, head] = 0
        return kept.flatten(2).to(device)

    def fill(self, out: Tensor, layer: int, scores: Tensor) -> None:
        """Write s - s' into ``out`` (layers, h), given the scores (rows,) of ``layer``."""
        for row, (place, own, head) in enumerate(self.heads, 1):
            if own == layer:
                out[place, head] = scores[0] - scores[row]


def head_rows(layers: Sequence[int], n_heads: int, width: int) -> Iterator[HeadRows]:
    """Cut the heads of ``layers`` into passes."""
    every = [(place, layer, head) for place, layer in enumerate(layers) for head in range(n_heads)]
    for start in range(0, len(every), ROWS):
        yield HeadRows(every[start : start + ROWS], width, n_heads)


def width_of(config: Any) -> int:
    """Return the width of a head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
