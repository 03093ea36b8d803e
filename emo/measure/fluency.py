"""Is a reply still language? Degenerate replies, refusals, length (methods 4.3); needs no model.

The dictionary is English: in a reply of another language (`emo.data.language`) the share of words outside it is
not measured, and the other rules decide. Where a language sets no spaces between words, its characters are counted.
Bytes that are no text (U+FFFD, control characters) make a reply degenerate in any language.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from emo.config.schema import EvaluatorConfig
from emo.data.language import ENGLISH, UNSPACED, language, words_of
from emo.data.texts import read_lines, shipped_words
from emo.measure.encoder import vocabulary

GARBLED = 0.05  # share of a reply's characters that may be no text; a last letter that is cut off does not count


class Fluency(NamedTuple):
    """Measures of one reply; ``degenerate`` combines the first three by the configured bounds."""

    distinct3: float  # share of distinct word 3-grams
    distinct4: float  # share of distinct character 4-grams
    nonwords: float | None  # share of words found in no dictionary; None: not measured, the reply is not English
    words: int  # characters where the language sets no spaces
    language: str
    degenerate: bool
    refusal: bool


def fluency(text: str, config: EvaluatorConfig, expected: str = ENGLISH) -> Fluency:
    """Measure one reply, of the language ``expected`` where nothing tells another; an empty one is degenerate."""
    words, spoken = words_of(text), language(text, expected)
    if spoken in UNSPACED:
        words = [character for word in words for character in word]
    distinct3 = _distinct([tuple(words[i : i + 3]) for i in range(len(words) - 2)])
    letters = " ".join(text.lower().split())
    distinct4 = _distinct([letters[i : i + 4] for i in range(len(letters) - 3)])
    nonwords = None if spoken != ENGLISH else sum(not _known(w) for w in words) / len(words) if words else 0.0
    degenerate = (
        not words
        or _garbled(text) > GARBLED
        or distinct3 < config.min_distinct3
        or distinct4 < config.min_distinct4
        or (nonwords is not None and nonwords > config.max_nonwords)
    )
    lower = " ".join(text.lower().replace("’", "'").split())
    refusal = any(phrase in lower for phrase in read_lines("refusals.txt"))
    return Fluency(distinct3, distinct4, nonwords, len(words), spoken, degenerate, refusal)


def _distinct(grams: list) -> float:
    return len(set(grams)) / len(grams) if grams else 1.0


def _garbled(text: str) -> float:
    """Return the share of characters that are no text: half letters of UTF-8 and control characters."""
    whole = text.rstrip("\ufffd")
    strange = sum(c == "\ufffd" or (unicodedata.category(c) == "Cc" and not c.isspace()) for c in whole)
    return strange / max(1, len(whole))


def _known(word: str) -> bool:
    """Whether a word, or its stem before an apostrophe, stands in the encoder's vocabulary or the shipped texts."""
    plain = word.replace("’", "'")
    stem = plain.split("'")[0]
    return any(w in vocabulary() or w in shipped_words() for w in (plain, stem))
