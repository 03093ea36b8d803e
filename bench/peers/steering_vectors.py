"""steering-vectors: a vector added to blocks, scaled by an operator to the size of the state, under ``generate()``.

It neither zeroes units nor reads states, so the other cases cannot be written with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import transformers
from steering_vectors import SteeringVector
from torch import Tensor

from bench.peers.groups import Runs
from emo.model.lm import LM


def opened(lm: LM, folder: str) -> Runs:
    """Return what runs the peer on weights of its own."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=lm.model.dtype).to(lm.device).eval()
    return {"steering_vectors": {"generation": partial(generation, model, sorted(lm.stop_ids()))}}


@torch.inference_mode()
def generation(
    model: Any,
    stop: list[int],
    prompts: Sequence[Sequence[int]],
    v: Tensor,
    layers: Sequence[int],
    alpha: float,
    limit: int,
) -> list[list[int]]:
    """Return a greedy reply per prompt and emotion, see `bench.naive.generation`."""
    how = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=stop, pad_token_id=stop[0], use_cache=True
    )
    v, out = v.to(model.device), []

    def of_its_size(x: Tensor, vector: Tensor) -> Tensor:
        return x.pow(2).mean(-1, keepdim=True).sqrt() * vector

    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=model.device)
        for own in v:
            steering = SteeringVector({layer: own[layer] for layer in layers})
            # Of a prompt its last token, and every token after it.
            with steering.apply(
                model, operator=of_its_size, multiplier=alpha, min_token_index=None, token_indices=[-1]
            ):
                made = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
            reply = made[0, len(prompt) :].tolist()
            out.append(reply[:-1] if reply[-1] in stop else reply)
    return out
