"""Rules of the training corpus of the offline emotion classifier: emo/data/texts/corpus/*.jsonl."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emo.config.check import REPOSITORY
from emo.measure.encoder import PACKAGE, embed

FILES = sorted((REPOSITORY / "emo" / "data" / "texts" / "corpus").glob("*.jsonl"))
FIELDS = {"id", "scenario_id", "theme", "valence", "prompt", "emotion", "text"}
EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust", "neutral")
VALENCES = ("positive", "neutral", "negative")
THEMES = {
    "Work/Job",
    "School/Academia",
    "Personal relationships",
    "Customer service/Shopping",
    "Public services/Administration",
    "Health/Medical",
    "Housing/Living facilities",
    "Travel/Transportation",
}
MIN_PER_CLASS = 150
SHORT = 12
LEAST_SHARE = 0.15
CHAT_LIKE = set("bcdefghijklm")  # keep to the full sentences of a chat model, so the shares of lengths leave them out
FEWEST_WORDS, MOST_WORDS = 5, 45
NEAREST = 0.9
TYPOGRAPHIC = "\u2018\u2019\u201c\u201d\u2010\u2011\u2012\u2013\u2014\u2026\u00a0"


@cache
def read(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


@cache
def records() -> tuple[dict[str, Any], ...]:
    return tuple(record for path in FILES for record in read(path))


def of(emotion: str) -> list[dict[str, Any]]:
    return [record for record in records() if record["emotion"] == emotion]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def test_records_have_the_fields_and_known_values() -> None:
    assert FILES
    for record in records():
        assert set(record) == FIELDS
        assert all(isinstance(value, str) and value.strip() == value != "" for value in record.values()), record
        assert record["emotion"] in EMOTIONS
        assert record["valence"] in VALENCES
        assert record["theme"] in THEMES
        assert record["id"] == f"{record['scenario_id']}_{record['emotion']}"
    assert len({record["id"] for record in records()}) == len(records())


def test_each_prompt_has_one_reply_per_class() -> None:
    replies = defaultdict(list)
    about = defaultdict(set)
    for record in records():
        replies[record["scenario_id"]].append(record["emotion"])
        about[record["scenario_id"]].add((record["theme"], record["valence"], record["prompt"]))
    assert all(sorted(emotions) == sorted(EMOTIONS) for emotions in replies.values())
    assert all(len(values) == 1 for values in about.values())
    assert len({next(iter(values))[2] for values in about.values()}) == len(about)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_class_is_large_and_spread_over_valences_and_themes(emotion: str) -> None:
    part = of(emotion)
    assert len(part) >= MIN_PER_CLASS
    valences = Counter(record["valence"] for record in part)
    assert set(valences) == set(VALENCES)
    assert min(valences.values()) >= len(part) / 4
    assert {record["theme"] for record in part} == THEMES


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_two_replies_of_a_class_in_one_file_start_alike(path: Path, emotion: str) -> None:
    starts = Counter(tuple(words(record["text"])[:3]) for record in read(path) if record["emotion"] == emotion)
    assert [start for start, count in starts.items() if count > 1] == []


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_replies_are_short_and_their_lengths_vary(emotion: str) -> None:
    texts = [record["text"] for record in of(emotion)]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= FEWEST_WORDS
    assert max(lengths) <= MOST_WORDS
    sentences = [len(re.findall(r"[.!?]+(?=\s|$)", text)) for text in texts]
    assert max(sentences) <= 4
    mixed = [i for i, record in enumerate(of(emotion)) if record["id"][1] not in CHAT_LIKE]
    lengths, sentences = [lengths[i] for i in mixed], [sentences[i] for i in mixed]
    short = [length <= SHORT for length in lengths]
    pair = [not brief and count == 2 for brief, count in zip(short, sentences, strict=True)]
    medium = [not brief and not two for brief, two in zip(short, pair, strict=True)]
    for kind in (short, medium, pair):
        assert sum(kind) >= LEAST_SHARE * len(mixed)


def test_replies_are_plain() -> None:
    assert [r["id"] for r in records() if set(r["text"] + r["prompt"]) & set(TYPOGRAPHIC) or "  " in r["text"]] == []
    beyond = [r["id"] for r in records() if not r["text"].isascii()]
    assert len(beyond) <= 0.03 * len(records())


def test_neutral_replies_have_no_exclamation_mark() -> None:
    assert [record["id"] for record in of("neutral") if "!" in record["text"]] == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_no_two_replies_are_near_copies() -> None:
    vectors = embed([record["text"] for record in records()])
    cosine = (vectors @ vectors.T).triu(diagonal=1)
    near = [(records()[i]["id"], records()[j]["id"]) for i, j in (cosine > NEAREST).nonzero().tolist()]
    assert near == []
