"""Emotion directions (methods 1.3): one unit vector per emotion, block and sublayer.

Per group (a scenario with one outcome) subtract a baseline from the state of every emotion; average per
emotion over the groups (centroids); subtract the mean of the centroids; normalise to unit length.

    baseline emotions_mean: the mean over the emotions of the group (the paper's)
    baseline neutral:       the group's state under the template's neutral form; here the mean of the
                            centroids stays, because subtracting it would give emotions_mean again

v_attn comes from resid_mid, v_mlp from resid_post, at the prompt's last token or as the mean over the reply; v_mlp of
the last block, with ``directions.last: normed`` (the released code), behind the final norm. Where attention and MLP of
a block both read its input there is no resid_mid: both come from resid_post, and are the same. Sums stream in float64:
memory does not grow with the number of groups.

The shuffled control is the same with labels permuted within every group. Permutations are balanced: over the groups,
what stands under a label comes from every emotion as often as from any other (a random Latin square), because labels
drawn group by group leave, with few emotions or groups, a direction that points towards the true one or away from it.
What is left of the true direction is then taken out of every draw, so that steering with a draw moves the state by
nothing along it: steer - shuffled is neither helped nor hindered by chance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

State = Float[Tensor, "l s d"]  # last-token states of one prompt; s: sublayer
ATTN, MLP = 0, 1  # index of the sublayer: resid_mid, resid_post
EMOTIONS = 6  # the paper's: with fewer, a control of permuted labels gets more draws
NOTHING = 1e-6  # share of its length below which what is left of a shuffled direction is rounding


def shuffled_draws(seeds: int, emotions: int) -> int:
    """Return how many draws the shuffled control has: ``control.seeds``, with e < 6 emotions ceil(6 * seeds / e).

    A draw gives one direction per emotion, so few emotions leave few directions to average over.
    """
    return seeds if emotions >= EMOTIONS else math.ceil(EMOTIONS * seeds / emotions)


class Shuffled(NamedTuple):
    """Directions of permuted labels.

    Attributes:
        v: (k, e, l, 2, d) unit directions, orthogonal to the true one of the same emotion, block and sublayer; zeros
            where nothing is left.
        cosine: (k, e, l, 2) with the true direction before that was taken out; nan where nothing is left.
    """

    v: Tensor
    cosine: Tensor


class Moments:
    """Running sums of within-group differences, for the true labels and for labels permuted within groups."""

    def __init__(self, emotions: int, baseline: str, complete: bool, shuffles: int, seed: int | str) -> None:
        self.emotions, self.baseline, self.complete, self.seed = emotions, baseline, complete, seed
        self.sums: Tensor | None = None  # (1 + shuffles, e, l, 2, d)
        self.counts = torch.zeros(1 + shuffles, emotions, dtype=torch.float64)
        self.given = np.zeros((1 + shuffles, emotions, emotions), dtype=int)  # groups by emotion (row) and its label
        self.groups = 0

    def add(self, group: str, states: Sequence[State | None], neutral: State | None) -> bool:
        """Add one group; returns whether it was used.

        Args:
            group: its id (fixes, with those before it, the permutations).
            states: per emotion (l, 2, d), or None where the reply was not accepted.
            neutral: (l, 2, d) under the neutral form, or None.
        """
        present = [e for e, s in enumerate(states) if s is not None]
        if len(present) < (self.emotions if self.complete else 2) or (self.baseline == "neutral" and neutral is None):
            return False
        x = {e: s.double() for e in present if (s := states[e]) is not None}
        if self.baseline == "neutral" and neutral is not None:
            base = neutral.double()
        else:
            base = torch.stack(list(x.values())).mean(0)
        if self.sums is None:
            self.sums = torch.zeros(*self.counts.shape, *base.shape, dtype=torch.float64)
        for k in range(len(self.counts)):
            labels = list(present)
            if k:
                labels = self._permuted(k, group, present)
            for e, label in zip(present, labels, strict=True):
                self.sums[k, label] += x[e] - base
                self.counts[k, label] += 1
                self.given[k, e, label] += 1
        self.groups += 1
        return True

    def _permuted(self, k: int, group: str, present: list[int]) -> list[int]:
        """Return the labels that the emotions of a group get: those they had least often before, of equals by chance.

        The first group keeps no label of its own, so that a single group has a control.
        """
        drawn = hashlib.sha256(f"{self.seed}/{k}/{group}".encode()).digest()
        chance = np.random.default_rng(list(drawn)).random((len(present), len(present))) / (2 * len(present))
        cost = self.given[k][np.ix_(present, present)] + chance
        if not self.groups:
            cost += np.eye(len(present))
        return [present[int(column)] for column in linear_sum_assignment(cost)[1]]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that was added, the form of `emo.core.store.Artifact`; `restore` takes it up."""
        given, groups = torch.from_numpy(self.given), torch.tensor(self.groups)
        found = {"counts": self.counts, "given": given, "groups": groups}
        return found if self.sums is None else found | {"sums": self.sums}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `to_tensors` gave, with the groups behind those."""
        self.sums, self.counts = tensors.get("sums"), tensors["counts"]
        self.given, self.groups = tensors["given"].numpy(), int(tensors["groups"])

    def directions(self) -> tuple[Float[Tensor, "e l s d"], Float[Tensor, "e l s"]]:
        """Return unit directions (e, l, 2, d) of the true labels, and their lengths before normalising (e, l, 2)."""
        centroids = self._centroids()[0]
        norms = centroids.norm(dim=-1)
        return _unit(centroids).float(), norms.float()

    def shuffled(self) -> Shuffled:
        """Return the directions of permuted labels, less what they have of the true ones."""
        true, *drawn = self._centroids()
        v, size = _unit(true), true.norm(dim=-1)
        made, cosine = [], []
        for before in drawn:
            left = before
            for _ in range(2):  # once leaves rounding behind
                left = left - (left * v).sum(-1, keepdim=True) * v
            none = left.norm(dim=-1) < NOTHING * torch.maximum(before.norm(dim=-1), size)
            made.append(torch.where(none[..., None], 0.0, _unit(left)).float())
            cosine.append(torch.where(none, torch.nan, (_unit(before) * v).sum(-1)).float())
        empty = v.new_zeros(0, *v.shape, dtype=torch.float32)
        return Shuffled(torch.stack(made), torch.stack(cosine)) if made else Shuffled(empty, empty[..., 0])

    def _centroids(self) -> Tensor:
        if self.sums is None:
            raise ValueError("no group was added")
        centroids = self.sums / self.counts.clamp(min=1)[:, :, None, None, None]
        return centroids - centroids.mean(1, keepdim=True) if self.baseline == "emotions_mean" else centroids


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def cosines(v: Float[Tensor, "e l s d"]) -> Float[Tensor, "l s e e"]:
    """Return the cosines between emotions (l, 2, e, e) of unit directions ``v`` (e, l, 2, d)."""
    return torch.einsum("alsd,blsd->lsab", v, v)
