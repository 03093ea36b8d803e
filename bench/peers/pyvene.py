"""pyvene: an ``IntervenableModel`` for every number, as it holds one set of interventions.

It takes all hooks off the model that it is given after every call, so nothing else may hang on that model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyvene
import torch
import transformers
from torch import Tensor

from bench.peers.groups import Runs
from bench.peers.rows import for_rows, head_rows, keeping_units, last_token, read_prefix, width_of
from emo.model.lm import LM


def opened(lm: LM, folder: str) -> Runs:
    """Return what runs both peers on weights of their own."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=lm.model.dtype).to(lm.device).eval()
    return {
        "pyvene": {"head_importance": partial(head_importance, model), "k_curve": partial(k_curve, model)},
        "pyvene_cached": {
            "head_importance": partial(head_importance_cached, model),
            "k_curve": partial(k_curve_cached, model),
        },
    }


def _mid(layer: int) -> dict[str, Any]:
    component = f"model.layers[{layer}].post_attention_layernorm.input"
    return {"component": component, "intervention_type": pyvene.CollectIntervention}


def _post(layer: int) -> dict[str, Any]:
    return {"layer": layer, "component": "block_output", "intervention_type": pyvene.CollectIntervention}


def _neurons(layer: int, change: Callable[[Tensor, Any], Tensor]) -> dict[str, Any]:
    return {"component": f"model.layers[{layer}].mlp.down_proj.input", "intervention": change}


def _heads(layer: int, change: Callable[[Tensor, Any], Tensor]) -> dict[str, Any]:
    return {"component": f"model.layers[{layer}].self_attn.o_proj.input", "intervention": change}


def _collected(model: Any, interventions: list[dict[str, Any]], base: dict[str, Any], at: Any) -> list[Tensor]:
    """Run the model; returns what was collected, (b, d) each."""
    intervenable = pyvene.IntervenableModel(interventions, model=model)
    (_, found), _ = intervenable(base, unit_locations=at)
    rows = len(base["input_ids"])
    # Of a batch it hands back a list of rows or a tensor, by how the locations were given.
    flat = torch.cat([x.reshape(-1, model.config.hidden_size) for x in found])
    return list(flat.unflatten(0, (-1, rows)))


@torch.inference_mode()
def head_importance(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return s - s' (n, layers, h), see `bench.naive.head_importance`."""
    heads = model.config.num_attention_heads
    out, v = torch.zeros(len(prompts), len(layers), heads), v.to(model.device)
    for n, prompt in enumerate(prompts):
        base, last = {"input_ids": torch.tensor([list(prompt)], device=model.device)}, len(prompt) - 1
        found = _collected(model, [_mid(layer) for layer in layers], base, {"base": last})
        clean = [x[0] @ v[n, layer] for layer, x in zip(layers, found, strict=True)]
        for place, layer in enumerate(layers):
            zero = {
                "layer": layer,
                "component": "head_attention_value_output",
                "unit": "h.pos",
                "intervention_type": pyvene.ZeroIntervention,
            }
            for head in range(heads):
                at = {"sources->base": (None, [[[[head]], [[last]]], [[last]]])}
                [x] = _collected(model, [zero, _mid(layer)], base, at)
                out[n, place, head] = clean[place] - x[0] @ v[n, layer]
    return out


@torch.inference_mode()
def k_curve(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return <resid_post[l], v[e,l]> (n, c, l, e), see `bench.naive.k_curve`."""
    depth = model.config.num_hidden_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.device)

    def without(own: Tensor) -> Callable[[Tensor, Any], Tensor]:
        def change(x: Tensor, source: Any) -> Tensor:  # noqa: ARG001
            x[..., own] = 0
            return x

        return change

    for n, prompt in enumerate(prompts):
        base, last = {"input_ids": torch.tensor([list(prompt)], device=model.device)}, len(prompt) - 1
        for c, units in enumerate(conditions[n]):
            interventions = [_neurons(layer, without(own)) for layer, own in enumerate(units) if len(own)]
            interventions += [_post(layer) for layer in range(depth)]
            found = _collected(model, interventions, base, {"base": last})
            out[n, c] = torch.stack([v[:, layer] @ x[0] for layer, x in enumerate(found)])
    return out


def _rows(model: Any, prompt: Sequence[int], prefix: transformers.DynamicCache, count: int) -> dict[str, Any]:
    return {"input_ids": last_token(prompt, count, model.device), "past_key_values": for_rows(prefix, count)}


def _times(kept: Tensor) -> Callable[[Tensor, Any], Tensor]:
    return lambda x, _: x * kept


@torch.inference_mode()
def head_importance_cached(model: Any, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return the same: a row of one call for each head."""
    heads, p = model.config.num_attention_heads, width_of(model.config)
    out, v = torch.zeros(len(prompts), len(layers), heads), v.to(model.device)
    for n, prompt in enumerate(prompts):
        prefix = read_prefix(model.base_model, prompt)
        for rows in head_rows(layers, heads, p):
            own = rows.layers
            interventions = [_heads(layer, _times(rows.keeping(layer, model.device))) for layer in own]
            interventions += [_mid(layer) for layer in own]
            found = _collected(model, interventions, _rows(model, prompt, prefix, rows.count), {"base": 0})
            for layer, x in zip(own, found, strict=True):
                rows.fill(out[n], layer, x @ v[n, layer])
    return out


@torch.inference_mode()
def k_curve_cached(
    model: Any, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return the same: a row of one call for each condition."""
    depth = model.config.num_hidden_layers
    out, v = torch.zeros(len(prompts), len(conditions[0]), depth, len(v)), v.to(model.device)
    for n, (prompt, own) in enumerate(zip(prompts, conditions, strict=True)):
        kept = keeping_units(own, model.config.intermediate_size, model.device)
        interventions = [_neurons(layer, _times(kept[layer])) for layer in range(depth)]
        interventions += [_post(layer) for layer in range(depth)]
        base = _rows(model, prompt, read_prefix(model.base_model, prompt), len(own))
        found = _collected(model, interventions, base, {"base": 0})
        out[n] = torch.stack([x @ v[:, layer].T for layer, x in enumerate(found)], 1)
    return out
