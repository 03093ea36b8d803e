"""Selectors of neurons: by hand, and against the definitions written out slowly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emo.core.errors import UserError
from emo.find import selectors
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked, Selection

Units = list[tuple[int, int]]
# 12 neurons (3 blocks of 4) x 3 classes. 36 values: the percentile is the round(0.95 * 36) = 34th smallest = 0.7.
P = [
    [[0.9, 0.8, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0]],
    [[0.7, 0.1, 0.1], [0.0, 0.7, 0.0], [0.6, 0.6, 0.3], [0.0, 0.05, 0.0]],
    [[0.2, 0.2, 0.7], [0.4, 0.2, 0.2], [0.0, 0.0, 0.2], [0.7, 0.7, 0.7]],
]
TOKENS = [20.0, 40.0, 80.0]
# Entropies: (1, 1), (0, 3), (1, 3) and (2, 2) 0; (1, 0) 0.684; (0, 0) 0.691; (2, 0) 0.908; (2, 3) and (0, 1) ln 3.
ALONE = 0.0
ONE_OF_NINE = -(7 / 9 * math.log(7 / 9) + 2 / 9 * math.log(1 / 9))
TWO = -(9 / 17 * math.log(9 / 17) + 8 / 17 * math.log(8 / 17))
THIRD = -(4 / 11 * math.log(2 / 11) + 7 / 11 * math.log(7 / 11))


def statistics(p: Sequence[Sequence[Sequence[float]]] | Tensor, tokens: Sequence[float]) -> Statistics:
    """Return statistics with P of (L, F, C); whatever P does not say is zero."""
    count, rates = torch.tensor(tokens).double(), torch.as_tensor(p).double().movedim(-1, 0)
    active = (rates * count[:, None, None]).round()
    return Statistics(count, active, *(torch.zeros_like(active) for _ in range(4)))


def units(ranked: Ranked) -> Units:
    """Return (block, column) of every neuron, best first."""
    assert ranked.layer.dtype == ranked.unit.dtype == torch.int64
    assert len(ranked.layer) == len(ranked.unit) == len(ranked.score)
    return list(zip(ranked.layer.tolist(), ranked.unit.tolist(), strict=True))


def sets(selection: Selection) -> list[Units]:
    """Return the neurons of every class."""
    return [units(own) for own in selection.sets]


def ranked(*places: tuple[int, int]) -> Ranked:
    """Return a set by hand."""
    layer, unit = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
    return Ranked(layer, unit, torch.arange(len(places), 0, -1).double())


LAPE = {  # (ratio, filter, assignment) -> what must come out
    (1 / 4, True, "lape_bar"): [[(0, 0)], [(0, 0)], []],
    (1 / 4, True, "argmax"): [[(1, 0), (0, 0)], [(1, 1)], []],
    (1 / 2, True, "lape_bar"): [[(0, 0)], [(0, 0)], []],
    (1 / 2, True, "argmax"): [[(1, 0), (0, 0), (2, 3)], [(1, 1)], [(2, 0)]],
    (1 / 3, False, "lape_bar"): [[], [], []],
    (1 / 3, False, "argmax"): [[(0, 3)], [(1, 1), (1, 3)], [(2, 2)]],
    (1 / 2, False, "lape_bar"): [[(0, 0)], [(0, 0)], []],
    (1 / 2, False, "argmax"): [[(0, 3), (1, 0), (0, 0)], [(1, 1), (1, 3)], [(2, 2)]],
}


@pytest.mark.parametrize("key", LAPE)
def test_lape_sets_and_scores_are_those_by_hand(key: tuple[float, bool, str]) -> None:
    """A neuron that reaches the percentile passes the filter, but only one that exceeds it belongs to a class."""
    ratio, filtered, assignment = key
    assert sets(selectors.lape(statistics(P, TOKENS), ratio, filtered, assignment)) == LAPE[key]


def test_lape_ranks_by_entropy() -> None:
    """Low first; the filter takes away near-dead neurons, which are as low as can be."""
    found = selectors.lape(statistics(P, TOKENS), 1 / 2, True, "argmax")
    assert found.selector == "lape"
    scores = [own.score.tolist() for own in found.sets]
    expected = [[ONE_OF_NINE, TWO, math.log(3)], [ALONE], [THIRD]]
    for own, wanted in zip(scores, expected, strict=True):
        assert own == pytest.approx(wanted, abs=1e-12)


def test_lape_never_takes_a_dead_neuron() -> None:
    """Not even where the budget has room for all."""
    everything = sets(selectors.lape(statistics(P, TOKENS), 1.0, False, "argmax"))
    assert sorted(sum(everything, [])) == [place for place in product(range(3), range(4)) if place != (0, 2)]
    assert sets(selectors.lape(statistics(torch.zeros(2, 3, 2), [5, 5]), 1.0, True, "argmax")) == [[], []]


def slow_lape(p: Tensor, ratio: float, filtered: bool, assignment: str) -> list[set[tuple[int, int]]]:
    """Return LAPE's sets from P (L, F, C), by the words of methods 2; ties as documented."""
    n_layers, width, classes = p.shape
    values = sorted(p.flatten().tolist())
    bar = values[max(1, round(0.95 * len(values))) - 1]
    rows = []
    for layer in range(n_layers):
        for unit in range(width):
            own = p[layer, unit].tolist()
            if max(own) == 0 or (filtered and max(own) < bar):
                continue
            parts = [x / sum(own) for x in own]
            entropy = sum(-x * math.log(x) for x in parts if x)
            rows.append((round(entropy, 9), -max(own), layer, unit, own))
    rows.sort(key=lambda row: row[:4])
    out: list[set[tuple[int, int]]] = [set() for _ in range(classes)]
    for _, _, layer, unit, own in rows[: round(ratio * n_layers * width)]:
        members = [c for c in range(classes) if own[c] > bar] if assignment == "lape_bar" else [own.index(max(own))]
        for c in members:
            out[c].add((layer, unit))
    return out


@st.composite
def tables(draw: st.DrawFn) -> Statistics:
    """Draw statistics of a few classes, blocks and neurons; P and means need not belong together."""
    classes, n_layers, width = draw(st.integers(2, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    seed, dead = draw(st.integers(0, 10_000)), draw(st.floats(0, 1))
    rng = torch.Generator().manual_seed(seed)
    shape = (classes, n_layers, width)
    active = torch.randint(0, 1009, shape, generator=rng).double()  # of a prime number of tokens
    active[torch.rand(shape, generator=rng) < dead] = 0
    total = torch.randn(shape, generator=rng, dtype=torch.float64)
    tokens = torch.full((classes,), 1009.0).double()
    return Statistics(tokens, active, total, total.abs(), total.square(), total.abs())


ratios = st.floats(0.01, 1)


@given(tables(), ratios, st.booleans(), st.sampled_from(["lape_bar", "argmax"]))
def test_lape_is_its_definition(stats: Statistics, ratio: float, filtered: bool, assignment: str) -> None:
    """The same sets as the slow computation; a set's entropies ascend."""
    found = selectors.lape(stats, ratio, filtered, assignment)
    p = stats.active.movedim(0, -1) / 1009
    if found_ties(p):
        return
    assert [set(own) for own in sets(found)] == slow_lape(p, ratio, filtered, assignment)
    for own in found.sets:
        assert (own.score.diff() >= 0).all()


def found_ties(p: Tensor) -> bool:
    """Return whether two entropies differ by rounding alone, where the order is nobody's business."""
    share = p / p.sum(-1, keepdim=True).clamp(min=1e-12)
    entropy = -torch.special.xlogy(share, share).sum(-1).flatten().sort().values
    gaps = entropy.diff()
    return bool(((gaps > 0) & (gaps < 1e-8)).any())


def test_lap_and_cas_by_hand() -> None:
    """Six neurons, two classes with 10 and 5 tokens; two neurons each."""
    p = [[[0.9, 0.8], [0.5, 0.0], [0.1, 0.6]], [[0.4, 0.4], [0.8, 0.2], [0.0, 1.0]]]
    stats = statistics(p, [10, 5])
    lap, cas = selectors.lap(stats, 2 / 3), selectors.cas(stats, 2 / 3)
    assert (lap.selector, cas.selector) == ("lap", "cas")
    assert sets(lap) == [[(0, 0), (1, 1)], [(1, 2), (0, 0)]]
    assert sets(cas) == [[(1, 1), (0, 1)], [(1, 2), (0, 2)]]
    assert [own.score.tolist() for own in lap.sets] == [[0.9, 0.8], [1.0, 0.8]]
    assert [own.score.tolist() for own in cas.sets] == [pytest.approx([0.6, 0.5]), pytest.approx([1.0, 0.5])]


def test_cas_takes_the_nearest_of_the_other_classes() -> None:
    """Not their mean: a neuron that two of three classes share is of neither."""
    stats = statistics([[[1.0, 1.0, 0.0], [0.5, 0.2, 0.2], [0.0, 0.0, 0.1]]], [10, 10, 10])
    assert sets(selectors.cas(stats, 1.0)) == [[(0, 1)], [(0, 0)], [(0, 2)]]


def test_mad_sets_and_scores_are_those_by_hand() -> None:
    """Four neurons; classes of 1, 1 and 3 tokens: the other tokens count alike, not the other classes."""
    total = torch.tensor([[[5, 3.9], [0, 0]], [[4, 0], [7, 1]], [[3, 3], [0, 12]]]).double()
    stats = Statistics(torch.tensor([1.0, 1.0, 3.0]).double(), *(total for _ in range(5)))
    found = selectors.mad(stats, 3 / 4)
    assert sets(found) == [[(0, 0)], [(1, 0)], [(1, 1)]]
    assert [own.score.item() for own in found.sets] == [3.25, 7, 3.5]


def test_direct_effect_is_signed() -> None:
    """A neuron that takes away from its class is last, however strong."""
    scores = torch.tensor([[[1.0, -9.0], [3.0, 2.0]], [[0.0, 4.0], [-5.0, 1.0]]])
    found = selectors.direct_effect(statistics(torch.zeros(2, 2, 2), [1, 1]), 1.0, scores)
    assert sets(found) == [[(1, 0), (1, 1)], [(0, 1), (1, 1)]]


@given(tables(), ratios, st.integers(0, 99))
def test_sets_are_within_budget_and_range(stats: Statistics, ratio: float, seed: int) -> None:
    """No unit twice in a set, none out of range; equal shares of the budget for every class but in LAPE."""
    classes, n_layers, width = stats.active.shape
    budget, each = round(ratio * n_layers * width), round(ratio * n_layers * width / classes)
    equal = [
        selectors.lap(stats, ratio),
        selectors.mad(stats, ratio),
        selectors.cas(stats, ratio),
        selectors.direct_effect(stats, ratio, stats.total),
        selectors.random_units(stats, ratio, seed),
    ]
    lape = [selectors.lape(stats, ratio, f, a) for f in (True, False) for a in selectors.ASSIGNMENTS]
    for selection in [*equal, *lape]:
        assert len(selection.sets) == classes
        for own in sets(selection):
            assert len(set(own)) == len(own)
            assert all(0 <= layer < n_layers and 0 <= unit < width for layer, unit in own)
        assert torch.equal(
            selectors.counts(selection, n_layers).sum(1), torch.tensor([len(o) for o in sets(selection)])
        )
    assert all(len(own) == each for selection in equal for own in sets(selection))
    assert all(len(set(sum(sets(selection), []))) <= budget for selection in lape)
    assert all((own.score.diff() <= 0).all() for selection in equal for own in selection.sets)


def test_random_units_are_spread_over_all_blocks() -> None:
    """Other ones for every class and seed, the same ones again."""
    stats = statistics(torch.zeros(8, 100, 3), [1, 1, 1])
    made = selectors.random_units(stats, 0.3, 0)
    assert made.selector == "random"
    assert (selectors.counts(made, 8) > 0).all()
    assert sets(made) == sets(selectors.random_units(stats, 0.3, 0))
    different = [*sets(made), *sets(selectors.random_units(stats, 0.3, 1))]
    assert len({tuple(own) for own in different}) == 6


@given(tables(), ratios, st.integers(0, 99))
def test_matched_random(stats: Statistics, ratio: float, seed: int) -> None:
    """The same blocks place by place; nothing avoided is taken while the block has others."""
    _, n_layers, width = stats.active.shape
    selection = selectors.lap(stats, ratio)
    own = selection.sets[0]
    avoid = {place for other in sets(selection) for place in other}
    made = selectors.matched_random(own, (n_layers, width), selection.sets, seed)
    assert made.layer.tolist() == own.layer.tolist()
    assert len(set(units(made))) == len(own.layer)
    assert all(0 <= unit < width for unit in made.unit.tolist())
    for layer in range(n_layers):
        here = [place for place in units(made) if place[0] == layer]
        free = width - sum(place[0] == layer for place in avoid)
        assert len(avoid.intersection(here)) == max(0, len(here) - free)


def test_matched_random_is_random() -> None:
    """Over the seeds every free unit is drawn, about equally often."""
    own = ranked((1, 0), (1, 1), (0, 3))
    drawn = [selectors.matched_random(own, (2, 12), [own], seed) for seed in range(300)]
    hits = torch.bincount(torch.tensor([unit for made in drawn for unit in made.unit[:2].tolist()]), minlength=12)
    assert hits[:2].sum() == 0 and hits[2:].min() > 30 and hits[2:].max() < 90  # 60 expected


def test_counts_depth_jaccard() -> None:
    """By hand, empty sets among them."""
    a, b, none = ranked((0, 1), (2, 1), (2, 3)), ranked((2, 1), (1, 3)), ranked()
    assert selectors.counts(Selection((a, none, b), "lap"), 4).tolist() == [[1, 0, 2, 0], [0] * 4, [0, 1, 1, 0]]
    assert selectors.depth(a, 4) == pytest.approx((0 + 2 + 2) / 3 / 4)
    assert selectors.depth(none, 4) is None
    assert selectors.jaccard(a, b) == 1 / 4
    assert selectors.jaccard(a, a) == 1
    assert selectors.jaccard(a, none) == 0
    assert selectors.jaccard(none, none) is None


def test_within_and_top() -> None:
    """Both keep the order; top keeps at least one, and nothing of nothing."""
    own = ranked((2, 0), (0, 1), (2, 2), (1, 3), (2, 4))
    assert units(selectors.within(own, [2, 1])) == [(2, 0), (2, 2), (1, 3), (2, 4)]
    assert selectors.within(own, [2]).score.tolist() == [5, 3, 1]
    assert units(selectors.within(own, range(0))) == []
    assert units(selectors.top(own, 0.4)) == [(2, 0), (0, 1)]
    assert units(selectors.top(own, 0.01)) == [(2, 0)]
    assert units(selectors.top(own, 1.0)) == units(own)
    assert units(selectors.top(ranked(), 0.5)) == []


def test_wrong_settings_are_one_line() -> None:
    """One line each."""
    stats = statistics(P, TOKENS)
    with pytest.raises(UserError, match="assignment=argmin: not one of lape_bar, argmax; did you mean argmax"):
        selectors.lape(stats, 0.1, True, "argmin")
    for ratio in (0, -0.1, 1.5, math.nan):
        with pytest.raises(UserError, match=r"no share of the 12 neurons.*e\.g\. ratio=0\.01"):
            selectors.lap(stats, ratio)
