"""Greedy generation and teacher forcing for many conditions of many prompts at once.

All conditions of a prompt are rows of one token tree (`emo.model.prefix_tree`): the prompt without its last token
is read once and shared; every row starts at the last prompt token, the first token that an edit with
``every_step`` touches. An edit of earlier prompt tokens (``tokens: all``) gets the whole prompt per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import NamedTuple

import torch
import transformers
from torch import Tensor

from emo.core.console import note, progress
from emo.core.types import Tokens
from emo.model.hooks import Cursor, Edit, edited
from emo.model.lm import LM
from emo.model.passes import ExplodedError, Row, TreeBatch, ignore, in_passes, settled, tree_batches
from emo.model.prefix_cache import with_prefixes
from emo.model.prefix_tree import SHARED, Block, TokenTrees
from emo.model.turns import turn_end


class Decoding(NamedTuple):
    """How the released code decodes one arm (methods 1.2)."""

    min_new_tokens: int
    no_repeat_ngram: int
    repetition_penalty: float


EXPLODED = -1  # in place of a token: the logits were no numbers
DECODINGS = {"steering": Decoding(10, 3, 1.05), "circuit": Decoding(10, 3, 1.1)}


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

    def opened(
        self, tree_batch: TreeBatch, rows: Sequence[Row]
    ) -> tuple[Block, tuple[list[int], list[int]], list[int]]:
        """Return the tokens that open a batch's rows, where each row's last prompt token stands, and which row it is.

        Places are (tree, column).
        """
        pieces = [
            [self.starts(p, SHARED + 1 + k, rows[i].cond) for k, i in enumerate(members)]
            for p, members in zip(tree_batch.prompts, tree_batch.rows, strict=True)
        ]
        block = Block.pad([[t for piece in tree for t in piece] for tree in pieces], self.lm.device)
        ends = last_tokens(block, pieces)
        places = [b for b, columns in enumerate(ends) for _ in columns], [c for columns in ends for c in columns]
        return block, places, [i for members in tree_batch.rows for i in members]

    def starts(self, prompt: int, branch: int, cond: int) -> list[tuple[int, int, int, int, int]]:
        """Return the tokens that open a row: the last prompt token, or the whole prompt."""
        ids = self.prompts[prompt]
        first = 0 if self.whole else len(ids) - 1
        return [(ids[i], i, branch, cond, i + 1 - len(ids)) for i in range(first, len(ids))]


def generate(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    max_new_tokens: int,
    batch_size: int,
    label: str = "replies",
    exploded: set[int] | None = None,
    done: Callable[[int, list[int]], None] = ignore,
) -> list[list[int]]:
    """Write one greedy reply per row; returns token ids without the end token.

    Each unique prompt is prefilled once per forward batch. In float32 the replies do not depend on ``batch_size``; in
    half precision rounding does, and where two tokens are nearly as likely so does the reply (10 of 40 differed). A row
    whose logits are no numbers (nan, inf) ends there and is added to ``exploded``; the others are as without it.
    ``done`` is called with every row and its reply as soon as that is whole.
    """
    broken = set() if exploded is None else exploded
    replies: list[list[int]] = [[] for _ in rows]
    prompt_cache = PromptCache(lm, prompts, edits)
    with edited(lm, edits) as cursor, progress(label, len(rows), "replies") as bar:

        def run(tree_batch: TreeBatch) -> None:
            for i in (i for members in tree_batch.rows for i in members):
                replies[i].clear()
            tree_cache, finished = prompt_cache.place(tree_batch, cursor), 0
            try:
                for ended in _grow(lm, prompt_cache, tree_cache, tree_batch, rows, replies, max_new_tokens, broken):
                    bar.advance(len(ended))
                    finished += len(ended)
                    for i in ended:
                        done(i, replies[i])
            except (RuntimeError, ExplodedError):  # these rows are run again
                bar.advance(-finished)
                raise

        for _ in in_passes(prompt_cache.passes(rows, batch_size), run):
            pass
    return replies


def _grow(
    lm: LM,
    prompt_cache: PromptCache,
    tree_cache: TokenTrees,
    tree_batch: TreeBatch,
    rows: Sequence[Row],
    replies: list[list[int]],
    limit: int,
    exploded: set[int],
) -> Iterator[list[int]]:
    """Decode one tree_batch; yields the rows that finished at each step."""
    stop, turn = lm.stop_ids(), turn_end(lm)
    processors = {
        i: _processors(lm, rows[i], len(prompt_cache.prompts[rows[i].prompt])) for m in tree_batch.rows for i in m
    }
    alive = [list(members) for members in tree_batch.rows]
    branch = {i: SHARED + 1 + k for members in tree_batch.rows for k, i in enumerate(members)}
    opening = [
        [prompt_cache.starts(p, branch[i], rows[i].cond) for i in members]
        for p, members in zip(tree_batch.prompts, alive, strict=True)
    ]
    for step in range(limit):
        block = Block.pad([[t for piece in tree for t in piece] for tree in opening], lm.device)
        hidden = tree_cache.extend(block)
        last = last_tokens(block, opening)
        chosen = _choose(lm, hidden, last, alive, rows, replies, prompt_cache, processors, tree_batch)
        exploded.update(i for i, token in chosen.items() if token == EXPLODED)
        ended, opening = [], []
        for tree, members in enumerate(alive):
            written = [i for i in members if chosen[i] not in stop and chosen[i] != EXPLODED]
            for i in written:
                replies[i].append(chosen[i])
            if turn is not None:
                over = {i for i in written if turn.reached(replies[i])}
                for i in over:
                    replies[i][:] = turn.cut(replies[i])
                written = [i for i in written if i not in over]
            alive[tree] = written if step + 1 < limit else []
            ended += sorted(set(members).difference(alive[tree]))
            length = len(prompt_cache.prompts[tree_batch.prompts[tree]])
            opening.append([[(chosen[i], length + step, branch[i], rows[i].cond, step + 1)] for i in alive[tree]])
        yield ended
        if not any(alive):
            return


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


def _choose(
    lm: LM,
    hidden: Tensor,
    last: list[list[int]],
    alive: list[list[int]],
    rows: Sequence[Row],
    replies: list[list[int]],
    prompt_cache: PromptCache,
    processors: dict[int, transformers.LogitsProcessorList],
    tree_batch: TreeBatch,
) -> dict[int, int]:
    """Return the likeliest token of every living row; `EXPLODED` where logits are nan or inf (-inf: ruled out)."""
    tree = [b for b, columns in enumerate(last) for _ in columns]
    column = [c for columns in last for c in columns]
    order = [i for members in alive for i in members]
    logits = lm.logits(hidden[tree, column])
    finite = (logits < torch.inf).all(-1)  # nan is not below inf
    settled(tree_batch, bool(finite.all()))
    for k, i in enumerate(order):
        if processors[i]:
            so_far = torch.tensor([[*prompt_cache.prompts[rows[i].prompt], *replies[i]]], device=logits.device)
            logits[k] = processors[i](so_far, logits[k : k + 1])[0]  # type: ignore[arg-type]
    return dict(zip(order, logits.argmax(-1).where(finite, EXPLODED).tolist(), strict=True))


def _processors(lm: LM, row: Row, prompt_length: int) -> transformers.LogitsProcessorList:
    if row.decoding == "plain":
        return transformers.LogitsProcessorList()
    how = DECODINGS[row.decoding]
    stop = sorted(lm.stop_ids())
    return transformers.LogitsProcessorList(
        [
            transformers.RepetitionPenaltyLogitsProcessor(how.repetition_penalty),
            transformers.NoRepeatNGramLogitsProcessor(how.no_repeat_ngram),
            transformers.MinNewTokensLengthLogitsProcessor(
                prompt_length, how.min_new_tokens, stop, device=str(lm.device)
            ),
        ]
    )


class Scored(NamedTuple):
    """A teacher-forced row: log-probabilities over the vocabulary before each reply token, (t, V)."""

    row: int
    log_probs: Tensor


def teacher_forced(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    batch_size: int,
    label: str | None = "scored",
) -> Iterator[Scored]:
    """Yield every row with a reply once, in no fixed order but rows of one prompt in theirs.

    Rows with an empty reply are skipped; ``label`` None shows no progress.
    """
    kept = [i for i, row in enumerate(rows) if row.reply]
    subset = [rows[i] for i in kept]
    prompt_cache = PromptCache(lm, prompts, edits)
    longest = max((len(r.reply) for r in subset), default=1)
    bars = nullcontext() if label is None else progress(label, len(subset), "replies")
    with bars as bar:

        def run(tree_batch: TreeBatch) -> tuple[list[list[int]], Tensor]:
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
            with edited(lm, edits) as cursor:  # not around the yield: the caller's own passes are unedited
                hidden = prompt_cache.place(tree_batch, cursor).extend(block)
            settled(tree_batch, bool(hidden.isfinite().all()))
            return last_tokens(block, pieces), hidden

        for tree_batch, (ends, hidden) in in_passes(prompt_cache.passes(subset, batch_size, longest), run):
            for b, members in enumerate(tree_batch.rows):
                for end, i in zip(ends[b], members, strict=True):
                    states = hidden[b, end + 1 - len(subset[i].reply) : end + 1]
                    yield Scored(kept[i], torch.log_softmax(lm.logits(states), -1))
                if bar is not None:
                    bar.advance(len(members))
