"""What a judge is asked about a reply, and how its answer is read (methods 1.12, 1.13).

``match``: does the STYLE of the text match a given target emotion? System and user text are those of *Emotion
circuits* (Wang et al. 2025, arXiv 2510.11328), as printed; label 1 or 0.
``blind``: which ONE of the emotions, or neutral, does the style express? Our own words, and never told the target,
because "does it match X?" inflates; label = one of the names.
``joint``: does the reply express the target, is it coherent, does it answer what was said? Three marks from 0 to 2, our
own words; label = their harmonic mean, so one 0 makes it 0 (the joint score of AxBench, Wu et al. 2025, arXiv
2501.17148, with the emotion as concept).

Servers differ in what they make of a request for JSON, so reading is tolerant of the wrapping (code fences, text
around, single quotes, True, "1", angry for anger) and strict about the content: two objects that disagree, or a
word outside the list, are no answer. Nothing is guessed.
"""

from __future__ import annotations

import hashlib
import json
import string
from typing import Any, NamedTuple

from emo.core.errors import UserError, check_choice
from emo.core.types import NEUTRAL
from emo.measure.chat_server import well_formed
from emo.measure.json_answers import objects

VERSION = 1  # of the texts below: part of the name of the answers' file
KINDS = ("match", "blind", "joint")
MARKS = ("expresses", "coherent", "on_topic")  # of joint, each 0, 1 or 2
LONGEST = 20_000  # characters of an answer that are read; what rambles on is no answer
REPEATED = 1_000  # characters of an unreadable answer that the judge is shown again
PUNCTUATION = string.punctuation + string.whitespace + "“”‘’…"
# Forms that mean one class; whichever name of a row is among the asked-for emotions is the class.
WORD_FORMS = (
    ("anger", "angry"),
    ("sadness", "sad"),
    ("fear", "afraid", "scared", "fearful"),
    ("happiness", "happy", "joy", "joyful"),
    ("surprise", "surprised"),
    ("disgust", "disgusted"),
)


class Question(NamedTuple):
    """One question about one text; equal questions are asked once."""

    kind: str  # match | blind | joint
    emotion: str | None  # the target of match and joint; a blind judge never sees it
    text: str  # the reply
    emotions: tuple[str, ...]  # the classes; blind adds neutral
    descriptions: tuple[tuple[str, str], ...] = ()  # (class, a sentence on it), for blind only
    prompt: str = ""  # what the text replies to, for joint only


class Reading(NamedTuple):
    """A readable answer."""

    label: str | int | float  # match: 0 or 1; blind: one of the names; joint: 0.0 to 2.0
    reason: str  # empty for blind; of joint the marks


def check(question: Question) -> None:
    """Raise `UserError` for another kind, or a target that is not among the emotions."""
    check_choice("judge question", question.kind, KINDS)
    if question.kind != "blind":
        check_choice("judge target", question.emotion, question.emotions)
    if not question.emotions:
        raise UserError("judge: no emotions to choose from; give emotions.names")


def names(question: Question) -> tuple[str, ...]:
    """Return the classes of a blind question: the emotions, then neutral."""
    return (*(e for e in question.emotions if e != NEUTRAL), NEUTRAL)


def messages(question: Question) -> list[dict[str, str]]:
    """Return the chat messages of a question."""
    system, user = {"match": _match, "blind": _blind, "joint": _joint}[question.kind](question)
    return [{"role": "system", "content": well_formed(system)}, {"role": "user", "content": well_formed(user)}]


def repair(question: Question, malformed: str) -> list[dict[str, str]]:
    """Return the chat messages that ask once more for an answer that could not be read."""
    form = '{"match": <0 or 1>, "reason": <short string>}' if question.kind == "match" else '{"emotion": <label>}'
    wanted = f"That cannot be read as an answer. Return only a compact JSON object of this form, nothing else: {form}"
    return [
        *messages(question),
        {"role": "assistant", "content": well_formed(malformed)[:REPEATED]},
        {"role": "user", "content": wanted},
    ]


def _match(question: Question) -> tuple[str, str]:
    return (
        "You are a careful rater. Given a target emotion and a text, decide if the text's STYLE matches the target "
        f"emotion among: {', '.join(question.emotions)}. Focus on tone/attitude, not content valence.",
        f"Target emotion: {question.emotion}\n"
        f"Text: {question.text}\n"
        "Decide if the text's STYLE matches the target emotion. Return a compact JSON with keys exactly: "
        '{"match": <0 or 1>, "reason": <short string>}',
    )


def _blind(question: Question) -> tuple[str, str]:
    told = "".join(f" {name.capitalize()}: {text.strip()}" for name, text in question.descriptions)
    return (
        "You label the style of short texts. Go by how a text is written (tone, attitude, choice of words), not by "
        "whether what happens in it is good or bad. Choose exactly ONE label from this list: "
        f"{', '.join(names(question))}. Choose {NEUTRAL} where the style expresses no emotion."
        f"{told}",
        f"Text: {question.text}\n"
        "Which one label fits the STYLE of the text? Return a compact JSON with one key exactly: "
        '{"emotion": <label>}',
    )


def _joint(question: Question) -> tuple[str, str]:
    return (
        "You mark replies. Give three marks, each 0, 1 or 2. expresses: the STYLE of the reply (tone, attitude, choice "
        f"of words) expresses {question.emotion}: 0 not at all, 1 somewhat, 2 clearly. coherent: the reply is fluent "
        "and whole: 0 broken or repeating itself, 1 with flaws, 2 without. on_topic: the reply answers the message: 0 "
        "no, 1 partly, 2 yes. Mark each by itself, whatever the others are.",
        f"Message: {question.prompt}\nReply: {question.text}\n"
        "Return a compact JSON with keys exactly: "
        '{"expresses": <0, 1 or 2>, "coherent": <0, 1 or 2>, "on_topic": <0, 1 or 2>}',
    )


def schema(question: Question) -> dict[str, Any]:
    """Return the JSON schema of the answer, for servers that enforce one."""
    kinds: dict[str, dict[str, Any]] = {
        "match": {"match": {"type": "integer", "enum": [0, 1]}, "reason": {"type": "string"}},
        "blind": {"emotion": {"type": "string", "enum": list(names(question))}},
        "joint": {mark: {"type": "integer", "enum": [0, 1, 2]} for mark in MARKS},
    }
    properties = kinds[question.kind]
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def digest(question: Question) -> str:
    """Return the sha256 of all that the answer depends on: kind, classes and the messages word for word."""
    text = json.dumps([question.kind, question.emotions, messages(question)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(question: Question, content: str) -> Reading | None:
    """Return the label that an answer gives; None where it gives none, an unknown one, or two different ones."""
    content = content.rpartition("</think>")[2][-LONGEST:]  # a reasoning model's draft is not its answer
    if question.kind == "blind" and "{" not in content:
        word = _emotion(question, content)
        return None if word is None else Reading(word, "")
    if question.kind == "joint":
        return _marked(content)
    key, label = ("match", _bit) if question.kind == "match" else ("emotion", lambda v: _emotion(question, v))
    found = [d for d in objects(content) if key in d]
    labels = {label(d[key]) for d in found}
    only = labels.pop() if len(labels) == 1 else None
    if only is None:
        return None
    reason = found[0].get("reason", "")
    return Reading(only, reason if isinstance(reason, str) else json.dumps(reason, default=str))


def _marked(content: str) -> Reading | None:
    """Return the harmonic mean of three marks; None where one is missing or no mark, or two objects disagree."""
    found = {tuple(map(_mark, map(d.get, MARKS))) for d in objects(content) if d.keys() & set(MARKS)}
    marks = found.pop() if len(found) == 1 else (None,)
    if None in marks:
        return None
    whole = [float(x) for x in marks if x is not None]
    mean = 0.0 if 0 in whole else len(whole) / sum(1 / x for x in whole)
    return Reading(mean, ", ".join(f"{name} {x:g}" for name, x in zip(MARKS, whole, strict=True)))


def _mark(value: object) -> int | None:
    if isinstance(value, str):
        value = {"0": 0, "1": 1, "2": 2}.get(value.strip(PUNCTUATION))
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1, 2) else None


def _bit(value: object) -> int | None:
    if isinstance(value, str):
        value = {"0": 0, "1": 1, "false": 0, "true": 1}.get(value.strip(PUNCTUATION).lower())
    return int(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _emotion(question: Question, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip(PUNCTUATION).lower()
    allowed = {name.lower(): name for name in names(question)}
    if word in allowed:
        return allowed[word]
    classes = [allowed[form] for row in WORD_FORMS if word in row for form in row if form in allowed]
    return classes[0] if len(classes) == 1 else None
