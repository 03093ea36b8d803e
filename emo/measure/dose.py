"""How strong an edit is at the residual stream (methods 4.6): |added| / |h|, comparable between arms and models.

    dose = mean over the edited sublayers of |change of what the sublayer adds| / |state behind it|

at the last prompt token, under the edit: for steering alpha (rel) or alpha / sqrt(d) (rms); for units
|W_out edit| / |h|,
with a post-norm in between where the family has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emo.core.console import progress
from emo.core.types import Site
from emo.find.contributions import added
from emo.model.hooks import Edit, edited, placed, reading
from emo.model.lm import LM
from emo.model.passes import Row, TreeBatch, ignore, in_passes, settled
from emo.model.prompt_cache import PromptCache


def doses(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    edits: Sequence[Edit],
    batch_size: int,
    label: str,
    done: Callable[[int, float], None] = ignore,
) -> Tensor:
    """Return the dose of every row, (rows,); nan where no sublayer is changed, nan or inf where the row explodes.

    Args:
        lm: the model.
        prompts: token ids.
        rows: prompt and condition of each row.
        edits: the edits behind the conditions, at head, neuron or resid_post.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        done: called with every row and its dose, once that is there.
    """
    places = sorted({(edit.site, edit.layer) for edit in edits})
    # Where the state stands that a sublayer's output, or the stream itself, is compared with.
    behind = {Site.HEAD: lm.behind[0], Site.NEURON: lm.behind[1], Site.RESID_POST: Site.RESID_POST}
    total, count = torch.zeros(len(rows)), torch.zeros(len(rows))
    prompt_cache, edits = PromptCache(lm, prompts, edits), placed(lm, edits)

    def run(tree_batch: TreeBatch) -> list[int]:
        block, where, order = prompt_cache.opened(tree_batch, rows)
        before: dict[tuple[Site, int], Tensor] = {}
        change: dict[tuple[Site, int], Tensor] = {}
        sums: list[Tensor] = []  # per sublayer (2, rows): its share, and whether it is changed

        def keep(site: Site, layer: int, x: Tensor) -> None:
            before[site, layer] = where.take(x).float()

        def compare(site: Site, layer: int, x: Tensor) -> None:
            state = where.take(x).float()
            if site in behind and (site, layer) in before:
                old = before.pop((site, layer))
                if site is not behind[site]:
                    old, state = (added(lm, site, layer, part) for part in (old, state))
                change[site, layer] = (state - old).norm(dim=-1)
            for own in (s for s in behind if behind[s] is site and (s, layer) in change):
                size = change.pop((own, layer))
                share = size / where.take(x).float().norm(dim=-1)
                sums.append(torch.stack([share, (size > 0).to(share.dtype)]).to(lm.device))

        wanted = sorted({*places, *((behind[site], layer) for site, layer in places)})
        with edited(lm, edits) as cursor:
            tree_cache = prompt_cache.place(tree_batch, cursor)
        # Hooks run in the order of their registration: one reader in front of the edits, one behind them.
        with reading(lm, places, keep), edited(lm, edits) as tree_cache.cursor, reading(lm, wanted, compare):
            tree_cache.extend(block)
        if sums:
            total[order], count[order] = sum(sums[1:], sums[0]).cpu().unbind()
        settled(tree_batch, bool(total[order].isfinite().all()))
        return order

    with progress(label, len(rows), "rows") as bar:
        for _, order in in_passes(prompt_cache.passes(rows, batch_size), run):
            bar.advance(len(order))
            for i, share in zip(order, (total[order] / count[order]).tolist(), strict=True):
                done(i, share)
    return total / count  # 0 / 0 is nan
