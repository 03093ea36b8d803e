"""How many units each layer's part of a circuit gets (methods 1.10).

    K_kind     = split * K neurons and the rest heads, or in proportion to the summed positive importance
    quota[l]   = floor + share[l], share in proportion to max(0, I[l]), rounded by largest remainder
    ceiling[l] = min(capacity[l], floor + floor(cap * K_kind)); what exceeds it goes to the layer with the largest I

The floor is the one given, or 1 where K_kind is below floor x layers, or 0 where it is below the number of layers;
it is never above a layer's capacity. Shares are exact fractions, so that within a kind of equal capacities a layer
with larger I never gets fewer units. The last step is ours. The released code hands out up to two extra units per
layer first, and loses what its cap then cuts off (e.g. 64 of 392); where layers run out of heads it fills up by planned
quota. Neither happens in the circuits that it published.

Integers in, integers out; nothing here knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from emo.config.choices import ALLOCATIONS


def allocate(
    importance: Sequence[float], budget: int, floor: int, cap: float, capacity: int | Sequence[int]
) -> list[int]:
    """Return the units of every layer, of one kind; their sum is min(budget, sum of ceilings).

    Args:
        importance: I per layer, in any unit; what is not positive gets no more than the floor, unless no layer is
            positive (then the rest is spread evenly) or ceilings leave some over.
        budget: units of this kind in the whole circuit, K_kind.
        floor: units that every layer gets.
        cap: share of the budget that a layer may get above its floor, in (0, 1].
        capacity: units that a layer has; one number, or one per layer.

    Raises:
        ValueError: a negative budget or floor, a cap outside (0, 1], an importance that is no finite number, no
            layers, or another number of capacities than of layers.
    """
    floors, ceilings = _bounds(importance, budget, floor, cap, capacity)
    n, rest = len(floors), budget - sum(floors)
    weights = [Fraction(max(0.0, float(i))) for i in importance]
    total = sum(weights)
    shares = [rest * weight / total if total else Fraction(rest, n) for weight in weights]
    counts = [math.floor(share) for share in shares]
    best_first = sorted(range(n), key=lambda layer: -importance[layer])  # a stable sort: ties to the lower layer
    by_remainder = sorted(best_first, key=lambda layer: counts[layer] - shares[layer])
    for layer in by_remainder[: rest - sum(counts)]:
        counts[layer] += 1
    cut = [min(own + count, top) for own, count, top in zip(floors, counts, ceilings, strict=True)]
    return _fill(cut, ceilings, budget, best_first)


def quotas(
    allocation: str,
    importance: Sequence[float],
    budget: int,
    floor: int,
    cap: float,
    capacity: int | Sequence[int],
    seed: int,
) -> list[int]:
    """Return the units of every layer under one of `ALLOCATIONS`: floors, ceilings and sum as in `allocate`.

    Args:
        allocation: ``importance``: `allocate`; ``uniform``: as if all layers mattered alike; ``deep_first``: after
            the floors the last block is filled to its ceiling, then the one before it; ``random``: importances
            drawn uniformly from [0, 1).
        importance: I per layer; of the other three only its length counts.
        budget: as in `allocate`.
        floor: as in `allocate`.
        cap: as in `allocate`.
        capacity: as in `allocate`.
        seed: of ``random``.

    Raises:
        ValueError: as `allocate`, or another name.
    """
    if allocation not in ALLOCATIONS:
        raise ValueError(f"allocation {allocation!r}: not one of {', '.join(ALLOCATIONS)}")
    floors, ceilings = _bounds(importance, budget, floor, cap, capacity)
    n = len(floors)
    if allocation == "deep_first":
        return _fill(floors, ceilings, budget, range(n - 1, -1, -1))
    if allocation == "uniform":
        importance = [0.0] * n
    elif allocation == "random":
        importance = np.random.default_rng(seed).random(n).tolist()
    return allocate(importance, budget, floor, cap, capacity)


def split_budget(
    budget: int, split: float | str, neurons_importance: Sequence[float], heads_importance: Sequence[float]
) -> tuple[int, int]:
    """Return (neurons, heads) that a whole circuit has; they sum to ``budget``.

    Args:
        budget: K, units of both kinds.
        split: share of the neurons in [0, 1], or ``auto``: in proportion to the summed positive importance of the
            MLP and of the attention sublayers (half and half where none is positive).
        neurons_importance: I of every MLP sublayer; read by ``auto``.
        heads_importance: I of every attention sublayer; read by ``auto``.

    Raises:
        ValueError: a negative budget, a split that is neither, or an importance that is no finite number.
    """
    if budget < 0:
        raise ValueError(f"budget {budget}: must not be negative")
    if split == "auto":
        mlp, attention = (sum(max(0.0, i) for i in _finite(own)) for own in (neurons_importance, heads_importance))
        share = mlp / (mlp + attention) if mlp + attention > 0 else 0.5
    else:
        share = float(split) if isinstance(split, int | float) else math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"split {split!r}: neither a share from 0 to 1 nor auto")
    neurons = round(share * budget)
    return neurons, budget - neurons


def _bounds(
    importance: Sequence[float], budget: int, floor: int, cap: float, capacity: int | Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return floor and ceiling of every layer."""
    n = len(_finite(importance))
    capacities = [capacity] * n if isinstance(capacity, int) else [int(c) for c in capacity]
    if not n or len(capacities) != n:
        raise ValueError(f"{n} importances and {len(capacities)} capacities: one of each per layer is needed")
    if budget < 0 or floor < 0 or min(capacities) < 0:
        raise ValueError(f"budget {budget}, floor {floor}, capacity {min(capacities)}: none may be negative")
    if not 0 < cap <= 1:
        raise ValueError(f"cap {cap}: a share above 0 and up to 1 is needed")
    if budget < floor * n:
        floor = 1 if budget >= n else 0
    floors = [min(floor, c) for c in capacities]
    return floors, [min(c, f + math.floor(cap * budget)) for f, c in zip(floors, capacities, strict=True)]


def _finite(importance: Sequence[float]) -> Sequence[float]:
    if not all(math.isfinite(i) for i in importance):
        raise ValueError(f"importance {list(importance)}: finite numbers are needed")
    return importance


def _fill(counts: Sequence[int], ceilings: Sequence[int], budget: int, order: Sequence[int]) -> list[int]:
    """Give what the budget leaves to the layers in ``order``, each up to its ceiling."""
    filled = list(counts)
    for layer in order:
        filled[layer] += min(ceilings[layer] - filled[layer], budget - sum(filled))
    return filled
