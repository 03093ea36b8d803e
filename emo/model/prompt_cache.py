"""The prompts of the rows of a pass, put in place: shared where edits allow, or whole for every row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from emo.core.console import note
from emo.core.types import Tokens
from emo.model.hooks import Cursor, Edit
from emo.model.lm import LM
from emo.model.passes import Row, TreeBatch, tree_batches
from emo.model.prefix_cache import with_prefixes
from emo.model.prefix_tree import SHARED, Block, Places, TokenTrees


@cache
def _say_whole() -> None:
    note("tokens=all edits the prompt too: nothing of it can be shared, every condition forwards it whole (slow)")


class PromptCache:
    """Puts the prompts of a batch of trees in place: shared prefixes where edits allow, or whole prompts per row."""

    def __init__(self, lm: LM, prompts: Sequence[Sequence[int]], edits: Sequence[Edit]) -> None:
        self.lm, self.prompts = lm, prompts
        self._coming: list[int] = []  # prompts of the passes that are still to run, in their order
        self.whole = any(edit.tokens is Tokens.ALL for edit in edits)
        if self.whole:
            _say_whole()

    def passes(self, rows: Sequence[Row], batch_size: int, own: int = 1) -> list[TreeBatch]:
        """Return the forward passes of ``rows``, each of which adds ``own`` tokens and what is not shared."""
        made = tree_batches(self.prompts, rows, batch_size, self._tokens_per_row(own))
        self._coming = [p for tree_batch in made for p in tree_batch.prompts]
        return made

    def _tokens_per_row(self, own: int) -> int:
        """Return how many tokens a row adds at most in one pass: ``own``, and the prompt where it is not shared."""
        return own + (max(map(len, self.prompts)) if self.whole else 0)

    def place(self, tree_batch: TreeBatch, cursor: Cursor) -> TokenTrees:
        """Return token trees that start with the prompts without their last token (empty for ``tokens: all``)."""
        if self.whole:
            return TokenTrees(self.lm, cursor)
        del self._coming[: len(tree_batch.prompts)]
        coming = (self.prompts[p][:-1] for p in self._coming)
        try:
            return with_prefixes(self.lm, cursor, [self.prompts[p][:-1] for p in tree_batch.prompts], coming)
        except RuntimeError:  # short of memory: the next try reads nothing ahead
            self._coming = []
            raise

    def opened(self, tree_batch: TreeBatch, rows: Sequence[Row]) -> tuple[Block, Places, list[int]]:
        """Return the tokens that open a batch's rows, where each last prompt token stands, and whose it is."""
        pieces = [
            [self.starts(p, SHARED + 1 + k, rows[i].cond) for k, i in enumerate(members)]
            for p, members in zip(tree_batch.prompts, tree_batch.rows, strict=True)
        ]
        block = Block.pad([[t for piece in tree for t in piece] for tree in pieces], self.lm.device)
        places = Places.of(last_tokens(block, pieces), self.lm.device)
        return block, places, [i for members in tree_batch.rows for i in members]

    def starts(self, prompt: int, branch: int, cond: int) -> list[tuple[int, int, int, int, int]]:
        """Return the tokens that open a row: the last prompt token, or the whole prompt."""
        ids = self.prompts[prompt]
        first = 0 if self.whole else len(ids) - 1
        return [(ids[i], i, branch, cond, i + 1 - len(ids)) for i in range(first, len(ids))]


def last_tokens(block: Block, pieces: Sequence[Sequence[Sequence[object]]]) -> list[list[int]]:
    """Return, per tree, the column of each row's last token in a left-padded block."""
    width, columns = block.ids.shape[1], []
    for tree in pieces:
        ends, total = [], 0
        for piece in tree:
            total += len(piece)
            ends.append(total - 1)
        columns.append([width - total + end for end in ends])
    return columns
