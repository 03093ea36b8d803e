"""How rows are put into forward passes, and what happens when one does not fit into memory.

``batch_size`` is the budget: prompts in one pass, and with it rows and tokens. A pass that runs out of memory all the
same is cut in two, as often as needed, and a warning says so once; in float32 the numbers do not depend on it, in half
precision their last digits do.
"""

from __future__ import annotations

import gc
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch

from emo.core.console import warn
from emo.core.errors import UserError

TREE_TOKENS = 256  # new tokens of one tree in one pass
TOKENS_PER_PROMPT = 64  # new tokens of one pass = at most batch_size x this
ROWS_PER_PROMPT = 8  # rows of one forward pass = batch_size x this: wide enough for fast matrix products
NO_EDIT = -1
CPU_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")  # a plain RuntimeError there


P = TypeVar("P")
T = TypeVar("T")


def ignore(*_: object) -> None:
    """Stand for what is called with finished rows, where nobody waits for them."""


class Row(NamedTuple):
    """One reply to write or to score: which prompt, under which condition (-1: unedited)."""

    prompt: int
    cond: int = NO_EDIT
    reply: tuple[int, ...] = ()  # teacher forcing: the tokens to score
    decoding: str = "plain"  # a key of `emo.model.penalties.DECODINGS`


def once(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Return the different rows, and for every given row its place among them."""
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    return list(place), [place[row] for row in rows]


class TreeBatch(NamedTuple):
    """Trees of one forward pass: their prompts, and which rows (indices) each carries."""

    prompts: list[int]
    rows: list[list[int]]


def tree_batches(
    prompts: Sequence[Sequence[int]], rows: Sequence[Row], batch_size: int, tokens_per_row: int = 1
) -> list[TreeBatch]:
    """Group rows into forward passes: trees of like width together, widest first, then prompts that begin alike.

    ``tokens_per_row`` is the number of tokens that a row adds in one pass. A tree's rows are masked from one
    another, so attention costs rows squared: many rows of one prompt are spread over several trees.
    """
    by_prompt: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_prompt[row.prompt].append(index)
    room = max(1, min(batch_size * ROWS_PER_PROMPT, batch_size * TOKENS_PER_PROMPT // tokens_per_row))
    width = min(room, max(1, TREE_TOKENS // tokens_per_row))
    trees = [
        (prompt, members[start : start + width])
        for prompt, members in by_prompt.items()
        for start in range(0, len(members), width)
    ]
    trees.sort(key=lambda t: (-len(t[1]), list(prompts[t[0]]), t[0]))
    out: list[TreeBatch] = []
    for prompt, members in trees:
        last = out[-1] if out else None
        if last and len(last.prompts) < batch_size and len(last.rows[0]) * (len(last.prompts) + 1) <= room:
            last.prompts.append(prompt)
            last.rows.append(members)
        else:
            out.append(TreeBatch([prompt], [members]))
    return out


class ExplodedError(Exception):
    """A pass gave nan or inf in a tree of several rows: which of them did it cannot be told, see `settled`."""


def settled(tree_batch: TreeBatch, finite: bool) -> None:
    """Check whether all that a pass gave is ``finite``: a row that explodes must cost its own numbers only.

    Rows of one tree are masked from one another by a weight of zero, and zero times nan is nan: one row's explosion
    reaches all others of its tree. Then they are run apart.

    Raises:
        ExplodedError: a number is nan or inf, and some tree has several rows; `in_passes` runs each in a tree alone.
    """
    if not finite and any(len(members) > 1 for members in tree_batch.rows):
        raise ExplodedError


def in_passes(todo: Iterable[TreeBatch], run: Callable[[TreeBatch], T]) -> Iterator[tuple[TreeBatch, T]]:
    """Yield every batch of trees with what ``run`` gives for it; one that does not fit into memory is halved.

    One in which numbers explode (`settled`) is run again with a tree for every row. ``run`` may be called again for
    rows that it had begun.

    Raises:
        UserError: a single row does not fit.
    """
    return halving(todo, run, _halves, "row", _apart)


def halving(
    todo: Iterable[P],
    run: Callable[[P], T],
    halves: Callable[[P], list[P]],
    one: str,
    apart: Callable[[P], list[P]] | None = None,
) -> Iterator[tuple[P, T]]:
    """Yield every pass with what ``run`` gives for it; one that does not fit into memory is halved, and run again.

    Args:
        todo: passes.
        run: what a pass gives; whatever it adds up elsewhere must be added by the caller, once it is whole.
        halves: of a pass; fewer than two where it cannot be halved.
        one: what a pass holds at least, for the error.
        apart: passes to run in place of one that raises `ExplodedError`.

    Raises:
        UserError: a pass that cannot be halved does not fit.
    """
    queue, warned = deque(todo), False
    while queue:
        part = queue.popleft()
        try:
            done = [run(part)]
        except ExplodedError:
            if apart is None:
                raise
            queue.extendleft(reversed(apart(part)))
            continue
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            parts = halves(part)
        else:
            yield part, done.pop()  # held by the caller alone: not while the next one runs
            continue
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(parts) < 2:
            raise UserError(
                f"out of memory with a single {one}; type a smaller model, dtype=bfloat16 or another device"
            )
        if not warned:
            warn("out of memory: passes are halved from here on; a smaller batch_size avoids the detour")
            warned = True
        queue.extendleft(reversed(parts))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in CPU_OUT_OF_MEMORY)


def _apart(tree_batch: TreeBatch) -> list[TreeBatch]:
    """Return passes of trees with one row each: the first row of every tree, then the second, ..."""
    made = []
    for k in range(max(map(len, tree_batch.rows))):
        own = [
            (p, [members[k]])
            for p, members in zip(tree_batch.prompts, tree_batch.rows, strict=True)
            if k < len(members)
        ]
        made.append(TreeBatch([p for p, _ in own], [members for _, members in own]))
    return made


def _halves(tree_batch: TreeBatch) -> list[TreeBatch]:
    n = len(tree_batch.prompts)
    if n > 1:
        return [TreeBatch(tree_batch.prompts[a:b], tree_batch.rows[a:b]) for a, b in ((0, n // 2), (n // 2, n))]
    rows = tree_batch.rows[0]
    half = len(rows) // 2
    return [TreeBatch(tree_batch.prompts, [part]) for part in (rows[:half], rows[half:]) if part]
