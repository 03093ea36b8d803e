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

import numpy as np
import torch
import transformers
from torch import Tensor

from emo.model.hooks import Cursor, Marks, reaches
from emo.model.lm import LM
from emo.model.on_device import on_device

PADDING, SHARED = -1, 0

EMPTY = (0, 0, PADDING, -1, -1)  # what a block is padded with


class Block(NamedTuple):
    """Tokens to append, all (b, t): ids, positions, branches, conditions (-1: none), steps after the prompt's end."""

    ids: Tensor
    position: Tensor
    branch: Tensor
    cond: Tensor
    step: Tensor
    marks: Marks | None = None  # of the conditions, where the host knows them

    @classmethod
    def pad(cls, rows: Sequence[Sequence[tuple[int, int, int, int, int]]], device: torch.device) -> Block:
        """Build from b lists of (id, position, branch, cond, step), padded on the left."""
        width = max(len(row) for row in rows)
        table = np.empty((len(EMPTY), len(rows), width), dtype=np.int64)
        table[:] = np.array(EMPTY)[:, None, None]
        for b, row in enumerate(rows):
            if row:
                table[:, b, width - len(row) :] = np.array(row, dtype=np.int64).T
        return cls.of(table, device)

    @classmethod
    def of(cls, table: np.ndarray, device: torch.device) -> Block:
        """Build from the five tables of the host, (5, b, t)."""
        ids, position, branch, cond, step = on_device(table, device).unbind()
        return cls(ids, position, branch, cond, step, Marks(cond, step, reaches(table[3], table[4])))


class Places(NamedTuple):
    """Where tokens stand in a block: tree and column, each (n,)."""

    tree: Tensor
    column: Tensor

    @classmethod
    def of(cls, columns: Sequence[Sequence[int]], device: torch.device) -> Places:
        """Build from the columns of every tree, in their order."""
        tree = [b for b, own in enumerate(columns) for _ in own]
        both = on_device(np.array([tree, [c for own in columns for c in own]], dtype=np.int64), device)
        return cls(*both.unbind())

    def take(self, x: Tensor) -> Tensor:
        """Return what stands at the places, (n, ...) of (b, t, ...)."""
        return x[self.tree.to(x.device), self.column.to(x.device)]


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
            self.cursor.place(block.cond, block.step, block.marks)
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
