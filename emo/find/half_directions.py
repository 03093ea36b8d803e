"""Directions of halves of the groups: how well the data fix them, before anything is generated (methods 5.3.6).

Halves are alternate scenarios, so no scenario is in both. From the states of a bounded number of groups
(``directions.probe_groups``), whose within-group differences are averaged per emotion and made unit length.

    cosine     mean over groups of cos(x_e - mean over emotions, v_e)
    d'         (mean of own - mean of others' projections on v_e) / sqrt(mean of the two variances), of differences

Both with v from the half that the group is not in: of directions that are noise they are about 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Reliability(NamedTuple):
    """Of every emotion in every block, both (e, l)."""

    cosine: Tensor
    dprime: Tensor


def in_second(scenarios: Sequence[str]) -> Bool[Tensor, " g"]:
    """Return which groups are in the second half: those of every other scenario, in sorted order."""
    place = {name: i for i, name in enumerate(sorted(set(scenarios)))}
    return torch.tensor([place[name] % 2 == 1 for name in scenarios], dtype=torch.bool)


def half_directions(states: Float[Tensor, "g e l d"], second: Bool[Tensor, " g"]) -> Float[Tensor, "2 e l d"]:
    """Return unit directions of the first and of the second half of the groups."""
    x = _differences(states)
    return torch.stack([_unit(x[~second].mean(0)), _unit(x[second].mean(0))])


def reliability(states: Float[Tensor, "g e l d"], second: Bool[Tensor, " g"]) -> Reliability:
    """Return how well the groups of each half agree with the directions of the other."""
    x, v = _differences(states), half_directions(states, second)
    cosines, dprimes = [], []
    for half, other in ((x[~second], v[1]), (x[second], v[0])):
        cosines.append((_unit(half) * other).sum(-1))
        along = torch.einsum("gfld,eld->gefl", half, other)  # projection of every emotion f on every direction e
        own = torch.einsum("geel->gel", along)
        rest = torch.stack([along[:, e, [f for f in range(x.shape[1]) if f != e]] for e in range(x.shape[1])], 1)
        others = rest.transpose(1, 2).flatten(0, 1)  # groups times other emotions
        spread = ((own.var(0, correction=0) + others.var(0, correction=0)) / 2).sqrt()
        dprimes.append((own.mean(0) - others.mean(0)) / spread.clamp(min=1e-12))
    return Reliability(torch.cat(cosines).mean(0), torch.stack(dprimes).mean(0))


def _differences(states: Tensor) -> Tensor:
    x = states.double()
    return x - x.mean(1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
