"""Arms on units: how many are picked and which, and edits that do to each condition's units what its arm says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emo.config.choices import UNIT_CONTROLS
from emo.core.types import Site
from emo.edit.banks import UnitBank
from emo.edit.units import UnitArm, pick_units, plan_units
from emo.model.ops import Zero

EMOTIONS, BLOCKS, UNITS, WIDTH = 3, 4, 12, 2
LAYERS = (0, 2, 3)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BANK = UnitBank(
    Site.HEAD, draw(EMOTIONS, BLOCKS, UNITS), draw(EMOTIONS, BLOCKS, UNITS * WIDTH, seed=1),
    draw(EMOTIONS, BLOCKS, UNITS, seed=2).abs(), WIDTH,
)  # fmt: skip


def arm(pick: str = "top", k: int = 3, op: str = "ablate", pool: str = "per_layer", **more: float) -> UnitArm:
    name = f"{pick}@k={k},{sorted(more.items())}"
    return UnitArm(
        name, "ablate_heads", more.get("alpha", 1.0), LAYERS, op=op, units="heads", pick=pick, k=k, pool=pool
    )


def picked(made: UnitArm, emotion: int = 0, seed: int = 0) -> list[list[int]]:
    return [units.tolist() for units in pick_units(BANK, made, emotion, seed, 0)]


@given(
    pick=st.sampled_from(["top", *UNIT_CONTROLS]), k=st.integers(0, UNITS), op=st.sampled_from(["ablate", "enhance"]),
    pool=st.sampled_from(["per_layer", "global"]), emotion=st.integers(0, EMOTIONS - 1), seed=st.integers(0, 1),
)  # fmt: skip
def test_controls_have_as_many_units_in_every_layer(
    pick: str, k: int, op: str, pool: str, emotion: int, seed: int
) -> None:
    """No unit twice, none outside the layers, k in each of them or k in all; a control mirrors its target."""
    found = picked(arm(pick, k, op, pool), emotion, seed)
    for layer, units in enumerate(found):
        assert len(set(units)) == len(units) and all(0 <= u < UNITS for u in units)
        assert not units or layer in LAYERS
    counts = [len(units) for units in found]
    if pool == "per_layer":
        assert counts == [k if layer in LAYERS else 0 for layer in range(BLOCKS)]
    else:
        assert sum(counts) == min(k, UNITS * len(LAYERS))
    if pick != "top":  # pooled or not, a control mirrors its target's depth
        assert counts == [len(units) for units in picked(arm("top", k, op, pool), emotion, seed)]


def test_top_is_the_signed_ranking() -> None:
    """Largest first, with their sign; pooled: the best of all the layers that may be edited."""
    for layer in LAYERS:
        assert picked(arm())[layer] == BANK.scores[0, layer].argsort(descending=True)[:3].tolist()
        assert set(picked(arm("bottom"))[layer]) == set(BANK.scores[0, layer].argsort()[:3].tolist())
    assert picked(arm("other_emotion"), 1, 0) == picked(arm(), 2)
    assert picked(arm("other_emotion"), 1, 1) == picked(arm(), 0)
    whole = picked(arm("top", 5, pool="global"))
    chosen = min(BANK.scores[0, layer, u].item() for layer in LAYERS for u in whole[layer])
    left = [BANK.scores[0, layer, u].item() for layer in LAYERS for u in range(UNITS) if u not in whole[layer]]
    assert chosen > max(left)


def test_random_units_grow_with_k_and_change_with_the_seed() -> None:
    small, large, other = picked(arm("random", 2)), picked(arm("random", 6)), picked(arm("random", 6), seed=1)
    assert all(a == b[:2] for a, b in zip(small, large, strict=True) if a)
    assert large != other


@pytest.mark.parametrize("op", ["ablate", "enhance"])
def test_units_of_like_magnitude(op: str) -> None:
    """Matched on what the op moves: activations where units are zeroed, differences where they are added."""
    size = BANK.size[0] if op == "ablate" else BANK.delta[0].view(BLOCKS, UNITS, WIDTH).norm(dim=-1)
    many = torch.rand(1, 1, 400, generator=torch.Generator().manual_seed(3)) ** 4
    bank = UnitBank(Site.NEURON, draw(1, 1, 400, seed=4) + 20 * many, many.clone(), many, 1)
    top = UnitArm("a", "ablate_neurons", 1.0, (0,), op=op, pick="top", k=20)
    own = pick_units(bank, top, 0, 0, 0)[0]
    gaps = []
    for pick in ("magnitude", "random"):
        like = UnitArm("b", pick, 1.0, (0,), op=op, pick=pick, k=20)
        drawn = pick_units(bank, like, 0, 0, 0)[0]
        gaps.append(abs(float(many[0, 0, drawn].mean() - many[0, 0, own].mean())))
        assert pick == "random" or not set(own.tolist()) & set(drawn.tolist())
    assert gaps[0] < gaps[1] / 2
    assert size.shape == (BLOCKS, UNITS)


def test_edits_touch_each_conditions_own_columns() -> None:
    """A head is ``width`` columns; an enhancement adds lambda * delta there and nothing elsewhere."""
    arms = [arm("top", 2, "enhance"), arm("top", 4, "enhance", alpha=-0.5), arm("random", 3, "enhance"), arm(k=0)]
    made = plan_units(arms, BANK, 0)
    assert [edit.layer for edit in made.edits] == list(LAYERS)
    for one in arms[:3]:
        for seed, emotion in one.conditions(EMOTIONS):
            assert emotion is not None
            cond = torch.tensor([[made.cond[one.name, seed, emotion]]])
            for edit in made.edits:
                units = pick_units(BANK, one, emotion, seed, 0)[edit.layer]
                added = edit.op(torch.zeros(1, 1, UNITS * WIDTH), cond, torch.ones(1, 1, 1)).view(UNITS, WIDTH)
                expected = torch.zeros(UNITS, WIDTH)
                expected[units] = one.alpha * BANK.delta[emotion, edit.layer].view(UNITS, WIDTH)[units]
                assert torch.allclose(added, expected)
    assert not any(name == arms[3].name for name, _, _ in made.cond)


def test_equal_conditions_are_one() -> None:
    """k heads of a layer with k heads are the same heads whoever picks them; ablating them is one condition."""
    every = [arm("top", UNITS), arm("bottom", UNITS), arm("random", UNITS), arm("other_emotion", UNITS)]
    assert len(set(plan_units(every, BANK, 0).cond.values())) == 1
    added = [arm("top", UNITS, "enhance"), arm("random", UNITS, "enhance")]
    assert len(set(plan_units(added, BANK, 0).cond.values())) == EMOTIONS
    assert plan_units([arm(k=0)], BANK, 0).edits == []
    assert [edit.layer for edit in plan_units([arm()], BANK, 0, skip_layer=3).edits] == [0, 2]


@pytest.mark.parametrize("pool", ["per_layer", "global"])
def test_a_skipped_block_changes_no_other(pool: str) -> None:
    """The same units with one block left alone, also where k is spread over all of them."""
    one = arm("top", 6, pool=pool)
    whole, part = plan_units([one], BANK, 0), plan_units([one], BANK, 0, skip_layer=2)
    kept = {edit.layer: edit.op for edit in part.edits}
    assert set(kept) == {edit.layer for edit in whole.edits} - {2}
    x = draw(1, 1, UNITS * WIDTH, seed=9)
    for edit in whole.edits:
        for e in range(EMOTIONS) if edit.layer in kept else ():
            conds = [torch.tensor([[made.cond[one.name, 0, e]]]) for made in (whole, part)]
            both = [op(x, c, torch.ones(1, 1, 1)) for op, c in zip((edit.op, kept[edit.layer]), conds, strict=True)]
            assert torch.equal(*both)
    alone = UnitArm("last", "ablate_heads", 1.0, (3,), op="ablate", units="heads", pick="top", k=2, pool=pool)
    assert plan_units([alone], BANK, 0, skip_layer=3).edits == []


def test_decay_of_an_ablation() -> None:
    """A gain of one half leaves half of a unit, elsewhere nothing changes."""
    op = Zero.of([torch.tensor([1, 3]), torch.tensor([], dtype=torch.long)])
    x = draw(2, 1, 5)
    out = op(x, torch.tensor([[0], [1]]), torch.full((2, 1, 1), 0.5))
    assert torch.equal(out[1], x[1]) and torch.allclose(out[0, 0, [1, 3]], x[0, 0, [1, 3]] / 2)
    assert torch.equal(out[0, 0, [0, 2, 4]], x[0, 0, [0, 2, 4]])
