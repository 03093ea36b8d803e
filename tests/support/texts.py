"""The shipped texts as words, sentences and n-grams, to check rules on."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from emo.config.check import REPOSITORY


def word_set(text: str) -> set[str]:
    return set(text.split())


TEXTS = REPOSITORY / "emo" / "data" / "texts"
SETS = ("sev", "sev_test")
VALENCES = ("positive", "neutral", "negative")
EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
STYLES = (*EMOTIONS, "neutral")
STOP_WORDS = word_set(
    "a an and as at because been before by for from had has have he her his i in into is it its me my of on one our "
    "over she so that the their them there they this to under us was we were when which while who with"
)
Record = dict[str, Any]


def load(name: str) -> list[Record]:
    return [json.loads(line) for line in (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def phrases(name: str) -> list[str]:
    lines = (TEXTS / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; hyphens and apostrophes stay inside a word."""
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text.lower())


def n_words(text: str) -> int:
    return len(text.split())


def n_sentences(text: str) -> int:
    return len(re.findall(r"[.!?]+(?=\s|$)", text))


def spread(texts: list[str]) -> float:
    counts = [n_words(text) for text in texts]
    return (max(counts) - min(counts)) / min(counts)


@cache  # texts are compared in pairs: each is read once, not once for each other one
def content(text: str) -> frozenset[str]:
    return frozenset(word for word in words(text) if word not in STOP_WORDS)


@cache
def ngrams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    tokens = words(text)
    return frozenset(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


def sev_sentences(name: str) -> list[str]:
    return [text for r in load(name) for text in (r["scenario"], *(r["event"][v] for v in VALENCES))]


def exchanges() -> list[Record]:
    return [exchange for record in load("few_shot") for exchange in record["exchanges"]]


def few_shot_sentences() -> list[str]:
    return [text for e in exchanges() for text in (e["scenario"], e["event"])]


@cache
def _emotion_words() -> frozenset[str]:
    return frozenset(phrases("emotion_words.txt"))


def emotion_words_in(text: str) -> set[str]:
    parts = {part for word in words(text) for part in (word, *re.split(r"[-']", word))}
    return parts & _emotion_words()


def priming_passages() -> list[str]:
    return [text for r in load("priming") for text in r["passages"].values()]
