"""What arms are compiled from: directions, rankings and difference vectors of units, a circuit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emo.config.choices import UNITS
from emo.core.types import Site
from emo.find.circuit import Circuit, Part

SUBLAYER = {"heads": 0, "neurons": 1}  # index into norms
Weight = Callable[[str, int], Tensor]  # kind, block -> (d, w) of the output projection


class Bank(NamedTuple):
    """The vectors that arms add: directions (e, l, d), shuffled (seeds, e, l, d), random (seeds, l, d), all unit.

    ``site`` is where they were read and where projections on ``directions`` are taken.
    """

    directions: Tensor
    shuffled: Tensor
    random: Tensor
    site: Site = Site.RESID_POST


@dataclass(frozen=True, eq=False)
class UnitBank:
    """What unit arms choose from and add, of neurons (u = f, w = 1) or heads (u = h, w = p).

    Attributes:
        site: neuron | head.
        scores: (e, l, u) ranking, largest first.
        delta: (e, l, u*w) difference vectors.
        size: (e, l, u) mean magnitude of a unit's activation under the emotion prompt.
        width: values per unit, w.
    """

    site: Site
    scores: Tensor
    delta: Tensor
    size: Tensor
    width: int

    @cached_property
    def order(self) -> Tensor:
        """Units of every block, best first: (e, l, u); ties to the lower index."""
        return self.scores.argsort(dim=-1, descending=True, stable=True)

    @cached_property
    def delta_size(self) -> Tensor:
        """Length of every unit's difference vector, (e, l, u)."""
        return self.delta.unflatten(-1, (-1, self.width)).norm(dim=-1)

    def magnitude(self, op: str) -> Tensor:
        """Return what an op moves a unit by, (e, l, u): its activation (zeroed) or its delta (added)."""
        return self.size if op == "ablate" else self.delta_size

    @cached_property
    def by_size(self) -> dict[str, Tensor]:
        """Units of every block by magnitude, smallest first, per op: (e, l, u)."""
        return {op: self.magnitude(op).argsort(dim=-1, stable=True) for op in ("ablate", "enhance")}


@dataclass(frozen=True, eq=False)
class CircuitBank:
    """A circuit and what its controls need.

    Attributes:
        circuit: whose units are edited.
        delta: kind -> (e, l, u*w) difference vectors of all units; a function, since a saved circuit can do without.
        norms: () -> (l, 2) mean length of the emotion-free state behind attention and behind the MLP.
        weight: output projection of a kind's sublayer in a block.
    """

    circuit: Circuit
    delta: Callable[[str], Tensor]
    norms: Callable[[], Tensor]
    weight: Weight

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks in which the circuit of some emotion has units."""
        parts = [part for kind in UNITS for part in getattr(self.circuit, kind)]
        return tuple(sorted({layer for part in parts for layer in part.layer.tolist()}))

    def pushes(self, part: Part, kind: str) -> Tensor:
        """Return |W_out delta| of every block, (l,)."""
        out = torch.zeros(self.circuit.shape.n_layers)
        for layer in part.layer.unique().tolist():
            out[layer] = self.push(part, kind, layer).norm()
        return out

    def push(self, part: Part, kind: str, layer: int) -> Tensor:
        """Return what the units of a block add to their sublayer's output, W_out delta (d,)."""
        columns, values = part.at(layer)
        weight = self.weight(kind, layer)
        return (weight[:, columns.to(weight.device)].float() @ values.to(weight.device)).cpu()

    def dose(self, parts: dict[str, Part]) -> float:
        """Return the mean over touched sublayers of |W_out delta| / |h|, at lambda 1."""
        shares = [self.pushes(part, kind) / self.norms()[:, SUBLAYER[kind]] for kind, part in parts.items()]
        touched = torch.cat(shares)
        return float(touched[touched > 0].mean()) if bool((touched > 0).any()) else 0.0

    def lam(self, scale: float, dose: str, parts: dict[str, Part]) -> float:
        """Return lambda for a scale in units of ``dose``."""
        if dose == "raw":
            return scale
        unit = self.dose(parts)
        return scale / unit if unit else 0.0

    def block_dose(self, emotion: int) -> float:
        """Return the mean over touched blocks of the length of both sublayers' changes together / |h|, at lambda 1."""
        parts = {kind: self.circuit.part(kind, emotion) for kind in UNITS}
        blocks = sorted({layer for part in parts.values() for layer in part.layer.tolist()})
        lengths = [
            float(torch.stack([self.push(part, kind, layer) for kind, part in parts.items()]).sum(0).norm())
            / float(self.norms()[layer, 1])
            for layer in blocks
        ]
        return float(np.mean(lengths)) if lengths else 0.0


class Found(NamedTuple):
    """All that an arm may be compiled from; what no arm of the job needs is None.

    Attributes:
        directions: of the emotions, and of controls.
        seed: the job's, of drawn controls.
        units: rankings and difference vectors of neurons or heads.
        circuits: the circuit.
    """

    directions: Bank
    seed: int = 0
    units: UnitBank | None = None
    circuits: CircuitBank | None = None
