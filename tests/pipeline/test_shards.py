"""A model over several devices gives the numbers of one: every tensor says where it is and meets no other elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from support.forced import scored
from support.shards import devices, spread
from support.twin import gap, prompt, sites, unit, width
from support.units import vectors
from torch import Tensor, nn

from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.find.activation_stats import collect
from emo.find.contributions import head_contributions, neuron_contributions
from emo.find.sublayer_importance import sublayer_importance
from emo.measure.class_prediction import Asked, choice_scores
from emo.measure.projections import projections
from emo.model.capture import activations
from emo.model.fingerprint import fingerprint
from emo.model.generate import generate
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.load import check_held
from emo.model.ops import Add, Zero
from emo.model.passes import Row
from emo.model.prefix_tree import TokenTrees, plain_block
from emo.model.prefixes import Text
from emo.model.tiny import tiny_model
from emo.model.verify import verify

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [prompt(30, 1), prompt(30, 1)[:-3] + prompt(4, 2), prompt(9, 3)]
ROWS = [Row(p, c) for p in range(len(PROMPTS)) for c in (-1, 0, 1)]


def both(lm: LM, run: Callable[[LM], Tensor]) -> tuple[Tensor, Tensor]:
    """Return what ``run`` gives on several devices, and on one."""
    with devices():
        there = run(spread(lm)).cpu()
    return there, run(LM(lm.model, lm.tokenizer, lm.spec))


def edits(lm: LM, tokens: Tokens) -> list[Edit]:
    """Return an edit at every site of every block: two conditions."""
    out = []
    for layer in range(lm.n_layers):
        for i, site in enumerate(s for s in Site if s is not Site.GATE and s in sites(lm)):
            w = width(lm, site)
            add = Add(unit(2, w, seed=10 * layer + i), torch.tensor([0, 1]), torch.tensor([0.3, 0.6]))
            out.append(Edit(site, layer, add, tokens, decay=0.9))
        units = [torch.tensor([1, 3]), torch.tensor([0])]
        out.append(Edit(Site.NEURON, layer, Zero.of(units), tokens))
    return out


def test_sites_are_verified_over_boundaries(lm: LM) -> None:
    """A hook that is handed the input of a block where the block before lies."""
    with devices():
        there = spread(lm)
        assert len({there.device_of(layer) for layer in range(lm.n_layers)}) == 3
        verify(there)
        print_there = fingerprint(there)
    assert print_there == fingerprint(lm)


@pytest.mark.parametrize("tokens", Tokens)
def test_edits_over_boundaries(lm: LM, tokens: Tokens) -> None:
    """An op or a mask that stays on another device than the activation it edits."""

    def run(lm: LM) -> Tensor:
        with edited(lm, edits(lm, tokens)) as cursor:
            return lm.logits(TokenTrees(lm, cursor).extend(plain_block(PROMPTS, lm.device, cond=1)))

    there, here = both(lm, run)
    assert gap(there, here) < 1e-6


def test_replies_over_boundaries(lm: LM) -> None:
    """Generation, teacher forcing and projections, each over kept keys and values."""
    some = edits(lm, Tokens.EVERY_STEP)[::5]

    def replies(lm: LM) -> Tensor:
        made = generate(lm, PROMPTS, ROWS, some, 3, 8)
        return torch.tensor([[*ids, *[-1] * (3 - len(ids))] for ids in made])

    there, here = both(lm, replies)
    assert there.equal(here)
    rows = [row._replace(reply=tuple(prompt(4, 5))) for row in ROWS]

    def forced(lm: LM) -> Tensor:
        found = {s.row: s.log_probs for s in scored(lm, PROMPTS, rows, some, 8)}
        return torch.stack([found[i].cpu() for i in range(len(rows))])

    v = unit(3, lm.n_layers, lm.d, seed=7)
    assert gap(*both(lm, forced)) < 1e-6
    assert gap(*both(lm, lambda lm: projections(lm, PROMPTS, ROWS, some, v, 8)[0])) < 1e-6


def test_importance_over_boundaries(lm: LM) -> None:
    """States that are put back at a block of another device, and blocks that hand on."""
    v, ref = vectors(lm)
    there, here = both(lm, lambda lm: sublayer_importance(lm, PROMPTS, v, ref, (1.0,), 8, "residual", "normed").values)
    assert gap(there, here) < 1e-5


def test_half_precision_over_boundaries(models: dict[str, LM]) -> None:
    """Weights that are widened for importance, each where it lies."""
    gemma = models["gemma2"]
    half = LM(copy.deepcopy(gemma.model).to(torch.bfloat16), gemma.tokenizer, gemma.spec)
    v, ref = vectors(half)
    there, here = both(half, lambda lm: sublayer_importance(lm, PROMPTS, v, ref, (1.0,), 8).values)
    assert gap(there, here) < 1e-5


def test_units_over_boundaries(lm: LM) -> None:
    """Activations, contributions, statistics and the scores of choices."""
    texts = [Text(ids) for ids in PROMPTS]

    def contributions(lm: LM) -> Tensor:
        between = [site for site in sites(lm) if site is Site.RESID_MID]
        batch = next(activations(lm, texts, 8, sites=[Site.HEAD, Site.NEURON, *between]))
        v = unit(len(batch.texts), lm.d, seed=2)
        out = []
        for layer in range(lm.n_layers):
            z, x, *states = (batch.at[site][:, layer] for site in (Site.HEAD, Site.NEURON, *between))
            mid = states[0] if states else None
            out += [neuron_contributions(lm, layer, x, v).cpu(), head_contributions(lm, layer, z, v, mid).cpu()]
        return torch.cat(out, -1)

    def sums(lm: LM) -> Tensor:
        return torch.stack(collect(lm, PROMPTS, [(2, len(p)) for p in PROMPTS], [0, 1, 0], 2, Site.GATE, 8)[1:])

    def choices(lm: LM) -> Tensor:
        asked = [Asked(p, c) for p in range(len(PROMPTS)) for c in (-1, 1)]
        return choice_scores(lm, PROMPTS, asked, edits(lm, Tokens.EVERY_STEP), [prompt(2, 8), prompt(3, 9)], 4)

    for run in (contributions, sums, choices):
        assert gap(*both(lm, run)) < 1e-5


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_are_opened_where_they_lie(models: dict[str, LM], family: str) -> None:
    """A checkpoint is laid over devices first, with hooks of accelerate in it, and opened then."""
    lm = models[family]
    with devices():
        there = spread(lm, model=tiny_model(family))
        verify(there)
        found = there.logits(TokenTrees(there).extend(plain_block(PROMPTS, there.device))).cpu()
    assert gap(found, lm.logits(TokenTrees(lm).extend(plain_block(PROMPTS, lm.device)))) < 1e-6


@pytest.mark.parametrize("place", ["disk", "cpu"])
def test_offloaded_blocks_are_refused(models: dict[str, LM], place: str) -> None:
    """Blocks that accelerate keeps elsewhere and moves while they run: one line, before anything is read from them."""
    llama = models["llama"]
    spec = llama.spec._replace(id="own/large", source="hub", device_map="auto")
    model = nn.Module()
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": place}  # type: ignore[assignment]
    with pytest.raises(UserError) as refused:
        check_held(spec, model)
    line = str(refused.value)
    assert "\n" not in line and "model.id=own/large" in line and "model.layers.1" in line and "offloaded" in line
    model.hf_device_map = {"": "cpu"}  # type: ignore[assignment]
    check_held(spec, model)
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers.1": 1}  # type: ignore[assignment]
    check_held(spec, model)


def test_weights_that_are_not_there_are_refused(models: dict[str, LM]) -> None:
    """Parameters on meta, whoever put them there: every number read from them would be an error far away."""
    llama = models["llama"]
    model = copy.deepcopy(llama.model)
    add_hook_to_module(model.lm_head, AlignDevicesHook(execution_device="meta"))
    with pytest.raises(UserError, match="lm_head.weight"):
        check_held(llama.spec, model)
