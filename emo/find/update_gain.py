"""What a norm behind a sublayer makes of a small change of its output (Gemma-2/3, OLMo-2; methods 1.10).

Their sublayers add N(a), a = W_O z (+ bias), N a root-mean-square norm of weight w_N. So a push W_O delta on a does not
arrive as it is: to first order it is

    N(a + W_O delta) - N(a) ~ w_N * W_O delta / rms(a)        (less its part along a, which the norm takes away)

and rms(a) may be far from 1. Doses of circuits, and controls that are matched to them, count what arrives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emo.core.types import Site
from emo.find.contributions import normed, projection
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.prefixes import Text

SUBLAYERS = (Site.HEAD, Site.NEURON)  # attention, MLP


@torch.no_grad()
def update_gains(lm: LM, prompts: Sequence[Sequence[int]], batch_size: int) -> Float[Tensor, "l 2 d"] | None:
    """Return w_N / rms(a) of every block, attention first, mean over the last tokens of prompts; on the CPU.

    None where nothing stands behind the sublayers: a push arrives as it is.

    Args:
        lm: the model.
        prompts: token ids, as those on which importance is measured.
        batch_size: prompts in one forward pass.
    """
    if lm.post_norm(Site.HEAD, 0) is None:
        return None
    total = torch.zeros(lm.n_layers, len(SUBLAYERS), lm.d, dtype=torch.float64)
    for batch in activations(lm, [Text(list(ids)) for ids in prompts], batch_size, "gains", list(SUBLAYERS)):
        for layer in range(lm.n_layers):
            for s, site in enumerate(SUBLAYERS):
                norm = lm.post_norm(site, layer)
                assert norm is not None
                weight, bias = projection(lm, site, layer)
                out = batch.at[site][:, layer].to(weight.device) @ weight.T + bias
                gain = normed(norm, torch.ones_like(out[0]))
                scale = normed(norm, out).norm(dim=-1) / (out * gain).norm(dim=-1)
                total[layer, s] += (gain * scale.sum()).cpu().double()
    return (total / len(prompts)).float()
