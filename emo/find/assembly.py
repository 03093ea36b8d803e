"""From scores and importance to a circuit (methods 1.10): a budget, its split, quotas per layer, the best units.

K      = budget, or so many times the number of sublayers
quotas = `emo.find.allocation`, per emotion and kind, over the importance of the edited blocks' sublayers
units  = the top-ranked of every block (methods 1.5, 1.6), each with its difference vector (methods 1.7)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emo.config.choices import UNITS, total_budget
from emo.config.schema import CircuitConfig
from emo.find.allocation import quotas, split_budget
from emo.find.circuit import Circuit, Part, Shape
from emo.find.directions import ATTN, MLP

SUBLAYER = {"neurons": MLP, "heads": ATTN}
DELTAS = {"neurons": "delta_mlp", "heads": "delta_attn"}


def assemble(
    how: CircuitConfig,
    names: Sequence[str],
    found: dict[str, Tensor],
    importance: Tensor,
    layers: Sequence[int],
    shape: Shape,
    weights: str,
    seed: int,
    provenance: dict[str, Any],
) -> Circuit:
    """Return the circuit of every emotion.

    Args:
        how: budget, split, floor, cap, allocation.
        names: emotions.
        found: of `emo.find.attribution.attribute`: neurons (e, l, f), heads (e, l, h), delta_mlp, delta_attn.
        importance: (e, l, 2) of sublayers, mean over alphas.
        layers: blocks that may be used.
        shape: of the model.
        weights: its fingerprint.
        seed: of a random allocation.
        provenance: how it was found.
    """
    at = list(layers)
    budget = total_budget(how.budget, len(at))
    parts: dict[str, list[Part]] = {kind: [] for kind in UNITS}
    for e in range(len(names)):
        own = {kind: importance[e, at, SUBLAYER[kind]].tolist() for kind in UNITS}
        held = dict(zip(UNITS, split_budget(budget, how.split, own["neurons"], own["heads"]), strict=True))
        for kind, floor in zip(UNITS, how.floor, strict=True):
            capacity, width = shape.units(kind)
            counts = quotas(how.allocation, own[kind], held[kind], floor, how.cap, capacity, seed)
            order = found[kind][e].argsort(dim=-1, descending=True, stable=True)
            unit = torch.cat([order[layer, :n] for layer, n in zip(at, counts, strict=True)])
            layer = torch.tensor(at).repeat_interleave(torch.tensor(counts))
            delta = found[DELTAS[kind]][e].unflatten(-1, (capacity, width))[layer, unit]
            parts[kind].append(Part(layer, unit, delta.contiguous()))
    return Circuit(tuple(names), tuple(parts["neurons"]), tuple(parts["heads"]), shape, weights, provenance)
