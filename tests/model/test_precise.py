"""A model of half precision computes importance in float32: the numbers of its own weights, widened."""

from __future__ import annotations

import copy

import pytest
import torch
from support.twin import TOLERANCE, gap, prompt, unit

from emo.find.reference import Reference
from emo.find.sublayer_importance import Importance, rank_stability, sublayer_importance
from emo.model.lm import LM
from emo.model.precise import in_float32

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [prompt(30, 1), prompt(30, 1)[:-3] + prompt(4, 2), prompt(9, 3)]
ALPHAS = (0.1, 0.3, 0.5, 0.7)


def in_dtype(lm: LM, dtype: torch.dtype) -> LM:
    """Return a copy whose weights went through bfloat16, held in ``dtype``; buffers as they were."""
    model = copy.deepcopy(lm.model)
    for weight in model.parameters():
        weight.data = weight.data.to(torch.bfloat16).to(dtype)
    return LM(model, lm.tokenizer, lm.spec)


def measured(lm: LM) -> Importance:
    v, ref = unit(2, lm.n_layers, 2, lm.d, seed=4), Reference(unit(2, lm.d, seed=5), torch.ones(2, lm.n_layers, 2))
    return sublayer_importance(lm, PROMPTS, v, ref, ALPHAS, 16)


def test_half_precision_gives_the_float32_numbers_of_its_weights(lm: LM) -> None:
    """And leaves weights, prompts that were read before and forward methods as they were."""
    half = in_dtype(lm, torch.bfloat16)
    weights = {name: x.clone() for name, x in half.model.state_dict().items()}
    kept = half.prefixes
    kept[(1, 2)] = []
    found, expected = measured(half), measured(in_dtype(lm, torch.float32))
    for ours, theirs in zip(found, expected, strict=True):
        assert gap(ours, theirs) <= TOLERANCE
    assert float(rank_stability(found.values).min()) >= float(rank_stability(expected.values).min()) - 1e-6
    assert half.prefixes is kept and list(kept) == [(1, 2)]
    assert all(torch.equal(x, weights[name]) for name, x in half.model.state_dict().items())
    assert not any("forward" in vars(module) for module in half.model.modules())


def test_an_exception_leaves_the_weights_as_they_were(models: dict[str, LM]) -> None:
    half = in_dtype(models["llama"], torch.bfloat16)
    with pytest.raises(RuntimeError, match="inside"), in_float32(half):
        raise RuntimeError("inside")
    assert {x.dtype for x in half.model.parameters()} == {torch.bfloat16}
    assert not any("forward" in vars(module) for module in half.model.modules())
