"""The naive twin: one prompt at a time, one full forward pass per number, as a script would do it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from emo.capture import SITES
from emo.hooks import reading
from emo.models.lm import LM


@torch.inference_mode()
def greedy(lm: LM, prompts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Return one greedy reply per prompt: batch 1, with a cache, through the model's own forward pass."""
    out = []
    for prompt in prompts:
        ids, cache, reply = torch.tensor([list(prompt)], device=lm.device), None, []
        for _ in range(limit):
            made = lm.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = int(made.logits[0, -1].argmax())
            if token in lm.stop_ids():
                break
            reply.append(token)
            ids, cache = torch.tensor([[token]], device=lm.device), made.past_key_values
        out.append(reply)
    return out


@torch.inference_mode()
def last_states(lm: LM, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return last-token resid_mid and resid_post (n, l, 2, d), one plain forward pass per prompt."""
    found = torch.zeros(len(prompts), lm.n_layers, len(SITES), lm.d)
    wanted = [(site, layer) for layer in range(lm.n_layers) for site in SITES]
    for n, prompt in enumerate(prompts):

        def keep(site, layer, x, n=n) -> None:  # type: ignore[no-untyped-def]
            found[n, layer, SITES.index(site)] = x[0, -1].float().cpu()

        with reading(lm, wanted, keep):
            lm.model.base_model(input_ids=torch.tensor([list(prompt)], device=lm.device), use_cache=False)
    return found
