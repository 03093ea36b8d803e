"""Keys and values of prompts read before: a prompt is prefilled once per process, not once per stage.

Replies, projections, margins, perplexity and KL all start from the same prompts. What they share, the
prompt without its last token, is kept per prompt and put together (padded on the left) for each batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import transformers
from torch import Tensor

from emo.model.hooks import Cursor
from emo.model.lm import LM
from emo.model.on_device import on_device
from emo.model.prefix_tree import PADDING, SHARED, Block, TokenTrees
from emo.model.prefixes import Text, Tree, batches, layout, shared_prefixes

TOKENS = 4096  # of one prefill pass
KEPT_BYTES = 2 * 2**30  # of keys and values, per model; the longest unused prompts go first

Prompt = tuple[int, ...]
KeysValues = list[tuple[Tensor, Tensor]]  # per block: keys and values (kv heads, t, p)


def with_prefixes(
    lm: LM, cursor: Cursor, prompts: Sequence[Sequence[int]], coming: Iterable[Sequence[int]] = ()
) -> TokenTrees:
    """Return token trees of which each starts with the given prompt, read now or before.

    Where one must be read, those of the ``coming`` passes are read with it, as many as half of the room holds: what
    prompts of several passes have in common is forwarded once for all of them.
    """
    keys = [tuple(ids) for ids in prompts]
    missing = list(dict.fromkeys(key for key in keys if key and key not in lm.prefixes))
    if missing:
        missing += _ahead(lm, missing, coming)
    fresh = _read(lm, cursor, missing) if missing else {}
    found = [fresh.get(key) or lm.prefixes.get(key, []) for key in keys]
    for key in keys:
        if key in lm.prefixes:
            lm.prefixes.move_to_end(key)
    _keep(lm, fresh)
    return _together(lm, cursor, keys, found)


def _ahead(lm: LM, missing: Sequence[Prompt], coming: Iterable[Sequence[int]]) -> list[Prompt]:
    """Return the prompts of coming passes that are not kept yet and fit into half of the room."""
    heads = getattr(lm.config, "num_key_value_heads", None) or lm.h
    token = 2 * lm.n_layers * heads * lm.p * lm.model.dtype.itemsize
    left = KEPT_BYTES // 2 - token * sum(map(len, missing))
    seen, out = set(missing), []
    for key in map(tuple, coming):
        if not key or key in seen or key in lm.prefixes:
            continue
        left -= token * len(key)
        if left < 0:
            break
        seen.add(key)
        out.append(key)
    return out


def _read(lm: LM, cursor: Cursor, prompts: Sequence[tuple[int, ...]]) -> dict[Prompt, KeysValues]:
    """Read prompts as trees: what a few share (a scenario) once a tree, what trees share (a system line) once."""
    texts = [Text(list(ids), span=0) for ids in prompts]
    trees = shared_prefixes(texts, TOKENS // 2)
    bases = _bases(texts, trees)
    wanted = [Text(list(base), span=0) for base in dict.fromkeys(bases.values()) if base]
    alone = [Tree(len(text.ids), [i]) for i, text in enumerate(wanted)]
    known = _forward(lm, cursor, wanted, alone, {}, {}) if wanted else {}
    return _forward(lm, cursor, texts, trees, bases, known)


def _bases(texts: Sequence[Text], trees: Sequence[Tree]) -> dict[int, Prompt]:
    """Return, by the first text of every tree, the beginning that it shares with other trees; empty where none."""
    stems = [Text(texts[tree.members[0]].ids[: tree.prefix], span=0) for tree in trees]
    found: dict[int, Prompt] = {}
    for group in shared_prefixes(stems, sum(len(stem.ids) for stem in stems)):
        shortest = min(len(texts[m].ids) for i in group.members for m in trees[i].members)
        length = min(group.prefix, shortest - 1) if len(group.members) > 1 else 0  # a text keeps a token of its own
        for i in group.members:
            found[trees[i].members[0]] = tuple(stems[i].ids[:length])
    return found


def _forward(
    lm: LM,
    cursor: Cursor,
    texts: Sequence[Text],
    trees: Sequence[Tree],
    bases: Mapping[int, Prompt],
    known: Mapping[Prompt, KeysValues],
) -> dict[Prompt, KeysValues]:
    """Read trees behind their bases, of which keys and values are ``known``."""
    skipped = {m: len(bases.get(tree.members[0], ())) for tree in trees for m in tree.members}
    rest = [Text(text.ids[skipped[m] :], span=0) for m, text in enumerate(texts)]
    cut = [Tree(tree.prefix - skipped[tree.members[0]], tree.members) for tree in trees]
    out = {}
    for batch in batches(rest, cut, TOKENS):
        before = [bases.get(tree.members[0], ()) for tree in batch]
        # Places "no condition", so that active edits leave the prefix alone.
        tree_cache = _together(lm, cursor, before, [known.get(base, []) for base in before])
        start = tree_cache.position.shape[1]
        rows, places = layout(rest, batch)
        shifted = [
            [(token, position + len(base), *more) for token, position, *more in row]
            for row, base in zip(rows, before, strict=True)
        ]
        block = Block.pad(shifted, lm.device)  # type: ignore[arg-type]
        tree_cache.extend(block)
        columns = []
        for m, b, end in places:
            first, prefix, base = start + block.ids.shape[1] - len(rows[b]), batch[b].prefix, len(before[b])
            own = len(rest[m].ids) - prefix
            spans = (start - base, start), (first, first + prefix), (first + end - own, first + end)
            columns.append(np.concatenate([np.arange(*span) for span in spans]))
        index = on_device(np.concatenate(columns), lm.device).split(list(map(len, columns)))
        for (m, b, _), at in zip(places, index, strict=True):
            out[tuple(texts[m].ids)] = [
                (k[b].index_select(1, at.to(k.device)), v[b].index_select(1, at.to(v.device)))
                for k, v in tree_cache.keys_values()
            ]
    return out


def _keep(lm: LM, fresh: dict[tuple[int, ...], KeysValues]) -> None:
    lm.prefixes.update(fresh)
    size = {key: sum(k.nbytes + v.nbytes for k, v in prefix) for key, prefix in lm.prefixes.items()}
    total = sum(size.values())
    while total > KEPT_BYTES and lm.prefixes:
        key, _ = lm.prefixes.popitem(last=False)
        total -= size[key]


def _together(lm: LM, cursor: Cursor, keys: Sequence[tuple[int, ...]], prefixes: Sequence[KeysValues]) -> TokenTrees:
    tree_cache = TokenTrees(lm, cursor)
    width = max(map(len, keys), default=0)
    if width == 0:
        return tree_cache
    column = np.arange(width) - (width - np.array(list(map(len, keys))))[:, None]  # from each prompt's beginning on
    places = np.stack([column.clip(min=0), np.where(column < 0, PADDING, SHARED)])
    tree_cache.position, tree_cache.branch = on_device(places, lm.device).unbind()
    cache: transformers.DynamicCache = tree_cache.cache
    some = next(prefix for prefix in prefixes if prefix)
    for layer, (k, v) in enumerate(some):
        whole = [x.new_zeros(len(keys), x.shape[0], width, x.shape[2]) for x in (k, v)]
        for b, prefix in enumerate(prefixes):
            if prefix:
                for x, own in zip(whole, prefix[layer], strict=True):
                    x[b, :, width - own.shape[1] :] = own
        cache.update(whole[0], whole[1], layer)
    return tree_cache
