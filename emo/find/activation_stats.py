"""How often and how strongly every FFN neuron fires on the texts of each class, streamed (methods 2).

One pass over the texts serves all selectors; what is held does not grow with the number of tokens.
Shapes: C classes, L blocks, F FFN width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emo.core.console import progress
from emo.core.errors import UserError
from emo.core.partial import Running
from emo.core.types import Site
from emo.model.hooks import reading
from emo.model.lm import LM
from emo.model.on_device import for_sums, on_device
from emo.model.passes import TOKENS_PER_PROMPT, halving
from emo.model.prefix_tree import Block, TokenTrees
from emo.model.prefixes import Text, Tree, batches, halves, layout, shared_prefixes

SITES = (Site.GATE, Site.NEURON)
Sums = dict[tuple[int, int], tuple[Tensor, ...]]  # what a pass adds, by block and class: (F,) each, as `Statistics`


class Statistics(NamedTuple):
    """Sums over the tokens of each class at one site, float64 on the CPU; a is a neuron's activation on a token.

    Attributes:
        tokens: (C,) number of tokens.
        active: (C, L, F) tokens with a > 0.
        total: (C, L, F) sum of a.
        absolute: (C, L, F) sum of abs(a).
        square: (C, L, F) sum of a squared.
        peak: (C, L, F) largest abs(a).
    """

    tokens: Tensor
    active: Tensor
    total: Tensor
    absolute: Tensor
    square: Tensor
    peak: Tensor

    @property
    def probability(self) -> Tensor:
        """P (C, L, F): share of a class's tokens on which a neuron is active."""
        return self.active / self.tokens.clamp(min=1)[:, None, None]

    def mean(self, label: int | None = None) -> Tensor:
        """Return the mean activation (L, F) over the tokens of one class, or of all (None)."""
        return self._mean(self.total, label)

    def mean_absolute(self, label: int | None = None) -> Tensor:
        """Return the mean of abs(a), (L, F), over the tokens of one class, or of all (None)."""
        return self._mean(self.absolute, label)

    def mean_others(self, label: int) -> Tensor:
        """Return the mean activation (L, F) over the tokens of all other classes together."""
        left = torch.arange(len(self.tokens)) != label
        return self.total[left].sum(0) / self.tokens[left].sum().clamp(min=1)

    def _mean(self, sums: Tensor, label: int | None) -> Tensor:
        if label is None:
            return sums.sum(0) / self.tokens.sum().clamp(min=1)
        return sums[label] / self.tokens[label].clamp(min=1)

    def plus(self, other: Statistics) -> Statistics:
        """Return the statistics of the texts of both."""
        *sums, _ = (a + b for a, b in zip(self, other, strict=True))
        return Statistics._make([*sums, torch.maximum(self.peak, other.peak)])

    def beside(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of classes, the other's behind these."""
        return Statistics._make(torch.cat(pair) for pair in zip(self, other, strict=True))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the sums by name, the form of `emo.core.store.Artifact`."""
        return self._asdict()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Statistics:
        """Return what `to_tensors` gave."""
        return cls(*(tensors[name] for name in cls._fields))


def collect(
    lm: LM,
    texts: Sequence[Sequence[int]],
    spans: Sequence[tuple[int, int]],
    labels: Sequence[int],
    classes: int,
    site: Site,
    batch_size: int,
    label: str = "statistics",
) -> Statistics:
    """Read every text once and sum up its neurons' activations (methods 2).

    Args:
        lm: the model.
        texts: token ids.
        spans: of each text, the tokens [a, b) that count.
        labels: class of each text, 0..C-1.
        classes: C.
        site: gate (act_fn of the gate projection; without a gated MLP the neuron itself) or neuron.
        batch_size: prompts in one forward pass.
        label: name on the progress line.

    Raises:
        UserError: a text has no token to count.
        ValueError: another site.
    """
    if site not in SITES:
        raise ValueError(f"'{site}' holds no FFN neurons; use gate or neuron")
    for i, (ids, (a, b)) in enumerate(zip(texts, spans, strict=True)):
        if not 0 <= a < b <= len(ids):
            raise UserError(
                f"text {i + 1} of {len(texts)} has no token to count ([{a}, {b}) of {len(ids)}); leave it out"
            )
    sums = [_zeros(lm, layer, classes) for layer in range(lm.n_layers)]
    room = batch_size * TOKENS_PER_PROMPT
    tokens = torch.zeros(classes, dtype=torch.float64)
    held = {"tokens": tokens} | {str(layer): own for layer, own in enumerate(sums)}
    running = Running(label, label, "texts", len(texts), lambda: held)
    running.restore(held)
    left = running.left()
    read = [Text(list(texts[i]), len(texts[i]) - spans[i][0]) for i in left]

    def run(trees: list[Tree]) -> tuple[list[int], list[int], Sums]:
        rows, places = layout(read, trees)
        block = Block.pad(rows, lm.device)
        width = block.ids.shape[1]
        counted: list[list[int]] = [[] for _ in range(classes)]  # of each class, places in (b * t)
        for m, row, end in places:
            end += row * width + width - len(rows[row])  # padded on the left
            first, last = (end - len(texts[left[m]]) + edge for edge in spans[left[m]])
            counted[labels[left[m]]] += range(first, last)
        index = {c: on_device(own, lm.device) for c, own in enumerate(counted) if own}
        return [left[m] for m, _, _ in places], list(map(len, counted)), _read(lm, block, site, sums, index)

    with progress(label, len(read), "texts") as bar:
        todo = batches(read, shared_prefixes(read, room // 2), room)
        for _, (own, counts, found) in halving(todo, run, halves, "text"):
            with running.adding(own):  # a pass that ran out of memory half-way has added nothing
                tokens += torch.tensor(counts)
                for (layer, c), (*added, peak) in found.items():
                    for total, x in zip(sums[layer][:-1, c], added, strict=True):
                        total += x
                    sums[layer][-1, c] = torch.maximum(sums[layer][-1, c], peak)
            found.clear()
            bar.advance(len(own))
    return Statistics(tokens, *torch.stack([own.cpu() for own in sums], 2).unbind())


def _zeros(lm: LM, layer: int, classes: int) -> Tensor:
    """Return room for the sums of one block, where its activations are: (5, C, F) in the order of `Statistics`."""
    there = for_sums(lm.device_of(layer))
    return torch.zeros(len(Statistics._fields) - 1, classes, lm.f, dtype=torch.float64, device=there)


def _read(lm: LM, block: Block, site: Site, sums: list[Tensor], index: dict[int, Tensor]) -> Sums:
    """Run one pass and return what the tokens ``index[c]``, places in (b * t), add to ``sums`` of class c."""
    found: Sums = {}

    def add(_: Site, layer: int, x: Tensor) -> None:
        for c, own in index.items():
            a = x.flatten(0, 1)[own.to(x.device)].to(sums[layer].device).double()
            size = a.abs()
            found[layer, c] = ((a > 0).sum(0), a.sum(0), size.sum(0), a.square().sum(0), size.amax(0))

    with reading(lm, [(site, layer) for layer in range(lm.n_layers)], add):
        TokenTrees(lm).extend(block)
    return found
