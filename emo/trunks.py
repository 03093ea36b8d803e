"""Keys and values of prompts read before: a prompt is prefilled once per process, not once per stage.

Replies, projections, margins, perplexity and KL all start from the same prompts. What they share, the
prompt without its last token, is kept per prompt and put together (padded on the left) for each batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from torch import Tensor

from emo.forest import PADDING, TRUNK, Block, Forest
from emo.hooks import Cursor
from emo.models.lm import LM
from emo.prefixes import Text, batches, layout, shared_prefixes

TOKENS = 4096  # of one prefill pass
KEPT_BYTES = 2 * 2**30  # of keys and values, per model; the longest unused prompts go first

Trunk = list[tuple[Tensor, Tensor]]  # per block: keys and values (kv heads, t, p)


def planted(lm: LM, cursor: Cursor, prompts: Sequence[Sequence[int]]) -> Forest:
    """Return a forest of which each tree's trunk is the given prompt, read now or before."""
    keys = [tuple(ids) for ids in prompts]
    missing = list(dict.fromkeys(key for key in keys if key and key not in lm.trunks))
    fresh = _read(lm, cursor, missing) if missing else {}
    found = [fresh.get(key) or lm.trunks.get(key, []) for key in keys]
    for key in keys:
        if key in lm.trunks:
            lm.trunks.move_to_end(key)
    _keep(lm, fresh)
    return _together(lm, cursor, keys, found)


def _read(lm: LM, cursor: Cursor, prompts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Trunk]:
    texts = [Text(list(ids), span=0) for ids in prompts]
    out = {}
    for batch in batches(texts, shared_prefixes(texts, TOKENS // 2), TOKENS):
        rows, places = layout(texts, batch)
        forest = Forest(lm, cursor)  # places "no condition", so that active edits leave the trunk alone
        block = Block.pad(rows, lm.device)
        forest.extend(block)
        for m, b, end in places:
            pad, prefix = block.ids.shape[1] - len(rows[b]), batch[b].prefix
            own = len(prompts[m]) - prefix
            columns = [*range(pad, pad + prefix), *range(pad + end - own, pad + end)]
            out[prompts[m]] = [(k[b][:, columns].clone(), v[b][:, columns].clone()) for k, v in forest.keys_values()]
    return out


def _keep(lm: LM, fresh: dict[tuple[int, ...], Trunk]) -> None:
    lm.trunks.update(fresh)
    size = {key: sum(k.nbytes + v.nbytes for k, v in trunk) for key, trunk in lm.trunks.items()}
    total = sum(size.values())
    while total > KEPT_BYTES and lm.trunks:
        key, _ = lm.trunks.popitem(last=False)
        total -= size[key]


def _together(lm: LM, cursor: Cursor, keys: Sequence[tuple[int, ...]], trunks: Sequence[Trunk]) -> Forest:
    forest = Forest(lm, cursor)
    width = max(map(len, keys), default=0)
    if width == 0:
        return forest
    forest.position = torch.zeros(len(keys), width, dtype=torch.long, device=lm.device)
    forest.branch = torch.full_like(forest.position, PADDING)
    for b, ids in enumerate(keys):
        forest.position[b, width - len(ids) :] = torch.arange(len(ids), device=lm.device)
        forest.branch[b, width - len(ids) :] = TRUNK
    cache: transformers.DynamicCache = forest.cache
    some = next(trunk for trunk in trunks if trunk)
    for layer, (k, v) in enumerate(some):
        whole = [x.new_zeros(len(keys), x.shape[0], width, x.shape[2]) for x in (k, v)]
        for b, trunk in enumerate(trunks):
            if trunk:
                for x, own in zip(whole, trunk[layer], strict=True):
                    x[b, :, width - own.shape[1] :] = own
        cache.update(whole[0], whole[1], layer)
    return forest
