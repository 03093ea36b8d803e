"""The prediction task: scores of choices equal one plain pass per row and choice; spans, answers and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from support.twin import edits_at, prompt, reply
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.data.labelled import Item
from emo.measure import class_prediction as prediction
from emo.measure.class_prediction import (
    ANSWER_TOKENS,
    Asked,
    choice_ids,
    choice_scores,
    content_span,
    first_name,
    parsed_answers,
    question_ids,
    table,
)
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prefix_tree import TokenTrees, plain_block

pytestmark = pytest.mark.usefixtures("quiet")
FAMILIES = ("llama", "qwen2", "gemma3", "gpt2")
PROMPTS = [prompt(n, n) for n in (31, 5, 44, 12)]
CHOICES = [(7, 8, 9), (10,), (7, 8), (11, 12, 13, 14)]  # one token, several, a beginning in common
ROWS = [Asked(p, c) for p in range(len(PROMPTS)) for c in (-1, 0, 1)] + [Asked(2, -1), Asked(0, 1)]
CLASSES = ("anger", "sadness", "fear")


def slow(lm: LM, rows: Sequence[Asked], edits: Sequence[Edit]) -> Tensor:
    """Return the same scores by one whole forward pass per row and choice."""
    out = torch.zeros(len(rows), len(CHOICES))
    for r, row in enumerate(rows):
        ids = PROMPTS[row.prompt]
        for k, choice in enumerate(CHOICES):
            block = plain_block([[*ids, *choice]], lm.device, cond=row.cond)
            block = block._replace(step=block.step + len(choice))  # the last prompt token is step 0
            with edited(lm, edits) as cursor:
                hidden = TokenTrees(lm, cursor).extend(block)
            log_probs = torch.log_softmax(lm.logits(hidden[0]), -1)
            out[r, k] = sum(log_probs[len(ids) - 1 + j, token] for j, token in enumerate(choice))
    return out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", [Tokens.ALL, Tokens.EVERY_STEP, Tokens.PROMPT_LAST])
def test_scores_equal_plain_passes(family: str, tokens: Tokens, models: dict[str, LM]) -> None:
    """Several conditions and unedited rows in one batch; padding, and a choice that sees another, would show."""
    lm = models[family]
    edits = edits_at(lm, "zero", Site.NEURON, tokens) + edits_at(lm, "add", Site.RESID_POST, tokens)
    wanted = slow(lm, ROWS, edits)
    for batch_size in (1, 64):
        found = choice_scores(lm, PROMPTS, ROWS, edits, CHOICES, batch_size)
        assert found.shape == (len(ROWS), len(CHOICES)) and found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (wanted[1] - wanted[0]).abs().max() > 1e-2 and (wanted[2] - wanted[1]).abs().max() > 1e-2


def test_choices_of_one_token(models: dict[str, LM]) -> None:
    """Then a tree is its prefix alone; all tokens together have probability 1."""
    lm = models["llama"]
    every = [(token,) for token in range(lm.model.get_output_embeddings().weight.shape[0])]
    found = choice_scores(lm, PROMPTS, ROWS[:2], [], every, 64)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2), atol=1e-4, rtol=0)


def test_a_prompt_is_read_once_per_row(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once per choice, and equal rows once; a pass that does not fit is halved and gives the same."""
    lm, sizes = models["llama"], []
    plain = TokenTrees.extend

    def counting(self: TokenTrees, block: prediction.Block) -> Tensor:
        sizes.append(len(block.ids))
        assert int((block.branch >= 0).sum(1).max()) <= max(map(len, PROMPTS)) + sum(len(c) - 1 for c in CHOICES)
        if len(block.ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, block)

    wanted = choice_scores(lm, PROMPTS, ROWS, [], CHOICES, 64)
    monkeypatch.setattr(TokenTrees, "extend", counting)
    torch.testing.assert_close(choice_scores(lm, PROMPTS, ROWS, [], CHOICES, 64), wanted, atol=1e-5, rtol=1e-5)
    assert sum(size for size in sizes if size <= 3) == len(set(ROWS))


def items(*texts: str) -> list[Item]:
    return [Item(f"t:{i}", f"t:{i}", "anger", text) for i, text in enumerate(texts)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("task", "listed"), [("emotion", False), ("emotion", True), ("rhetoric", False)])
def test_the_span_holds_the_text(family: str, task: str, listed: bool, models: dict[str, LM]) -> None:
    """Whatever the text begins and ends with; the rest of the prompt is the same for all."""
    lm = models[family]
    texts = ["A: The lorry came back.\nB: Again?", "zest", "Why?", "7", "A probe? zero", "\u00c9t\u00e9, 'tis."]
    a, b = content_span(lm, CLASSES, task, listed)
    prompts = question_ids(lm, items(*texts), CLASSES, task, listed)
    assert [lm.tokenizer.decode(ids[a : len(ids) - b]).strip() for ids in prompts] == texts
    assert a > 0 and len({(tuple(ids[:a]), tuple(ids[len(ids) - b :])) for ids in prompts}) == 1
    rest = lm.tokenizer.decode(prompts[0][len(prompts[0]) - b :])
    assert ("anger, sadness or fear?" in rest) == listed and "one word" in rest
    assert all(name not in lm.tokenizer.decode(prompts[0][:a]) for name in CLASSES)


def test_names_are_answers(models: dict[str, LM]) -> None:
    """On a plain template a name follows a space, in a chat it does not."""
    for family, shown in (("llama", "fear"), ("gpt2", " fear")):
        assert models[family].tokenizer.decode(choice_ids(models[family], CLASSES)[2]) == shown


def test_parsed_answers(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """The greedy answer of every row under its condition, cut at eight tokens; the first name in it counts."""
    lm = models["llama"]
    edits, rows = edits_at(lm, "add", Site.RESID_POST, Tokens.ALL), ROWS[:6]
    seen: list[str] = []
    monkeypatch.setattr(prediction, "first_name", lambda answer, _: seen.append(answer) or len(seen) - 1)
    found = parsed_answers(lm, PROMPTS, [*rows, rows[0]], edits, CLASSES, 64)
    wanted = [reply(lm, PROMPTS[p], ANSWER_TOKENS, edits, c, sorted(lm.stop_ids())) for p, c in rows]
    assert seen == [lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted] and len(set(seen)) > 1
    assert found == [0, 1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("Fear.", 2),
        (" sadness, then anger", 1),
        ("ANGER", 0),
        ("It is\nfear", 2),
        ("fearful", -1),
        ("", -1),
        ("dread", -1),
        ("anger management or anger", 3),
    ],
)
def test_an_answer_is_the_first_class_it_names(answer: str, index: int) -> None:
    """Whole words in any case, the earliest one; a name that begins with another is not cut short."""
    assert first_name(answer, [*CLASSES, "anger management"]) == index


def test_the_table_of_seven_items_by_hand() -> None:
    """Seven items by hand: class 0 twice right of three, class 1 once right, class 2 never predicted."""
    made = table([0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 0, -1, -1], 3)
    assert made.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 1]]
    assert made.accuracy == pytest.approx(3 / 7)
    assert made.precision[:2].tolist() == pytest.approx([2 / 3, 1 / 2]) and math.isnan(made.precision[2])
    assert made.recall.tolist() == pytest.approx([2 / 3, 1 / 3, 0])


def test_asked_is_a_row() -> None:
    """`Row(*asked)` relies on the order of the fields."""
    assert Row(*Asked(3, 1)) == Row(prompt=3, cond=1)
