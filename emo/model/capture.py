"""Reading activations of many prompts: streamed, with common prefixes read once.

Prompts that start alike (a system line, a scenario, a set of examples) share a prefix of one token tree,
so their common tokens are forwarded once; the activations are those of a plain forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from emo.core.console import progress
from emo.core.types import Site
from emo.model.hooks import reading
from emo.model.lm import LM
from emo.model.prefix_tree import Block, TokenTrees
from emo.model.prefixes import Text, Tree, batches, layout, shared_prefixes

SITES = (Site.RESID_MID, Site.RESID_POST)
TOKENS_PER_PROMPT = 64  # tokens of one forward pass = batch_size x this


class Batch(NamedTuple):
    """What one forward pass gave: indices of n texts, and per site (n, l, w) float32 on the CPU."""

    texts: list[int]
    at: dict[Site, Tensor]


def activations(
    lm: LM,
    texts: Sequence[Text],
    batch_size: int,
    label: str = "captured",
    sites: Sequence[Site] = SITES,
    normed: bool = False,
    only: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yield the activations of every text, in no fixed order; sites may differ in width.

    ``normed``: resid_post of the last block is taken behind the final norm. ``only``: places of the texts to read.
    Memory holds one forward pass, whatever the number of texts.
    """
    room = batch_size * TOKENS_PER_PROMPT
    places = range(len(texts)) if only is None else only
    read = [texts[i] for i in places]
    with progress(label, len(read), "prompts") as bar:
        for batch in batches(read, shared_prefixes(read, room // 2), room):
            found = _read(lm, read, batch, sites, normed)
            yield Batch([places[i] for i in found.texts], found.at)
            bar.advance(sum(len(tree.members) for tree in batch))


def states(
    lm: LM,
    texts: Sequence[Text],
    batch_size: int,
    label: str = "captured",
    sites: Sequence[Site] = SITES,
    normed: bool = False,
) -> Iterator[tuple[int, Float[Tensor, "l sites d"]]]:
    """Yield (index, states (l, sites, d) float32 on the CPU) for every text, in no fixed order; see `activations`."""
    for batch in activations(lm, texts, batch_size, label, sites, normed):
        yield from zip(batch.texts, torch.stack([batch.at[site] for site in sites], 2), strict=True)


def _read(lm: LM, texts: Sequence[Text], batch: list[Tree], sites: Sequence[Site], normed: bool) -> Batch:
    rows, where = layout(texts, batch)
    block = Block.pad(rows, lm.device)
    width = block.ids.shape[1]
    found: dict[tuple[Site, int], Tensor] = {}

    def keep(site: Site, layer: int, x: Tensor) -> None:
        own = []
        for m, b, end in where:
            last = width - len(rows[b]) + end
            own.append(x[b, last - texts[m].span : last].float().mean(0))
        found[site, layer] = torch.stack(own).cpu()

    with reading(lm, [(site, layer) for layer in range(lm.n_layers) for site in sites], keep):
        final = TokenTrees(lm).extend(block)
    if normed:
        keep(Site.RESID_POST, lm.n_layers - 1, final)
    at = {site: torch.stack([found[site, layer] for layer in range(lm.n_layers)], 1) for site in sites}
    return Batch([m for m, _, _ in where], at)
