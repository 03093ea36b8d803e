"""The reference basis (methods 1.9): one unit vector per emotion, from the blocks where its directions agree.

    v_ref[e] = unit(mean over the stable blocks and both sublayers of +-v[e,l,s])

with the sign that makes each v[e,l,s] point as v_attn of the first stable block does. The same sign against v_ref
turns every direction of the model into its local one, v_local = sign * v. Figure 6 of the paper is the matrix of
cosines of all 2L directions; over the stable blocks it reports a mean of 0.90 and a minimum of 0.85.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from emo.find.directions import ATTN


class Reference(NamedTuple):
    """What one emotion's directions have in common."""

    v_ref: Tensor  # (e, d) unit vectors
    sign: Tensor  # (e, l, 2) 1.0 or -1.0, so that sign * v points as v_ref does


def reference(v: Float[Tensor, "e l 2 d"], stable: Sequence[int]) -> Reference:
    """Return the reference basis of unit directions ``v`` (e, l, 2, d).

    Args:
        v: unit directions, attention first.
        stable: the blocks that are averaged, in their order; `ValueError` where there is none.
    """
    own = _stable(v, stable)
    first = v[:, stable[0], ATTN]
    mean = (own * _sign(torch.einsum("emd,ed->em", own, first))[..., None]).mean(1)
    v_ref = mean / mean.norm(dim=-1, keepdim=True)  # never zero: every aligned vector lies on the side of the first
    return Reference(v_ref, _sign(torch.einsum("elsd,ed->els", v, v_ref)))


def similarity(v: Float[Tensor, "e l 2 d"]) -> Float[Tensor, "e ll ll"]:
    """Return the cosines (e, 2l, 2l) of unit directions ``v`` (e, l, 2, d): attention 0, MLP 0, attention 1, ..."""
    flat = v.flatten(1, 2)
    return flat @ flat.mT


def stable_cosines(
    v: Float[Tensor, "e l 2 d"], stable: Sequence[int]
) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Return mean and minimum (e,) of the cosines between different sublayers of the stable blocks.

    Args:
        v: (e, l, 2, d) unit directions.
        stable: blocks; `ValueError` where there is none.
    """
    own = _stable(v, stable)
    rows, columns = torch.triu_indices(own.shape[1], own.shape[1], offset=1)
    pairs = (own @ own.mT)[:, rows, columns]
    return pairs.mean(-1), pairs.amin(-1)


def _stable(v: Tensor, stable: Sequence[int]) -> Tensor:
    """Return the directions (e, m, d) of some blocks."""
    if not stable:
        raise ValueError("no stable block")
    return v[:, list(stable)].flatten(1, 2)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0)
