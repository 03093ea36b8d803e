"""Is a reply still language? Degenerate replies, refusals, length (methods 4.3); needs no model."""

from __future__ import annotations

import re
from typing import NamedTuple

from emo.config import EvaluatorConfig
from emo.evaluators.encoder import vocabulary
from emo.texts import read_lines, shipped_words

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class Fluency(NamedTuple):
    """Measures of one reply; ``degenerate`` combines the first three by the configured bounds."""

    distinct3: float  # share of distinct word 3-grams
    distinct4: float  # share of distinct character 4-grams
    nonwords: float  # share of words found in no dictionary
    words: int
    degenerate: bool
    refusal: bool


def fluency(text: str, config: EvaluatorConfig) -> Fluency:
    """Measure one reply; an empty one is degenerate."""
    words = [w.lower() for w in WORD.findall(text)]
    distinct3 = _distinct([tuple(words[i : i + 3]) for i in range(len(words) - 2)])
    letters = " ".join(text.lower().split())
    distinct4 = _distinct([letters[i : i + 4] for i in range(len(letters) - 3)])
    nonwords = sum(not _known(w) for w in words) / len(words) if words else 0.0
    degenerate = (
        not words
        or distinct3 < config.min_distinct3
        or distinct4 < config.min_distinct4
        or nonwords > config.max_nonwords
    )
    lower = " ".join(text.lower().replace("’", "'").split())
    refusal = any(phrase in lower for phrase in read_lines("refusals.txt"))
    return Fluency(distinct3, distinct4, nonwords, len(words), degenerate, refusal)


def _distinct(grams: list) -> float:
    return len(set(grams)) / len(grams) if grams else 1.0


def _known(word: str) -> bool:
    """Whether a word, or its stem before an apostrophe, stands in the encoder's vocabulary or the shipped texts."""
    plain = word.replace("’", "'")
    stem = plain.split("'")[0]
    return any(w in vocabulary() or w in shipped_words() for w in (plain, stem))
