"""What is measured on replies: against slow twins, hand-computed cases, and sentences whose answer is known."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from support import twin
from support.twin import edits_at, mid, prompt, scores
from torch import Tensor

from emo.config.schema import EvaluatorConfig
from emo.core.types import Site, Tokens
from emo.data.scenarios import Sample
from emo.data.texts import held_out_replies, read_jsonl
from emo.measure import encoder as encoding
from emo.measure.damage import kl_per_token, reply_nll
from emo.measure.encoder import PACKAGE, embed, vocabulary
from emo.measure.fluency import fluency
from emo.measure.margin import Question, margins, replies_for
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.prompts import reply_ids

pytestmark = pytest.mark.usefixtures("quiet")
encoder = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
BOUNDS = EvaluatorConfig(name="margin")
NAMES = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
PROMPTS = [prompt(n) for n in (30, 7, 12)]
SENTENCE = "The bus was late again, so I walked to the office and missed the first meeting."


@encoder
@pytest.mark.parametrize(
    ("text", "degenerate"),
    [
        ("", True),
        ("  \n", True),
        ("!!! ... 123", True),
        ("Oh no no no no no no no no no no no no", True),
        ("Ughhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh", True),
        ("I am so angry about it. " * 6, True),
        ("hahahahahahahahahahahahahahahahaha", True),
        ("mzkx idrz qwpf vbnt lkjh", True),
        ("J5\ufffd%'\ufffd\ufffd\ufffd[!3\x01 a", True),
        ("I am so happy for you, what a lovely day it was! \ufffd", False),  # a letter that the limit cut off
        ("First line.\n\n\tSecond line of the same reply.", False),
        ("The frimbly dax was zorping quietly beyond glorfindo", True),
        (SENTENCE, False),
        ("I'm furious!", False),
        ("It’s wonderful, I can’t believe they’ve done this for me.", False),
        ("No.", False),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_loops_and_gibberish_are_degenerate(text: str, degenerate: bool) -> None:
    """Loops and gibberish would otherwise count as success; short and apostrophed sentences must not."""
    assert fluency(text, BOUNDS).degenerate is degenerate


@encoder
def test_parts_of_fluency() -> None:
    """Hand-counted shares, and each bound alone decides."""
    found = fluency("one two three one two three zzkq", BOUNDS)
    assert (found.words, found.refusal) == (7, False)
    assert found.distinct3 == pytest.approx(4 / 5)
    assert found.nonwords == pytest.approx(1 / 7)
    letters = "one two three one two three zzkq"
    grams = [letters[i : i + 4] for i in range(len(letters) - 3)]
    assert found.distinct4 == pytest.approx(len(set(grams)) / len(grams))
    assert not found.degenerate
    tight = (
        replace(BOUNDS, min_distinct3=0.81),
        replace(BOUNDS, min_distinct4=0.99),
        replace(BOUNDS, max_nonwords=0.14),
    )
    assert all(fluency("one two three one two three zzkq", bounds).degenerate for bounds in tight)
    assert fluency("I’m sorry, but as an AI language model I cannot have feelings.", BOUNDS).refusal


@encoder
def test_the_shipped_replies_are_language() -> None:
    """Replies written by hand: a measure that calls one of them degenerate or a refusal is wrong."""
    for record in read_jsonl("replies.jsonl"):
        found = fluency(record["text"], BOUNDS)
        assert not found.degenerate and not found.refusal, record["text"]


@encoder
def test_embeddings_are_unit_vectors_by_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit length, independent of neighbours and padding, and nearer where the meaning is nearer."""
    texts = [SENTENCE, "My bus came too late and I did not reach the meeting in time.", "Whales sing.", ""]
    found = embed(texts)
    assert found.shape == (4, 384)
    assert (found.norm(dim=-1) - 1).abs().max() <= 1e-5
    cosine = found @ found.T
    assert cosine[0, 1] > 0.6 > 0.3 > cosine[0, 2]
    monkeypatch.setattr(encoding, "_known", OrderedDict())  # or they would be those from above
    assert twin.gap(found, torch.cat([embed([text]) for text in texts])) <= 1e-4
    assert embed([]).shape == (0, 384)
    assert {"angry", "meeting"} <= vocabulary() and "##ing" not in vocabulary()


@encoder
def test_equal_texts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a call, and by whoever asks later; what is kept is bounded."""
    read, seen = encoding._read, []
    monkeypatch.setattr(encoding, "_known", OrderedDict())
    monkeypatch.setattr(encoding, "_read", lambda texts: seen.append(list(texts)) or read(texts))
    one, two, three = "A plate fell.", "Whales sing.", "My bus came too late."
    first = embed([one, two, one])
    again = embed([two, three, one])
    assert seen == [[one, two], [three]]
    assert torch.equal(first[0], first[2]) and torch.equal(first[[1, 0]], again[[0, 2]])
    monkeypatch.setattr(encoding, "KEPT", 2)
    assert torch.equal(embed(["Rain.", one, "Snow."])[1], first[0])
    assert list(encoding._known) == ["Rain.", "Snow."]


def log_probs(lm: LM, p: int, reply: list[int], edits: list[Edit], cond: int) -> Tensor:
    """Return the twin's log-probabilities (t, V) before each reply token."""
    ids = PROMPTS[p]
    return torch.log_softmax(scores(lm, [*ids, *reply], len(ids), edits, cond)[len(ids) - 1 : -1], -1)


def test_nll_is_that_of_the_unedited_model(lm: LM) -> None:
    """The mean per token, not the sum; equal replies to two prompts are two numbers; empty ones are none."""
    replies = [(0, [9, 8, 7, 40]), (1, [9, 8, 7, 40]), (2, []), (0, [5]), (0, [9, 8, 7, 40])]
    for size in (1, 16):
        found = reply_nll(lm, PROMPTS, replies, size)
        assert found[2] is None and found[0] == found[4] and found[0] != found[1]
        for value, (p, reply) in zip(found, replies, strict=True):
            if reply:
                slow = log_probs(lm, p, reply, [], -1)[range(len(reply)), reply]
                assert value == pytest.approx(-float(slow.mean()), rel=1e-5)


@pytest.mark.parametrize("tokens", [Tokens.EVERY_STEP, Tokens.PROMPT_LAST])
def test_kl_against_the_twin(lm: LM, tokens: Tokens) -> None:
    """KL(unedited || edited), not the reverse; its own prompt's reply; only the first tokens."""
    edits = edits_at(lm, "add", Site.RESID_POST, tokens)
    greedy = [[9, 8, 7, 40, 11], [30, 31], []]
    pairs = [(1, 0), (0, 1), (2, 0), (0, 0)]
    for size in (1, 16):
        found = kl_per_token(lm, PROMPTS, greedy, pairs, edits, 3, size)
        assert found[2] is None
        for value, (p, cond) in zip(found, pairs, strict=True):
            if value is not None:
                reply = greedy[p][:3]
                base, changed = (log_probs(lm, p, reply, edits, c).double() for c in (-1, cond))
                slow = (base.exp() * (base - changed)).sum(-1).mean()
                assert slow > 1e-3
                assert value == pytest.approx(float(slow), rel=1e-3)


def test_kl_of_no_change_is_zero(lm: LM) -> None:
    """Strength 0 is the unedited model."""
    same = Add(twin.unit(1, lm.d), torch.tensor([0]), torch.tensor([0.0]))
    edits = [Edit(Site.RESID_POST, layer, same) for layer in range(lm.n_layers)]
    found = kl_per_token(lm, PROMPTS, [[9, 8, 7]] * 3, [(p, 0) for p in range(3)], edits, 3, 16)
    assert all(value is not None and abs(value) <= 1e-6 for value in found)


def test_margins_against_the_twin(lm: LM) -> None:
    """Emotional minus neutral, per token each, under the edit; a theme of the user's own takes another's replies."""
    samples = [Sample(f"s{i}/neutral", f"s{i}", theme, "neutral", "", "") for i, theme in enumerate(THEMES)]
    found = replies_for(lm, samples, "sev_test", NAMES)
    texts = held_out_replies("sev_test")
    assert found[0]["fear"] == tuple(reply_ids(lm, texts[THEMES[0], "fear"]))
    assert found[1]["neutral"] == tuple(reply_ids(lm, texts[THEMES[1], "neutral"]))
    assert found[2] in [{n: tuple(reply_ids(lm, texts[t, n])) for n in (*NAMES, "neutral")} for t, _ in texts]
    assert found[2] == found[4] != found[3]
    short = [{name: ids[: 3 + i] for i, (name, ids) in enumerate(reply.items())} for reply in found]
    edits = edits_at(lm, "add", mid(lm), Tokens.EVERY_STEP)
    asked = [
        Question(0, 0, 0, "fear"),
        Question(1, 1, 1, "anger"),
        Question(2, -1, 0, "fear"),
        Question(0, 0, 0, "anger"),
    ]
    for size in (1, 16):
        got = margins(lm, PROMPTS, asked, short, edits, size)
        for value, q in zip(got, asked, strict=True):
            emotional, neutral = (
                float(log_probs(lm, q.prompt, list(ids), edits, q.cond)[range(len(ids)), list(ids)].mean())
                for ids in (short[q.sample][q.emotion], short[q.sample]["neutral"])
            )
            assert value == pytest.approx(emotional - neutral, abs=1e-4)


THEMES = ("Work/Job", "Travel/Transportation", "Gardening", "Chess", "Gardening")
