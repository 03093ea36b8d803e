"""Scores of ablated and enhanced units as tree rows == full forward passes, on every family."""

from __future__ import annotations

import pytest
import torch
from support import twin
from support.twin import TOLERANCE, gap
from support.units import EMOTIONS, PROMPTS, arms_of, bank_of, naive
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.edit.units import plan_units
from emo.measure.projections import projections
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("units", ["neurons", "heads"])
@pytest.mark.parametrize("op", ["ablate", "enhance"])
def test_tree_rows_score_as_full_forwards(lm: LM, op: str, units: str, batch_size: int) -> None:
    """A wrong column, condition or block; another row's edit; a prefix that an edit has touched."""
    arms, bank = arms_of(lm, op, units, "every_step"), bank_of(lm, units)
    made = plan_units(arms, bank, 0)
    v = twin.unit(EMOTIONS, lm.n_layers, lm.d)
    site = lm.behind[0] if units == "heads" else Site.RESID_POST
    rows = [
        Row(p, made.cond.get((arm.name, seed, e), -1))
        for p in range(len(PROMPTS))
        for arm in arms
        for seed, e in arm.conditions(EMOTIONS)
    ]
    ours, _ = projections(lm, PROMPTS, rows, made.edits, v, batch_size, site=site)
    known: dict[Row, Tensor] = {}
    for row in rows:
        if row not in known:
            known[row] = naive(lm, PROMPTS[row.prompt], made.edits, row.cond, v, site)
    assert gap(ours, torch.stack([known[row] for row in rows])) <= TOLERANCE
    assert len({tuple(x.flatten().tolist()) for x in known.values()}) > len(PROMPTS)  # edits did something


def test_an_edit_of_earlier_tokens_scores_as_a_full_forward(lm: LM) -> None:
    """tokens=all reaches into the prompt: nothing of it may be shared."""
    arms, bank = arms_of(lm, "ablate", "neurons", "all"), bank_of(lm, "neurons")
    made = plan_units(arms, bank, 0)
    v = twin.unit(EMOTIONS, lm.n_layers, lm.d)
    rows = [Row(p, cond) for p in range(len(PROMPTS)) for cond in sorted(set(made.cond.values()))[:4]]
    assert made.edits[0].tokens is Tokens.ALL
    ours, _ = projections(lm, PROMPTS, rows, made.edits, v, 64)
    theirs = [naive(lm, PROMPTS[row.prompt], made.edits, row.cond, v, Site.RESID_POST) for row in rows]
    assert gap(ours, torch.stack(theirs)) <= TOLERANCE


@pytest.mark.parametrize("units", ["neurons", "heads"])
def test_replies_under_edited_units(lm: LM, units: str) -> None:
    """Generation with a cache writes what the whole sequence, recomputed at every step, gives."""
    arms, bank = arms_of(lm, "ablate", units, "every_step"), bank_of(lm, units)
    made = plan_units(arms, bank, 0)
    conds = [-1, *sorted(set(made.cond.values()))[:3]]
    rows = [Row(p, cond) for p in range(2) for cond in conds]
    ours = generate(lm, PROMPTS[:2], rows, made.edits, 6, 64)
    stop = tuple(lm.stop_ids())
    theirs = [
        twin.reply(lm, PROMPTS[r.prompt], 6, made.edits if r.cond >= 0 else (), max(r.cond, 0), stop) for r in rows
    ]
    assert ours == theirs
