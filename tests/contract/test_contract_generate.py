"""Generation and teacher forcing on token trees write what the naive twin writes, under every edit."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import twin
from support.forced import scored
from support.twin import EDITED_SITES, OPS, TOLERANCE, edits_at, gap, prompt
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import ROWS_PER_PROMPT, TOKENS_PER_PROMPT, Row, tree_batches
from emo.model.prefix_tree import Block

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]  # cached against uncached, every op
PROMPTS = [prompt(30), prompt(7)]  # one longer than the sliding window
ROWS = [Row(1, 1), Row(0, 0), Row(0, -1)]
NEW = 6
UNEDITED: dict[str, list[int]] = {}  # the twin's unedited reply to PROMPTS[0], by model


@pytest.mark.parametrize("tokens", list(Tokens))
@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("site", EDITED_SITES)
def test_replies_equal_the_uncached_twin(lm: LM, kind: str, site: Site, tokens: Tokens) -> None:
    """An edit that does not hold with a cache, on one site, one op, one selector, one family.

    The log-probabilities show what an unlucky token would hide: they must move, and agree, on every row.
    """
    edits = edits_at(lm, kind, site, tokens)
    replies = generate(lm, PROMPTS, ROWS, edits, NEW, batch_size=2)
    assert replies == [written(lm, row, edits) for row in ROWS]
    forced = [row._replace(reply=tuple(r[: NEW - k])) for k, (row, r) in enumerate(zip(ROWS, replies, strict=True))]
    found = log_probs(lm, forced, edits)
    plain = log_probs(lm, [row._replace(cond=-1) for row in forced], [])
    for i, row in enumerate(forced):
        assert gap(found[i], expected(lm, row, edits)) <= TOLERANCE
        assert (gap(found[i], plain[i]) > 1e-4) == (row.cond >= 0)


def written(lm: LM, row: Row, edits: list[twin.Edit]) -> list[int]:
    """Return the twin's reply; the unedited one is kept."""
    if row.cond < 0:
        if lm.spec.name not in UNEDITED:
            UNEDITED[lm.spec.name] = twin.reply(lm, PROMPTS[0], NEW)
        return UNEDITED[lm.spec.name]
    return twin.reply(lm, PROMPTS[row.prompt], NEW, edits, row.cond)


def expected(lm: LM, row: Row, edits: list[twin.Edit]) -> Tensor:
    """Return the twin's log-probabilities before each token of a row's reply."""
    ids = PROMPTS[row.prompt]
    logits = twin.scores(lm, [*ids, *row.reply], len(ids), edits, row.cond)
    return torch.log_softmax(logits[len(ids) - 1 : -1], -1)


def log_probs(lm: LM, rows: list[Row], edits: list[twin.Edit], batch_size: int = 2) -> dict[int, Tensor]:
    """Return log-probabilities by row; no row may come twice."""
    found = list(scored(lm, PROMPTS, rows, edits, batch_size))
    assert len({s.row for s in found}) == len(found)
    return {s.row: s.log_probs for s in found}


def test_edits_change_what_is_written(lm: LM) -> None:
    """Models that echo their last token would make the agreement above an empty promise."""
    plain = generate(lm, PROMPTS, ROWS, [], NEW, 16)
    assert len({token for reply in plain for token in reply}) >= NEW
    changed = 0
    own = [site for site in EDITED_SITES if site in twin.sites(lm)]
    for kind, site in product(OPS, own):
        replies = generate(lm, PROMPTS, ROWS, edits_at(lm, kind, site, Tokens.EVERY_STEP), NEW, 16)
        changed += sum(a != b for a, b in zip(replies, plain, strict=True))
    assert changed >= len(OPS) * len(own)  # at least half of the edited rows


@pytest.mark.parametrize("tokens", list(Tokens))
def test_edits_at_all_sites_at_once(lm: LM, tokens: Tokens) -> None:
    """A circuit edits many sites of many blocks together; strength may decay from token to token."""
    own = [site for site in EDITED_SITES if site in twin.sites(lm)]
    edits = [e for s in own for e in edits_at(lm, "scale", s, tokens, range(lm.n_layers))]
    edits += [twin.Edit(e.site, e.layer, e.op, tokens, 0.7) for e in edits_at(lm, "add", Site.RESID_POST, tokens)]
    replies = generate(lm, PROMPTS, ROWS, edits, NEW, batch_size=16)
    assert replies == [twin.reply(lm, PROMPTS[r.prompt], NEW, edits, r.cond) for r in ROWS]
    rows = [row._replace(reply=tuple(reply)) for row, reply in zip(ROWS, replies, strict=True)]
    found = log_probs(lm, rows, edits)
    assert all(gap(found[i], expected(lm, row, edits)) <= TOLERANCE for i, row in enumerate(rows))


@pytest.mark.parametrize("tokens", list(Tokens))
def test_numbers_do_not_depend_on_the_batch_size(lm: LM, tokens: Tokens) -> None:
    """Padding and neighbours: the classic reason why a number changes with the batch."""
    prompts = [prompt(n) for n in (1, 40, 12, 3, 25, 26)]
    rows = [Row(p, cond) for cond in (0, -1, 1) for p in range(len(prompts))] + [Row(2, 1)]
    edits = edits_at(lm, "add", twin.mid(lm), tokens) + edits_at(lm, "scale", Site.HEAD, tokens)
    one, many = (generate(lm, prompts, rows, edits, NEW, size) for size in (1, 16))
    assert one == many
    assert one == [twin.reply(lm, prompts[r.prompt], NEW, edits, r.cond) for r in rows]
    assert one[-1] == one[rows.index(rows[-1])]


def test_empty_and_short_requests(lm: LM) -> None:
    """No rows, one-token prompts alone, one new token, replies of one token and of none."""
    assert generate(lm, PROMPTS, [], [], NEW, 4) == []
    edits = edits_at(lm, "add", Site.RESID_POST, Tokens.PROMPT_LAST)
    single = [[5], [9]]
    rows = [Row(0, 0), Row(1, 1), Row(1)]
    assert generate(lm, single, rows, edits, 1, 4) == [twin.reply(lm, single[r.prompt], 1, edits, r.cond) for r in rows]
    forced = [Row(0, 0, (8, 4, 4)), Row(1), Row(1, -1, (6,)), Row(0, 1, (7, 7))]
    found = log_probs(lm, forced, edits, batch_size=1)
    assert sorted(found) == [0, 2, 3]
    for i, x in found.items():
        assert gap(x, expected(lm, forced[i], edits)) <= TOLERANCE


def test_a_row_that_stops_early_does_not_disturb_the_others(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that end leave the block; the others' columns, branches and conditions must stay theirs."""
    rows = [Row(p, cond) for cond in (0, 1, -1) for p in (0, 1)]
    edits = edits_at(lm, "add", Site.MLP_ADD, Tokens.EVERY_STEP)
    free = generate(lm, PROMPTS, rows, edits, 10, 4)
    ends = [free[0][0], free[1][4]]
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", ends)
    stopped = generate(lm, PROMPTS, rows, edits, 10, 4)
    cut = [next((k for k, t in enumerate(reply) if t in ends), len(reply)) for reply in free]
    assert cut[0] == 0
    assert len(set(cut)) > 1
    assert stopped == [reply[:k] for reply, k in zip(free, cut, strict=True)]
    assert stopped == [twin.reply(lm, PROMPTS[r.prompt], 10, edits, r.cond, [2, *ends]) for r in rows]


def test_the_model_is_unedited_between_two_rows(models: dict[str, LM]) -> None:
    """Whoever runs the model while scored rows come in must not meet the edits of those rows."""
    lm, rows = models["llama"], [Row(p, 0, (5, 6)) for p in (0, 1)]
    edits = edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP)
    plain = twin.scores(lm, [9], 1)
    for _ in scored(lm, PROMPTS, rows, edits, 1):
        assert twin.hooks_left(lm) == 0
        assert torch.allclose(twin.scores(lm, [9], 1), plain, atol=1e-5)  # an edit moves them by more than 0.1


@pytest.mark.parametrize("ids", [prompt(12, 3), prompt(30, 4)], ids=len)
def test_steering_decoding_is_that_of_transformers(
    models: dict[str, LM], ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 10 tokens, no 3-gram twice, penalty 1.05: as `generate` of transformers does it."""
    lm = models["llama"]
    ids = ids * 2  # the prompt's own n-grams count too
    plain, steering = Row(0), Row(0, decoding="steering")
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", [2, generate(lm, [ids], [plain], [], 3, 1)[0][2]])
    short, ours = generate(lm, [ids], [plain, steering], [], 40, 1)
    options = {"min_new_tokens": 10, "no_repeat_ngram_size": 3, "repetition_penalty": 1.05}
    theirs = lm.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=40, pad_token_id=0, **options)
    own = [t for t in theirs[0, len(ids) :].tolist() if t not in lm.stop_ids()]
    assert ours == own
    assert len(short) <= 2  # plain decoding stops there
    assert len(ours) >= 10
    grams = list(zip(ours, ours[1:], ours[2:], strict=False))
    assert len(set(grams)) == len(grams)
    assert generate(lm, [ids, PROMPTS[0]], [plain, Row(1), steering], [], 40, 1)[2] == ours


@given(data=st.data(), batch_size=st.integers(1, 5), tokens=st.integers(1, 200))
def test_groves_hold_every_row_once(data: st.DataObject, batch_size: int, tokens: int) -> None:
    """A row lost or doubled, a tree of two prompts, or a forward pass wider than asked for."""
    prompts = [[0] * n for n in data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))]
    rows = [Row(p) for p in data.draw(st.lists(st.integers(0, len(prompts) - 1), max_size=300))]
    found = tree_batches(prompts, rows, batch_size, tokens)
    placed = [i for tree_batch in found for tree in tree_batch.rows for i in tree]
    assert sorted(placed) == list(range(len(rows)))
    room = max(1, min(batch_size * ROWS_PER_PROMPT, batch_size * TOKENS_PER_PROMPT // tokens))
    for tree_batch in found:
        assert 1 <= len(tree_batch.prompts) == len(tree_batch.rows) <= batch_size
        assert all(
            rows[i].prompt == p for p, tree in zip(tree_batch.prompts, tree_batch.rows, strict=True) for i in tree
        )
        assert all(tree == sorted(tree) for tree in tree_batch.rows)
        assert max(map(len, tree_batch.rows)) * len(tree_batch.rows) <= room


def test_blocks_of_unlike_trees_are_padded_on_the_left() -> None:
    """The last token of every row is read from the right; `Block.pad` must put it there."""
    block = Block.pad([[(1, 0, 1, 0, 0), (2, 0, 2, 0, 0)], [(3, 0, 1, 0, 0)]], torch.device("cpu"))
    assert block.ids.tolist() == [[1, 2], [0, 3]]
