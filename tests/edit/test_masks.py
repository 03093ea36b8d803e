"""Masks compiled for a batch: read back from the model they are what a hand computation says, each in its own rows."""

from __future__ import annotations

import pytest
import torch
from support.twin import LENGTH, observe
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.edit.masks import Mask, injected, plan_masks
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked
from emo.model.hooks import Edit
from emo.model.lm import LM

pytestmark = pytest.mark.usefixtures("quiet")
CLASSES, BLOCKS, WIDTH = 3, 4, 48
FAMILIES = ("llama", "gpt2")


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TOKENS = torch.tensor([10.0, 20.0, 5.0], dtype=torch.float64)
SHAPE = (CLASSES, BLOCKS, WIDTH)
STATS = Statistics(
    TOKENS,
    active=draw(*SHAPE, seed=1).abs(),
    total=draw(*SHAPE, seed=2) * TOKENS[:, None, None],
    absolute=draw(*SHAPE, seed=3).abs() * TOKENS[:, None, None] / 10,
    square=draw(*SHAPE, seed=4).abs(),
    peak=0.2 * draw(*SHAPE, seed=5).abs(),
)


def ranked(*units: tuple[int, int]) -> Ranked:
    layer, unit = torch.tensor(units, dtype=torch.long).reshape(-1, 2).T
    return Ranked(layer, unit, torch.arange(len(units), 0, -1).float())


NONE = ranked()
ONE = ranked((1, 3), (0, 7), (1, 0), (3, 47), (1, 40))
TWO = ranked((2, 3), (1, 3), (0, 0), (0, 1), (0, 2), (0, 3))
ADDED = torch.tensor([0.5, -1.0, 2.0, 0.25, 3.0])


def mean(layer: int, unit: int, target: int | None) -> float:
    classes = range(CLASSES) if target is None else [target]
    total = sum(float(STATS.total[c, layer, unit]) for c in classes)
    return total / sum(float(TOKENS[c]) for c in classes)


# mask and its target class
CASES: dict[str, tuple[Mask, int | None]] = {
    "zero": (Mask("zero", 1, ONE), 0),  # 1, not 1.0: the numbers of the other masks stay as they are
    "mean": (Mask("mean", 0.7, TWO), 1),
    "attenuate": (Mask("attenuate", 0.8, ONE), 1),
    "attenuate_mean": (Mask("attenuate", 0.6, TWO, live=False), 2),
    "attenuate_all": (Mask("attenuate", 0.6, ONE, live=False), None),
    "gain": (Mask("gain", 2.5, TWO), None),
    "add": (Mask("add", 0.5, ONE), 2),
    "add_other": (Mask("add", -1.5, TWO), 0),
    "add_all": (Mask("add", 2.0, ONE), None),
    "values": (Mask("add", 3.0, ONE, values=ADDED), 1),
    "none": (Mask("zero", 0.0, NONE), 0),
    "none_attenuated": (Mask("attenuate", 1.0, NONE), 0),
}


def by_hand(name: str, a: float, layer: int, unit: int, k: int) -> float:
    """Return what a mask leaves of an activation of its k-th unit."""
    target = CASES[name][1]
    if name == "zero":
        return 0.0
    if name == "mean":
        return mean(layer, unit, None)
    if name == "gain":
        return 2.5 * a
    if name == "values":
        return a + 3 * float(ADDED[k])
    if name.startswith("add"):
        return a + {"add": 0.5, "add_other": -1.5, "add_all": 2.0}[name] * mean(layer, unit, target)
    classes = range(CLASSES) if target is None else [target]
    peak = max(float(STATS.peak[c, layer, unit]) for c in classes)
    size = sum(float(STATS.absolute[c, layer, unit]) for c in classes) / sum(float(TOKENS[c]) for c in classes)
    alpha, size = (0.8, abs(a)) if name == "attenuate" else (0.6, size)
    return a * (1 - alpha * min(size / peak, 1))


MASKS = [mask for mask, _ in CASES.values()]
TARGETS = [target for _, target in CASES.values()]
CONDITIONS = torch.arange(len(CASES))[:, None].expand(-1, LENGTH)
SITES = [(Site.NEURON, layer) for layer in range(BLOCKS)]


def read(lm: LM, edits: list[Edit], cond: Tensor = CONDITIONS) -> Tensor:
    """Return activations (conditions, l, t, f) under the edits, one row for each condition."""
    seen = observe(lm, SITES, edits, cond)
    return torch.stack([seen[site] for site in SITES], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_do_what_a_hand_computation_says(models: dict[str, LM], family: str) -> None:
    """All masks in one batch: in every block each unit from what the blocks before left, and nothing beside it."""
    lm = models[family]
    edits = plan_masks(MASKS, STATS, TARGETS, BLOCKS)
    assert {(edit.site, edit.tokens) for edit in edits} == {(Site.NEURON, Tokens.ALL)}
    after = read(lm, edits)
    for layer in range(BLOCKS):
        before = read(lm, [edit for edit in edits if edit.layer < layer])[:, layer]
        expected = before.clone()
        for c, (name, (mask, _)) in enumerate(CASES.items()):
            for k, (own, unit) in enumerate(zip(mask.units.layer.tolist(), mask.units.unit.tolist(), strict=True)):
                if own == layer:
                    expected[c, :, unit] = torch.tensor(
                        [by_hand(name, a, own, unit, k) for a in before[c, :, unit].tolist()]
                    )
        assert torch.allclose(after[:, layer], expected, rtol=1e-5, atol=1e-7)
        untouched = expected == before
        assert torch.equal(after[:, layer][untouched], before[untouched])


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_a_batch_do_not_touch_each_other(models: dict[str, LM], family: str) -> None:
    """Each row as with its mask alone, to the bit; without units as without a mask, and every other mask shows."""
    lm = models[family]
    together, plain = read(lm, plan_masks(MASKS, STATS, TARGETS, BLOCKS)), read(lm, [])
    for c, (name, (mask, target)) in enumerate(CASES.items()):
        alone = read(lm, plan_masks([mask], STATS, [target], BLOCKS), torch.zeros_like(CONDITIONS))
        assert torch.equal(together[c], alone[c]), name
        assert torch.equal(together[c], plain[c]) == name.startswith("none"), name


def test_blocks_without_units_are_not_edited() -> None:
    """No hook where there is nothing to do, and none at all for masks without units."""
    assert plan_masks([Mask("zero", 0.0, NONE)], STATS, [0], BLOCKS) == []
    assert [edit.layer for edit in plan_masks([Mask("zero", 0.0, ONE)], STATS, [0], BLOCKS)] == [0, 1, 3]


def test_a_mask_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="op 'drop': not one of zero, mean, attenuate, gain, add"):
        Mask("drop", 1.0, ONE)
    for op, values in (("add", ADDED[:2]), ("zero", ADDED)):
        with pytest.raises(ValueError, match="values go with op 'add', one for each unit"):
            Mask(op, 1.0, ONE, values=values)


def test_what_rhetoric_gives_to_emotion_units() -> None:
    """The mean over the device's units of the same block; 0 where it has none, also for the unit of both sets."""
    means = torch.arange(12.0).reshape(3, 4) ** 2
    rhetoric = ranked((0, 1), (0, 3), (2, 2), (0, 2))  # block 0: 1, 9, 4; block 2: 100
    emotion = ranked((2, 0), (1, 1), (0, 0), (0, 3))
    found = injected(emotion, rhetoric, means)
    assert torch.allclose(found, torch.tensor([100.0, 0.0, 14 / 3, 14 / 3]))
    assert injected(emotion, NONE, means).tolist() == [0, 0, 0, 0]
    assert injected(NONE, rhetoric, means).shape == (0,)
