"""Arms that edit single units: ablate or enhance the top-k neurons or heads of every layer (methods 1.8).

    ablate:  the units are set to zero, under the emotion prompt
    enhance: lambda * delta[e,l] is added to the units, under the emotion-free prompt (delta: methods 1.7)

A control does the same with other units, as many in every layer: random ones, the top ones of the other emotions, the
bottom of the ranking, or random ones of like magnitude (mean |activation| where units are zeroed, |delta| where it is
added), because large units move the state whatever they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emo.hooks import Edit
from emo.interventions.arms import Arm, Plan
from emo.interventions.ops import AddUnits, Zero
from emo.types import Site, Tokens

CONTROLS = ("random", "other_emotion", "bottom", "magnitude")
DRAWN = ("random", "magnitude")  # controls with seeds of their own
NEIGHBOURS = 16  # units of like magnitude among which a matched one is drawn


@dataclass(frozen=True)
class UnitArm(Arm):
    """An arm on k units; ``alpha`` is the scale lambda of an enhancement.

    Attributes:
        op: ablate | enhance.
        units: neurons | heads.
        pick: top | random | other_emotion | bottom | magnitude.
        k: units per layer, or of the whole model where they are pooled.
        pool: per_layer | global.
    """

    op: str = "ablate"
    units: str = "neurons"
    pick: str = "top"
    k: int = 0
    pool: str = "per_layer"

    @property
    def steered(self) -> bool:
        """Whether the arm edits the model."""
        return self.k > 0

    @property
    def prompted(self) -> bool:
        """Ablation takes away what the emotion prompt brings; enhancement starts without it."""
        return self.op == "ablate"

    @property
    def reference(self) -> str:
        """Ablation is measured from the emotion prompt, enhancement from the emotion-free one."""
        return "prompt" if self.prompted else "none"

    def conditions(self, emotions: int, scored: bool = False) -> list[tuple[int, int | None]]:
        """Return (seed, emotion index) of every condition; the other emotions stand in the place of seeds."""
        return [(seed, e) for seed in range(self.draws(scored)) for e in range(emotions)]


class UnitBank(NamedTuple):
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


def pick_units(
    bank: UnitBank, arm: UnitArm, emotion: int, seed: int, base_seed: int, layers: Sequence[int]
) -> list[Tensor]:
    """Return the units (indices) of every block for one condition; blocks outside ``layers`` get none.

    Args:
        bank: rankings.
        arm: what to pick, and how many.
        emotion: index.
        seed: of a drawn control; for other_emotion, which other one.
        base_seed: the job's.
        layers: blocks that may be edited.
    """
    n_emotions, n_layers, _ = bank.scores.shape
    own = _top(bank.scores[emotion], arm, layers)
    if arm.pick == "top":
        return own
    if arm.pick == "other_emotion":
        return _top(bank.scores[(emotion + 1 + seed) % n_emotions], arm, layers)
    if arm.pick == "bottom":
        return _top(-bank.scores[emotion], arm, layers)
    return [_drawn(bank, arm, emotion, layer, own[layer], (base_seed, seed, layer)) for layer in range(n_layers)]


def _top(scores: Tensor, arm: UnitArm, layers: Sequence[int]) -> list[Tensor]:
    """Return the k best units of every layer, or of all the layers together, from (l, u) scores."""
    n_layers, units = scores.shape
    empty = torch.zeros(0, dtype=torch.long)
    chosen = [empty] * n_layers
    if arm.pool == "per_layer":
        for layer in layers:
            chosen[layer] = _best(scores[layer], arm.k)
        return chosen
    allowed = torch.tensor(list(layers))
    flat = _best(scores[allowed].flatten(), arm.k)
    for row, layer in enumerate(layers):
        chosen[layer] = flat[flat // units == row] % units
    return chosen


def _best(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the k largest, ties to the lower index: the same whatever k is asked for besides."""
    return scores.argsort(descending=True, stable=True)[:k]


def _drawn(bank: UnitBank, arm: UnitArm, emotion: int, layer: int, own: Tensor, key: tuple[int, int, int]) -> Tensor:
    """Return as many random units as ``own`` holds; of plain ones a larger k adds to those of a smaller one."""
    draw = np.random.default_rng(key)
    units = bank.scores.shape[2]
    if arm.pick == "random":
        return torch.from_numpy(draw.permutation(units)[: len(own)].copy())
    size = bank.size[emotion, layer] if arm.op == "ablate" else _delta_size(bank, emotion, layer)
    free = torch.ones(units, dtype=torch.bool)
    if 2 * len(own) <= units:  # else too little is left to match with: the same units may be drawn
        free[own] = False
    others = free.nonzero()[:, 0]
    others = others[size[others].argsort(stable=True)]
    left, at = others.tolist(), torch.searchsorted(size[others].contiguous(), size[own].contiguous()).tolist()
    taken: list[int] = []
    for place in sorted(at, reverse=True):  # from the large end on: what is taken shifts no smaller place
        low = max(0, min(place, len(left)) - NEIGHBOURS // 2)
        taken.append(left.pop(int(draw.integers(low, min(low + NEIGHBOURS, len(left))))))
    return torch.tensor(taken, dtype=torch.long)


def _delta_size(bank: UnitBank, emotion: int, layer: int) -> Tensor:
    return bank.delta[emotion, layer].view(-1, bank.width).norm(dim=-1)


def plan_units(arms: Sequence[UnitArm], bank: UnitBank, base_seed: int, skip_layer: int | None = None) -> Plan:
    """Compile unit arms into one edit per block; all must share op, units, tokens and decay.

    Conditions that edit the same units by as much are one condition, and those without units are none.

    Args:
        arms: arms to compile; unedited ones get no condition.
        bank: rankings and difference vectors.
        base_seed: of drawn controls.
        skip_layer: a block that is left alone in every arm.
    """
    n_emotions, n_layers, _ = bank.scores.shape
    cond: dict[tuple[str, int, int | None], int] = {}
    known: dict[object, int] = {}
    picked: list[list[Tensor]] = []
    owner: list[tuple[int, float]] = []
    for arm in arms:
        if not arm.steered:
            continue
        layers = [layer for layer in arm.layers if layer != skip_layer]
        for seed, emotion in arm.conditions(n_emotions, scored=True):
            assert emotion is not None
            units = pick_units(bank, arm, emotion, seed, base_seed, layers)
            scale = arm.strength(emotion)
            source = emotion if arm.op == "enhance" else None
            key = (source, scale, tuple(tuple(sorted(u.tolist())) for u in units))
            if key not in known:
                known[key] = len(picked)
                picked.append(units)
                owner.append((emotion, scale))
            cond[arm.name, seed, emotion] = known[key]
    if not picked:
        return Plan([], cond)
    some = next(arm for arm in arms if arm.steered)
    edits = []
    for layer in range(n_layers):
        columns = [_columns(units[layer], bank.width) for units in picked]
        if not any(map(len, columns)):
            continue
        if some.op == "ablate":
            op: Zero | AddUnits = Zero.of(columns)
        else:
            values = [scale * bank.delta[e, layer][own] for (e, scale), own in zip(owner, columns, strict=True)]
            op = AddUnits.of(columns, values)
        edits.append(Edit(bank.site, layer, op, Tokens(some.tokens), some.decay))
    return Plan(edits, cond)


def _columns(units: Tensor, width: int) -> Tensor:
    """Return the columns of units: a head is ``width`` columns."""
    return (units[:, None] * width + torch.arange(width)).flatten()
