"""Asking for an emotion: the conversations, and their prompts as token ids (methods 1.2).

Every template has a neutral form (``emotion=None``): the same conversation without the emotion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from emo.config.schema import ElicitationConfig
from emo.core.errors import UserError
from emo.core.types import NEUTRAL
from emo.data.scenarios import Sample
from emo.data.texts import read_jsonl
from emo.model.chat import Message, chat_ids, has_template, text_ids
from emo.model.lm import LM
from emo.model.turns import GAP, NAMES

BREVITY = "Keep the reply to at most two sentences."
PERSONA = "You are a person filled with {emotion}, and every sentence you write is full of that {emotion}."
PERSONA_NEUTRAL = "You are a person on an ordinary day, and every sentence you write is plain and even."


def messages(config: ElicitationConfig, sample: Sample, emotion: str | None, index: int) -> list[Message]:
    """Return the conversation that asks for ``emotion`` (None: the neutral form) in reply to ``sample``.

    Priming asks for nothing: a passage that evokes the emotion without naming it stands before the scenario.

    Args:
        config: template and separator.
        sample: scenario and event.
        emotion: name of the emotion, or None.
        index: number of the few-shot example set, or of the priming passage (modulo their number).
    """
    gap = "\n" if config.separator == "newline" else " "
    word = None if emotion is None else (config.words or {}).get(emotion, emotion)
    if config.template == "persona":
        style = PERSONA_NEUTRAL if word is None else PERSONA.format(emotion=word)
    else:
        style = "" if word is None or config.template == "priming" else f"Always reply in {word}."
    system = f"{style}{gap}{BREVITY}" if style else BREVITY
    turns: list[Message] = [{"role": "system", "content": system}]
    if config.template == "few_shot":
        sets = read_jsonl("few_shot.jsonl")
        for exchange in sets[index % len(sets)]["exchanges"]:
            turns.append({"role": "user", "content": f"{exchange['scenario']}{gap}{exchange['event']}"})
            turns.append({"role": "assistant", "content": exchange["replies"][emotion or NEUTRAL]})
    asked = f"{sample.scenario}{gap}{sample.event}" if sample.event else sample.scenario
    if config.template == "priming":
        sets = read_jsonl("priming.jsonl")
        asked = f"{sets[index % len(sets)]['passages'][emotion or NEUTRAL]}{gap}{asked}"
    turns.append({"role": "user", "content": asked})
    return turns


def example_set(sample: Sample) -> int:
    """Return the example set or passage of a sample: by a hash of its id, so that no outcome or split decides it."""
    return int.from_bytes(hashlib.sha256(sample.id.encode()).digest()[:4])


def prompt_ids(lm: LM, config: ElicitationConfig, samples: Sequence[Sample], emotion: str | None) -> list[list[int]]:
    """Return the token ids of every sample's prompt, up to the assistant header's last token."""
    return [tokenize(lm, messages(config, s, emotion, example_set(s))) for s in samples]


def user_ids(lm: LM, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of plain user messages without a system line, each a conversation of its own."""
    return [tokenize(lm, [{"role": "user", "content": text}]) for text in texts]


def tokenize(lm: LM, turns: list[Message]) -> list[int]:
    """Render a conversation that awaits the assistant; special tokens come from the template alone (no double BOS)."""
    return chat_ids(lm, turns) if has_template(lm) else text_ids(lm, plain_text(turns), specials=True)


def reply_ids(lm: LM, text: str) -> list[int]:
    """Return the token ids of a reply that follows a prompt (on a plain template it starts after a space)."""
    return text_ids(lm, text if has_template(lm) else f" {text}")


def plain_text(turns: list[Message]) -> str:
    """Render a conversation for a model without a chat template (base models, gpt2)."""
    return GAP.join(NAMES[t["role"]] + t["content"] for t in turns) + GAP + NAMES["assistant"].rstrip()


def check_prompts(lm: LM, config: ElicitationConfig, sample: Sample, names: Sequence[str]) -> None:
    """Refuse a template of which the prompts are alike: what is measured between them would be zero.

    Raises:
        UserError: the model's template leaves out the system turn, or two emotions have one prompt.
    """
    who = f"{lm.spec.title}: elicitation={config.template}: the model's chat template"
    fix = "type another elicitation, model.chat=plain or another model"
    turns = messages(config, sample, None, example_set(sample))
    other = [{**turns[0], "content": f"{turns[0]['content']} {PERSONA_NEUTRAL}"}, *turns[1:]]
    if tokenize(lm, turns) == tokenize(lm, other):
        raise UserError(f"{who} leaves out the system turn, which holds the instruction; {fix}")
    seen: dict[tuple[int, ...], str] = {}
    for emotion in (None, *names):
        [ids] = prompt_ids(lm, config, [sample], emotion)
        before = seen.setdefault(tuple(ids), emotion or NEUTRAL)
        if before != (emotion or NEUTRAL):
            raise UserError(f"{who} writes the same prompt for {before} and {emotion}; {fix}")
