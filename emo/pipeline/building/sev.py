"""Scenarios, and the three events of each (methods 1.1, 1.13); the requests are in our own words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from emo.data.language_words import Language
from emo.data.text_rules import VALENCES, Broken, event_rules, scenario_rules
from emo.measure.chat_server import ChatRequest
from emo.measure.json_answers import objects
from emo.pipeline.building.known import MOST_SHARED, cosine, shared
from emo.pipeline.building.requests import (
    WRITER,
    beginning,
    conversation,
    in_first_person,
    in_language,
    object_of,
    readable,
    rejected,
    unit,
    written,
)
from emo.pipeline.building.stage import Ask, Slot

LISTED = re.compile(r"^\s*\(?\d+[.):]\s*(.+)$")
MIDDLE = 0.5  # of the allowed lengths: what the request aims at


class Scenarios:
    """One first-person sentence each, several of a theme in one request."""

    name, unit = "scenarios", "scenarios"
    answer_tokens = 60

    def __init__(self, language: Language, at_once: int) -> None:
        self.language, self.at_once = language, at_once

    def group(self, slot: Slot) -> str:
        """Return its theme."""
        return str(slot.about["theme"])

    def request(self, asks: Sequence[Ask]) -> ChatRequest:
        """Return the request for some scenarios of one theme."""
        low, high = self.language.scenario
        middle = round(low + MIDDLE * (high - low))
        subjects = "\n".join(
            f"{n}. {ask.slot.about['matter']}{rejected(ask.before)}" for n, ask in enumerate(asks, start=1)
        )
        text = (
            f"Field of life: {asks[0].slot.about['theme']}.\n"
            f"Write one everyday situation{in_language(self.language)} for each of the numbered subjects below.\n\n"
            "Every situation\n"
            f"- is exactly one sentence of {low} to {high} {unit(self.language)}; aim at {middle};\n"
            f"- is told by the person it happens to, who {in_first_person(self.language)};\n"
            "- says what that person did, has planned or was doing, plainly, and leaves open how it turns out;\n"
            "- has no word for a feeling or a mood, and does not say that anything is good or bad;\n"
            "- has details of its own, so that no two sound alike.\n\n"
            f"Subjects:\n{subjects}\n\n"
            'Return only a JSON object, with the sentences in the order of the subjects: {"scenarios": ["...", ...]}'
        )
        schema = object_of({"scenarios": {"type": "array", "items": {"type": "string"}}})
        return ChatRequest(conversation(WRITER, text), "scenarios", schema)

    def read(self, answer: str, n: int) -> list[Any]:
        """Return n sentences: of a JSON list, or of a numbered one; of a single one the first line will do."""
        answer = readable(answer)
        texts: list[Any] = []
        for found in objects(answer):
            if isinstance(found.get("scenarios"), list):
                texts = [written(text) for text in found["scenarios"]]
                break
        else:
            lines = [line.strip() for line in answer.splitlines() if line.strip()]
            texts = [written(match[1]) for line in lines if (match := LISTED.match(line))]
            if n == 1 and not texts and "{" not in answer:
                texts = [written(line) for line in lines[:1]]
        return [*texts[:n], *[None] * (n - len(texts))]

    def broken(self, slot: Slot, value: str) -> list[Broken]:  # noqa: ARG002 - every stage is told the slot
        """Return the rules that a scenario breaks."""
        return scenario_rules(value, self.language)

    def texts(self, value: str) -> list[str]:
        """Return the sentence."""
        return [value]


class Events:
    """The positive, neutral and negative outcome of one scenario."""

    name, unit = "events", "scenarios"
    answer_tokens = 200
    at_once = 1

    def __init__(self, language: Language, max_cosine: float, *, english: bool) -> None:
        self.language, self.max_cosine, self.english = language, max_cosine, english

    def group(self, slot: Slot) -> str:
        """Return the scenario: each has a request of its own."""
        return slot.id

    def request(self, asks: Sequence[Ask]) -> ChatRequest:
        """Return the request for the events of one scenario."""
        [ask] = asks
        text = (
            f'A situation, from the field of {ask.slot.about["theme"]}: "{ask.slot.about["scenario"]}"\n\n'
            f"Write three sentences{in_language(self.language)}, each of which tells another way in which it went on:\n"
            "- positive: something is clearly gained, or all goes smoothly;\n"
            "- neutral: a plain fact, with no gain and no loss to speak of;\n"
            "- negative: something fails, is lost, comes late, or is not what was expected.\n\n"
            "All three\n"
            "- are exactly one sentence each, follow from the situation and do not tell it again;\n"
            "- are as alike as they can be: the same people, time and order of words, beginning with the same "
            f"{beginning(self.language)}, so that only the outcome differs;\n"
            f"- are nearly equally long: count the {unit(self.language)}; the longest has at most a fifth more than "
            "the shortest;\n"
            "- have no word for a feeling or a mood.\n\n"
            f"{rejected(ask.before).strip()}\n"
            'Return only a JSON object: {"positive": "...", "neutral": "...", "negative": "..."}'
        )
        return ChatRequest(conversation(WRITER, text), "events", object_of({v: {"type": "string"} for v in VALENCES}))

    def read(self, answer: str, n: int) -> list[Any]:
        """Return the three sentences by their outcome."""
        for found in objects(readable(answer)):
            own: dict[str, Any] = found["event"] if isinstance(found.get("event"), dict) else found
            texts = {v: written(own.get(v)) for v in VALENCES}
            if all(texts.values()):
                return [texts]
        return [None] * n

    def broken(self, slot: Slot, value: dict[str, str]) -> list[Broken]:
        """Return the rules that the events break, and whether one tells the scenario again."""
        broken = event_rules(value, self.language)
        like, most = (cosine, self.max_cosine) if self.english else (shared, MOST_SHARED)
        for valence in VALENCES if not broken else ():
            if like(value[valence], slot.about["scenario"]) > most:
                return [Broken("restates", f"{valence}: it tells the situation again instead of what came of it")]
        return broken

    def texts(self, value: dict[str, str]) -> list[str]:
        """Return the three sentences."""
        return [value[v] for v in VALENCES]


def scenario_slots(themes: Sequence[tuple[str, str, Sequence[str]]], count: int) -> list[Slot]:
    """Return ``count`` scenarios of each theme: (name, short name, subjects)."""
    slots = []
    for theme, short, matters in themes:
        for n in range(count):
            matter = matters[n % len(matters)] if matters else f"any subject of {theme}"
            again = "" if matters and n < len(matters) else f" (sentence {n + 1} on this field: unlike the others)"
            slots.append(Slot(f"{short}_{n:02d}", {"theme": theme, "matter": matter + again}))
    return slots


def event_slots(scenarios: Sequence[Slot], written: dict[str, str]) -> list[Slot]:
    """Return the events of every scenario that was written."""
    return [
        Slot(slot.id, {"theme": slot.about["theme"], "scenario": written[slot.id]})
        for slot in scenarios
        if slot.id in written
    ]


def shown(value: Any) -> str:
    """Return what was written in one line, to be read."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
