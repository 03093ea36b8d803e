"""Which language is a reply written in? English, unless there is evidence of another (methods 4.3); needs no model.

The commonest small words of a language make up a third to a half of its running text. With h(L) the share of a text's
words that are small words of L,

    language = the L with the largest h(L), where h(L) >= SHARE, at least DISTINCT different ones are found, and those
               of L alone are more than those of English alone; otherwise the language that is expected

so a broken English reply, or one too short to tell, stays what the replies around it are. Chinese, Japanese, Korean
and Thai are told by characters or parts of words, h being the share of letters that they cover. A share LETTERS of the
letters must be of a language's script.

None of the shipped English replies is taken for another language; of the same with noise for words, and of words drawn
at random, one in 10,000 is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from emo.data.texts import read_lines

ENGLISH = "English"  # the dictionary's language
# Signs that belong to the letter before them (vowels of Indic scripts, Thai, Arabic and Hebrew points). Those of the
# Latin script split a word: an English reply keeps the words that it always had.
MARKS = "".join(chr(i) for i in range(0x370, 0x1AB0) if unicodedata.category(chr(i))[0] == "M") + "\u3099\u309a"
_PART = rf"(?:[^\W\d_][{MARKS}]*)+"
WORD = re.compile(rf"{_PART}(?:['’]{_PART})*")
UNSPACED = ("Chinese", "Japanese", "Thai")  # no spaces between words: characters are counted
PARTS = (*UNSPACED, "Korean")  # told by parts of words
SHARE = 0.25
DISTINCT = 2
LETTERS = 0.8
# Script, as the first word of a letter's Unicode name -> languages written in it.
SCRIPTS = {
    "LATIN": (ENGLISH, "German", "Spanish", "French", "Italian", "Portuguese", "Dutch", "Swedish", "Polish", "Turkish"),
    "CYRILLIC": ("Russian", "Ukrainian"),
    "GREEK": ("Greek",),
    "ARABIC": ("Arabic", "Persian", "Urdu"),
    "HEBREW": ("Hebrew",),
    "DEVANAGARI": ("Hindi",),
    "CJK": ("Chinese", "Japanese"),
    "HIRAGANA": ("Japanese",),
    "KATAKANA": ("Japanese",),
    "HANGUL": ("Korean",),
    "THAI": ("Thai",),
}


@cache
def small_words() -> Mapping[str, frozenset[str]]:
    """Return {language: its small words, lower-case}."""
    lines = (line.partition(":") for line in read_lines("function_words.txt"))
    return {name: frozenset(words.split()) for name, _, words in lines}


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower-case."""
    return [word.lower() for word in WORD.findall(text)]


def language(text: str, expected: str = ENGLISH) -> str:
    """Return the language of a text, or ``expected`` where nothing tells it."""
    words = words_of(text)
    scripts = _scripts(words)
    tokens = [token for word in words for token in _split(word.replace("’", "'"))]
    english = small_words()[ENGLISH]
    best, most = expected, 0.0
    for name, small in small_words().items():
        if sum(n for script, n in scripts.items() if name in SCRIPTS.get(script, ())) < LETTERS * sum(scripts.values()):
            continue
        if name in PARTS:
            run = " ".join(words)
            found = Counter({part: run.count(part) for part in small if part in run})
            share = sum(n * len(part) for part, n in found.items()) / max(1, sum(scripts.values()))
        else:
            found = Counter(token for token in tokens if token in small)
            share = found.total() / max(1, len(tokens))
        own = {token: n for token, n in found.items() if name == ENGLISH or token not in english}
        other = 0 if name == ENGLISH else sum(token in english and token not in small for token in tokens)
        if share >= SHARE and len(own) >= DISTINCT and sum(own.values()) > other and share > most:
            best, most = name, share
    return best


def common_language(texts: Iterable[str]) -> str:
    """Return the language of most of the texts that tell theirs, English where none does: what to expect of others."""
    found = Counter(language(text, "") for text in texts)
    del found[""]
    return found.most_common(1)[0][0] if found else ENGLISH


def _split(word: str) -> list[str]:
    """Return ``l'`` and ``homme`` of ``l'homme``; an English contraction stays whole."""
    if "'" not in word or word in small_words()[ENGLISH]:
        return [word]
    *heads, last = word.split("'")
    return [*(f"{head}'" for head in heads), last]


def _scripts(words: Iterable[str]) -> Counter[str]:
    """Return how many letters there are of each script."""
    found: Counter[str] = Counter()
    for word in words:
        if word.isascii():
            found["LATIN"] += len(word)
        else:
            found.update(re.split("[ -]", unicodedata.name(c, "?"))[0] for c in word if c.isalpha())
    return found
