"""Dialogues of two speakers (methods 2) and stories (methods 5), each of one emotion that it never names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from emo.data.language_words import Language
from emo.data.text_rules import Broken, length_bounds, length_rule, plain_rule
from emo.measure.chat_server import ChatRequest
from emo.measure.json_answers import objects
from emo.pipeline.building.requests import (
    WRITER,
    conversation,
    in_language,
    object_of,
    readable,
    rejected,
    unit,
    written,
)
from emo.pipeline.building.stage import Ask, Slot

TURN = re.compile(r"^([AB])\s*[:：]\s*(\S.*)$")
SPEAKERS = ["A", "B", "A", "B"]
EXCLAMATIONS = 1  # of a dialogue, at most


class Texts:
    """One text of an emotion and a topic, asked for alone; `Dialogues` and `Stories` say of what kind."""

    name = unit = key = ""
    answer_tokens = 300
    at_once = 1
    length = (0, 0)  # words
    form = ""  # what the request says of it

    def __init__(self, language: Language) -> None:
        self.language = language

    def group(self, slot: Slot) -> str:
        """Return the text: each has a request of its own."""
        return slot.id

    def request(self, asks: Sequence[Ask]) -> ChatRequest:
        """Return the request for one text."""
        [ask] = asks
        low, high = length_bounds(*self.length, self.language)
        text = (
            f"{self.form}{in_language(self.language)}.\nSubject: {ask.slot.about['topic']}.\n"
            f"Emotion: {ask.slot.about['called']}.\n\n"
            f"- It has {low} to {high} {unit(self.language)}.\n"
            "- The emotion shows in what happens and in what is said and done. It is never named: no word for this or "
            "any other feeling or mood.\n"
            f"{rejected(ask.before).strip()}\n"
            f'Return only a JSON object: {{"{self.key}": "..."}}'
        )
        return ChatRequest(conversation(WRITER, text), self.key, object_of({self.key: {"type": "string"}}))

    def read(self, answer: str, n: int) -> list[Any]:
        """Return the text; one that stands there without JSON will do."""
        answer = readable(answer).strip()
        for found in objects(answer):
            if (text := written(found.get(self.key))) is not None:
                return [text]
        return [written(answer) if "{" not in answer else None] * n

    def broken(self, slot: Slot, value: str) -> list[Broken]:
        """Return the rules that a text breaks."""
        return [
            *length_rule(value, *self.length, self.language),
            *plain_rule(value, self.language, [slot.about["emotion"], slot.about["called"]]),
        ]

    def texts(self, value: str) -> list[str]:
        """Return the text."""
        return [value]


class Dialogues(Texts):
    """Four turns of A and B, in which both show the emotion."""

    name = unit = "dialogues"
    key = "dialogue"
    length = (35, 60)
    form = (
        "Write a dialogue of two people who both feel the same, in four turns on four lines: A: ..., B: ..., A: ..., "
        "B: ... At most one exclamation mark. The dialogue is written"
    )

    def broken(self, slot: Slot, value: str) -> list[Broken]:
        """Return the rules that a dialogue breaks."""
        turns = [TURN.match(line.strip()) for line in value.splitlines() if line.strip()]
        broken = super().broken(slot, value)
        if [turn[1] if turn else "" for turn in turns] != SPEAKERS:
            broken.append(Broken("four turns", "it is not four lines that begin A:, B:, A:, B:"))
        if value.count("!") + value.count("！") > EXCLAMATIONS:
            broken.append(Broken("exclamation marks", "it has more than one exclamation mark"))
        return broken


class Stories(Texts):
    """One paragraph about somebody who has the emotion."""

    name = unit = "stories"
    key = "story"
    answer_tokens = 400
    length = (90, 140)
    form = "Write a story of one paragraph about somebody who feels an emotion. The story is written"

    def broken(self, slot: Slot, value: str) -> list[Broken]:
        """Return the rules that a story breaks."""
        more = [Broken("one paragraph", "it has more than one paragraph")] if "\n" in value else []
        return [*super().broken(slot, value), *more]


def text_slots(topics: Sequence[str], emotions: Sequence[str], words: Mapping[str, str], prefix: str) -> list[Slot]:
    """Return one text for every topic and emotion, which ``words`` may call by another name (of its language)."""
    return [
        Slot(f"{prefix}{t:03d}_{emotion}", {"topic": topic, "emotion": emotion, "called": words.get(emotion, emotion)})
        for t, topic in enumerate(topics)
        for emotion in emotions
    ]
