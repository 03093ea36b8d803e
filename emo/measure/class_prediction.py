"""The prediction task (methods 2): which class is this text of, zero-shot, by choice or by answer.

A choice is the log-probability of every class's name after the question; there are no parsing failures, and the
question lists no names: a small model says the first of a list. An answer that is read needs the list. The text comes
before the question, so that no state of its tokens knows what will be asked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emo.core.console import progress
from emo.data.labelled import Item
from emo.model.generate import generate
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.on_device import on_device
from emo.model.passes import Row, TreeBatch, ignore, in_passes, once
from emo.model.prefix_tree import SHARED, Block, Places, TokenTrees
from emo.model.prefixes import Token, common_prefix
from emo.model.prompt_cache import last_tokens
from emo.model.prompts import reply_ids, tokenize
from emo.model.vocabulary import positions

ASKED = {"emotion": "Which emotion does this text express", "rhetoric": "What is the tone of this text"}
ANSWER_TOKENS = 8  # of an answer that is parsed
PROBES = ("A probe?", "zero", "7 + 7", '"Quoted."', "Étude, 8 bars")  # texts with nothing in common


class Asked(NamedTuple):
    """One question to put to the model: which prompt, under which condition (-1: unedited)."""

    prompt: int
    cond: int


class Prediction(NamedTuple):
    """How good predictions are; shares, nan where there is nothing to divide by."""

    accuracy: float
    confusion: Tensor  # (C, C + 1) items by true and predicted class; last column: unparsed
    precision: Tensor  # (C,) share of the items predicted as a class that are of it
    recall: Tensor  # (C,) share of a class's items that are predicted as it


def question_ids(
    lm: LM, items: Sequence[Item], classes: Sequence[str], task: str, listed: bool = False
) -> list[list[int]]:
    """Return the token ids of the question about every text, up to the assistant header's last token.

    Args:
        lm: the model.
        items: the texts.
        classes: names to choose from, in the order in which they are listed.
        task: emotion | rhetoric.
        listed: whether the question lists the names.
    """
    return [_question(lm, item.text, classes, task, listed) for item in items]


def _question(lm: LM, text: str, classes: Sequence[str], task: str, listed: bool) -> list[int]:
    names = f": {', '.join(classes[:-1])} or {classes[-1]}" if listed else ""
    asked = f"Text:\n{text}\n\n{ASKED[task]}{names}? Answer with one word."
    return tokenize(lm, [{"role": "user", "content": asked}])


def content_span(lm: LM, classes: Sequence[str], task: str, listed: bool = False) -> tuple[int, int]:
    """Return the number of tokens before a text and behind it, (a, b): its own are ``ids[a : len(ids) - b]``.

    A tokenizer that joins a text's last mark with the line break behind it counts that token as behind.
    """
    probes = [_question(lm, text, classes, task, listed) for text in PROBES]
    before = min(common_prefix(probes[0], ids) for ids in probes[1:])
    behind = min(common_prefix(probes[0][::-1], ids[::-1]) for ids in probes[1:])
    return before, behind


def choice_ids(lm: LM, classes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the token ids of every class's name as an answer."""
    return [tuple(reply_ids(lm, name)) for name in classes]


def choice_scores(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Asked],
    edits: Sequence[Edit],
    choices: Sequence[Sequence[int]],
    batch_size: int,
    label: str = "prediction",
    done: Callable[[int, Tensor], None] = ignore,
) -> Tensor:
    """Return the log-probability of every choice after every row's prompt, (rows, C) float32, in nats.

    The prompt is the prefix of a tree and the choices are its branches, all under the row's condition: it is read once
    per row, and once for equal rows. A pass that does not fit into memory is halved.

    Args:
        lm: the model.
        prompts: token ids.
        rows: prompt and condition of each row.
        edits: the edits behind the conditions; ``tokens: all`` edits the prompt too.
        choices: token ids of each choice, at least one each.
        batch_size: prompts in one forward pass.
        label: name of the progress bar.
        done: called with every row and its scores (C,), once they are there.
    """
    unique, which = once([Row(*row) for row in rows])
    asking = _asking(which)
    out = torch.zeros(len(unique), len(choices))
    order = sorted(range(len(unique)), key=lambda i: -len(prompts[unique[i].prompt]))  # little is padded
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    todo = [TreeBatch([unique[i].prompt for i in part], [[i] for i in part]) for part in parts]
    with edited(lm, edits) as cursor, progress(label, len(unique), "rows") as bar:

        def run(tree_batch: TreeBatch) -> Tensor:
            pieces = [
                _tree(prompts[p], unique[i].cond, choices)
                for p, [i] in zip(tree_batch.prompts, tree_batch.rows, strict=True)
            ]
            block = Block.pad([[token for piece in tree for token in piece] for tree in pieces], lm.device)
            return _scores(lm, TokenTrees(lm, cursor).extend(block), last_tokens(block, pieces), choices)

        for tree_batch, scores in in_passes(todo, run):
            out[[i for [i] in tree_batch.rows]] = scores
            bar.advance(len(tree_batch.rows))
            for k, own in ((k, own) for [i], own in zip(tree_batch.rows, scores, strict=True) for k in asking[i]):
                done(k, own)
    return out[torch.tensor(which, dtype=torch.long)]


def _asking(which: Sequence[int]) -> dict[int, list[int]]:
    """Return, for every different row, the places of those that are equal to it (`once`)."""
    asking = defaultdict(list)
    for k, i in enumerate(which):
        asking[i].append(k)
    return asking


def _tree(prompt: Sequence[int], cond: int, choices: Sequence[Sequence[int]]) -> list[list[Token]]:
    """Return the prompt and each choice without its last token, which nothing follows."""
    n = len(prompt)
    prefix = [(token, i, SHARED, cond, i + 1 - n) for i, token in enumerate(prompt)]
    return [
        prefix,
        *(
            [(token, n + j, SHARED + 1 + k, cond, j + 1) for j, token in enumerate(choice[:-1])]
            for k, choice in enumerate(choices)
        ),
    ]


def _scores(lm: LM, hidden: Tensor, ends: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]) -> Tensor:
    """Return (b, C) log-probabilities from states (b, t, d) and the columns where the pieces of `_tree` end."""
    columns = [_before(own, choices) for own in ends]
    states = Places.of(columns, lm.device).take(hidden).unflatten(0, (len(columns), -1))
    places = []  # of all choices' tokens: which state stands before each
    first = 1  # place 0 is the prompt's last token, which every choice follows
    for choice in choices:
        places += [0, *range(first, first + len(choice) - 1)]
        first += len(choice) - 1
    place, token = on_device([places, [t for choice in choices for t in choice]], lm.head_device)
    found = []
    for part in states.split(max(1, positions(lm) // states.shape[1])):
        logits = lm.logits(part)  # (b, 1 + tokens behind the first ones, V)
        found.append(logits[:, place, token] - logits.logsumexp(-1)[:, place])
    own = torch.cat(found).split(list(map(len, choices)), -1)
    return torch.stack([x.sum(-1) for x in own], -1).cpu()


def _before(columns: Sequence[int], choices: Sequence[Sequence[int]]) -> list[int]:
    """Return the columns that come before the choices' tokens: the prompt's last, then each choice's own."""
    own = [range(end + 2 - len(choice), end + 1) for end, choice in zip(columns[1:], choices, strict=True)]
    return [columns[0], *(column for part in own for column in part)]


def parsed_answers(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Asked],
    edits: Sequence[Edit],
    classes: Sequence[str],
    batch_size: int,
    done: Callable[[int, int], None] = ignore,
) -> list[int]:
    """Return the class whose name comes first in each row's greedy answer; -1 where none does.

    ``done`` is called with every row and its class, once that is there.
    """
    unique, which = once([Row(*row) for row in rows])
    asking = _asking(which)

    def read(ids: Sequence[int]) -> int:
        return first_name(lm.tokenizer.decode(ids, skip_special_tokens=True), classes)

    def finished(i: int, ids: list[int]) -> None:
        said = read(ids)
        for k in asking[i]:
            done(k, said)

    told = ignore if done is ignore else finished
    written = generate(lm, prompts, unique, edits, ANSWER_TOKENS, batch_size, "answers", done=told)
    found = [read(ids) for ids in written]
    return [found[i] for i in which]


def first_name(answer: str, classes: Sequence[str]) -> int:
    """Return the index of the class that is named first, as a whole word in any case; -1: none is."""
    longest = sorted(classes, key=len, reverse=True)  # where one name begins another
    named = re.search(rf"\b({'|'.join(map(re.escape, longest))})\b", answer, re.IGNORECASE)
    return -1 if named is None else [name.lower() for name in classes].index(named[1].lower())


def table(labels: Sequence[int], predicted: Sequence[int], classes: int) -> Prediction:
    """Return how well predictions (-1: unparsed) meet labels, for so many classes."""
    confusion = torch.zeros(classes, classes + 1, dtype=torch.long)
    for true, said in zip(labels, predicted, strict=True):
        confusion[true, said] += 1  # -1 is the last column
    right = confusion.diagonal().double()
    return Prediction(
        float(right.sum() / confusion.sum()),
        confusion,
        right / confusion[:, :classes].sum(0),
        right / confusion.sum(1),
    )
