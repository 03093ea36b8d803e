"""The rules of methods 1.1 that can be checked, of scenarios, events, dialogues and stories, in any language.

    spread of three events = (longest - shortest) / shortest, in words
    same participants      = the events begin with the same two words (four characters where words are not set apart),
                             and no two of them that name persons by pronouns name different ones only

The second rule is what can be told without a parser: I and we are one person, "they" (which can be things, as can er in
German, il and elle in French) is none, and names and nouns are not compared. So it misses two events about different
people that begin alike, and refuses a change of subject in the middle of the sentence that a reader would accept: 7 of
the 320 shipped scenarios.

Sentences end at . ! ? and what stands for them elsewhere; abbreviations (Dr., a.m.) end none, nor do ordinals where a
language writes them so (am 3. März), unless a small word follows them (Nummer 3. Der ...). Whether a text is free of
judgements, and whether a positive event is a benefit, no rule here can tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from emo.data.language import small_words
from emo.data.language_words import FIRST, Language, composed

VALENCES = ("positive", "neutral", "negative")
MOST_SPREAD = 0.2
YEAR = 4  # digits; a shorter number may be an ordinal
BEGINNING, BEGINNING_CHARACTERS = 2, 4  # words, or characters, that the three events begin with
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
# German closes with what English opens with, „so“, ‚so‘, »so«, and French sets « so » apart.
BREAK = re.compile(r"[.!?…]+(?:\s?»)?[\"'”’»“‘«)]*\s+(?=[\"'“‘«„‚»(¿¡]*[A-ZÀ-ÖØ-ÞА-ЯΑ-Ω])|[。！？]+[”’」』]*(?=.)")
END = re.compile(r"[.!?…。！？](?:\s?»)?[\"'”’»“‘«)」』]*$")
ABBREVIATIONS = frozenset(  # a single letter is one too
    {"mr", "mrs", "ms", "dr", "st", "prof", "jr", "sr", "sra", "srta", "dra", "no", "nr", "vs", "etc", "e.g", "i.e"}
    | {"a.m", "p.m", "z.b", "d.h", "u.a", "ca", "mme", "mlle", "av", "ud", "uds", "p.ej"}
    | {"str", "hr", "fr", "bzw", "inkl", "evtl", "ggf", "abt", "tel", "mio", "mrd", "std"}
)


class Broken(NamedTuple):
    """A rule that a text breaks."""

    rule: str  # its name, for counts
    how: str  # for whoever writes the text again


def n_words(text: str, language: Language) -> int:
    """Return the length of a text: words between white space, or its letters where words are not set apart."""
    return sum(c.isalnum() for c in text) if language.unspaced else len(text.split())


def emotion_words_in(text: str, language: Language) -> list[str]:
    """Return the emotion words of a text, in their order."""
    low = composed(text).lower().replace("’", "'")
    if language.unspaced:
        return [word for word in sorted(language.words) if word in low]
    return [
        w
        for w in WORD.findall(low)
        if w in language.words or w.startswith(language.beginnings) or w.endswith(language.endings)
    ]


def persons_in(text: str, language: Language) -> set[str]:
    """Return the persons that the pronouns of a text name: first, you, he ..."""
    if language.unspaced:
        for word in language.nobody:
            text = text.replace(word, " ")
        return {who for who, own in language.persons.items() if any(word in text for word in own)}
    found = set(WORD.findall(composed(text).lower()))  # I'm: i and m
    return {who for who, own in language.persons.items() if found.intersection(own)}


def in_first_person(text: str, language: Language) -> bool:
    """Whether a text says I or we, by a pronoun or by the ending of a verb."""
    if FIRST in persons_in(text, language):
        return True
    return bool(language.first_endings) and any(
        len(w) > 3 and w.endswith(language.first_endings) for w in WORD.findall(text.lower())
    )


def n_sentences(text: str, language: Language) -> int:
    """Return the number of sentences; 0 for a text that does not end as one."""
    text = text.strip()
    if not END.search(text):
        return 0
    breaks = 0
    for match in BREAK.finditer(text):
        before = text[: match.start()].split()
        word = before[-1].lower().lstrip("(\"'“‘«„‚»") if before else ""
        letter = len(word) == 1 and word.isalpha() and match[0].startswith(".")
        breaks += not (word in ABBREVIATIONS or letter or _ordinal(word, match, text, language))
    return 1 + breaks


def _ordinal(number: str, stop: re.Match[str], text: str, language: Language) -> bool:
    """Whether the stop behind a number makes an ordinal of it: what follows is a noun, no small word."""
    if not (language.ordinals and number.isdecimal() and len(number) < YEAR and stop[0].strip() == "."):
        return False
    follows = WORD.search(text, stop.end())
    return follows is not None and follows[0].lower() not in small_words().get(language.name, ())


def spread(texts: Sequence[str], language: Language) -> float:
    """Return (longest - shortest) / shortest, in words; infinite where one is empty."""
    lengths = [n_words(text, language) for text in texts]
    return (max(lengths) - min(lengths)) / min(lengths) if min(lengths) else float("inf")


def scenario_rules(text: str, language: Language) -> list[Broken]:
    """Return the rules that a scenario breaks."""
    broken, n, (low, high) = [], n_words(text, language), language.scenario
    if not low <= n <= high:
        broken.append(Broken("length", f"it has {n} {language.unit}; {low} to {high} are needed"))
    if not in_first_person(text, language):
        broken.append(Broken("first person", "it is not in the first person: somebody must say I or we"))
    return [*broken, *_sentence(text, language), *_plain(text, language)]


def event_rules(events: Mapping[str, str], language: Language) -> list[Broken]:
    """Return the rules that the three events of a scenario break."""
    broken: list[Broken] = []
    for valence in VALENCES:
        for rule, how in (*_sentence(events[valence], language), *_plain(events[valence], language)):
            broken.append(Broken(rule, f"{valence}: {how}"))
    texts = [events[v] for v in VALENCES]
    if spread(texts, language) > MOST_SPREAD:
        lengths = ", ".join(f"{v} {n_words(events[v], language)}" for v in VALENCES)
        broken.append(
            Broken(
                "spread",
                f"their lengths in {language.unit} differ too much ({lengths}); the longest may have at most "
                f"{MOST_SPREAD * 100:.0f} % more than the shortest",
            )
        )
    if how := _different_people(texts, language):
        broken.append(Broken("same participants", how))
    if len(set(texts)) < len(texts):
        broken.append(Broken("alike", "two of the events are the same sentence"))
    return broken


def length_bounds(low: int, high: int, language: Language) -> tuple[int, int]:
    """Return bounds given in words as they are counted in a language: in characters 1.7 times as many."""
    return (round(1.7 * low), round(1.7 * high)) if language.unspaced else (low, high)


def length_rule(text: str, low: int, high: int, language: Language) -> list[Broken]:
    """Return a broken rule where a text's length is out of bounds, which are given in words."""
    low, high = length_bounds(low, high, language)
    n = n_words(text, language)
    return [] if low <= n <= high else [Broken("length", f"it has {n} {language.unit}; {low} to {high} are needed")]


def _sentence(text: str, language: Language) -> list[Broken]:
    n = n_sentences(text, language)
    if "\n" in text.strip() or n > 1:
        return [Broken("one sentence", "it is more than one sentence")]
    return [] if n else [Broken("one sentence", "it does not end with a full stop")]


def _plain(text: str, language: Language, also: Sequence[str] = ()) -> list[Broken]:
    low = composed(text).lower()
    inside = low if language.unspaced else WORD.findall(low)
    found = [*emotion_words_in(text, language), *(w for w in also if composed(w).lower() in inside)]
    names = ", ".join(dict.fromkeys(found))
    return [Broken("emotion words", f"it names an emotion ({names}); say what happens instead")] if found else []


def plain_rule(text: str, language: Language, names: Sequence[str]) -> list[Broken]:
    """Return a broken rule where a text has an emotion word, or a name of its own emotion."""
    return _plain(text, language, names)


def _different_people(texts: Sequence[str], language: Language) -> str:
    """Say how the events are not about the same people; empty: no rule tells that."""
    if language.unspaced:
        same = len({text[:BEGINNING_CHARACTERS] for text in texts}) == 1
        n = f"{BEGINNING_CHARACTERS} characters"
    else:
        same = len({tuple(text.lower().split()[:BEGINNING]) for text in texts}) == 1
        n = f"{BEGINNING} words"
    if not same:
        return f"the three events must have the same subject and time: let them begin with the same {n}"
    persons = [persons_in(text, language) for text in texts]
    if any(a and b and not a & b for a, b in combinations(persons, 2)):
        return "one event is about other people than another: name the same persons in all three"
    return ""
