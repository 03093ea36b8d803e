"""The dose of an edit at the residual stream against what the edit was told to add, and against plain passes."""

from __future__ import annotations

import pytest
import torch
from support import twin
from support.twin import gap, steps
from support.units import PROMPTS, arms_of, bank_of, run_plain

from emo.core.types import Site
from emo.edit.banks import Bank
from emo.edit.base import Arm, plan
from emo.edit.units import plan_units
from emo.measure.dose import doses
from emo.model.hooks import edited, reading
from emo.model.lm import LM
from emo.model.passes import Row

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize(("dose", "expected"), [("rel", 0.3), ("rms", 0.3)])
def test_steering_is_as_strong_as_it_was_told(lm: LM, dose: str, expected: float) -> None:
    """Rel is the dose itself, rms that times the root of the width; an unedited row has none."""
    v = twin.unit(2, lm.n_layers, lm.d)
    alpha = expected * (lm.d**0.5 if dose == "rms" else 1.0)
    made = plan([Arm("steer", "steer", alpha, (1, 2), dose)], Bank(v, v[:0, None], v[:0]))
    found = doses(lm, PROMPTS, [Row(0, 0), Row(1, 1), Row(2, 0), Row(0, -1)], made.edits, 2, "doses")
    assert found[3].isnan()
    # |added| / |h| behind the edit; the state was shorter or longer before it
    assert ((found[:3] - expected).abs() < 0.1).all()
    assert not found[:3].isnan().any()


@pytest.mark.parametrize("units", ["neurons", "heads"])
@pytest.mark.parametrize("op", ["ablate", "enhance"])
def test_units_change_their_sublayer_by_as_much(lm: LM, op: str, units: str) -> None:
    """One edited block at a time, against the difference of two plain passes at attn_add or mlp_add."""
    arms = [arm for arm in arms_of(lm, op, units, "every_step") if arm.pick == "top" and arm.k == 1]
    made = plan_units(arms, bank_of(lm, units), 0)
    at = Site.ATTN_ADD if units == "heads" else Site.MLP_ADD
    behind = Site.RESID_MID if units == "heads" and Site.RESID_MID in twin.sites(lm) else Site.RESID_POST
    for layer in (0, lm.n_layers - 1):
        edits = [edit for edit in made.edits if edit.layer == layer]
        ours = doses(lm, PROMPTS, [Row(0, 0), Row(2, 1)], edits, 64, "doses")
        for n, (p, cond) in enumerate(((0, 0), (2, 1))):
            before, seen = run_plain(lm, PROMPTS[p], [at])[at][layer], {}

            def keep(site: Site, _: int, x: torch.Tensor, seen: dict[Site, torch.Tensor] = seen) -> None:
                seen[site] = x[0, -1].clone()

            with torch.inference_mode(), edited(lm, edits) as cursor, reading(lm, [(at, layer), (behind, layer)], keep):
                cursor.place(torch.full((1, len(PROMPTS[p])), cond), steps(len(PROMPTS[p]), len(PROMPTS[p])))
                lm.model(input_ids=torch.tensor([PROMPTS[p]]), use_cache=False)
            changed = (seen[at] - before).norm()
            if not changed:  # a neuron of an expert that the router did not choose is zero already
                assert ours[n].isnan() and op == "ablate" and lm.family.experts is not None
                continue
            assert gap(ours[n], changed / seen[behind].norm()) <= 1e-4


def test_both_parts_of_a_parallel_block_count(models: dict[str, LM]) -> None:
    """Heads and neurons both end in resid_post there: two sublayers, not one that moves as far as both."""
    lm = models["gpt_neox"]
    by_units = {units: plan_units(arms_of(lm, "enhance", units, "every_step"), bank_of(lm, units), 0) for units in
                ("heads", "neurons")}  # fmt: skip
    cond = by_units["heads"].cond["top@k=1", 0, 0]
    assert cond == by_units["neurons"].cond["top@k=1", 0, 0]
    edits = {units: [edit for edit in made.edits if edit.layer == 1] for units, made in by_units.items()}
    alone = [doses(lm, PROMPTS, [Row(0, cond)], own, 8, "doses") for own in edits.values()]
    both = doses(lm, PROMPTS, [Row(0, cond)], edits["heads"] + edits["neurons"], 8, "doses")
    assert min(x.item() for x in alone) > 0
    # The state behind is another one where both are edited: a share of a percent here.
    assert gap(both, (alone[0] + alone[1]) / 2) <= 0.1
    assert gap(both, alone[0] + alone[1]) > 0.3
