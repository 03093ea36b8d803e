"""Plain transformers and torch hooks: the naive twin (`bench.naive`), and the same with a cache made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench import naive
from bench.peers.groups import Runs
from bench.peers.rows import for_rows, head_rows, keeping_units, last_token, read_prefix
from emo.core.types import Site
from emo.model.lm import LM


def opened(lm: LM, folder: str) -> Runs:  # noqa: ARG001 - it runs on our own copy of the weights
    """Return what runs both peers."""
    names = ("head_importance", "k_curve", "sublayer_importance", "capture", "generation")
    runs = {name: partial(getattr(naive, name), lm) for name in names}
    return {
        "naive": runs | {"head_importance_batch": runs["head_importance"]},
        "naive_cached": {"head_importance": partial(head_importance, lm), "k_curve": partial(k_curve, lm)},
    }


@torch.inference_mode()
def head_importance(lm: LM, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return the same as `bench.naive.head_importance`: a row of one pass for each head."""
    v, base = v.to(lm.device), lm.model.base_model
    out = torch.zeros(len(prompts), len(layers), lm.h)
    for n, prompt in enumerate(prompts):
        prefix = read_prefix(base, prompt)
        for rows in head_rows(layers, lm.h, lm.p):

            def without(layer: int, rows=rows) -> naive.Change:
                kept = rows.keeping(layer, lm.device)
                return lambda x: x * kept

            def read(layer: int, n: int = n, rows=rows) -> naive.Change:
                return lambda x: rows.fill(out[n], layer, x[:, -1] @ v[n, layer])

            hooks = [(Site.HEAD, layer, without(layer)) for layer in rows.layers]
            hooks += [(Site.RESID_MID, layer, read(layer)) for layer in rows.layers]
            cache = for_rows(prefix, rows.count)
            with naive.hooked(lm, hooks):
                base(input_ids=last_token(prompt, rows.count, lm.device), past_key_values=cache, use_cache=True)
    return out


@torch.inference_mode()
def k_curve(
    lm: LM, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return the same as `bench.naive.k_curve`: a row of one pass for each condition."""
    v, base = v.to(lm.device), lm.model.base_model
    out = torch.zeros(len(prompts), len(conditions[0]), lm.n_layers, len(v))
    for n, (prompt, own) in enumerate(zip(prompts, conditions, strict=True)):
        kept = keeping_units(own, lm.f, lm.device)

        def without(layer: int, kept: list[Tensor] = kept) -> naive.Change:
            return lambda x: x * kept[layer]

        def read(layer: int, n: int = n) -> naive.Change:
            def project(x: Tensor) -> None:
                out[n, :, layer] = (x[:, -1] @ v[:, layer].T).cpu()

            return project

        hooks = [(Site.NEURON, layer, without(layer)) for layer in range(lm.n_layers)]
        hooks += [(Site.RESID_POST, layer, read(layer)) for layer in range(lm.n_layers)]
        cache = for_rows(read_prefix(base, prompt), len(own))
        with naive.hooked(lm, hooks):
            base(input_ids=last_token(prompt, len(own), lm.device), past_key_values=cache, use_cache=True)
    return out
