"""Edits of single units, done the slow way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.edit.banks import UnitBank
from emo.edit.units import UnitArm
from emo.find.reference import Reference
from emo.model.hooks import Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Zero
from support.twin import prompt, steps, unit

PROMPTS = [prompt(30, 1), prompt(30, 1)[:-3] + prompt(4, 2), prompt(9, 3)]  # two with a common start, one shorter
EMOTIONS = 2


def bank_of(lm: LM, units: str) -> UnitBank:
    """Return random rankings and differences, large enough to change the scores."""
    count, width, site = (lm.h, lm.p, Site.HEAD) if units == "heads" else (lm.f, 1, Site.NEURON)
    draw = torch.Generator().manual_seed(5)
    scores = torch.randn(EMOTIONS, lm.n_layers, count, generator=draw)
    delta = torch.randn(EMOTIONS, lm.n_layers, count * width, generator=draw)
    return UnitBank(site, scores, delta, scores.abs(), width)


def arms_of(lm: LM, op: str, units: str, tokens: str) -> list[UnitArm]:
    most = lm.h if units == "heads" else lm.f
    return [
        UnitArm(f"{pick}@k={k}", f"{op}_{units}", 0.7, tuple(range(lm.n_layers)), tokens=tokens, seeds=seeds,
                op=op, units=units, pick=pick, k=k)
        for pick, seeds in (("top", 1), ("random", 2))
        for k in (0, 1, most // 2, most)
    ]  # fmt: skip


def naive(lm: LM, ids: list[int], edits: list[Edit], cond: int, v: Tensor, site: Site) -> Tensor:
    """Return <resid[l], v[e,l]> (l, e) at the last token of one whole prompt, run alone."""
    out = torch.zeros(lm.n_layers, EMOTIONS)

    def sink(_: Site, layer: int, x: Tensor) -> None:
        out[layer] = x[0, -1].float() @ v[:, layer].T

    wanted = [(site, layer) for layer in range(lm.n_layers)]
    with torch.inference_mode(), edited(lm, edits) as cursor, reading(lm, wanted, sink):
        cursor.place(torch.full((1, len(ids)), cond), steps(len(ids), len(ids)))
        lm.model(input_ids=torch.tensor([ids]), use_cache=False)
    return out


def run_plain(
    lm: LM, ids: Sequence[int], sites: Sequence[Site], zeroed: tuple[int, int] | None = None
) -> dict[Site, Tensor]:
    """Return (l, w) per site of one prompt alone: no padding, cache or tree; ``zeroed``: a (block, head) at zero."""
    at = {site: [torch.empty(0)] * lm.n_layers for site in sites}

    def keep(site: Site, layer: int, x: Tensor) -> None:
        at[site][layer] = x[0, -1].clone()

    edits = []
    if zeroed is not None:
        columns = torch.arange(zeroed[1] * lm.p, (zeroed[1] + 1) * lm.p)
        edits = [Edit(Site.HEAD, zeroed[0], Zero.of([columns]), Tokens.PROMPT_LAST)]
    wanted = [(site, layer) for site in sites for layer in range(lm.n_layers)]
    with torch.inference_mode(), edited(lm, edits) as cursor, reading(lm, wanted, keep):
        cursor.place(torch.zeros(1, len(ids), dtype=torch.long), steps(len(ids), len(ids)))
        lm.model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return {site: torch.stack(x) for site, x in at.items()}


EMOTIONS = 2


def vectors(lm: LM) -> tuple[Tensor, Reference]:
    """Return directions that differ everywhere, and a reference that turns half of them round."""
    v = unit(EMOTIONS, lm.n_layers, 2, lm.d, seed=4)
    sign = torch.ones(EMOTIONS, lm.n_layers, 2)
    sign[0, ::2, 0] = sign[1, 1:, 1] = -1
    return v, Reference(unit(EMOTIONS, lm.d, seed=5), sign)
