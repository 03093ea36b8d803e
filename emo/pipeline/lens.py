"""The logit lens of a job's directions, kept in the store: which tokens they raise, block by block.

Beside each emotion's own share of family words stand two controls: the share of the same words in the directions of the
other emotions of the block, and in isotropic vectors (which know no block).
"""

from __future__ import annotations

from typing import Any

import torch

from emo.core.sealed import digest
from emo.core.store import Artifact
from emo.data.texts import word_families
from emo.edit.base import random_directions
from emo.find.directions import MLP
from emo.find.logit_lens import COUNTED, family_share, lens, texts_of
from emo.pipeline.extracted import Extracted
from emo.pipeline.finished import NoModelError

DEPTHS = (0.5, 0.67, 0.83, 1.0)  # share of the blocks; the last is the last block
DRAWS = 100  # isotropic vectors
SEED = 0  # of these: they are in no other number


def blocks(n_layers: int) -> list[int]:
    """Return the blocks whose directions are read."""
    return sorted({min(n_layers - 1, int(depth * n_layers)) for depth in DEPTHS})


def logit_lens(job: Extracted) -> Artifact | None:
    """Return rows {emotion, block, top, bottom, share, others}, meta {random: emotion -> share, draws, counted}.

    Shares are None for an emotion without a family of words. None: the model is not there (a run that is judged again).
    """
    families = {name: sorted(words) for name, words in word_families().items() if name in job.names}
    key = job.address("lens", directions=job.directions_address, families=digest(families), blocks=DEPTHS)
    try:
        return job.store.get_or_compute("lens", key, {"depths": list(DEPTHS)}, lambda: _read(job))
    except NoModelError:
        return None


def _read(job: Extracted) -> Artifact:
    lm, v, families = job.lm, job.directions.tensors["v"][:, :, MLP], word_families()
    rows: list[dict[str, Any]] = []
    for block in blocks(lm.n_layers):
        found = lens(lm, v[:, block])
        tops = [texts_of(lm, ids) for ids in found.top.tolist()]
        bottoms = [texts_of(lm, ids) for ids in found.bottom.tolist()]
        for e, name in enumerate(job.names):
            shares = [family_share(top, families[name]) for top in tops] if name in families else []
            others = [share for i, share in enumerate(shares) if i != e]
            own = {"share": shares[e] if shares else None, "others": sum(others) / len(others) if others else None}
            rows.append({"emotion": name, "block": block, "top": tops[e], "bottom": bottoms[e], **own})
    drawn = random_directions(1, DRAWS, lm.d, SEED)[0]
    tops = [texts_of(lm, ids) for ids in lens(lm, drawn).top.tolist()]
    known = [name for name in job.names if name in families]
    random = {name: float(torch.tensor([family_share(top, families[name]) for top in tops]).mean()) for name in known}
    return Artifact(rows=rows, meta={"random": random, "draws": DRAWS, "counted": COUNTED})
