"""Reading residual states of many prompts: streamed, with common prefixes read once.

Prompts that start alike (a system line, a scenario, a set of examples) share a trunk of one token tree,
so their common tokens are forwarded once; the states are those of a plain forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from emo.console import progress
from emo.forest import Block, Forest
from emo.hooks import reading
from emo.models.lm import LM
from emo.prefixes import Text, Tree, batches, layout, shared_prefixes
from emo.types import Site

SITES = (Site.RESID_MID, Site.RESID_POST)
TOKENS_PER_PROMPT = 64  # tokens of one forward pass = batch_size x this


def states(
    lm: LM, texts: Sequence[Text], batch_size: int, label: str = "captured", sites: Sequence[Site] = SITES
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, states (l, sites, d) float32 on the CPU) for every text, in no fixed order.

    Memory holds one forward pass, whatever the number of texts.
    """
    room = batch_size * TOKENS_PER_PROMPT
    trees = sorted(shared_prefixes(texts, room // 2), key=lambda t: (-t.prefix, t.members))
    with progress(label, len(texts), "prompts") as bar:
        for batch in batches(texts, trees, room):
            yield from _read(lm, texts, batch, sites)
            bar.advance(sum(len(tree.members) for tree in batch))


def _read(lm: LM, texts: Sequence[Text], batch: list[Tree], sites: Sequence[Site]) -> Iterator[tuple[int, Tensor]]:
    rows, where = layout(texts, batch)
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
