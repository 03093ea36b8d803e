"""Reading residual states of many prompts: streamed, with common prefixes read once.

Prompts that start alike (a system line, a scenario, a set of examples) share a trunk of one token tree,
so their common tokens are forwarded once; the states are those of a plain forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emo.console import progress
from emo.forest import TRUNK, Block, Forest
from emo.hooks import reading
from emo.models.lm import LM
from emo.types import Site

SITES = (Site.RESID_MID, Site.RESID_POST)
WORTH_SHARING = 16  # tokens: below this a common prefix is not worth a tree of its own
TOKENS_PER_PROMPT = 64  # tokens of one forward pass = batch_size x this


class Text(NamedTuple):
    """Token ids, of which the last ``span`` are averaged over (1: the last token)."""

    ids: list[int]
    span: int = 1


class Tree(NamedTuple):
    """Texts (indices) that share their first ``prefix`` tokens."""

    prefix: int
    members: list[int]


def shared_prefixes(texts: Sequence[Text], room: int) -> list[Tree]:
    """Group texts into trees of at most ``room`` tokens beyond their prefix; every text exactly once.

    Sorting puts texts with common beginnings side by side, so one pass finds the trees.
    """
    order = sorted(range(len(texts)), key=lambda i: texts[i].ids)
    trees: list[Tree] = []
    for i in order:
        limit = len(texts[i].ids) - texts[i].span  # what is read must be the text's own tokens
        if trees:
            tree = trees[-1]
            first = texts[tree.members[0]].ids
            common = min(_common(first, texts[i].ids), limit, tree.prefix)
            beyond = sum(len(texts[m].ids) for m in [*tree.members, i]) - common * (len(tree.members) + 1)
            keeps = len(tree.members) == 1 or common >= tree.prefix - WORTH_SHARING
            if common >= WORTH_SHARING and keeps and beyond <= room:
                trees[-1] = Tree(common, [*tree.members, i])
                continue
        trees.append(Tree(limit, [i]))
    return trees


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    return next((k for k in range(n) if a[k] != b[k]), n)


def states(
    lm: LM, texts: Sequence[Text], batch_size: int, label: str = "captured", sites: Sequence[Site] = SITES
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, states (l, sites, d) float32 on the CPU) for every text, in no fixed order.

    Memory holds one forward pass, whatever the number of texts.
    """
    room = batch_size * TOKENS_PER_PROMPT
    trees = sorted(shared_prefixes(texts, room // 2), key=lambda t: (-t.prefix, t.members))
    with progress(label, len(texts), "prompts") as bar:
        for batch in _batches(texts, trees, room):
            yield from _read(lm, texts, batch, sites)
            bar.advance(sum(len(tree.members) for tree in batch))


def _batches(texts: Sequence[Text], trees: Sequence[Tree], room: int) -> Iterator[list[Tree]]:
    """Cut the trees into forward passes of at most ``room`` tokens, padding included (a larger tree stands alone)."""
    batch: list[Tree] = []
    widest = 0
    for tree in trees:
        width = tree.prefix + sum(len(texts[m].ids) - tree.prefix for m in tree.members)
        if batch and max(widest, width) * (len(batch) + 1) > room:
            yield batch
            batch, widest = [], 0
        batch.append(tree)
        widest = max(widest, width)
    if batch:
        yield batch


def _read(
    lm: LM, texts: Sequence[Text], batch: list[Tree], sites: Sequence[Site]
) -> Iterator[tuple[int, Tensor]]:
    rows, where = [], []
    for b, tree in enumerate(batch):
        trunk = texts[tree.members[0]].ids[: tree.prefix]
        tokens = [(token, i, TRUNK, -1, -1) for i, token in enumerate(trunk)]
        for k, m in enumerate(tree.members):
            own = texts[m].ids[tree.prefix :]
            tokens += [(token, tree.prefix + i, TRUNK + 1 + k, -1, 0) for i, token in enumerate(own)]
            where.append((m, b, len(tokens)))
        rows.append(tokens)
    block = Block.pad(rows, lm.device)
    width = block.ids.shape[1]
    found = torch.empty(len(where), lm.n_layers, len(sites), lm.d)

    def keep(site: Site, layer: int, x: Tensor) -> None:
        for n, (m, b, end) in enumerate(where):
            last = width - len(rows[b]) + end
            found[n, layer, sites.index(site)] = x[b, last - texts[m].span : last].float().mean(0).cpu()

    with reading(lm, [(site, layer) for layer in range(lm.n_layers) for site in sites], keep):
        Forest(lm).extend(block)
    for n, (m, _, _) in enumerate(where):
        yield m, found[n]
