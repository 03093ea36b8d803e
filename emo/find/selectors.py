"""Which neurons stand for which class: selectors on the statistics of `emo.find.activation_stats` (methods 2).

    lape           lowest entropy H over classes of P, all classes together; then assigned to classes
    lap            P[c]                          P[c]: share of the tokens of class c on which a neuron is active
    mad            mean[c] - mean[not c]         of its activation
    cas            P[c] - max over the other classes of P
    direct_effect  given scores (methods 1.5)
    random         any neurons

Every selector but lape gives each class the same number of neurons. Shapes: C classes, L blocks, F FFN width,
N = L*F neurons, m neurons of a set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emo.core.errors import UserError, check_choice
from emo.find.activation_stats import Statistics

ASSIGNMENTS = ("lape_bar", "argmax")
PERCENTILE = 0.95  # of all P: LAPE's filter, and its bar for belonging to a class


class Ranked(NamedTuple):
    """Neurons, best first.

    Attributes:
        layer: (m,) int64 block.
        unit: (m,) int64 column within the block.
        score: (m,) float64 what they are ranked by: entropy in nats, low first (lape); high first (others).
    """

    layer: Tensor
    unit: Tensor
    score: Tensor


class Selection(NamedTuple):
    """One set of neurons per class, and the name of the selector."""

    sets: tuple[Ranked, ...]
    selector: str


def lape(stats: Statistics, ratio: float, filter: bool, assignment: str) -> Selection:
    """Return the round(ratio*N) neurons of the lowest entropy over classes, assigned to classes (methods 2).

    Never-active neurons are dropped. Ties: the larger P, then the lower block and column. Where more than 5 % of all
    P are 1, as on last tokens, nothing exceeds the percentile and lape_bar leaves every set empty.

    Args:
        stats: of the site and the tokens that decide.
        ratio: share of all neurons, 0 < ratio <= 1.
        filter: first drop neurons whose largest P is below the 95th percentile of all P.
        assignment: lape_bar: every class whose P exceeds that percentile, so a neuron may be in several sets or in
            none; argmax: the class of its largest P.

    Raises:
        UserError: another assignment, or a ratio out of range.
    """
    check_choice("assignment", assignment, ASSIGNMENTS)
    _, n_layers, width = stats.active.shape
    budget = _count(ratio, n_layers * width)
    p = stats.probability.flatten(1)  # (C, N)
    bar = p.flatten().kthvalue(max(1, round(PERCENTILE * p.numel()))).values
    best, own = p.max(0)
    kept = best > 0
    if filter:
        kept &= best >= bar
    share = p / p.sum(0).clamp(min=torch.finfo(p.dtype).tiny)
    entropy = -torch.special.xlogy(share, share).sum(0)
    order = best.argsort(descending=True, stable=True)
    order = order[entropy[order].argsort(stable=True)]
    chosen = order[kept[order]][:budget]
    classes = range(len(p))
    member = [p[c, chosen] > bar if assignment == "lape_bar" else own[chosen] == c for c in classes]
    return Selection(tuple(_ranked(chosen[m], entropy, width) for m in member), "lape")


def lap(stats: Statistics, ratio: float) -> Selection:
    """Return, per class, the round(ratio*N/C) neurons that are active on most of its tokens."""
    return _highest(stats.probability, ratio, "lap")


def mad(stats: Statistics, ratio: float) -> Selection:
    """Return, per class, the round(ratio*N/C) neurons whose mean rises most above that on all other tokens."""
    scores = [stats.mean(c) - stats.mean_others(c) for c in range(len(stats.tokens))]
    return _highest(torch.stack(scores), ratio, "mad")


def cas(stats: Statistics, ratio: float) -> Selection:
    """Return, per class, the round(ratio*N/C) neurons whose P rises most above that of every other class."""
    p = stats.probability
    others = [torch.cat([p[:c], p[c + 1 :]]).amax(0) for c in range(len(p))]
    return _highest(p - torch.stack(others), ratio, "cas")


def direct_effect(_: Statistics, ratio: float, scores: Tensor) -> Selection:
    """Return, per class, the round(ratio*N/C) neurons of the highest ``scores`` (C, L, F) (methods 1.5)."""
    return _highest(scores.double(), ratio, "direct_effect")


def random_units(stats: Statistics, ratio: float, seed: int) -> Selection:
    """Return, per class, round(ratio*N/C) neurons drawn from all blocks alike; of ``stats`` only the shape counts."""
    classes, n_layers, width = stats.active.shape
    n = n_layers * width
    count = _count(ratio, n, classes)
    drawn = [np.random.default_rng((seed, c)).permutation(n)[:count] for c in range(classes)]
    return Selection(tuple(_ranked(torch.from_numpy(own), torch.zeros(n).double(), width) for own in drawn), "random")


def matched_random(ranked: Ranked, shape: tuple[int, int], avoid: Sequence[Ranked], seed: int) -> Ranked:
    """Return random neurons, the i-th in the block of the i-th of ``ranked``: as many in every block, at every share.

    Args:
        ranked: the set to match.
        shape: (L, F).
        avoid: sets of which no neuron is taken, save in blocks where too few others are left.
        seed: of the draw.
    """
    n_layers, width = shape
    taken = torch.zeros(shape, dtype=torch.bool)
    for other in avoid:
        taken[other.layer, other.unit] = True
    unit = torch.zeros_like(ranked.unit)
    for layer in range(n_layers):
        here = ranked.layer == layer
        order = torch.from_numpy(np.random.default_rng((seed, layer)).permutation(width))
        order = order[taken[layer, order].to(torch.uint8).argsort(stable=True)]  # the free ones first
        unit[here] = order[: int(here.sum())]
    return Ranked(ranked.layer, unit, torch.zeros(len(unit), dtype=torch.float64))


def counts(selection: Selection, n_layers: int) -> Tensor:
    """Return how many neurons of each class are in each block, (C, L)."""
    return torch.stack([torch.bincount(own.layer, minlength=n_layers) for own in selection.sets])


def depth(ranked: Ranked, n_layers: int) -> float | None:
    """Return the mean of l/L (0: first block; below 1), None for an empty set."""
    return float(ranked.layer.double().mean()) / n_layers if len(ranked.layer) else None


def jaccard(a: Ranked, b: Ranked) -> float | None:
    """Return the overlap of two sets, 0..1; None where both are empty."""
    one, two = _places(a), _places(b)
    return len(one & two) / len(one | two) if one or two else None


def within(ranked: Ranked, layers: Collection[int]) -> Ranked:
    """Return the neurons of some blocks, in the same order."""
    inside = torch.isin(ranked.layer, torch.tensor(sorted(layers), dtype=torch.long))
    return Ranked(*(part[inside] for part in ranked))


def top(ranked: Ranked, share: float) -> Ranked:
    """Return the first round(share*m) neurons, at least one."""
    return Ranked(*(part[: max(1, round(share * len(part)))] for part in ranked))


def _count(ratio: float, n: int, classes: int = 1) -> int:
    if not 0 < ratio <= 1:
        raise UserError(f"ratio={ratio}: no share of the {n} neurons; type one above 0 and at most 1, e.g. ratio=0.01")
    return round(ratio * n / classes)


def _highest(scores: Tensor, ratio: float, selector: str) -> Selection:
    """Return, per class, the neurons of the highest scores (C, L, F); ties to the lower block and column."""
    classes, n_layers, width = scores.shape
    count = _count(ratio, n_layers * width, classes)
    flat = scores.flatten(1)
    order = flat.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return Selection(tuple(_ranked(own, flat[c], width) for c, own in enumerate(order)), selector)


def _ranked(index: Tensor, scores: Tensor, width: int) -> Ranked:
    """Return the neurons at places ``index`` (m,) of ``scores`` (N,)."""
    return Ranked(index // width, index % width, scores[index])


def _places(ranked: Ranked) -> set[tuple[int, int]]:
    return set(zip(ranked.layer.tolist(), ranked.unit.tolist(), strict=True))
