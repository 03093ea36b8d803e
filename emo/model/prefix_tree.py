"""A batch of token trees over one cache of keys and values.

Every token has a position and a branch: branch 0 is the prefix, which all see; 1.. are rows, which see
the prefix and themselves; -1 is padding. One rule of visibility therefore covers left padding, a prefix
shared by many prompts, and many conditions of one prompt decoded side by side: the prompt is read
once, and its keys and values are stored once. Positions are those that the token would have alone, so
the numbers are those of a plain forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import transformers
from torch import Tensor

from emo.model.hooks import Cursor
from emo.model.lm import LM

PADDING, SHARED = -1, 0


class Block(NamedTuple):
    """Tokens to append, all (b, t): ids, positions, branches, conditions (-1: none), steps after the prompt's end."""

    ids: Tensor
    position: Tensor
    branch: Tensor
    cond: Tensor
    step: Tensor

    @classmethod
    def pad(cls, rows: Sequence[Sequence[tuple[int, int, int, int, int]]], device: torch.device) -> Block:
        """Build from b lists of (id, position, branch, cond, step), padded on the left."""
        width = max(len(row) for row in rows)
        empty = (0, 0, PADDING, -1, -1)
        table = torch.tensor([[empty] * (width - len(row)) + list(row) for row in rows], device=device)
        return cls(*table.unbind(-1))


def plain_block(prompts: Sequence[Sequence[int]], device: torch.device, cond: int = -1, branch: int = SHARED) -> Block:
    """Return whole prompts as one block: the last token is step 0, the ones before have negative steps."""
    rows = [[(token, i, branch, cond, i + 1 - len(p)) for i, token in enumerate(p)] for p in prompts]
    return Block.pad(rows, device)


class TokenTrees:
    """Token trees that grow block by block."""

    def __init__(self, lm: LM, cursor: Cursor | None = None) -> None:
        self.lm, self.cursor = lm, cursor
        self.cache = transformers.DynamicCache()
        self.position = self.branch = torch.empty(0, 0, dtype=torch.long, device=lm.device)

    @torch.inference_mode()
    def extend(self, block: Block) -> Tensor:
        """Append ``block`` and return its final hidden states (b, t, d)."""
        b, t = block.ids.shape
        old = self.position.shape[1]
        if old == 0:
            self.position = self.branch = block.position.new_empty(b, 0)
        self.position = torch.cat([self.position, block.position], 1)
        self.branch = torch.cat([self.branch, block.branch], 1)
        if self.cursor is not None:
            self.cursor.place(block.cond, block.step)
        own, key = block.branch[:, :, None], self.branch[:, None, :]
        visible = ((key == SHARED) | (key == own)) & (key != PADDING)
        visible &= self.position[:, None, :] <= block.position[:, :, None]
        diagonal = torch.arange(t, device=block.ids.device)
        visible[:, diagonal, old + diagonal] = True  # padding sees itself, or its softmax would be nan
        return self.lm.hidden(block.ids, block.position, self.position, visible, self.cache)

    def keys_values(self) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values of every block, each (b, kv heads, tokens so far, p)."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]  # type: ignore[union-attr, misc]

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens of every tree."""
        if self.position.shape[1] > length:
            for layer in self.cache.layers:  # one that was skipped (`LM.skipping`) has grown less
                layer.crop(min(0, length - layer.get_seq_length()))  # type: ignore[union-attr]
            self.position, self.branch = self.position[:, :length], self.branch[:, :length]
