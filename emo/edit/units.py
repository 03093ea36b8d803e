"""Arms that edit single units: ablate or enhance the top-k neurons or heads of every layer (methods 1.8).

    ablate:  the units are set to zero, under the emotion prompt
    enhance: lambda * delta[e,l] is added to the units, under the emotion-free prompt (delta: methods 1.7)

A control does the same with other units, as many in every layer as the target: random ones, the top ones of the other
emotions, the bottom of the ranking, or random ones of like magnitude (mean |activation| where units are zeroed, |delta|
where it is added), because large units move the state whatever they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emo.core.types import Tokens
from emo.edit.banks import Found, UnitBank
from emo.edit.base import Arm, Plan
from emo.model.hooks import Edit
from emo.model.ops import AddUnits, Zero

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

    @property
    def needs(self) -> frozenset[str]:
        """Its ranking, and draws of its own."""
        return frozenset(("attribution", "seed"))

    @classmethod
    def compile(cls, arms: Sequence[UnitArm], found: Found, skip_layer: int | None = None) -> Plan:
        """Return the edits of arms on units; see `plan_units`."""
        return plan_units(arms, found.units, found.seed, skip_layer) if found.units is not None else Plan([], {})


def pick_units(bank: UnitBank, arm: UnitArm, emotion: int, seed: int, base_seed: int) -> list[Tensor]:
    """Return the units (indices) of every block for one condition; blocks that the arm leaves alone get none.

    Args:
        bank: rankings.
        arm: what to pick, how many, and in which blocks.
        emotion: index.
        seed: of a drawn control; for other_emotion, which other one.
        base_seed: the job's.
    """
    n_emotions, n_layers, _ = bank.scores.shape
    counts = _counts(bank, arm, emotion)
    if arm.pick == "random":
        draws = [np.random.default_rng((base_seed, seed, layer)) for layer in range(n_layers)]
        units = bank.scores.shape[2]
        return [torch.from_numpy(d.permutation(units)[:n].copy()) for d, n in zip(draws, counts, strict=True)]
    own = [bank.order[emotion, layer, :n] for layer, n in enumerate(counts)]
    if arm.pick == "top":
        return own
    if arm.pick == "bottom":
        return [bank.order[emotion, layer].flip(0)[:n] for layer, n in enumerate(counts)]
    if arm.pick == "other_emotion":
        other = (emotion + 1 + seed) % n_emotions
        return [bank.order[other, layer, :n] for layer, n in enumerate(counts)]
    return [_like(bank, arm.op, emotion, layer, own[layer], (base_seed, seed, layer)) for layer in range(n_layers)]


def _counts(bank: UnitBank, arm: UnitArm, emotion: int) -> list[int]:
    """Return how many units of each block are among the target's: k in every one, or in all of them together."""
    _, n_layers, units = bank.scores.shape
    if arm.pool == "per_layer":
        return [min(arm.k, units) if layer in arm.layers else 0 for layer in range(n_layers)]
    best = bank.scores[emotion, list(arm.layers)].flatten().topk(arm.k).indices
    held = torch.bincount(best // units, minlength=len(arm.layers)).tolist()
    return [held[arm.layers.index(layer)] if layer in arm.layers else 0 for layer in range(n_layers)]


def _like(bank: UnitBank, op: str, emotion: int, layer: int, own: Tensor, key: tuple[int, int, int]) -> Tensor:
    """Return as many random units as ``own`` holds, each drawn among those next to one of them in magnitude.

    The units themselves are left out where at most half of the block is edited; so for the very largest the
    likest that are left are smaller, and results say by how much.
    """
    if not len(own):
        return own
    draw, size, sorted_ = (
        np.random.default_rng(key),
        bank.magnitude(op)[emotion, layer],
        bank.by_size[op][emotion, layer],
    )
    if 2 * len(own) <= len(sorted_):
        sorted_ = sorted_[~torch.isin(sorted_, own)]
    left = sorted_.tolist()
    places = torch.searchsorted(size[sorted_].contiguous(), size[own].contiguous()).tolist()
    taken: list[int] = []
    for place in sorted(places, reverse=True):
        low = max(0, min(place, len(left)) - NEIGHBOURS // 2)
        taken.append(left.pop(int(draw.integers(low, min(low + NEIGHBOURS, len(left))))))
    return torch.tensor(taken, dtype=torch.long)


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
        for seed, emotion in arm.conditions(n_emotions, scored=True):
            assert emotion is not None
            units = pick_units(bank, arm, emotion, seed, base_seed)
            if skip_layer is not None:
                units[skip_layer] = units[skip_layer][:0]
            scale = arm.strength(emotion)
            key = (emotion if arm.op == "enhance" else None, scale, *(u.sort().values.numpy().tobytes() for u in units))
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
