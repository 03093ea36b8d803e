"""The slow, naive twin of `emo.model.prefix_tree` and `emo.model.generate`: what their numbers must agree with.

Batch 1, no padding, no cache, no token tree, the model's own masks and positions: the whole sequence goes
through ``lm.model`` again for every token. Edits are applied by `emo.model.hooks.edited` (which has tests of its
own) with the cursor placed by hand over the whole sequence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emo.core.types import Site, Tokens
from emo.model.hooks import Edit, Op, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add, PatchActivation, Scale, Zero
from emo.model.unit_ops import Attenuate, Gain, Replace

TOLERANCE = 1e-5  # largest difference over largest score
WINDOW = 24  # sliding window of the tiny mistral and gemma models
EDITED_SITES = (Site.RESID_POST, Site.RESID_MID, Site.HEAD, Site.NEURON, Site.ATTN_ADD, Site.MLP_ADD)
PARALLEL = "use_parallel_residual"  # key of GPT-NeoX
OPS = ("add", "scale", "zero")
UNIT_OPS = ("replace", "gain", "attenuate")


def prompt(length: int, seed: int = 0) -> list[int]:
    """Return random token ids without special tokens."""
    draw = random.Random(f"{length}/{seed}")
    return [draw.randrange(3, 259) for _ in range(length)]


LENGTH, PROMPT = 36, 30  # of one sequence for all tests of hooks: tokens in all, tokens of the prompt
IDS = prompt(LENGTH)


def steps(length: int, prompt_length: int) -> Tensor:
    """Return (1, length) steps after the prompt's last token: 0 there, negative before."""
    return torch.arange(length)[None] - (prompt_length - 1)


def scores(lm: LM, ids: Sequence[int], prompt_length: int, edits: Sequence[Edit] = (), cond: int = 0) -> Tensor:
    """Return the logits (t, V) of one whole sequence."""
    with torch.inference_mode(), edited(lm, edits) as cursor:
        cursor.place(torch.full((1, len(ids)), cond), steps(len(ids), prompt_length))
        return lm.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()


def reply(
    lm: LM,
    ids: Sequence[int],
    limit: int,
    edits: Sequence[Edit] = (),
    cond: int = 0,
    stop: Sequence[int] = (2,),
) -> list[int]:
    """Write one greedy reply, the whole sequence recomputed at every step."""
    written: list[int] = []
    while len(written) < limit:
        token = int(scores(lm, [*ids, *written], len(ids), edits, cond)[-1].argmax())
        if token in stop:
            break
        written.append(token)
    return written


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest score; nan where either holds a nan."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def observe(
    lm: LM, wanted: Sequence[tuple[Site, int]], edits: Sequence[Edit] = (), cond: Tensor | None = None
) -> dict[tuple[Site, int], Tensor]:
    """Return activations (b, t, w) as they are after the edits, for IDS in every row of ``cond`` (b, t)."""
    seen: dict[tuple[Site, int], Tensor] = {}
    cond = torch.zeros(1, LENGTH, dtype=torch.long) if cond is None else cond

    def sink(site: Site, layer: int, x: Tensor) -> None:
        seen[site, layer] = x

    with torch.inference_mode(), edited(lm, edits) as cursor, reading(lm, wanted, sink):
        cursor.place(cond, steps(LENGTH, PROMPT).expand_as(cond))
        lm.model(input_ids=torch.tensor([IDS]).expand(len(cond), -1), use_cache=False)
    return seen


def sites(lm: LM) -> tuple[Site, ...]:
    """Return the sites that a family has: resid_mid is between attention and MLP, where they follow one another."""
    return tuple(site for site in Site if site is not Site.RESID_MID or not getattr(lm.config, PARALLEL, False))


def mid(lm: LM) -> Site:
    """Return resid_mid; attn_add where there is none."""
    return Site.RESID_MID if Site.RESID_MID in sites(lm) else Site.ATTN_ADD


def width(lm: LM, site: Site) -> int:
    """Return a site's width from the model's own weights, not from what `LM` says."""
    down = getattr(getattr(getattr(lm.blocks[0], "mlp", None), "experts", None), "down_proj", None)
    if site is Site.NEURON and down is not None:
        return int(down.shape[0] * down.shape[2])
    if site in (Site.HEAD, Site.NEURON):
        module = lm.blocks[0].get_submodule(lm.family.sites[site][0])
        return int(module.in_features if isinstance(module, nn.Linear) else module.weight.shape[0])
    if site is Site.GATE:
        return width(lm, Site.NEURON)
    return int(lm.model.get_input_embeddings().weight.shape[1])


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Return random vectors of unit length."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def op(kind: str, w: int, conditions: int = 2, seed: int = 0) -> Op:
    """Return an op strong enough to change a reply, with other parameters for every condition."""
    draw = torch.Generator().manual_seed(seed + 1)
    if kind == "add":
        every = torch.arange(conditions)
        return Add(unit(conditions, w, seed=seed), every, 0.8 + every / 4, "rel")
    if kind == "scale":
        return Scale(2 * torch.rand(conditions, w, generator=draw))
    if kind == "zero" or kind in UNIT_OPS:
        units = [mask.nonzero()[:, 0] for mask in torch.rand(conditions, w, generator=draw) < 0.4]
        own = [2 * torch.rand(len(row), generator=draw) for row in units]
        if kind == "zero":
            return Zero.of(units)
        if kind == "attenuate":
            return Attenuate.of(units, [0.9] * conditions, own, [torch.full_like(x, torch.nan) for x in own])
        return (Replace if kind == "replace" else Gain).of(units, own)
    assert kind == "put", kind
    return PatchActivation(unit(conditions, w, seed=seed), torch.arange(conditions))


def identity(kind: str, w: int) -> Op:
    """Return an op that must change nothing, not a bit."""
    if kind == "add":
        return Add(unit(1, w), torch.zeros(1, dtype=torch.long), torch.zeros(1))
    return Scale(torch.ones(1, w)) if kind == "scale" else Zero.of([torch.zeros(0, dtype=torch.long)])


def edits_at(lm: LM, kind: str, site: Site, tokens: Tokens, layers: Sequence[int] = (1, 2)) -> list[Edit]:
    """Return one edit per layer, each with its own parameters."""
    return [Edit(site, layer, op(kind, width(lm, site), seed=layer), tokens) for layer in layers]


def hooks_left(lm: LM) -> int:
    """Count the forward hooks on all modules."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
