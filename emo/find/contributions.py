"""What every neuron and head of one block adds along a direction, in closed form: no ablation run.

Neurons (methods 1.5), direction v = v_mlp[e,l]:

    contribution_j = neuron_j * <W_down[:,j], v>
    with a post-norm N of weight w_N after the MLP: neuron_j * <W_down[:,j] * w_N, v> / rms(MLP output), live scale

Heads (methods 1.6), v = v_attn[e,l]: s - s', s the projection on v, s' the same with head i's slice z_i zeroed before
the output projection. With c_i = W_O (z with only head i kept), a = W_O z + bias and r = resid_mid:

    m_i = c_i, or N(a) - N(a - c_i) with a post-norm after attention: what leaves the residual stream
    s - s' = <m_i, v>                         scored at the residual stream (the paper)
    s - s' = <norm(r) - norm(r - m_i), v>     scored at the MLP's input, norm standing in front of it (its code)

Units are those of the residual stream (at the MLP's input: of the normalised one).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from emo.core.types import Site
from emo.model.lm import LM


@torch.no_grad()
def neuron_contributions(lm: LM, layer: int, x: Float[Tensor, "n f"], v: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
    """Return what each neuron of block ``layer`` adds along ``v``, per sample.

    Args:
        lm: the model.
        layer: index of the block.
        x: (n, f) activations at `Site.NEURON`.
        v: (n, d) a direction for every sample.

    Returns:
        (n, f) float32, on the block's device.
    """
    weight, bias = projection(lm, Site.NEURON, layer)
    x, v = x.to(weight.device), v.to(weight.device)
    norm = lm.post_norm(Site.NEURON, layer)
    if norm is None:
        return x * (v @ weight)
    out = x @ weight.T + bias
    # N(1) is w_N however the module stores it, and |N(out)| / |w_N out| is 1 / rms(out) with the module's own epsilon.
    gain = normed(norm, torch.ones_like(out[0]))
    scale = normed(norm, out).norm(dim=-1, keepdim=True) / (out * gain).norm(dim=-1, keepdim=True)
    return x * ((v * gain) @ weight) * scale


@torch.no_grad()
def head_contributions(
    lm: LM, layer: int, z: Float[Tensor, "n hp"], v: Float[Tensor, "n d"], mid: Float[Tensor, "n d"] | None = None
) -> Float[Tensor, "n h"]:
    """Return what zeroing each head of block ``layer`` takes from the projection on ``v``, per sample.

    Args:
        lm: the model.
        layer: index of the block.
        z: (n, h*p) activations at `Site.HEAD`.
        v: (n, d) a direction for every sample.
        mid: (n, d) resid_mid: score at the MLP's input; None: at the residual stream.

    Returns:
        (n, h) float32, on the block's device.
    """
    weight, bias = projection(lm, Site.HEAD, layer)
    z, v = z.to(weight.device), v.to(weight.device)
    norm, split = lm.post_norm(Site.HEAD, layer), (lm.h, lm.p)
    if norm is None and mid is None:  # linear: no vector per head is needed
        return (z * (v @ weight)).unflatten(1, split).sum(-1)
    change = torch.einsum("nhp,dhp->nhd", z.unflatten(1, split), weight.unflatten(1, split))
    if norm is not None:
        change = _drop(norm, change.sum(1) + bias, change)
    if mid is not None:
        before = lm.mlp_input_norm(layer)  # where there is none, the MLP's input is the stream itself
        change = change if before is None else _drop(before, mid.to(weight.device), change)
    return torch.einsum("nhd,nd->nh", change, v)


@torch.no_grad()
def added(lm: LM, site: Site, layer: int, x: Float[Tensor, "n w"]) -> Float[Tensor, "n d"]:
    """Return what a sublayer adds to the residual stream, (n, d), given the input (n, w) of its output projection."""
    weight, bias = projection(lm, site, layer)
    norm, out = lm.post_norm(site, layer), x.to(weight.device) @ weight.T + bias
    return out if norm is None else normed(norm, out)


def _drop(norm: nn.Module, whole: Tensor, parts: Tensor) -> Tensor:
    """Return norm(whole) - norm(whole - part) for ``whole`` (n, d) and each of its ``parts`` (n, h, d)."""
    whole = whole[:, None]
    return normed(norm, whole) - normed(norm, whole - parts)


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm in float32: differences of half-precision states would be mostly rounding."""
    return functional_call(norm, {name: weight.float() for name, weight in norm.named_parameters()}, (x,))


def projection(lm: LM, site: Site, layer: int) -> tuple[Tensor, Tensor]:
    """Return weight (d, w) and bias (d,) of the output projection behind ``site`` in float32; no bias is zeros."""
    weight, bias = lm.projection(site, layer)
    return weight.float(), weight.new_zeros(len(weight)).float() if bias is None else bias.float()
