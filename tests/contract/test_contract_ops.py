"""Ops: as large as documented, idempotent where they remove, out-of-place always."""

from __future__ import annotations

import pytest
import torch
from support import twin
from support.twin import (
    EDITED_SITES,
    IDS,
    LENGTH,
    OPS,
    PROMPT,
    TOLERANCE,
    UNIT_OPS,
    edits_at,
    gap,
    observe,
    scores,
    sites,
    steps,
    unit,
    width,
)
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.model.hooks import Edit, reading
from emo.model.lm import LM
from emo.model.ops import Add, AddUnits, PatchActivation, Zero

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("site", EDITED_SITES)
def test_doses_have_the_documented_size(lm: LM, site: Site) -> None:
    """A flipped sign; rms and rel exchanged; a strength in other units than the paper's."""
    w, alpha = width(lm, site), torch.tensor([0.7, -1.3])
    v, which, cond = unit(1, w), torch.tensor([0, 0]), torch.tensor([[0] * LENGTH, [1] * LENGTH])
    before = observe(lm, [(site, 1)], cond=cond)[site, 1]
    norm = before.norm(dim=-1, keepdim=True)
    sizes = {"rms": norm / w**0.5, "rel": norm, "raw": torch.ones_like(norm)}
    for dose, size in sizes.items():
        edits = [Edit(site, 1, Add(v, which, alpha, dose), Tokens.ALL)]
        added = observe(lm, [(site, 1)], edits, cond)[site, 1] - before
        assert gap(added, alpha[:, None, None] * size * v[0]) <= 1e-4, dose


def test_decay_starts_after_the_prompt(lm: LM) -> None:
    """Strength times decay per token AFTER the prompt's last; prompt tokens have full strength."""
    v = unit(1, lm.d)
    add = Add(v, torch.tensor([0]), torch.tensor([2.0]), "raw")
    before = observe(lm, [(Site.RESID_POST, 1)])[Site.RESID_POST, 1]
    after = observe(lm, [(Site.RESID_POST, 1)], [Edit(Site.RESID_POST, 1, add, Tokens.ALL, decay=0.5)])
    size = 2 * 0.5 ** steps(LENGTH, PROMPT).clamp(min=0).float()
    assert gap(((after[Site.RESID_POST, 1] - before) @ v[0]), size) <= 1e-4


@pytest.mark.parametrize("kind", ["zero"])
def test_removing_twice_is_removing_once(lm: LM, kind: str) -> None:
    """Zero and project out are idempotent, and leave nothing of what they remove."""
    for site in sites(lm):
        edits = edits_at(lm, kind, site, Tokens.ALL, [2])
        once, twice = (observe(lm, [(site, 2)], edits * n)[site, 2] for n in (1, 2))
        assert gap(twice, once) <= 1e-6
        removed = edits[0].op
        if isinstance(removed, Zero):  # resid_mid is written as a difference: zero up to rounding
            assert once[..., removed.index[0]].abs().max() <= (1e-6 if site is Site.RESID_MID else 0)


@pytest.mark.parametrize("kind", [*OPS, *UNIT_OPS])
def test_edits_are_out_of_place(lm: LM, kind: str) -> None:
    """An edit in place also changes what others hold: the block before, a capture, a cache."""
    x = torch.randn(2, 5, 16)
    kept = x.clone()
    out = twin.op(kind, 16)(x, torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, 1))
    assert torch.equal(x, kept)
    assert out.data_ptr() != x.data_ptr()
    for site in sites(lm):
        held: list[tuple[Tensor, Tensor]] = []
        wanted = [(s, layer) for s in sites(lm) for layer in (0, 1)]
        with reading(lm, wanted, lambda _, __, t, held=held: held.append((t, t.clone()))):
            scores(lm, IDS, PROMPT, edits_at(lm, kind, site, Tokens.EVERY_STEP, [1]))
        assert len(held) == len(wanted)
        assert all(torch.equal(now, then) for now, then in held), site


@pytest.mark.parametrize("kind", ["add", "scale", "put", *UNIT_OPS])
def test_half_the_gain_is_half_the_change(kind: str) -> None:
    """Decay must fade every op towards the identity, not towards zero."""
    x, cond = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.long)
    none, half, full = (twin.op(kind, 16)(x, cond, torch.full((2, 5, 1), gain)) for gain in (0.0, 0.5, 1.0))
    assert torch.equal(none, x)
    assert gap(half, (x + full) / 2) <= TOLERANCE


def test_what_is_put_is_there_to_the_bit(lm: LM) -> None:
    """A state plus a rounded difference; the row of another condition; tokens that were not chosen."""
    states, cond = unit(3, lm.d), torch.tensor([[0] * LENGTH, [1] * LENGTH])
    edits = [Edit(Site.RESID_PRE, 1, PatchActivation(states, torch.tensor([2, 0])), Tokens.PROMPT_LAST)]
    before, after = (observe(lm, [(Site.RESID_PRE, 1)], own, cond)[Site.RESID_PRE, 1] for own in ([], edits))
    assert torch.equal(after[:, PROMPT - 1], states[[2, 0]])
    assert torch.equal(after[:, PROMPT:], before[:, PROMPT:])
    assert torch.equal(after[:, : PROMPT - 1], before[:, : PROMPT - 1])


@pytest.mark.parametrize("kind", [*OPS, *UNIT_OPS, "add_units"])
def test_an_op_among_others_leaves_their_conditions_alone(kind: str) -> None:
    """To the bit before and after its own, which stay what they were."""
    units = [torch.tensor([1, 5]), torch.tensor([3])]
    own = AddUnits.of(units, [torch.ones(2), torch.ones(1)]) if kind == "add_units" else twin.op(kind, 16)
    x, gain = torch.randn(2, 5, 16), torch.full((2, 5, 1), 0.7)
    many = own.among(2, 3)
    for cond in range(7):
        out = many(x, torch.full((2, 5), cond), gain)
        alone = own(x, torch.full((2, 5), cond - 2), gain) if cond in (2, 3) else x
        assert torch.equal(out, alone), cond
        assert torch.equal(out, x) == (cond not in (2, 3))


def test_an_op_without_idle_conditions_says_so() -> None:
    """A state that is put is put under every condition: beside others it would be put there too."""
    put = twin.op("put", 16)
    assert put.among(0, 0) is put
    with pytest.raises(TypeError, match="PatchActivation has no condition that changes nothing"):
        put.among(1, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ops_keep_the_dtype(dtype: torch.dtype) -> None:
    """A float32 result inside a half-precision block stops the model; the dose itself is taken in float32."""
    x, cond, gain = (
        (300 * torch.randn(1, 3, 64)).to(dtype),
        torch.zeros(1, 3, dtype=torch.long),
        torch.ones(1, 3, 1),
    )
    for kind in (*OPS, *UNIT_OPS, "put"):
        out = twin.op(kind, 64)(x, cond, gain)
        assert out.dtype is dtype
        assert gap(out.float(), twin.op(kind, 64)(x.float(), cond, gain)) <= 1e-2, kind
