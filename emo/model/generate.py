"""Greedy generation for many conditions of many prompts at once.

All conditions of a prompt are rows of one token tree (`emo.model.prefix_tree`): the prompt without its last token
is read once and shared; every row starts at the last prompt token, the first token that an edit with
``every_step`` touches. An edit of earlier prompt tokens (``tokens: all``) gets the whole prompt per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from emo.core.console import progress
from emo.model.hooks import Edit, Marks, edited
from emo.model.lm import LM
from emo.model.on_device import on_device
from emo.model.passes import ExplodedError, Row, TreeBatch, ignore, in_passes, settled
from emo.model.penalties import Texts
from emo.model.prefix_tree import SHARED, Block, Places, TokenTrees
from emo.model.prompt_cache import PromptCache
from emo.model.turns import TurnEnd, turn_end
from emo.model.vocabulary import pieces

EXPLODED = -1  # in place of a token: the logits were no numbers
CHECKED_EVERY = {"cpu": 1}  # tokens between two looks at what ended: on a GPU a look waits for all that it has to do
OTHERWISE = 8


def generate(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    max_new_tokens: int,
    batch_size: int,
    label: str | None = "replies",
    exploded: set[int] | None = None,
    done: Callable[[int, list[int]], None] = ignore,
) -> list[list[int]]:
    """Write one greedy reply per row; returns token ids without the end token.

    Each unique prompt is prefilled once per forward batch. In float32 the replies do not depend on ``batch_size``; in
    half precision rounding does, and where two tokens are nearly as likely so does the reply (10 of 40 differed). A row
    whose logits are no numbers (nan, inf) ends there and is added to ``exploded``; the others are as without it.
    ``done`` is called with every row and its reply as soon as that is whole; ``label`` None shows no progress.
    """
    broken = set() if exploded is None else exploded
    replies: list[list[int]] = [[] for _ in rows]
    prompt_cache = PromptCache(lm, prompts, edits)
    bars = nullcontext() if label is None else progress(label, len(rows), "replies")
    with edited(lm, edits) as cursor, bars as bar:

        def advance(n: int) -> None:
            if bar is not None:
                bar.advance(n)

        def run(tree_batch: TreeBatch) -> None:
            for i in (i for members in tree_batch.rows for i in members):
                replies[i].clear()
            tree_cache, finished = prompt_cache.place(tree_batch, cursor), 0
            try:
                for ended in _grow(lm, prompt_cache, tree_cache, tree_batch, rows, replies, max_new_tokens, broken):
                    advance(len(ended))
                    finished += len(ended)
                    for i in ended:
                        done(i, replies[i])
            except (RuntimeError, ExplodedError):  # these rows are run again
                advance(-finished)
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
    """Decode one tree_batch; yields the rows that finished, a few steps at a time.

    Tokens stay on the device. Every few steps (`CHECKED_EVERY`) the host reads what was written since; rows that ended
    in between wrote on until then, which is thrown away: no other row sees them.
    """
    ends, every = Ends(lm.stop_ids(), turn_end(lm)), CHECKED_EVERY.get(lm.device.type, OTHERWISE)
    stop = on_device(sorted(ends.stop), lm.head_device)
    block, places, order = prompt_cache.opened(tree_batch, rows)
    texts = Texts(
        [prompt_cache.prompts[rows[i].prompt] for i in order], [rows[i].decoding for i in order], limit, lm.head_device
    )
    front = Front.of(prompt_cache, tree_batch, rows, order)
    unread: list[Tensor] = []  # per step the rows' tokens
    for step in range(limit):
        tokens = _choose(lm, places.take(tree_cache.extend(block)), texts, stop)
        unread.append(tokens)
        tokens = tokens.clamp(min=0)  # of a row that exploded any will do
        texts.append(tokens)
        if len(unread) == every or step + 1 == limit:
            alive, ended = _read(torch.stack(unread, 1).tolist(), order, ends, replies, exploded, tree_batch)
            unread.clear()
            if step + 1 == limit:
                yield order
                return
            if ended:
                yield [order[k] for k in ended]
                if not alive:
                    return
                order = [order[k] for k in alive]
                kept = on_device(alive, lm.head_device)
                texts.keep(kept)
                tokens = tokens[kept]
                front = Front.of(prompt_cache, tree_batch, rows, order)
        block, places = front.block(tokens.to(lm.device), step), front.places


def _read(
    written: list[list[int]],
    order: list[int],
    ends: Ends,
    replies: list[list[int]],
    exploded: set[int],
    tree_batch: TreeBatch,
) -> tuple[list[int], list[int]]:
    """Put what rows wrote into their replies; returns the places of those that go on, and of those that ended."""
    found = [ends.continued(replies[i], own) for i, own in zip(order, written, strict=True)]
    broken = [i for i, (_, _, bad) in zip(order, found, strict=True) if bad]
    settled(tree_batch, not broken)
    exploded.update(broken)
    for i, (reply, _, _) in zip(order, found, strict=True):
        replies[i][:] = reply
    over = [ended for _, ended, _ in found]
    return [k for k, ended in enumerate(over) if not ended], [k for k, ended in enumerate(over) if ended]


class Ends(NamedTuple):
    """What ends a reply: tokens, and on a plain template the next turn."""

    stop: set[int]
    turn: TurnEnd | None

    def continued(self, reply: Sequence[int], tokens: Sequence[int]) -> tuple[list[int], bool, bool]:
        """Return a reply with the tokens that were written since; whether it ended; whether its numbers exploded."""
        reply = list(reply)
        for token in tokens:
            if token in self.stop or token == EXPLODED:
                return reply, True, token == EXPLODED
            reply.append(token)
            if self.turn is not None and self.turn.reached(reply):
                return self.turn.cut(reply), True, False
        return reply, False, False


class Front(NamedTuple):
    """The rows that are being written, one token each side by side: what of their next block does not change."""

    places: Places
    position: Tensor  # (b, t) of the first token behind the prompt; 0 where padded
    branch: Tensor
    real: Tensor  # (b, t) 1, or 0 where padded
    marks: Marks

    @classmethod
    def of(cls, prompt_cache: PromptCache, tree_batch: TreeBatch, rows: Sequence[Row], order: Sequence[int]) -> Front:
        """Lay out the rows ``order``, some of a batch's in its order."""
        device, wanted = prompt_cache.lm.device, set(order)
        trees = []
        for p, members in zip(tree_batch.prompts, tree_batch.rows, strict=True):
            length = len(prompt_cache.prompts[p])
            own = [(SHARED + 1 + k, rows[i].cond) for k, i in enumerate(members) if i in wanted]
            trees.append([(1, length, branch, cond, 1) for branch, cond in own])
        block = Block.pad(trees, device)  # of ids that say what is padding
        width = block.ids.shape[1]
        places = Places.of([range(width - len(tree), width) for tree in trees], device)
        assert block.marks is not None
        return cls(places, block.position, block.branch, block.ids, block.marks)

    def block(self, tokens: Tensor, step: int) -> Block:
        """Return the next block: each row's token (n,) of ``step``, 0 being the first behind the prompt."""
        if len(tokens) == self.real.numel():
            ids = tokens.view_as(self.real)
        else:
            ids = torch.zeros_like(self.real).index_put((self.places.tree, self.places.column), tokens)
        later = self.real * (step + 2) - 1  # steps behind the prompt's end; -1 where padded
        position, marks = self.position + self.real * step, self.marks.later(later)
        return Block(ids, position, self.branch, marks.cond, later, marks)


@torch.inference_mode()
def _choose(lm: LM, states: Tensor, texts: Texts, stop: Tensor) -> Tensor:
    """Return the likeliest token (n,) behind final states (n, d); `EXPLODED` where logits are nan or inf.

    -inf is none of these: it rules a token out.
    """
    found = []
    for own in pieces(lm, len(states)):
        logits = lm.logits(states[own])
        finite = logits.amax(-1) < torch.inf  # nan is not below inf
        found.append(texts.penalised(logits, own, stop).argmax(-1).where(finite, EXPLODED))
    return found[0] if len(found) == 1 else torch.cat(found)
