"""Experts: their neurons are those of transformers' own model, token by token and expert by expert."""

from __future__ import annotations

import copy

import pytest
import torch
from support.twin import IDS, LENGTH, TOLERANCE, gap, observe
from torch import Tensor
from torch.nn.functional import linear

from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.model.experts import Experts, open_experts
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.ops import Add, AddUnits, Zero
from emo.model.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("quiet")
WITH_EXPERTS = ("mixtral", "qwen3_moe")
LAYER = 1


@pytest.fixture(params=WITH_EXPERTS)
def moe(request: pytest.FixtureRequest, models: dict[str, LM]) -> LM:
    """Return a tiny model with experts."""
    return models[request.param]


def opened(lm: LM, layer: int) -> Experts:
    found = lm.blocks[layer].get_submodule("mlp")
    assert isinstance(found, Experts)
    return found


def routing(lm: LM) -> tuple[Tensor, Tensor]:
    """Return the normed stream (t, d) that the MLP of a block reads, and what the router gives each expert (t, n).

    From the router's definition: a softmax over all experts, the largest two, divided by their sum where that is asked.
    """
    mid = observe(lm, [(Site.RESID_MID, LAYER)])[Site.RESID_MID, LAYER][0]
    with torch.no_grad():
        x = lm.blocks[LAYER].get_submodule("post_attention_layernorm")(mid)
        chances = linear(x, opened(lm, LAYER).gate.weight).softmax(-1)
    top = chances.topk(2, -1)
    values = top.values / top.values.sum(-1, keepdim=True) if getattr(lm.config, "norm_topk_prob", True) else top.values
    return x, torch.zeros_like(chances).scatter(1, top.indices, values)


def test_the_numbers_are_those_of_transformers(moe: LM) -> None:
    """A weight of the router that counts twice, or an expert's halves exchanged, would be another model."""
    own = tiny_model(moe.spec.id)
    assert not any(isinstance(module, Experts) for module in own.modules())
    with torch.inference_mode():
        theirs = own(input_ids=torch.tensor([IDS]), use_cache=False).logits
        ours = moe.model(input_ids=torch.tensor([IDS]), use_cache=False).logits
    assert gap(ours, theirs) <= TOLERANCE
    assert {name for name, _ in own.named_parameters()} == {name for name, _ in moe.model.named_parameters()}


def test_half_precision_is_as_good_as_transformers(moe: LM) -> None:
    """The router's weight stands before the projection, not behind it: a rounding each, none of them worse."""
    own = tiny_model(moe.spec.id).to(torch.bfloat16)
    own.config._experts_implementation = "eager"  # its grouped kernel refuses matrices that are so narrow
    ours = copy.deepcopy(moe.model).to(torch.bfloat16)
    with torch.inference_mode():
        exact, a, b = (m(input_ids=torch.tensor([IDS]), use_cache=False).logits.float() for m in (moe.model, own, ours))
    theirs, error = ((x - exact).abs().mean() for x in (a, b))
    assert 0 < error <= 1.5 * theirs


def test_neurons_are_their_definition(moe: LM) -> None:
    """(expert, column) is column expert * f + column; 0 where the router did not go; its weight is in the neuron."""
    x, share = routing(moe)
    weights = opened(moe, LAYER).experts
    count, _, width = weights.down_proj.shape
    seen = observe(moe, [(Site.GATE, LAYER), (Site.NEURON, LAYER), (Site.MLP_ADD, LAYER)])
    gate, neuron, added = (seen[s, LAYER][0] for s in (Site.GATE, Site.NEURON, Site.MLP_ADD))
    assert gate.shape == neuron.shape == (LENGTH, count * width) == (LENGTH, moe.f)
    total = torch.zeros_like(added)
    for e in range(count):
        first, second = (x @ part.T for part in weights.gate_up_proj[e].split(width))
        active = torch.nn.functional.silu(first) * (share[:, e, None] > 0)
        columns = slice(e * width, (e + 1) * width)
        assert gap(gate[:, columns], active) <= TOLERANCE
        assert gap(neuron[:, columns], active * second * share[:, e, None]) <= TOLERANCE
        total = total + (active * second * share[:, e, None]) @ weights.down_proj[e].T
    assert gap(added, total) <= TOLERANCE
    assert ((neuron != 0).unflatten(1, (count, width)).any(-1).sum(1) == 2).all()  # two experts for every token
    assert (share > 0).any(0).all()  # and every expert for some


def test_an_edit_counts_where_the_router_did_not_go(moe: LM) -> None:
    """What is written at a neuron is added by its column, whichever expert it belongs to; nothing else moves."""
    _, share = routing(moe)
    weights = opened(moe, LAYER).experts
    count, _, width = weights.down_proj.shape
    units = [torch.tensor([e * width + 3 for e in range(count)])]
    edit = Edit(Site.NEURON, LAYER, AddUnits.of(units, [torch.arange(1.0, count + 1)]), Tokens.ALL)
    before, after = (observe(moe, [(Site.MLP_ADD, LAYER)], own)[Site.MLP_ADD, LAYER][0] for own in ([], [edit]))
    pushed = sum((e + 1) * weights.down_proj[e, :, 3] for e in range(count))
    assert (share == 0).any()
    assert gap(after - before, pushed.expand(LENGTH, -1)) <= 1e-4


def test_zeroed_neurons_are_an_expert_without_weights(moe: LM) -> None:
    """All neurons of an expert at zero: what the model gives whose expert projects to nothing."""
    width = opened(moe, LAYER).own
    edit = Edit(Site.NEURON, LAYER, Zero.of([torch.arange(width, 2 * width)]), Tokens.ALL)
    found = observe(moe, [(Site.RESID_POST, moe.n_layers - 1)], [edit])
    other = LM(copy.deepcopy(moe.model), moe.tokenizer, moe.spec)
    with torch.no_grad():
        opened(other, LAYER).experts.down_proj[1] = 0
    whole, plain = (observe(lm, list(found)) for lm in (other, moe))
    [key] = found
    assert gap(found[key], whole[key]) <= TOLERANCE
    assert gap(found[key], plain[key]) > 1e-3


def test_a_gate_of_an_expert_that_is_not_chosen_moves_nothing(moe: LM) -> None:
    """Its up projection is not computed: there is nothing that the gate would be multiplied with."""
    _, share = routing(moe)
    count, _, width = opened(moe, LAYER).experts.down_proj.shape
    v = torch.zeros(1, count * width)
    v[0, :width] = 1
    edit = Edit(Site.GATE, LAYER, Add(v, torch.tensor([0]), torch.tensor([2.0]), "raw"), Tokens.ALL)
    before, after = (observe(moe, [(Site.MLP_ADD, LAYER)], own)[Site.MLP_ADD, LAYER][0] for own in ([], [edit]))
    moved = (after - before).abs().amax(-1) > 1e-6
    assert torch.equal(moved, share[:, 0] > 0)


def test_reading_changes_no_bit(moe: LM) -> None:
    """The wide activation is made only where something looks at it; the numbers are the same."""
    with torch.inference_mode():
        plain = moe.model(input_ids=torch.tensor([IDS]), use_cache=False).logits
        zero = torch.zeros(1, moe.f)
        none = [Edit(s, LAYER, Add(zero, torch.tensor([0]), torch.tensor([1.0]), "raw"), Tokens.ALL) for s in
                (Site.GATE, Site.NEURON)]  # fmt: skip
        with edited(moe, none) as cursor:
            cursor.place(torch.zeros(1, LENGTH, dtype=torch.long), torch.zeros(1, LENGTH, dtype=torch.long))
            watched = moe.model(input_ids=torch.tensor([IDS]), use_cache=False).logits
    assert torch.equal(plain, watched)


def test_a_mixture_of_dense_blocks_and_experts_is_refused(models: dict[str, LM]) -> None:
    """Neurons of different blocks would be different in number."""
    blocks = torch.nn.ModuleList([models["mixtral"].blocks[0], models["llama"].blocks[1]])
    with pytest.raises(UserError, match=r"owner/model: the MLP of block 1 has no experts"):
        open_experts("owner/model", blocks, "mlp")
