"""Projections on the emotion directions, under many conditions at once (methods 1.8).

s(l) = <resid_post[l], v_mlp[e,l]> at the last prompt token; the conditions of a prompt are one-token rows
over its shared prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emo.console import progress
from emo.forest import TRUNK, Block
from emo.generate import Planter, Row, groves, last_tokens
from emo.hooks import Edit, edited, reading
from emo.models.lm import LM
from emo.types import Site


def projections(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    v: Tensor,
    batch_size: int,
    label: str = "scored",
    keep: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Return <resid_post[l], v[e,l]> at the last prompt token of every row, (rows, l, e), and the states of some rows.

    Args:
        lm: the model.
        prompts: token ids.
        rows: prompt and condition of each row.
        edits: the edits behind the conditions.
        v: (e, l, d) unit directions.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        keep: rows whose states (len(keep), l, d) are returned too.
    """
    slot = {row: k for k, row in enumerate(keep)}
    held = torch.zeros(len(keep), lm.n_layers, lm.d)
    out = torch.zeros(len(rows), lm.n_layers, v.shape[0])
    planter = Planter(lm, prompts, edits)
    with edited(lm, edits) as cursor, progress(label, len(rows), "rows") as bar:
        for grove in groves(prompts, rows, batch_size):
            forest = planter.plant(grove, cursor)
            pieces = [
                [planter.starts(p, TRUNK + 1 + k, rows[i].cond) for k, i in enumerate(members)]
                for p, members in zip(grove.prompts, grove.rows, strict=True)
            ]
            block = Block.pad([[t for piece in tree for t in piece] for tree in pieces], lm.device)
            ends = last_tokens(block, pieces)
            tree = [b for b, columns in enumerate(ends) for _ in columns]
            column = [c for columns in ends for c in columns]
            order = [i for members in grove.rows for i in members]

            def project(_: Site, layer: int, x: Tensor, at: tuple = (tree, column), to: list[int] = order) -> None:
                state = x[at].float()
                out[to, layer] = (state @ v[:, layer].to(state.device).T).cpu()
                for k, i in enumerate(to):
                    if i in slot:
                        held[slot[i], layer] = state[k].cpu()

            with reading(lm, [(Site.RESID_POST, layer) for layer in range(lm.n_layers)], project):
                forest.extend(block)
            bar.advance(len(order))
    return out, held
