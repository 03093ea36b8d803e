"""What is checked when a model is loaded, on a few tokens.

The residual contract of methods 0, ``resid_post == resid_pre + attn_add + mlp_add`` with ``resid_mid``
in between, the width of the head site, and that an edit at ``resid_post`` changes the logits. A family
whose module paths mean something else fails here rather than in a figure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emo.errors import UserError
from emo.forest import Forest, plain_block
from emo.hooks import Cursor, Edit, edited, reading
from emo.interventions.ops import Add
from emo.models.lm import LM
from emo.types import Site, Tokens

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # relative to the largest entry


def verify(lm: LM) -> None:
    """Raise `UserError` unless the sites of ``lm`` mean what their names say, in every block."""
    ids = [i % lm.config.vocab_size for i in range(5, 13)]
    seen: dict[tuple[Site, int], Tensor] = {}
    sites = [Site.RESID_PRE, Site.RESID_MID, Site.RESID_POST, Site.ATTN_ADD, Site.MLP_ADD, Site.HEAD, Site.NEURON]
    wanted = [(site, layer) for site in (*sites, Site.GATE) for layer in range(lm.n_layers)]
    with reading(lm, wanted, lambda site, layer, x: seen.__setitem__((site, layer), x)):
        plain = _logits(lm, ids, None)
    tolerance = TOLERANCE[lm.model.dtype]
    for layer in range(lm.n_layers):
        pre, mid, post, attn, mlp = (seen[site, layer] for site in sites[:5])
        for name, whole, parts in (("resid_mid", mid, pre + attn), ("resid_post", post, mid + mlp)):
            error = float((whole - parts).abs().max() / whole.abs().max().clamp(min=1e-6))
            if not error <= tolerance:
                raise UserError(
                    f"{lm.spec.name}: model type '{lm.config.model_type}': {name} of block {layer} is not the sum of "
                    f"its parts (relative error {error:.1e}); its row in emo/models/families.py names other modules"
                )
        if seen[Site.HEAD, layer].shape[-1] != lm.h * lm.p:
            raise UserError(
                f"{lm.spec.name}: model type '{lm.config.model_type}': site 'head' of block {layer} is "
                f"{seen[Site.HEAD, layer].shape[-1]} wide, not heads x head width = {lm.h} x {lm.p}"
            )
    nudge = Add(torch.ones(1, lm.d), torch.zeros(1, dtype=torch.long), torch.ones(1), "rms")
    with edited(lm, [Edit(Site.RESID_POST, lm.n_layers // 2, nudge, Tokens.ALL)]) as cursor:
        if torch.equal(plain, _logits(lm, ids, cursor)):
            raise UserError(f"{lm.spec.name}: an edit at resid_post does not change the logits")


def _logits(lm: LM, ids: list[int], cursor: Cursor | None) -> Tensor:
    cond = -1 if cursor is None else 0
    return lm.logits(Forest(lm, cursor).extend(plain_block([ids], device=lm.device, cond=cond)))
