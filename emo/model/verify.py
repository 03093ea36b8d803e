"""What is checked when a model is loaded, on a few tokens.

The residual contract of methods 0, ``resid_post == resid_pre + attn_add + mlp_add`` with ``resid_mid`` in between
where there is one, the width of the head site, that `LM.logits` of the final hidden states are the model's own logits,
and that an edit at ``resid_post`` changes them. A family whose module paths mean something else fails here rather than
in a figure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.model.hooks import Cursor, Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.prefix_tree import TokenTrees, plain_block

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # relative to the largest entry
PLAIN = (None, False, 0, 1)  # values of a config key under which logits are what the head gives


def verify(lm: LM) -> None:
    """Raise `UserError` unless the sites of ``lm`` mean what their names say, in every block."""
    ids = [i % lm.config.vocab_size for i in range(5, 13)]
    seen: dict[tuple[Site, int], Tensor] = {}
    sites = [Site.RESID_PRE, Site.RESID_MID, Site.RESID_POST, Site.ATTN_ADD, Site.MLP_ADD, Site.HEAD, Site.NEURON]
    wanted = [(site, layer) for site in (*sites, Site.GATE) if site in lm.family.sites for layer in range(lm.n_layers)]
    with reading(lm, wanted, lambda site, layer, x: seen.__setitem__((site, layer), x)):
        plain = _logits(lm, ids, None)
    tolerance = TOLERANCE[lm.model.dtype]
    for layer in range(lm.n_layers):
        pre, post, attn, mlp = (seen[s, layer] for s in (Site.RESID_PRE, Site.RESID_POST, Site.ATTN_ADD, Site.MLP_ADD))
        mid = seen.get((Site.RESID_MID, layer), pre + attn)  # a parallel block has none to look at
        for name, whole, parts in (("resid_mid", mid, pre + attn), ("resid_post", post, mid + mlp)):
            error = float((whole - parts).abs().max() / whole.abs().max().clamp(min=1e-6))
            if not error <= tolerance:
                raise UserError(
                    f"{lm.spec.title}: model type '{lm.kind}': {name} of block {layer} is not the sum of "
                    f"its parts (relative error {error:.1e}); its row in emo/model/families.py names other modules"
                )
        if seen[Site.HEAD, layer].shape[-1] != lm.h * lm.p:
            raise UserError(
                f"{lm.spec.title}: model type '{lm.kind}': site 'head' of block {layer} is "
                f"{seen[Site.HEAD, layer].shape[-1]} wide, not heads x head width = {lm.h} x {lm.p}"
            )
    _check_head(lm, ids, plain, tolerance)
    nudge = Add(torch.ones(1, lm.d), torch.zeros(1, dtype=torch.long), torch.ones(1), "rms")
    with edited(lm, [Edit(Site.RESID_POST, lm.n_layers // 2, nudge, Tokens.ALL)]) as cursor:
        if torch.equal(plain, _logits(lm, ids, cursor)):
            raise UserError(f"{lm.spec.title}: an edit at resid_post does not change the logits")


def _check_head(lm: LM, ids: list[int], ours: Tensor, tolerance: float) -> None:
    """Refuse a model that does more to its logits, or to its hidden states, than `LM` knows of."""
    batch = torch.tensor([ids], device=lm.device)
    with torch.inference_mode():
        own = lm.model(input_ids=batch, use_cache=False).logits.float().to(ours.device)
        if _gap(ours, own) <= tolerance:
            return
        head = lm.logits(lm.decoder(input_ids=batch, use_cache=False).last_hidden_state).to(ours.device)
    who = f"{lm.spec.title}: model type '{lm.kind}'"
    if _gap(head, own) <= tolerance:
        raise UserError(
            f"{who}: a pass with keys and values kept gives other logits than the model's own (relative error "
            f"{_gap(ours, own):.1e}); its attention is not one that is supported"
        )
    factor = float((own * head).sum() / (head * head).sum())
    alike = _gap(factor * head, own) <= tolerance
    how = f"{factor:.4g} times those of its output head" if alike else "not those of its output head"
    told = {key: value for key, value in lm.config.to_dict().items() if "logit" in key and value not in PLAIN}
    named = f" (config.json: {', '.join(f'{key}={value}' for key, value in told.items())})" if told else ""
    raise UserError(f"{who}: its logits are {how}{named}; such a head is not supported")


def _gap(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max().clamp(min=1e-6))


def _logits(lm: LM, ids: list[int], cursor: Cursor | None) -> Tensor:
    cond = -1 if cursor is None else 0
    return lm.logits(TokenTrees(lm, cursor).extend(plain_block([ids], device=lm.device, cond=cond)))
