"""What all requests have in common: who is asked, what was refused before, and the form of the answer."""

from __future__ import annotations

import json
from typing import Any

from emo.data.language_words import FIRST, Language, composed
from emo.data.text_rules import BEGINNING_CHARACTERS
from emo.measure.chat_server import well_formed
from emo.pipeline.building.stage import Try

WRITER = (
    "You write short, plain texts for a study of language. Each rule that you are given is checked by a program, and a "
    "text that breaks one is refused. Return what is asked for and nothing else."
)
LONGEST = 20_000  # characters of an answer that are read
SHOWN = 6  # words of the first person
QUOTED = 900  # characters of a refused text that are shown again


def conversation(system: str, user: str) -> tuple[dict[str, str], ...]:
    """Return the messages of a request."""
    return ({"role": "system", "content": well_formed(system)}, {"role": "user", "content": well_formed(user)})


def in_first_person(language: Language) -> str:
    """Return how a request names the first person: by words of the language itself."""
    return "says I, my, we or our" if language.code == "en" else f"says {', '.join(language.persons[FIRST][:SHOWN])}"


def beginning(language: Language) -> str:
    """Return what the three events have in common at their beginning (`emo.data.text_rules`)."""
    return f"{BEGINNING_CHARACTERS} characters" if language.unspaced else "two words"


def unit(language: Language) -> str:
    """Return what a request says that lengths are counted in."""
    return "characters (punctuation aside)" if language.unspaced else language.unit


def in_language(language: Language) -> str:
    """Return what says the language of a text; nothing for English."""
    return "" if language.code == "en" else f" in {language.name}"


def rejected(before: Try | None) -> str:
    """Return what is said of the last answer, which was refused; nothing at the first try."""
    if before is None:
        return ""
    why = "; ".join(broken.how for broken in before.broken)
    if before.value is None:
        return f" (The last answer was refused: {why}. Write it anew.)"
    value = before.value if isinstance(before.value, str) else json.dumps(before.value, ensure_ascii=False)
    return f" (The last answer was refused: {value[:QUOTED]!s} Why: {why}. Mend that, or write it anew.)"


def object_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a JSON object of which all keys are needed."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def written(value: Any) -> str | None:
    """Return a text that an answer holds; None where it is none, or empty."""
    return composed(value).strip() or None if isinstance(value, str) else None


def readable(answer: str) -> str:
    """Return the part of an answer that is read: behind a draft of thoughts, and not without end."""
    return answer.rpartition("</think>")[2][:LONGEST]
