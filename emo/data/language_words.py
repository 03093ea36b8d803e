"""What a language's texts are checked by: its emotion words, its words for persons, and how its lengths are counted.

A file of ``emo/data/texts/languages`` or of a user's own (``build.language_file``), a line each:

    name: German              as `emo.data.language` calls it, if it knows the language
    first: ich mich mir ...   words of the first person; further lines you, he, she ...: one person each
    -first: amos emos         endings that tell the first person where the verb does (optional)
    unspaced: yes             words are not set apart: found wherever they stand, lengths in characters (optional)
    nobody: 其他 吉他          there: words in which a person's character stands for nobody (optional)
    ordinals: yes             3. is an ordinal, so its stop ends no sentence (optional)
    scenario: 25 45           bounds of a scenario's length (optional; 15 25)
    wut                       an emotion word; wüt* stands for all that begin so, *angst for all that end so

Texts that write ä, ö, ü and ß as ae, oe, ue and ss are found too.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

from emo.config.choices import LANGUAGES
from emo.core.errors import UserError
from emo.data.texts import TEXTS, emotion_words

SCENARIO_LENGTH = (15, 25)  # words (methods 1.1)
FIRST = "first"
SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})  # where a writer has no such letters


class Language(NamedTuple):
    """The words of one language, lower-case."""

    code: str
    name: str
    persons: dict[str, tuple[str, ...]]  # first, you, he ... -> pronouns, in the order of the file
    first_endings: tuple[str, ...]
    unspaced: bool
    nobody: tuple[str, ...]
    ordinals: bool
    scenario: tuple[int, int]  # shortest, longest, in words or characters
    words: frozenset[str]
    beginnings: tuple[str, ...]  # of emotion words
    endings: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Return what lengths are counted in."""
        return "characters" if self.unspaced else "words"


def read_language(code: str, file: str | None = None) -> Language:
    """Return the words of a language.

    Args:
        code: e.g. de.
        file: of a user's own; None: the shipped one.

    Raises:
        UserError: there is none, or a line of it is wrong.
    """
    if file is None and code not in LANGUAGES:
        raise UserError(f"build.language={code}: words are shipped for {', '.join(LANGUAGES)}; give a language_file")
    path = TEXTS / "languages" / f"{code}.txt" if file is None else Path(file).expanduser()
    return _read(code, path, path.stat().st_mtime_ns)


def composed(text: str) -> str:
    """Return a text in which a letter and its sign (u and ¨) are one character, so that a word has one form."""
    return unicodedata.normalize("NFC", text)


@cache
def _read(code: str, path: Path, _: int) -> Language:
    try:
        lines = [line.strip() for line in composed(path.read_text(encoding="utf-8-sig")).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"build.language_file={path}: cannot be read as UTF-8 ({type(error).__name__})") from None
    lines = [line.lower() if ":" not in line else line for line in lines if line and not line.startswith("#")]
    heads = {head.strip(): rest.split() for head, _, rest in (line.partition(":") for line in lines if ":" in line)}
    words = {line for line in lines if ":" not in line} | (set(emotion_words()) if code == "en" else set())
    for needed in ("name", FIRST):
        if not heads.get(needed):
            raise UserError(f"build.language_file={path}: no line '{needed}: ...'; it needs name, first, emotion words")
    words |= {word.translate(SPELLED) for word in words}
    if not words:
        raise UserError(f"build.language_file={path}: no emotion words; write one a line")
    bounds = heads.pop("scenario", [str(n) for n in SCENARIO_LENGTH])
    if len(bounds) != 2 or not all(n.isdecimal() for n in bounds) or int(bounds[0]) > int(bounds[1]):
        raise UserError(f"build.language_file={path}: 'scenario: {' '.join(bounds)}': two whole numbers, e.g. 15 25")
    name, unspaced = " ".join(heads.pop("name")), heads.pop("unspaced", ["no"]) == ["yes"]
    first_endings, nobody = tuple(heads.pop("-first", [])), tuple(heads.pop("nobody", []))
    ordinals = heads.pop("ordinals", ["no"]) == ["yes"]
    return Language(
        code,
        name,
        {who: tuple(word.lower() for word in own) for who, own in heads.items()},
        first_endings,
        unspaced,
        nobody,
        ordinals,
        (int(bounds[0]), int(bounds[1])),
        frozenset(word for word in words if "*" not in word),
        tuple(sorted(word[:-1] for word in words if word.endswith("*"))),
        tuple(sorted(word[1:] for word in words if word.startswith("*"))),
    )
