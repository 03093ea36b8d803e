"""Emotion directions (methods 1.3): one unit vector per emotion, block and sublayer.

Per group (a scenario with one outcome) subtract a baseline from the state of every emotion; average per
emotion over the groups (centroids); subtract the mean of the centroids; normalise to unit length.

    baseline emotions_mean: the mean over the emotions of the group (the paper's)
    baseline neutral:       the group's state under the template's neutral form; here the mean of the
                            centroids stays, because subtracting it would give emotions_mean again

v_attn comes from resid_mid, v_mlp from resid_post, at the prompt's last token or as the mean over the reply; v_mlp of
the last block, with ``directions.last: normed`` (the released code), behind the final norm. Sums stream in float64:
memory does not grow with the number of groups.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emo.types import Site

State = Float[Tensor, "l s d"]  # last-token states of one prompt; s: sublayer
ATTN, MLP = 0, 1  # index of the sublayer: resid_mid, resid_post
SUBLAYERS = {Site.RESID_MID: ATTN, Site.RESID_POST: MLP}


class Moments:
    """Running sums of within-group differences, for the true labels and for labels permuted within groups."""

    def __init__(self, emotions: int, baseline: str, complete: bool, shuffles: int, seed: int) -> None:
        self.emotions, self.baseline, self.complete, self.seed = emotions, baseline, complete, seed
        self.sums: Tensor | None = None  # (1 + shuffles, e, l, 2, d)
        self.counts = torch.zeros(1 + shuffles, emotions, dtype=torch.float64)
        self.groups = 0

    def add(self, group: str, states: Sequence[State | None], neutral: State | None) -> bool:
        """Add one group; returns whether it was used.

        Args:
            group: its id (fixes the permutations).
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
                random.Random(f"{self.seed}/{k}/{group}").shuffle(labels)
            for e, label in zip(present, labels, strict=True):
                self.sums[k, label] += x[e] - base
                self.counts[k, label] += 1
        self.groups += 1
        return True

    def directions(
        self,
    ) -> tuple[Float[Tensor, "e l s d"], Float[Tensor, "shuffles e l s d"], Float[Tensor, "e l s"]]:
        """Return (v, shuffled, norms): unit directions (e, l, 2, d), the same for permuted labels
        (shuffles, e, l, 2, d), and the lengths of v before normalising (e, l, 2).
        """  # noqa: D205
        if self.sums is None:
            raise ValueError("no group was added")
        centroids = self.sums / self.counts.clamp(min=1)[:, :, None, None, None]
        if self.baseline == "emotions_mean":
            centroids = centroids - centroids.mean(1, keepdim=True)
        norms = centroids.norm(dim=-1)
        unit = (centroids / norms.clamp(min=1e-12)[..., None]).float()
        return unit[0], unit[1:], norms[0].float()


def cosines(v: Float[Tensor, "e l s d"]) -> Float[Tensor, "l s e e"]:
    """Return the cosines between emotions (l, 2, e, e) of unit directions ``v`` (e, l, 2, d)."""
    return torch.einsum("alsd,blsd->lsab", v, v)
