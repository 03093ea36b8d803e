"""Neurons of a mixture of experts, as one wide MLP of which every token uses a part.

transformers holds all experts of a block in two fused matrices and runs them in groups of tokens, so that no module
reads what a neuron gives. Here the same is computed with the two places in the open. Neuron j of expert e is column
e * f + j of (b, t, experts * f):

    gate[e, j]   = act(W_gate[e, j] x)                        0 where the router did not choose e
    neuron[e, j] = r[e] * gate[e, j] * (W_up[e, j] x)         r: the router's weight of e for this token
    mlp          = sum over e, j of neuron[e, j] * W_down[e][:, j]

The router's weight is in the neuron, so that what a neuron adds is its value times its column of the down projection,
as in a dense MLP. (transformers multiplies behind the projection: the same number but for rounding.) What an edit
writes counts as it stands, also for an expert that the router did not choose.

Every chosen expert is one pair of small products: grouped kernels are not used, because an edit that changes nothing
must give the unedited numbers to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emo.core.errors import UserError


class Experts(nn.Module):
    """A router and its experts, under the names of their weights in transformers; `gates`, `neurons`: where to hook."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.gate, self.experts = block.gate, block.experts
        self.gates, self.neurons = nn.Identity(), nn.Identity()
        self.count, _, self.own = block.experts.down_proj.shape  # experts, d, f

    @property
    def width(self) -> int:
        """Neurons of the block: experts * f."""
        return int(self.count * self.own)

    def projection(self) -> Tensor:
        """Return the down projections beside one another, (d, experts * f): a copy."""
        return self.experts.down_proj.permute(1, 0, 2).flatten(1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return what the experts add, (b, t, d), for the normed stream (b, t, d)."""
        shape = hidden_states.shape[:-1]
        x = hidden_states.flatten(0, -2)
        _, weights, chosen = self.gate(x)
        share = weights.new_zeros(len(x), self.count).scatter(1, chosen, weights)  # (n, experts)
        taken = torch.zeros_like(share, dtype=torch.bool).scatter(1, chosen, torch.ones_like(chosen, dtype=torch.bool))
        active: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # rows (m), gate and up (m, f)
        for e in taken.any(0).nonzero()[:, 0].tolist():
            rows = taken[:, e].nonzero()[:, 0]
            gate, up = linear(x[rows], self.experts.gate_up_proj[e]).chunk(2, dim=-1)
            active[e] = rows, self.experts.act_fn(gate), up
        if _hooked(self.gates):
            seen = self._whole(x, {e: (rows, gate) for e, (rows, gate, _) in active.items()})
            seen = self.gates(seen.view(*shape, self.width)).reshape(len(x), self.count, self.own)
            active = {e: (rows, seen[rows, e], up) for e, (rows, _, up) in active.items()}
        found = {e: (rows, (gate * up * share[rows, e, None]).to(x.dtype)) for e, (rows, gate, up) in active.items()}
        if _hooked(self.neurons):
            seen = self._whole(x, found)
            seen = self.neurons(seen.view(*shape, self.width)).reshape(len(x), self.count, self.own)
            taken = taken | (seen != 0).any(-1)  # an edit may write where the router did not go
            found = {
                e: (rows := taken[:, e].nonzero()[:, 0], seen[rows, e]) for e in taken.any(0).nonzero()[:, 0].tolist()
            }
        out = torch.zeros_like(x)
        for e, (rows, own) in found.items():
            out = out.index_add(0, rows, linear(own, self.experts.down_proj[e]))
        return out.view(*shape, -1)

    def _whole(self, x: Tensor, parts: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        """Return (n, experts, f), 0 but for ``parts``: rows (m) and values (m, f) per expert."""
        whole = x.new_zeros(len(x), self.count, self.own)
        for e, (rows, own) in parts.items():
            whole[rows, e] = own
        return whole


def _hooked(place: nn.Module) -> bool:
    return bool(place._forward_hooks or place._forward_pre_hooks)


def open_experts(title: str, blocks: nn.ModuleList, path: str) -> None:
    """Put an `Experts` over the same weights in the place of every block's MLP; once per model.

    Raises:
        UserError: the MLP of a block is no mixture of experts.
    """
    for layer, block in enumerate(blocks):
        parent, _, name = path.rpartition(".")
        holder = block.get_submodule(parent)
        found = getattr(holder, name)
        if isinstance(found, Experts):
            continue
        if not hasattr(getattr(found, "experts", None), "gate_up_proj"):
            raise UserError(
                f"{title}: the MLP of block {layer} has no experts, others have; models that mix both are not supported"
            )
        setattr(holder, name, Experts(found))
