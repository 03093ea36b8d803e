"""TransformerLens: ``run_with_hooks`` for every number, without the logits, up to the last block that is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from bench.peers.groups import Runs
from bench.peers.rows import for_rows, head_rows, keeping_units, last_token, read_prefix
from emo.model.lm import LM


def opened(lm: LM, folder: str) -> Runs:
    """Return what runs both peers on weights of their own; their attention is eager, as the package makes it."""
    model = TransformerBridge.boot_transformers(folder, device=lm.device, dtype=lm.model.dtype)
    return {
        "transformer_lens": {"head_importance": partial(head_importance, model), "k_curve": partial(k_curve, model)},
        "transformer_lens_cached": {
            "head_importance": partial(head_importance_cached, model),
            "k_curve": partial(k_curve_cached, model),
        },
    }


def _mid(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_mid"


@torch.inference_mode()
def head_importance(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return s - s' (n, layers, h), see `bench.naive.head_importance`."""
    out, v = torch.zeros(len(prompts), len(layers), model.cfg.n_heads), v.to(model.cfg.device)

    def without(z: Tensor, hook: Any, head: int) -> Tensor:  # noqa: ARG001
        z[:, -1, head] = 0
        return z

    for n, prompt in enumerate(prompts):
        ids, score = torch.tensor([list(prompt)], device=model.cfg.device), {}

        def read(x: Tensor, hook: Any, layer: int, n: int = n, score: dict[int, Tensor] = score) -> None:  # noqa: ARG001
            score[layer] = x[0, -1] @ v[n, layer]

        reads = [(_mid(layer), partial(read, layer=layer)) for layer in layers]
        model.run_with_hooks(ids, fwd_hooks=reads, return_type=None, stop_at_layer=max(layers) + 1)
        clean = dict(score)
        for place, layer in enumerate(layers):
            for head in range(model.cfg.n_heads):
                zero = (f"blocks.{layer}.attn.hook_z", partial(without, head=head))
                model.run_with_hooks(ids, fwd_hooks=[zero, reads[place]], return_type=None, stop_at_layer=layer + 1)
                out[n, place, head] = clean[layer] - score[layer]
    return out


@torch.inference_mode()
def k_curve(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return <resid_post[l], v[e,l]> (n, c, l, e), see `bench.naive.k_curve`."""
    depth = model.cfg.n_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.cfg.device)

    def without(x: Tensor, hook: Any, own: Tensor) -> Tensor:  # noqa: ARG001
        x[:, -1, own] = 0
        return x

    def read(x: Tensor, hook: Any, layer: int, found: Tensor) -> None:  # noqa: ARG001
        found[layer] = v[:, layer] @ x[0, -1]

    for n, prompt in enumerate(prompts):
        ids = torch.tensor([list(prompt)], device=model.cfg.device)
        for c, units in enumerate(conditions[n]):
            hooks: list[tuple[str, Callable[..., Any]]] = [
                (f"blocks.{layer}.mlp.hook_post", partial(without, own=own))
                for layer, own in enumerate(units)
                if len(own)
            ]
            hooks += [
                (f"blocks.{layer}.hook_resid_post", partial(read, layer=layer, found=out[n, c]))
                for layer in range(depth)
            ]
            model.run_with_hooks(ids, fwd_hooks=hooks, return_type=None, stop_at_layer=depth)
    return out


@torch.inference_mode()
def head_importance_cached(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return the same: a row of one run for each head."""
    heads, p = model.cfg.n_heads, model.cfg.d_head
    out, v = torch.zeros(len(prompts), len(layers), heads), v.to(model.cfg.device)
    for n, prompt in enumerate(prompts):
        prefix = read_prefix(model.original_model.base_model, prompt)
        for rows in head_rows(layers, heads, p):

            def without(z: Tensor, hook: Any, kept: Tensor) -> Tensor:  # noqa: ARG001
                return z * kept

            def read(x: Tensor, hook: Any, layer: int, n: int = n, rows=rows) -> None:  # noqa: ARG001
                rows.fill(out[n], layer, x[:, -1] @ v[n, layer])

            hooks: list[tuple[str, Callable[..., Any]]] = []
            for layer in rows.layers:
                kept = rows.keeping(layer, v.device).unflatten(2, (heads, p))
                hooks.append((f"blocks.{layer}.attn.hook_z", partial(without, kept=kept)))
                hooks.append((_mid(layer), partial(read, layer=layer)))
            cache = for_rows(prefix, rows.count)
            last = last_token(prompt, rows.count, v.device)
            stop = max(rows.layers) + 1
            model.run_with_hooks(last, fwd_hooks=hooks, return_type=None, stop_at_layer=stop, past_key_values=cache)
    return out


@torch.inference_mode()
def k_curve_cached(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return the same: a row of one run for each condition."""
    depth = model.cfg.n_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.cfg.device)
    for n, (prompt, own) in enumerate(zip(prompts, conditions, strict=True)):
        kept = keeping_units(own, model.cfg.d_mlp, v.device)

        def without(x: Tensor, hook: Any, layer: int, kept: list[Tensor] = kept) -> Tensor:  # noqa: ARG001
            return x * kept[layer]

        def read(x: Tensor, hook: Any, layer: int, n: int = n) -> None:  # noqa: ARG001
            out[n, :, layer] = x[:, -1] @ v[:, layer].T

        hooks: list[tuple[str, Callable[..., Any]]] = []
        for layer in range(depth):
            hooks.append((f"blocks.{layer}.mlp.hook_post", partial(without, layer=layer)))
            hooks.append((f"blocks.{layer}.hook_resid_post", partial(read, layer=layer)))
        cache = for_rows(read_prefix(model.original_model.base_model, prompt), len(own))
        last = last_token(prompt, len(own), v.device)
        model.run_with_hooks(last, fwd_hooks=hooks, return_type=None, stop_at_layer=depth, past_key_values=cache)
    return out
