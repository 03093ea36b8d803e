"""Rules of the shipped dialogues and rhetoric pairs: one class each, told by style and not by its name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest
from support.texts import (
    EMOTIONS,
    SETS,
    STYLES,
    TEXTS,
    emotion_words_in,
    few_shot_sentences,
    load,
    n_words,
    ngrams,
    priming_passages,
    sev_sentences,
    word_set,
    words,
)

TOPICS = 60
DEVICES = {"me": "metaphor", "hy": "hyperbole", "hu": "humour", "sa": "sarcasm"}
PAIRS = 64  # of each device
NAMED = word_set(  # words that would name a device
    "metaphor metaphors metaphorical metaphorically hyperbole hyperbolic exaggeration exaggerate exaggerating "
    "exaggerated humour humorous joke joked joking jokes funny irony ironic ironically sarcasm sarcastic "
    "sarcastically literal literally figurative figuratively"
)
RUN = 6  # words in a row that no two texts may share


def turns(dialogue: str) -> list[tuple[str, str]]:
    """The speaker and the words of every turn."""
    return [(line[0], line[3:]) for line in dialogue.split("\n")]


def spoken(dialogue: str) -> str:
    return " ".join(text for _, text in turns(dialogue))


def both(record: dict[str, str]) -> list[str]:
    return [record["text"], record["literal"]]


def shared_runs(texts: dict[str, list[str]]) -> list[tuple[tuple[str, ...], set[str]]]:
    """Six-word runs that stand in the texts of two keys, or in a scenario, event, request, reply or passage."""
    others = [text for name in SETS for text in sev_sentences(name)] + few_shot_sentences() + priming_passages()
    others += [r["prompt"] for r in load("open_prompts")] + [r["text"] for r in load("replies")]
    where: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for key, own in {**texts, "another file": others}.items():
        for text in own:
            for run in ngrams(text, RUN):
                where[run].add(key)
    return [(run, keys) for run, keys in where.items() if len(keys) > 1 and keys != {"another file"}]


@pytest.mark.parametrize("name", ["dialogues", "rhetoric"])
def test_no_stray_characters(name: str) -> None:
    raw = (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8")
    assert raw.endswith("\n") and "\n\n" not in raw and "\r" not in raw and "\t" not in raw
    assert "  " not in raw and ' "}' not in raw and (name == "dialogues" or "\\n" not in raw)
    assert not re.search(r"[\u2018\u2019\u201c\u201d\u2013\u2014]", raw), "typographic quotes or dashes"


def test_dialogue_fields_and_counts() -> None:
    records = load("dialogues")
    assert [r["id"] for r in records] == [f"dg{i:03d}" for i in range(1, TOPICS * len(EMOTIONS) + 1)]
    topics = dict.fromkeys(r["topic"] for r in records)
    assert len(topics) == TOPICS
    for r in records:
        assert list(r) == ["id", "topic", "emotion", "dialogue"], r
    assert [(r["topic"], r["emotion"]) for r in records] == [(t, e) for t in topics for e in EMOTIONS]


def test_dialogues_are_four_turns_of_like_length() -> None:
    for r in load("dialogues"):
        text = r["dialogue"]
        assert 35 <= n_words(text) <= 60, (n_words(text), r)
        assert [speaker for speaker, _ in turns(text)] == ["A", "B", "A", "B"], r
        assert all(line[1:3] == ": " for line in text.split("\n")), r
        for _, turn in turns(text):
            assert turn == turn.strip() and turn.lstrip('"')[0].isupper() and turn.rstrip('"')[-1] in ".!?", turn
        assert not emotion_words_in(text) and not set(words(text)) & set(STYLES), r


def test_exclamation_marks_do_not_tell_the_emotion() -> None:
    records = load("dialogues")
    assert max(r["dialogue"].count("!") for r in records) == 1
    loud = Counter(r["emotion"] for r in records if "!" in r["dialogue"])
    assert all(TOPICS / 4 <= loud[e] <= TOPICS / 2 for e in EMOTIONS), loud
    assert not any("!" in text for r in load("rhetoric") for text in both(r))


def test_dialogues_share_no_start_and_no_run() -> None:
    records = load("dialogues")
    starts = Counter(tuple(words(spoken(r["dialogue"]))[:3]) for r in records)
    assert [s for s, n in starts.items() if n > 1] == []
    assert shared_runs({r["id"]: [spoken(r["dialogue"])] for r in records}) == []


def test_rhetoric_fields_and_counts() -> None:
    records = load("rhetoric")
    expected = [f"{code}{i:02d}" for code in DEVICES for i in range(1, PAIRS + 1)]
    assert [r["id"] for r in records] == expected
    for r in records:
        assert list(r) == ["id", "device", "text", "literal"], r
        assert r["device"] == DEVICES[r["id"][:2]], r


def test_rhetoric_pairs() -> None:
    for r in load("rhetoric"):
        counts = [n_words(text) for text in both(r)]
        assert min(counts) >= 10 and max(counts) <= 30, (counts, r)
        assert max(counts) - min(counts) <= 0.3 * min(counts), (counts, r)
        for text in both(r):
            assert text == text.strip() and text[0].isupper() and text[-1] == ".", text
            assert not set(words(text)) & (NAMED | set(DEVICES.values())), text


def test_rhetoric_pairs_share_no_start_and_no_run() -> None:
    """A text and its own literal may begin alike; those of two pairs may not."""
    records = load("rhetoric")
    starts = {r["id"]: {tuple(words(text)[:3]) for text in both(r)} for r in records}
    assert [(a, b) for a, b in combinations(starts, 2) if starts[a] & starts[b]] == []
    assert shared_runs({r["id"]: both(r) for r in records}) == []


def test_the_two_files_share_no_run() -> None:
    texts = {"dialogues": [spoken(r["dialogue"]) for r in load("dialogues")]}
    assert shared_runs(texts | {"rhetoric": [text for r in load("rhetoric") for text in both(r)]}) == []
