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
from emo.model.passes import TOKENS_PER_PROMPT, halving
from emo.model.prefix_tree import Block, Places, TokenTrees
from emo.model.prefixes import Text, Tree, batches, halves, layout, shared_prefixes


class Batch(NamedTuple):
    """What one forward pass gave: indices of n texts, and per site (n, l, w) float32."""

    texts: list[int]
    at: dict[Site, Tensor]


def activations(
    lm: LM,
    texts: Sequence[Text],
    batch_size: int,
    label: str = "captured",
    sites: Sequence[Site] | None = None,
    normed: bool = False,
    only: Sequence[int] | None = None,
    there: bool = False,
) -> Iterator[Batch]:
    """Yield the activations of every text, in no fixed order; sites may differ in width.

    ``sites``: None are those behind the sublayers, resid_mid and resid_post (`emo.model.lm.LM.behind`).
    ``normed``: resid_post of the last block is taken behind the final norm. ``only``: places of the texts to read.
    ``there``: activations stay on the model's device, else they are brought to the CPU. Memory holds one forward pass,
    whatever the number of texts; a pass that does not fit is halved.
    """
    room = batch_size * TOKENS_PER_PROMPT
    places = range(len(texts)) if only is None else only
    read = [texts[i] for i in places]
    sites = tuple(dict.fromkeys(lm.behind if sites is None else sites))

    def run(trees: list[Tree]) -> Batch:
        return _read(lm, read, trees, sites, normed, there)

    with progress(label, len(read), "prompts") as bar:
        for _, found in halving(batches(read, shared_prefixes(read, room // 2), room), run, halves, "text"):
            yield Batch([places[i] for i in found.texts], found.at)
            bar.advance(len(found.texts))


def states(
    lm: LM,
    texts: Sequence[Text],
    batch_size: int,
    label: str = "captured",
    sites: Sequence[Site] | None = None,
    normed: bool = False,
) -> Iterator[tuple[int, Float[Tensor, "l sites d"]]]:
    """Yield (index, states (l, sites, d) float32 on the CPU) for every text, in no fixed order; see `activations`."""
    sites = lm.behind if sites is None else sites
    for batch in activations(lm, texts, batch_size, label, sites, normed):
        yield from zip(batch.texts, torch.stack([batch.at[site] for site in sites], 2), strict=True)


def _read(lm: LM, texts: Sequence[Text], trees: list[Tree], sites: Sequence[Site], normed: bool, there: bool) -> Batch:
    rows, where = layout(texts, trees)
    block = Block.pad(rows, lm.device)
    width = block.ids.shape[1]
    found: dict[tuple[Site, int], Tensor] = {}
    spans = [texts[m].span for m, _, _ in where]
    columns: list[list[int]] = [[] for _ in trees]
    for (_, b, end), span in zip(where, spans, strict=True):
        last = width - len(rows[b]) + end
        columns[b] += range(last - span, last)
    places, mean = Places.of(columns, lm.device), _averages(spans).to(lm.device)

    def keep(site: Site, layer: int, x: Tensor) -> None:
        own = places.take(x).float()
        found[site, layer] = (own if len(own) == len(spans) else mean.to(own.device) @ own).to(lm.device)

    with reading(lm, [(site, layer) for layer in range(lm.n_layers) for site in sites], keep):
        final = TokenTrees(lm).extend(block)
    if normed:
        keep(Site.RESID_POST, lm.n_layers - 1, final)
    at = {site: torch.stack([found.pop((site, layer)) for layer in range(lm.n_layers)], 1) for site in sites}
    return Batch([m for m, _, _ in where], at if there else {site: x.cpu() for site, x in at.items()})


def _averages(spans: Sequence[int]) -> Tensor:
    """Return (n, tokens of all n spans): what takes the mean over each span."""
    lengths = torch.tensor(spans)
    of = torch.repeat_interleave(lengths)
    out = torch.zeros(len(spans), len(of))
    out[of, torch.arange(len(of))] = 1 / lengths[of].float()
    return out
