"""nnsight: a trace of the model for every number; the trace stops behind the last state that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import nnsight
import torch
import transformers
from torch import Tensor

from bench.peers.groups import Runs
from bench.peers.rows import for_rows, head_rows, keeping_units, last_token, read_prefix, width_of
from emo.model.lm import LM


def opened(lm: LM, folder: str) -> Runs:
    """Return what runs both peers on weights of their own."""
    weights = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=lm.model.dtype).to(lm.device)
    model = nnsight.NNsight(weights.eval())
    return {
        "nnsight": {"head_importance": partial(head_importance, model), "k_curve": partial(k_curve, model)},
        "nnsight_cached": {
            "head_importance": partial(head_importance_cached, model),
            "k_curve": partial(k_curve_cached, model),
        },
    }


@torch.inference_mode()
def head_importance(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return s - s' (n, layers, h), see `bench.naive.head_importance`."""
    heads, p = model.config.num_attention_heads, width_of(model.config)
    out, v = torch.zeros(len(prompts), len(layers), heads), v.to(model.device)
    for n, prompt in enumerate(prompts):
        ids = torch.tensor([list(prompt)], device=model.device)
        with model.trace(input_ids=ids, use_cache=False) as tracer:
            clean = nnsight.save([])
            for layer in layers:
                mid = model.model.layers[layer].post_attention_layernorm.input
                clean.append(mid[0, -1] @ v[n, layer])
            tracer.stop()
        for place, layer in enumerate(layers):
            block = model.model.layers[layer]
            for head in range(heads):
                with model.trace(input_ids=ids, use_cache=False) as tracer:
                    z = block.self_attn.o_proj.input.clone()
                    z[:, -1, head * p : (head + 1) * p] = 0
                    block.self_attn.o_proj.input = z
                    score = (block.post_attention_layernorm.input[0, -1] @ v[n, layer]).save()
                    tracer.stop()
                out[n, place, head] = clean[place] - score
    return out


@torch.inference_mode()
def k_curve(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return <resid_post[l], v[e,l]> (n, c, l, e), see `bench.naive.k_curve`."""
    depth = model.config.num_hidden_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.device)
    for n, prompt in enumerate(prompts):
        ids = torch.tensor([list(prompt)], device=model.device)
        for c, units in enumerate(conditions[n]):
            with model.trace(input_ids=ids, use_cache=False) as tracer:
                found = nnsight.save([])
                for layer in range(depth):
                    block = model.model.layers[layer]
                    if len(units[layer]):
                        x = block.mlp.down_proj.input.clone()
                        x[:, -1, units[layer]] = 0
                        block.mlp.down_proj.input = x
                    found.append(v[:, layer] @ block.output[0, -1])
                tracer.stop()
            out[n, c] = torch.stack(found)
    return out


@torch.inference_mode()
def head_importance_cached(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return the same: a row of one trace for each head."""
    heads, p = model.config.num_attention_heads, width_of(model.config)
    out, v = torch.zeros(len(prompts), len(layers), heads), v.to(model.device)
    for n, prompt in enumerate(prompts):
        prefix = read_prefix(model._module.base_model, prompt)
        for rows in head_rows(layers, heads, p):
            cache = for_rows(prefix, rows.count)
            last, own = last_token(prompt, rows.count, model.device), rows.layers
            kept = [rows.keeping(layer, model.device) for layer in own]
            with model.trace(input_ids=last, past_key_values=cache, use_cache=True) as tracer:
                found = nnsight.save([])
                for place, layer in enumerate(own):
                    block = model.model.layers[layer]
                    block.self_attn.o_proj.input = block.self_attn.o_proj.input * kept[place]
                    found.append(block.post_attention_layernorm.input[:, -1] @ v[n, layer])
                tracer.stop()
            for layer, scores in zip(own, found, strict=True):
                rows.fill(out[n], layer, scores)
    return out


@torch.inference_mode()
def k_curve_cached(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return the same: a row of one trace for each condition."""
    depth = model.config.num_hidden_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.device)
    for n, prompt in enumerate(prompts):
        count = len(conditions[n])
        cache = for_rows(read_prefix(model._module.base_model, prompt), count)
        last = last_token(prompt, count, model.device)
        kept = keeping_units(conditions[n], model.config.intermediate_size, model.device)
        with model.trace(input_ids=last, past_key_values=cache, use_cache=True) as tracer:
            found = nnsight.save([])
            for layer in range(depth):
                block = model.model.layers[layer]
                block.mlp.down_proj.input = block.mlp.down_proj.input * kept[layer]
                found.append(block.output[:, -1] @ v[:, layer].T)
            tracer.stop()
        out[n] = torch.stack(found, 1)
    return out
