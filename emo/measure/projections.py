"""Projections on the emotion directions, under many conditions at once (methods 1.8).

s(l) = <resid_post[l], v_mlp[e,l]>, or <resid_mid[l], v_attn[e,l]> for heads, at the last prompt token; the
conditions of a prompt are one-token rows over its shared prefix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emo.core.console import progress
from emo.core.types import Site
from emo.model.hooks import Edit, edited, reading
from emo.model.lm import LM
from emo.model.on_device import on_device
from emo.model.passes import Row, TreeBatch, ignore, in_passes, once, settled
from emo.model.prompt_cache import PromptCache


def projections(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    v: Float[Tensor, "e l d"],
    batch_size: int,
    label: str = "scored",
    keep: Sequence[int] = (),
    site: Site = Site.RESID_POST,
    done: Callable[[int, Tensor, Tensor | None], None] = ignore,
) -> tuple[Float[Tensor, "rows l e"], Float[Tensor, "kept l d"]]:
    """Return <resid[l], v[e,l]> at the last prompt token of every row, (rows, l, e), and the states of some rows.

    nan or inf where a row explodes; see `emo.model.passes.settled`.

    Rows of one prompt and condition are forwarded once.

    Args:
        lm: the model.
        prompts: token ids.
        rows: prompt and condition of each row.
        edits: the edits behind the conditions.
        v: (e, l, d) unit directions.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        keep: rows whose states (len(keep), l, d) are returned too.
        site: resid_post or resid_mid.
        done: called with every row, its projections (l, e) and its states (l, d) if wanted, once they are there.
    """
    unique, which = once(rows)
    held = torch.zeros(len(keep), lm.n_layers, lm.d)
    slots = defaultdict(list)
    for k, row in enumerate(keep):
        slots[which[row]].append(k)
    place, asked = {row: k for k, row in enumerate(keep)}, defaultdict(list)
    for row, u in enumerate(which):
        asked[u].append(row)
    out = torch.zeros(len(unique), lm.n_layers, v.shape[0])
    vectors = [v[:, layer].to(lm.device_of(layer)) for layer in range(lm.n_layers)]
    prompt_cache = PromptCache(lm, prompts, edits)
    with edited(lm, edits) as cursor, progress(label, len(unique), "rows") as bar:

        def run(tree_batch: TreeBatch) -> int:
            tree_cache = prompt_cache.place(tree_batch, cursor)
            block, places, order = prompt_cache.opened(tree_batch, unique)
            wanted = [(slot, k) for k, i in enumerate(order) for slot in slots.get(i, ())]
            kept = on_device([k for _, k in wanted], lm.device)
            made: list[Tensor] = []  # per block (rows, e); what is wanted of the states
            states: list[Tensor] = []

            def project(_: Site, layer: int, x: Tensor) -> None:
                state = places.take(x).float()
                made.append((state @ vectors[layer].T).to(lm.device))
                if wanted:
                    states.append(state[kept.to(state.device)].to(lm.device))

            with reading(lm, [(site, layer) for layer in range(lm.n_layers)], project):
                tree_cache.extend(block)
            own = torch.stack(made, 1).cpu()
            out[order] = own
            if wanted:
                held[[slot for slot, _ in wanted]] = torch.stack(states, 1).cpu()
            settled(tree_batch, bool(own.isfinite().all()))
            return len(order)

        for tree_batch, rows_done in in_passes(prompt_cache.passes(unique, batch_size), run):
            bar.advance(rows_done)
            for u in (u for members in tree_batch.rows for u in members):
                for row in asked[u]:
                    done(row, out[u], held[place[row]] if row in place else None)
    return out[torch.tensor(which, dtype=torch.long)], held
