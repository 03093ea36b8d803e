"""Prompts that were read before: kept keys and values give the numbers of a prompt that is read anew."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from support import twin
from support.forced import scored
from support.twin import TOLERANCE, edits_at, gap, prompt, scores
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.model import prefix_cache
from emo.model.generate import generate
from emo.model.hooks import Cursor
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefix_tree import Block, TokenTrees

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [prompt(n) for n in (30, 7, 1, 41, 30)] + [prompt(30, 5)]
ROWS = [Row(p, cond) for p in range(len(PROMPTS)) for cond in (0, -1)]
NEW = 5


def fresh(lm: LM) -> LM:
    """Return the same model, no prompt read yet."""
    return LM(lm.model, lm.tokenizer, lm.spec)


def forced(lm: LM, tokens: Tokens, which: list[int]) -> dict[int, Tensor]:
    """Return the log-probabilities of a fixed reply after some of PROMPTS, by row."""
    rows = [row._replace(reply=(9, 8, 7)) for row in ROWS if row.prompt in which]
    edits = edits_at(lm, "add", twin.mid(lm), tokens)
    found = {s.row: s.log_probs for s in scored(lm, PROMPTS, rows, edits, 4)}
    return {ROWS.index(row._replace(reply=())): found[i] for i, row in enumerate(rows)}


def check(lm: LM, tokens: Tokens, which: list[int]) -> None:
    """Assert that the forced log-probabilities are the twin's."""
    edits = edits_at(lm, "add", twin.mid(lm), tokens)
    for i, found in forced(lm, tokens, which).items():
        ids = PROMPTS[ROWS[i].prompt]
        logits = scores(lm, [*ids, 9, 8, 7], len(ids), edits, ROWS[i].cond)[len(ids) - 1 : -1]
        assert gap(found, torch.log_softmax(logits, -1)) <= TOLERANCE, (tokens, i)


def test_kept_prompts_give_the_same_numbers(lm: LM) -> None:
    """Keys of another prompt, an edit that was active when a prompt was read, a wrong end under padding."""
    other = fresh(lm)
    for tokens in (Tokens.ALL, Tokens.EVERY_STEP, Tokens.PROMPT_LAST, Tokens.EVERY_STEP, Tokens.ALL):
        for which in (
            [3, 1],
            [1],
            list(range(len(PROMPTS))),
            [2],
            [0, 4, 5],
        ):  # new, kept, both, none to keep
            check(other, tokens, which)


def test_replies_do_not_touch_what_is_kept(lm: LM) -> None:
    """Generation appends to the keys of token trees; the kept ones must stay as they were read."""
    other, edits = fresh(lm), edits_at(lm, "scale", Site.HEAD, Tokens.EVERY_STEP)
    first = generate(other, PROMPTS, ROWS, edits, NEW, 4)
    kept = {key: [(k.clone(), v.clone()) for k, v in prefix] for key, prefix in other.prefixes.items()}
    assert set(kept) == {tuple(ids[:-1]) for ids in PROMPTS if len(ids) > 1}
    assert generate(other, PROMPTS, ROWS, edits, NEW, 1) == first
    assert first == [twin.reply(lm, PROMPTS[r.prompt], NEW, edits, r.cond) for r in ROWS]
    for key, prefix in other.prefixes.items():
        for (k, v), (k_then, v_then) in zip(prefix, kept[key], strict=True):
            assert k.shape[1] == v.shape[1] == len(key)
            assert torch.equal(k, k_then)
            assert torch.equal(v, v_then)


def alike() -> list[list[int]]:
    """Return prompts with common beginnings: of several, of two, the whole of another, too short to share."""
    base, more = prompt(28), prompt(12, 1)
    ends = [[], [5], prompt(9, 2), prompt(3, 3), more, [*more, 7, 8], [*more, *prompt(30, 4)]]
    return [*([*base, *end] for end in ends), prompt(9, 5), [*prompt(9, 5), *prompt(20, 6)], [*base[:20], 4, 4, 4]]


@pytest.mark.parametrize("tokens", [64, 4096])
def test_common_beginnings(lm: LM, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beginning that is read once for many prompts: the wrong columns of its tree, or of a neighbour."""
    monkeypatch.setattr(prefix_cache, "TOKENS", tokens)
    prompts, other = alike(), fresh(lm)
    random.Random(0).shuffle(prompts)
    edits = edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP)
    rows = [Row(p, 0, (6, 7)) for p in range(len(prompts))]
    for one in list(scored(other, prompts, rows, edits, 16)):
        ids = prompts[one.row]
        logits = scores(lm, [*ids, 6], len(ids), edits)[len(ids) - 1 :]
        assert gap(one.log_probs, torch.log_softmax(logits, -1)) <= TOLERANCE, one.row


@pytest.mark.parametrize("room", [0, 20_000, 60_000])
def test_forgotten_prompts_are_read_again(lm: LM, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever a sweep reads; what does not fit is still right."""
    monkeypatch.setattr(prefix_cache, "KEPT_BYTES", room)
    other = fresh(lm)
    for which in ([0, 1], [3, 5], [0, 1, 2, 3], [0]):
        check(other, Tokens.EVERY_STEP, which)
        assert sum(k.nbytes + v.nbytes for prefix in other.prefixes.values() for k, v in prefix) <= room


def test_the_longest_unused_goes_first(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt in use must not be the one that is forgotten."""
    lm = fresh(models["llama"])
    a, b, c = prompt(20, 1), prompt(20, 2), prompt(20, 3)
    prefix_cache.with_prefixes(lm, Cursor(), [a, b])
    monkeypatch.setattr(
        prefix_cache, "KEPT_BYTES", sum(k.nbytes + v.nbytes for t in lm.prefixes.values() for k, v in t)
    )
    prefix_cache.with_prefixes(lm, Cursor(), [a])
    prefix_cache.with_prefixes(lm, Cursor(), [c])
    assert set(lm.prefixes) == {tuple(a), tuple(c)}


def test_a_prompt_is_read_once(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Many conditions share a prompt's keys, and so do later calls: then a token per row and step."""
    lm, read = fresh(models["llama"]), Counter[str]()
    hidden = lm.hidden

    def count(ids: Tensor, *rest: Tensor) -> Tensor:
        read["tokens"] += ids.numel()
        return hidden(ids, *rest)

    monkeypatch.setattr(lm, "hidden", count)
    rows = [Row(0, cond) for cond in range(8)]
    written = sum(map(len, generate(lm, PROMPTS, rows, [], NEW, 1)))
    assert read["tokens"] == len(PROMPTS[0]) - 1 + written
    assert sum(map(len, generate(lm, PROMPTS, rows, [], NEW, 1))) == written
    assert read["tokens"] == len(PROMPTS[0]) - 1 + 2 * written


@pytest.mark.parametrize("edited_", [False, True])
def test_two_levels_of_common_beginnings(lm: LM, edited_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system line is forwarded once, a scenario once per tree; every prompt's numbers are those of its own pass."""
    line = prompt(40, 1)
    scenes = [[*line, *prompt(20 + n, 10 + n)] for n in range(3)]
    texts = [[*scene, *prompt(3 + k, 20 + k)] for scene in scenes for k in range(3)]
    texts.append(prompt(25, 40))  # shares nothing
    edits = twin.edits_at(lm, "add", Site.RESID_POST, Tokens.EVERY_STEP) if edited_ else []
    rows = [Row(i, 0 if edited_ else -1, (5, 6)) for i in range(len(texts))]
    forwarded = 0
    extend = TokenTrees.extend

    def counted(self: TokenTrees, block: Block) -> Tensor:
        nonlocal forwarded
        forwarded += int((block.branch >= 0).sum())
        return extend(self, block)

    monkeypatch.setattr(TokenTrees, "extend", counted)
    lm.prefixes.clear()
    found = {s.row: s.log_probs for s in scored(lm, texts, rows, edits, 64)}
    once = 40 + sum(20 + n for n in range(3)) + 3 * sum(3 + k for k in range(3)) + 25
    assert forwarded <= once + 2 * len(texts)  # and two tokens of every reply
    for i, ids in enumerate(texts):
        own = twin.scores(lm, [*ids, 5], len(ids), edits)[-2:]
        assert gap(found[i].exp(), own.log_softmax(-1).exp()) <= TOLERANCE
