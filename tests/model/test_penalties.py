"""Decoding of a whole batch is that of transformers' processors, a row at a time; looking seldom changes no reply."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
import transformers
from support import twin
from support.twin import edits_at, prompt

from emo.core.types import Site, Tokens
from emo.model import generate as generating
from emo.model import vocabulary
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.penalties import DECODINGS, Texts

pytestmark = pytest.mark.usefixtures("quiet")
VOCABULARY, STOP = 7, [2, 5]  # so few that n-grams come again
CPU = torch.device("cpu")


def slow(
    name: str, prompt_length: int, ids: list[int], logits: torch.Tensor, stop: Sequence[int] = STOP
) -> torch.Tensor:
    """Return one row's logits (V,) as transformers changes them."""
    if name == "plain":
        return logits
    how = DECODINGS[name]
    processors = transformers.LogitsProcessorList(
        [
            transformers.RepetitionPenaltyLogitsProcessor(how.repetition_penalty),
            transformers.NoRepeatNGramLogitsProcessor(how.no_repeat_ngram),
            transformers.MinNewTokensLengthLogitsProcessor(prompt_length, how.min_new_tokens, list(stop)),
        ]
    )
    return processors(torch.tensor([ids]), logits[None].clone())[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [["steering"], ["circuit"], ["plain"], ["plain", "circuit", "steering"]])
def test_every_row_is_decoded_as_alone(names: list[str]) -> None:
    """To the bit: prompts of one token and of many, rows that leave, all kinds in one batch."""
    draw, logits_of = random.Random(0), torch.Generator().manual_seed(0)
    prompts = [[draw.randrange(VOCABULARY) for _ in range(n)] for n in (1, 2, 3, 9, 30, 4, 1, 12)]
    kinds = [names[k % len(names)] for k in range(len(prompts))]
    texts, stop = Texts(prompts, kinds, 14, CPU), torch.tensor(STOP)
    said, order = [list(ids) for ids in prompts], list(range(len(prompts)))
    ruled_out = 0
    for step in range(14):
        logits = torch.randn(len(order), VOCABULARY, generator=logits_of)
        logits[0, 3] = -torch.inf
        expected = torch.stack(
            [slow(kinds[i], len(prompts[i]), said[i], x) for i, x in zip(order, logits, strict=True)]
        )
        half = len(order) // 2
        found = [texts.penalised(logits[own].clone(), own, stop) for own in (slice(0, half), slice(half, len(order)))]
        assert torch.equal(torch.cat(found), expected)
        ruled_out += int(torch.cat(found).isneginf().sum()) - 1
        tokens = torch.randint(VOCABULARY, (len(order),), generator=logits_of)
        texts.append(tokens)
        for i, token in zip(order, tokens.tolist(), strict=True):
            said[i].append(token)
        if step in (4, 9):
            kept = [k for k in range(len(order)) if k != step % len(order)]
            texts.keep(torch.tensor(kept))
            order = [order[k] for k in kept]
    assert (ruled_out > 50) == (names != ["plain"])


def reply(lm: LM, row: Row, ids: list[int], edits: list[twin.Edit], limit: int, stop: list[int]) -> list[int]:
    """Write one reply, uncached, a token at a time, each decoded by transformers."""
    written: list[int] = []
    while len(written) < limit:
        logits = twin.scores(lm, [*ids, *written], len(ids), edits, row.cond)[-1]
        token = int(slow(row.decoding, len(ids), [*ids, *written], logits, stop).argmax())
        if token in stop:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("every", [1, 3, 8, 100])
@pytest.mark.parametrize("tokens", list(Tokens))
def test_looking_seldom_changes_no_reply(
    models: dict[str, LM], every: int, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that ended write on until the host looks: nobody sees it; a vocabulary in pieces neither."""
    lm, limit = models["llama"], 13
    monkeypatch.setattr(generating, "CHECKED_EVERY", {"cpu": every})
    monkeypatch.setattr(vocabulary, "BYTES", 4 * 259 * 3)  # three rows
    prompts = [prompt(n, n) for n in (30, 7, 1, 12)]
    kinds = ["plain", "steering", "circuit"]
    rows = [Row(p, c, decoding=kinds[(p + c) % 3]) for p in range(len(prompts)) for c in (-1, 0, 1)]
    edits = edits_at(lm, "add", Site.RESID_POST, tokens) + edits_at(lm, "zero", Site.NEURON, tokens)
    free = generate(lm, prompts, rows, edits, limit, 64)
    stop = sorted({free[0][0], free[1][3], free[4][6], free[5][11], free[7][12]})
    monkeypatch.setattr(type(lm), "stop_ids", lambda _: set(stop))
    expected = [reply(lm, row, prompts[row.prompt], edits, limit, stop) for row in rows]
    assert len({len(x) for x in expected}) > 3  # they end at different steps
    finished: dict[int, list[int]] = {}
    found = generate(lm, prompts, rows, edits, limit, 64, done=lambda i, ids: finished.update({i: list(ids)}))
    assert found == expected
    assert [finished[i] for i in range(len(rows))] == expected
