"""Selectors find the class neurons that were planted in the weights, and zeroing them breaks their class alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from support.planted_neurons import CLASSES, FFN, LAYERS, PLANTED, SPEC, neurons, planted_lm, texts
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.find import selectors
from emo.find.activation_stats import Statistics, collect
from emo.find.selectors import Ranked, Selection
from emo.model.capture import states
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.ops import Zero
from emo.model.prefix_tree import TokenTrees, plain_block
from emo.model.prefixes import Text
from emo.model.verify import verify

pytestmark = pytest.mark.usefixtures("quiet")
BEFORE = "Is what follows anger, sadness or happiness? Answer with one of these names and with nothing else.\n"
BEHIND = "\nName:"
TRAIN, TEST = texts(20, seed=1), texts(10, seed=2)
RATIO = sum(len(own.layer) for own in neurons()) / (LAYERS * FFN)  # room for what was planted, no more
SITES = (Site.GATE, Site.NEURON)


class Read(NamedTuple):
    """Prompts, what of them is the text, and their classes."""

    ids: list[list[int]]
    spans: list[tuple[int, int]]
    labels: list[int]


@pytest.fixture(scope="module")
def lm() -> LM:
    """Return the planted model; its sites pass the checks of a real one."""
    made = planted_lm()
    verify(made)
    return made


def read(lm: LM, given: list[tuple[str, int]]) -> Read:
    """Return the texts within a question."""
    before, behind = (lm.tokenizer(part)["input_ids"] for part in (BEFORE, BEHIND))
    ids = [[*before, *lm.tokenizer(" " + text)["input_ids"], *behind] for text, _ in given]
    spans = [(len(before), len(own) - len(behind)) for own in ids]
    return Read(ids, spans, [c for _, c in given])


@pytest.fixture(scope="module")
def stats(lm: LM) -> dict[Site, Statistics]:
    """Return the statistics over all content tokens."""
    return {site: collect(lm, *read(lm, TRAIN), len(CLASSES), site, 8) for site in SITES}


def test_a_word_is_a_token(lm: LM) -> None:
    """Else the planted neurons would be silent on parts of their own words."""
    given = read(lm, TRAIN)
    assert [b - a for a, b in given.spans] == [len(text.split()) for text, _ in TRAIN]


def recall(selection: Selection) -> Tensor:
    """Return the share of each class's planted neurons that its set holds, (C,)."""
    found = []
    for own, planted in zip(selection.sets, neurons(), strict=True):
        pairs = {*zip(planted.layer.tolist(), planted.unit.tolist(), strict=True)}
        found.append(len(pairs.intersection(zip(own.layer.tolist(), own.unit.tolist(), strict=True))) / len(pairs))
    return torch.tensor(found)


FINDERS: dict[str, Callable[[Statistics], Selection]] = {
    "lap": partial(selectors.lap, ratio=RATIO),
    "mad": partial(selectors.mad, ratio=RATIO),
    "cas": partial(selectors.cas, ratio=RATIO),
} | {
    f"lape {assignment} {'filter' if filtered else 'all'}": partial(
        selectors.lape, ratio=RATIO, filter=filtered, assignment=assignment
    )
    for filtered in (True, False)
    for assignment in selectors.ASSIGNMENTS
}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", FINDERS)
def test_selectors_find_what_was_planted(stats: dict[Site, Statistics], name: str, site: Site) -> None:
    """At least nine in ten of every class."""
    found = FINDERS[name](stats[site])
    assert (recall(found) >= 0.9).all(), recall(found)
    assert set(selectors.counts(found, LAYERS).sum(0).nonzero().flatten().tolist()) == set(PLANTED)


def test_direct_effect_finds_them(lm: LM, stats: dict[Site, Statistics]) -> None:
    """Mean activation times what a neuron writes along its class's direction in the residual stream of its block."""
    given = read(lm, TRAIN)
    inputs = [Text(ids, len(ids) - a) for ids, (a, _) in zip(given.ids, given.spans, strict=True)]
    mean = torch.zeros(len(CLASSES), LAYERS, lm.d)
    for i, x in states(lm, inputs, 8, sites=(Site.RESID_POST,)):
        mean[given.labels[i]] += x[:, 0]
    v = torch.nn.functional.normalize(mean - mean.mean(0), dim=-1).double()
    weights = torch.stack([lm.projection(Site.NEURON, layer)[0] for layer in range(LAYERS)]).double()
    firing = torch.stack([stats[Site.NEURON].mean(c) for c in range(len(CLASSES))])
    found = selectors.direct_effect(stats[Site.GATE], RATIO, firing * torch.einsum("cld,ldf->clf", v, weights))
    assert (recall(found) >= 0.9).all(), recall(found)


def test_random_units_do_not(stats: dict[Site, Statistics]) -> None:
    """Neither from all blocks, nor from the blocks of the planted ones, where they are not avoided."""
    drawn = [recall(selectors.random_units(stats[Site.GATE], RATIO, seed)) for seed in range(10)]
    assert torch.stack(drawn).mean() <= 0.2
    best = selectors.cas(stats[Site.GATE], RATIO)
    for seed in range(10):
        matched = tuple(selectors.matched_random(own, (LAYERS, FFN), [], seed) for own in best.sets)
        drawn[seed] = recall(Selection(matched, "random"))
    assert torch.stack(drawn).mean() <= 0.2


def accuracy(lm: LM, masks: list[Ranked]) -> Tensor:
    """Return the share of right answers (masks + 1, C): without a mask, then under each of them.

    An answer is the likeliest of all tokens, so a model that knows nothing of the class names none.
    """
    given = read(lm, TEST)
    names = torch.tensor(lm.tokenizer.convert_tokens_to_ids(list(CLASSES)))
    edits = [
        Edit(Site.NEURON, layer, Zero.of([own.unit[own.layer == layer] for own in masks]), Tokens.ALL)
        for layer in range(LAYERS)
    ]
    labels = torch.tensor(given.labels)
    rows = []
    with edited(lm, edits) as cursor:
        for cond in range(-1, len(masks)):
            hidden = TokenTrees(lm, cursor).extend(plain_block(given.ids, lm.device, cond))
            right = lm.logits(hidden[:, -1]).argmax(-1) == names[labels]
            rows.append(torch.stack([right[labels == c].float().mean() for c in range(len(CLASSES))]))
    return torch.stack(rows)


def test_masking_breaks_its_class_alone(lm: LM, stats: dict[Site, Statistics]) -> None:
    """What a selector found is enough; as many random neurons of the same blocks change nothing."""
    found = selectors.lape(stats[Site.GATE], RATIO, True, "lape_bar")
    random = [selectors.matched_random(own, (LAYERS, FFN), found.sets, seed) for seed, own in enumerate(found.sets)]
    got = accuracy(lm, [*found.sets, *random])
    assert (got[0] == 1).all()
    assert torch.equal(got[1:4], 1 - torch.eye(len(CLASSES))), got
    assert (got[4:] == 1).all()


def test_half_of_them_is_not_enough(lm: LM) -> None:
    """The class has neurons in two blocks: a mask in one leaves the other's."""
    for layer in PLANTED:
        got = accuracy(lm, [selectors.within(own, [layer]) for own in neurons()])
        assert (got == 1).all(), got


def test_sizes_are_those_of_the_specification(lm: LM) -> None:
    """What a job reads before the weights."""
    assert (lm.n_layers, lm.h, lm.f) == (SPEC.n_layers, SPEC.n_heads, SPEC.n_neurons)
