"""Does every text fit into the model, with all that is written or read behind it? Asked before anything runs.

Tokenizer and configuration are enough: no weight is read. A model with rotary positions would go on silently beyond
its context, with numbers of no meaning; one with learned positions stops in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from emo.config.kinds import induces
from emo.config.read_keys import at_divergence
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.data.labelled import Item
from emo.data.scenarios import Sample
from emo.measure.class_prediction import ANSWER_TOKENS, choice_ids, question_ids
from emo.measure.equal_divergence import TOKENS
from emo.measure.margin import replies_for, without_replies
from emo.model.lm import ModelSpec
from emo.model.load import read_vocabulary
from emo.model.prompts import example_set, messages, prompt_ids, user_ids
from emo.pipeline.finding import Finder
from emo.pipeline.labelled import REPLY, ClassJob
from emo.pipeline.scenario import Job

# A text whose UTF-8 bytes leave this many tokens of the context free is not tokenized: no tokenizer makes more than a
# token per byte, and no chat template adds so many to a conversation of so few turns.
TEMPLATE = 512
# What the texts, their form and what is behind them depend on, beside the kind of intervention.
DECIDING = (
    *("model", "dataset", "emotions", "elicitation", "generation", "directions", "control", "evaluator", "selector"),
    "seed",
)
GENERATE = "generation.max_new_tokens"


class Reader(NamedTuple):
    """What tokenizing needs of a model."""

    tokenizer: Any
    spec: ModelSpec


class Asked(NamedTuple):
    """Texts that are put to the model in one form."""

    names: Sequence[str]  # of the texts: id, or file:line
    size: Sequence[int]  # bytes of their messages
    ids: Callable[[Any, Sequence[int]], list[list[int]]]  # reader, places of texts -> token ids
    behind: Callable[[Any, Sequence[int]], list[int]]  # the same -> most tokens read behind each, not written ones
    bound: int  # bytes of those
    written: int  # tokens of a reply that the model writes


def check_length(job: Job | ClassJob) -> None:
    """Refuse a job with a text that does not fit into the model's context.

    Args:
        job: what is to run; its texts are tokenized only where one could be too long.

    Raises:
        UserError: naming the longest text, its tokens, what fits, and what to type.
    """
    context = job.spec.context
    if context is None:
        return
    reader: Reader | None = None
    found: dict[str, tuple[int, int, int]] = {}  # text -> tokens of the prompt, behind it, written
    seen: set[str] = set()
    for asked in _of_classes(job) if isinstance(job, ClassJob) else _of_replies(job):
        seen |= set(asked.names)
        most = max(asked.bound, asked.written)
        doubtful = [i for i, size in enumerate(asked.size) if size + TEMPLATE + most > context]
        if not doubtful:
            continue
        reader = reader or Reader(read_vocabulary(job.spec), job.spec)
        both = zip(asked.ids(reader, doubtful), asked.behind(reader, doubtful), strict=True)
        for i, (ids, behind) in zip(doubtful, both, strict=True):
            whole = (len(ids), behind, asked.written)
            if _total(whole) > context and _total(whole) > _total(found.get(asked.names[i], (0, 0, 0))):
                found[asked.names[i]] = whole
    if found:
        raise UserError(_line(job, context, found, len(seen)))


def length_key(config: Config) -> str:
    """Return what decides whether the texts of a job fit: jobs of one key need one check."""
    whole, given = asdict(config), config.intervention
    parts = {key: whole[key] for key in DECIDING}
    chosen = [value == "auto" for value in (given.alpha, given.layers, given.scale)]
    chosen += [True] if at_divergence(config) else []
    return json.dumps([parts, given.kind, chosen, given.select.prompts], default=str)


def _total(whole: tuple[int, int, int]) -> int:
    prompt, behind, written = whole
    return prompt + max(behind, written)


def _line(job: Job | ClassJob, context: int, found: dict[str, tuple[int, int, int]], texts: int) -> str:
    name = max(found, key=lambda key: _total(found[key]))
    prompt, behind, written = found[name]
    rest = f"a reply of up to {written}" if written >= behind else f"{behind} of what is read behind it"
    model = job.spec.title if job.spec.source == "hub" else f"model={job.spec.name}"
    # The largest number with which all of them fit, where the length of replies alone is too much.
    room = min(context - prompt for prompt, _, _ in found.values())
    shorter = room > 0 and all(p + behind <= context for p, behind, _ in found.values())
    fix = f"{GENERATE}={room}, " if shorter else ""
    return (
        f"dataset={job.config.dataset.name}: text {name} has {prompt} tokens as a prompt, with {rest} "
        f"{_total(found[name])}, and {model} reads {context} at most ({len(found)} of {texts} texts are too long); "
        f"type {fix}shorter texts or a model with a longer context"
    )


def _of_replies(job: Job) -> Iterator[Asked]:
    """Yield the prompts of every split that a job reads, in every form, with what is behind them."""
    c = job.config
    limit, replied = c.generation.max_new_tokens, c.evaluator.name != "projection"
    generated = c.directions.tokens == "reply_mean" or c.elicitation.accept == "judged"
    tuned = job.tuned or job.scale_tuned
    margins = not without_replies(job.names)
    parts: list[tuple[list[Sample], int, str | None]] = [
        (job.splits.extract, limit if generated else 0, None),
        (job.dev_samples if tuned else [], limit, "sev" if margins else None),
        (job.dev_samples if at_divergence(c) else [], TOKENS, None),
        (job.splits.test, limit if replied else 0, "sev_test" if replied and margins else None),
    ]
    for samples, written, held_out in parts:
        for form in (None, *job.names) if samples else ():
            yield _prompts(job, samples, form, written, held_out)


def _prompts(job: Job, samples: list[Sample], form: str | None, written: int, held_out: str | None) -> Asked:
    how = job.config.elicitation

    def behind(reader: Any, places: Sequence[int]) -> list[int]:
        if held_out is None:
            return [0] * len(places)
        replies = replies_for(reader, samples, held_out, job.names)
        return [max(map(len, replies[i].values())) for i in places]

    def ids(reader: Any, places: Sequence[int]) -> list[list[int]]:
        return prompt_ids(reader, how, [samples[i] for i in places], form)

    return Asked(
        [sample.id for sample in samples],
        [_bytes(turn["content"] for turn in messages(how, sample, form, example_set(sample))) for sample in samples],
        ids,
        behind,
        TEMPLATE if held_out else 0,  # they are of two sentences at most
        written,
    )


def _of_classes(job: ClassJob) -> Iterator[Asked]:
    """Yield the questions about every text, with the names behind them, and what replies are written to."""
    for finder in (job.finder, job.beside):
        if finder is not None:
            others = [*job.splits.dev, *job.splits.test] if finder is job.finder else []
            yield _questions(job, finder, [*finder.splits.train, *others])
    if induces(job.config):
        items, limit = job.splits.test, job.config.generation.max_new_tokens

        def ids(reader: Any, places: Sequence[int]) -> list[list[int]]:
            return user_ids(reader, [f"{REPLY}\n\n{items[i].text}" for i in places])

        sizes = [_bytes([REPLY, item.text]) for item in items]
        yield Asked([item.id for item in items], sizes, ids, lambda _, places: [0] * len(places), 0, limit)


def _questions(job: ClassJob, finder: Finder, items: list[Item]) -> Asked:
    splits, parsed = finder.splits, job.config.evaluator.answer == "parsed"

    def behind(reader: Any, places: Sequence[int]) -> list[int]:
        return [0 if parsed else max(map(len, choice_ids(reader, splits.classes)))] * len(places)

    def ids(reader: Any, places: Sequence[int]) -> list[list[int]]:
        return question_ids(reader, [items[i] for i in places], splits.classes, splits.task, finder.listed)

    names = _bytes(splits.classes)
    return Asked(
        [item.id for item in items],
        [_bytes([item.text]) + names for item in items],
        ids,
        behind,
        names,
        ANSWER_TOKENS if parsed else 0,
    )


def _bytes(texts: Any) -> int:
    return sum(len(text.encode()) + 2 for text in texts)
