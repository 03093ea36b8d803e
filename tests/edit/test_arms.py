"""Arms compiled to edits: every condition adds its own vector, at its own strength, in its own blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.edit.banks import Bank
from emo.edit.base import Arm, plan, random_directions
from emo.model.hooks import Edit
from emo.model.ops import Add

EMOTIONS, BLOCKS, WIDTH, SEEDS = 3, 5, 8, 2


def unit(*shape: int) -> Tensor:
    """Return random unit vectors."""
    x = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(len(shape)))
    return x / x.norm(dim=-1, keepdim=True)


BANK = Bank(unit(EMOTIONS, BLOCKS), unit(SEEDS, EMOTIONS, BLOCKS), random_directions(SEEDS, BLOCKS, WIDTH, 0))
ARMS = [
    Arm("none", "none"),
    Arm("prompt", "prompt"),
    Arm("steer", "steer", 2.0, (1, 2), "raw"),
    Arm("steer@alpha=-3", "steer", -3.0, (2, 4), "raw"),
    Arm("prompt_steer", "prompt_steer", 1.0, (4,), "raw"),
    Arm("random", "random", 2.0, (1, 2), "raw", seeds=SEEDS),
    Arm("shuffled", "shuffled", 0.5, (3,), "raw", seeds=SEEDS),
]


def added(edit: Edit, cond: int) -> Tensor:
    """Return what an edit adds to zero under a condition (raw dose)."""
    assert isinstance(edit.op, Add)
    return edit.op(torch.zeros(1, 1, WIDTH), torch.tensor([[cond]]), torch.ones(1, 1, 1))[0, 0]


def expected(arm: Arm, seed: int, emotion: int | None, layer: int) -> Tensor:
    """Return the vector of an arm's condition at a block."""
    if layer not in arm.layers:
        return torch.zeros(WIDTH)
    if arm.kind == "random":
        return arm.alpha * BANK.random[seed, layer]
    assert emotion is not None
    return arm.alpha * (BANK.shuffled[seed] if arm.kind == "shuffled" else BANK.directions)[emotion, layer]


@pytest.mark.parametrize("skip", [None, 2])
def test_every_condition_adds_its_own_vector(skip: int | None) -> None:
    """A vector of another block, emotion, seed or arm; a strength that holds in another arm's blocks."""
    made = plan(ARMS, BANK, skip)
    assert [edit.layer for edit in made.edits] == [layer for layer in (1, 2, 3, 4) if layer != skip]
    asked = [(arm, seed, e) for arm in ARMS if arm.steered for seed, e in arm.conditions(EMOTIONS)]
    assert sorted(made.cond.values()) == list(range(len(asked)))
    for arm, seed, emotion in asked:
        cond = made.cond[arm.name, seed, emotion]
        for edit in made.edits:
            assert edit.site is Site.RESID_POST and edit.tokens is Tokens.EVERY_STEP
            assert torch.allclose(added(edit, cond), expected(arm, seed, emotion, edit.layer))


def test_arms_without_edits() -> None:
    """Arms that edit nothing have no condition; no arms, no edits."""
    assert plan(ARMS[:2], BANK) == ([], {})
    assert not any(name in ("none", "prompt") for name, _, _ in plan(ARMS, BANK).cond)
    only_last = Arm("steer", "steer", 1.0, (4,))
    assert plan([only_last], BANK, skip_layer=4).edits == []


def test_conditions_and_kinds() -> None:
    """Random vectors know no emotion; the name of an arm is no part of what its results hang on."""
    kinds = {arm.kind: arm for arm in ARMS}
    assert kinds["none"].conditions(3) == [(0, None)]
    assert kinds["random"].conditions(3) == [(0, None), (1, None)]
    assert kinds["shuffled"].conditions(2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [arm.prompted for arm in ARMS] == [False, True, False, False, True, False, False]
    assert Arm("a", "steer", 1.0).key() == Arm("b", "steer", 1.0).key() != Arm("a", "steer", 2.0).key()


def test_random_directions() -> None:
    """Unit length, another vector per seed and block; more seeds, or a longer list of them, keep the first."""
    x = random_directions(4, 6, 64, seed=1)
    assert (x.norm(dim=-1) - 1).abs().max() <= 1e-6
    flat = x.flatten(0, 1)
    assert (flat @ flat.T - torch.eye(24)).abs().max() < 0.6
    assert torch.equal(random_directions(2, 6, 64, seed=1), x[:2])
    assert not torch.equal(random_directions(4, 6, 64, seed=2), x)
    assert random_directions(0, 6, 64, seed=1).shape == (0, 6, 64)
