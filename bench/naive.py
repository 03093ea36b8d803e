"""The naive twin: one full forward pass per number, batch 1, no shared prefix, plain torch hooks.

It runs without the language-model head where no token is chosen, which scripts usually do not: a faster peer.
Every function takes the model and what `bench.cases` hands to all peers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor

from emo.core.types import Site
from emo.model.lm import LM

Change = Callable[[Tensor], Tensor | None]
BARE_BATCH = 32  # prompts of one bare forward pass


@contextmanager
def hooked(lm: LM, hooks: Sequence[tuple[Site, int, Change]]) -> Iterator[None]:
    """Call ``change`` at each (site, layer); what it returns replaces the activation (None: leave it)."""
    handles = []

    def attach(site: Site, layer: int, change: Change) -> Any:
        module, side = lm.module(site, layer)
        if side == "in":
            return module.register_forward_pre_hook(lambda _, args: change(args[0]))
        return module.register_forward_hook(lambda _, __, out: change(out))

    try:
        handles += [attach(*hook) for hook in hooks]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(lm: LM, ids: Sequence[int]) -> None:
    lm.model.base_model(input_ids=torch.tensor([list(ids)], device=lm.device), use_cache=False)


@torch.inference_mode()
def head_importance(lm: LM, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int]) -> Tensor:
    """Return s - s' (n, layers, h): <resid_mid[l], v[n,l]> at the last token, clean and with each head zeroed.

    One clean forward pass of every prompt, and one for each of its heads.
    """
    v = v.to(lm.device)
    out = torch.zeros(len(prompts), len(layers), lm.h)
    for n, prompt in enumerate(prompts):
        score: dict[int, Tensor] = {}

        def read(layer: int, n: int = n, score: dict[int, Tensor] = score) -> tuple[Site, int, Change]:
            def project(x: Tensor) -> None:
                score[layer] = x[0, -1].float() @ v[n, layer]

            return Site.RESID_MID, layer, project

        with hooked(lm, [read(layer) for layer in layers]):
            _forward(lm, prompt)
        clean = dict(score)
        for row, layer in enumerate(layers):
            for head in range(lm.h):
                with hooked(lm, [(Site.HEAD, layer, _without(slice(head * lm.p, (head + 1) * lm.p))), read(layer)]):
                    _forward(lm, prompt)
                out[n, row, head] = clean[layer] - score[layer]
    return out


def _without(columns: slice) -> Change:
    def zero(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., columns] = 0
        return x

    return zero


@torch.inference_mode()
def k_curve(
    lm: LM, prompts: Sequence[Sequence[int]], conditions: Sequence[Sequence[Sequence[Tensor]]], v: Tensor
) -> Tensor:
    """Return <resid_post[l], v[e,l]> at the last token, (n, c, l, e): one forward pass per prompt and condition.

    Args:
        lm: the model.
        prompts: token ids.
        conditions: per prompt and condition, the neurons to zero at the last token, a list per block.
        v: (e, l, d) unit vectors.
    """
    v = v.to(lm.device)
    out = torch.zeros(len(prompts), len(conditions[0]), lm.n_layers, len(v))
    for n, prompt in enumerate(prompts):
        for c, units in enumerate(conditions[n]):

            def zero(own: Tensor) -> Change:
                def change(x: Tensor) -> Tensor:
                    x = x.clone()
                    x[:, -1, own] = 0
                    return x

                return change

            def read(layer: int, n: int = n, c: int = c) -> Change:
                def project(x: Tensor) -> None:
                    out[n, c, layer] = (v[:, layer] @ x[0, -1].float()).cpu()

                return project

            zeros = [(Site.NEURON, layer, zero(own.to(lm.device))) for layer, own in enumerate(units) if len(own)]
            with hooked(lm, [*zeros, *((Site.RESID_POST, layer, read(layer)) for layer in range(lm.n_layers))]):
                _forward(lm, prompt)
    return out


@torch.inference_mode()
def sublayer_importance(
    lm: LM, prompts: Sequence[Sequence[int]], local: Tensor, v_ref: Tensor, alphas: Sequence[float]
) -> Tensor:
    """Return <h' - h, v_ref[e]> (a, e, l, 2) of the last block's output, at the last token, mean over prompts.

    h' is the state after alpha times the root mean square of what a sublayer adds (mean over prompts) was added to it
    along ``local``: one forward pass per prompt, strength, emotion and sublayer, and a clean one per prompt.

    Args:
        lm: the model.
        prompts: token ids.
        local: (e, l, 2, d) unit vectors, attention first.
        v_ref: (e, d) unit vectors.
        alphas: strengths.
    """
    local, v_ref = local.to(lm.device), v_ref.to(lm.device)
    sites, sigma = (Site.ATTN_ADD, Site.MLP_ADD), torch.zeros(lm.n_layers, 2)
    out = torch.zeros(len(alphas), len(v_ref), lm.n_layers, 2)

    def changed(change: Change) -> Callable[[Any], Any]:
        def call(out: Any) -> Any:  # some attention modules return a tuple
            new = change(out[0] if isinstance(out, tuple) else out)
            return (new, *out[1:]) if new is not None and isinstance(out, tuple) else new

        return call

    def final(prompt: Sequence[int], hooks: Sequence[tuple[Site, int, Change]]) -> Tensor:
        seen = []
        with hooked(lm, [*hooks, (Site.RESID_POST, lm.n_layers - 1, lambda x: seen.append(x[0, -1].float()))]):
            _forward(lm, prompt)
        return seen[0]

    def size(layer: int, s: int) -> tuple[Site, int, Change]:
        def add(x: Tensor) -> None:
            sigma[layer, s] += x[0, -1].float().pow(2).mean().sqrt().cpu() / len(prompts)

        return sites[s], layer, changed(add)

    def push(layer: int, s: int, vector: Tensor) -> tuple[Site, int, Change]:
        def add(x: Tensor) -> Tensor:
            x = x.clone()
            x[:, -1] += vector
            return x

        return sites[s], layer, changed(add)

    every = [(layer, s) for layer in range(lm.n_layers) for s in range(2)]
    clean = [final(prompt, [size(*where) for where in every]) for prompt in prompts]
    for prompt, before in zip(prompts, clean, strict=True):
        for a, alpha in enumerate(alphas):
            for e, own in enumerate(local):
                for layer, s in every:
                    after = final(prompt, [push(layer, s, alpha * sigma[layer, s] * own[layer, s])])
                    out[a, e, layer, s] += ((after - before) @ v_ref[e]).cpu() / len(prompts)
    return out


@torch.inference_mode()
def generation(
    lm: LM, prompts: Sequence[Sequence[int]], v: Tensor, layers: Sequence[int], alpha: float, limit: int
) -> list[list[int]]:
    """Return a greedy reply per prompt and emotion, steered by alpha * rms(h) * v[e,l] from the last prompt token on.

    The model's own ``generate`` with its cache of keys and values, one reply at a time.
    """
    v, stop, out = v.to(lm.device), sorted(lm.stop_ids()), []
    how = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=stop, pad_token_id=stop[0], use_cache=True
    )

    def steer(vector: Tensor) -> Change:
        def change(x: Tensor) -> Tensor:
            last = x[:, -1:].float()
            moved = last + alpha * last.pow(2).mean(-1, keepdim=True).sqrt() * vector
            return torch.cat([x[:, :-1], moved.to(x.dtype)], 1)

        return change

    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=lm.device)
        for own in v:
            with hooked(lm, [(Site.RESID_POST, layer, steer(own[layer])) for layer in layers]):
                made: Any = lm.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
            reply = made[0, len(prompt) :].tolist()
            out.append(reply[:-1] if reply[-1] in stop else reply)
    return out


@torch.inference_mode()
def capture(lm: LM, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Return last-token resid_mid and resid_post (n, l, 2, d): the bare batched forward pass that reading needs.

    Prompts of like length together, padded on the left; nothing but the last token is kept.
    """
    sites = (Site.RESID_MID, Site.RESID_POST)
    out = torch.zeros(len(prompts), lm.n_layers, len(sites), lm.d)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), BARE_BATCH):
        own = order[start : start + BARE_BATCH]
        width = max(len(prompts[i]) for i in own)
        ids = torch.tensor([[0] * (width - len(prompts[i])) + list(prompts[i]) for i in own], device=lm.device)
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in own], device=lm.device)

        def keep(site: int, layer: int, own: list[int] = own) -> Change:
            def store(x: Tensor) -> None:
                out[own, layer, site] = x[:, -1].float().cpu()

            return store

        hooks = [(site, layer, keep(s, layer)) for s, site in enumerate(sites) for layer in range(lm.n_layers)]
        with hooked(lm, hooks):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            lm.model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return out
