"""Teacher forcing: the states before every token of given replies, for many conditions of many prompts at once.

Rows are those of `emo.model.generate`, and prompts are shared in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from torch import Tensor

from emo.core.console import progress
from emo.model.hooks import Edit, edited, placed
from emo.model.lm import LM
from emo.model.on_device import on_device
from emo.model.passes import Row, TreeBatch, in_passes, settled
from emo.model.prefix_tree import SHARED, Block, Places
from emo.model.prompt_cache import PromptCache, last_tokens


class Forced(NamedTuple):
    """Teacher-forced rows of one pass, one behind the other: final hidden states before each of n reply tokens."""

    rows: list[int]
    lengths: list[int]  # tokens of each row's reply
    trees: list[int]  # how many rows share a prompt and stand together
    states: Tensor  # (n, d)
    tokens: Tensor  # (n,) the reply tokens

    def each(self) -> Iterator[tuple[int, Tensor]]:
        """Yield every row with its states (t, d)."""
        return zip(self.rows, self.states.split(self.lengths), strict=True)


def teacher_forced(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    batch_size: int,
    label: str | None = "scored",
) -> Iterator[Forced]:
    """Yield every row with a reply once, in no fixed order but rows of one prompt in theirs, a pass at a time.

    Rows with an empty reply are skipped; ``label`` None shows no progress. What the states say about the vocabulary is
    `emo.model.vocabulary`'s.
    """
    kept = [i for i, row in enumerate(rows) if row.reply]
    subset = [rows[i] for i in kept]
    prompt_cache, edits = PromptCache(lm, prompts, edits), placed(lm, edits)
    longest = max((len(r.reply) for r in subset), default=1)
    bars = nullcontext() if label is None else progress(label, len(subset), "replies")
    with bars as bar:

        def run(tree_batch: TreeBatch) -> Tensor:
            pieces = []
            for prompt, members in zip(tree_batch.prompts, tree_batch.rows, strict=True):
                length = len(prompts[prompt])
                tree = []
                for k, i in enumerate(members):
                    row, branch = subset[i], SHARED + 1 + k
                    rest = [(t, length + j, branch, row.cond, j + 1) for j, t in enumerate(row.reply[:-1])]
                    tree.append([*prompt_cache.starts(prompt, branch, row.cond), *rest])
                pieces.append(tree)
            block = Block.pad([[t for piece in tree for t in piece] for tree in pieces], lm.device)
            ends = last_tokens(block, pieces)
            columns = [
                [c for end, i in zip(own, members, strict=True) for c in range(end + 1 - len(subset[i].reply), end + 1)]
                for own, members in zip(ends, tree_batch.rows, strict=True)
            ]
            with edited(lm, edits) as cursor:  # not around the yield: the caller's own passes are unedited
                hidden = prompt_cache.place(tree_batch, cursor).extend(block)
            settled(tree_batch, bool(hidden.isfinite().all()))
            return Places.of(columns, lm.device).take(hidden)

        for tree_batch, states in in_passes(prompt_cache.passes(subset, batch_size, longest), run):
            own = [i for members in tree_batch.rows for i in members]
            tokens = on_device([t for i in own for t in subset[i].reply], states.device)
            lengths, trees = [len(subset[i].reply) for i in own], list(map(len, tree_batch.rows))
            yield Forced([kept[i] for i in own], lengths, trees, states, tokens)
            if bar is not None:
                bar.advance(len(own))
