"""Rules of the shipped texts: SEV sets, held-out replies, few-shot examples and word lists."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, product

import pytest
from support.texts import (
    SETS,
    STYLES,
    TEXTS,
    VALENCES,
    content,
    emotion_words_in,
    exchanges,
    few_shot_sentences,
    jaccard,
    load,
    n_sentences,
    n_words,
    ngrams,
    phrases,
    sev_sentences,
    spread,
    word_set,
    words,
)

THEMES = {
    "work": "Work/Job",
    "school": "School/Academia",
    "relation": "Personal relationships",
    "shopping": "Customer service/Shopping",
    "administration": "Public services/Administration",
    "health": "Health/Medical",
    "living": "Housing/Living facilities",
    "travel": "Travel/Transportation",
}
SCENARIOS_PER_THEME = 20
FEW_SHOT_SETS = 12
PROMPT_KINDS = (
    "advice", "explanation", "small_talk", "code", "writing", "planning",
    "recipe", "opinion", "definition", "maths", "travel", "language",
)  # fmt: skip
PROMPTS_PER_KIND = 5
FIRST_PERSON = {"i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"}
INTERJECTIONS = word_set(
    "ah aha alas argh bah bleh blimey bravo eek eurgh eww gosh ha hey hooray hurrah hurray huh no oh ooh oops ouch "
    "phew splash ugh wait well what whoa why wow yay yes yikes yuck"
)


def few_shot_replies(style: str) -> list[str]:
    return [e["replies"][style] for e in exchanges()]


@pytest.mark.parametrize("name", ["sev", "sev_test", "replies", "few_shot", "open_prompts", "priming"])
def test_no_text_has_stray_whitespace_or_control_characters(name: str) -> None:
    raw = (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8")
    assert raw.endswith("\n") and "\n\n" not in raw and "\r" not in raw and "\t" not in raw
    assert "  " not in raw and "\\n" not in raw and ' "}' not in raw
    assert not re.search(r"[\u2018\u2019\u201c\u201d\u2013\u2014]", raw), "typographic quotes or dashes"


@pytest.mark.parametrize("name", SETS)
def test_sev_fields_ids_and_counts(name: str) -> None:
    records = load(name)
    mark = "_t" if name == "sev_test" else "_"
    expected = [f"{key}{mark}{i:02d}" for key in THEMES for i in range(SCENARIOS_PER_THEME)]
    assert [r["skeleton_id"] for r in records] == expected
    for r in records:
        assert list(r) == ["skeleton_id", "theme", "scenario", "event"]
        assert tuple(r["event"]) == VALENCES
        assert r["theme"] == THEMES[r["skeleton_id"].split("_")[0]]
    assert Counter(r["theme"] for r in records) == dict.fromkeys(THEMES.values(), SCENARIOS_PER_THEME)


@pytest.mark.parametrize("name", SETS)
def test_scenarios_are_short_and_in_the_first_person(name: str) -> None:
    for r in load(name):
        text = r["scenario"]
        assert 15 <= n_words(text) <= 25, text
        assert set(words(text)) & FIRST_PERSON, text
        assert text[0].isupper(), text


@pytest.mark.parametrize("name", SETS)
def test_events_are_alike_but_for_their_valence(name: str) -> None:
    for r in load(name):
        events = [r["event"][v] for v in VALENCES]
        assert spread(events) <= 0.20, [(n_words(e), e) for e in events]
        assert all(9 <= n_words(e) <= 20 for e in events), events
        assert len({tuple(words(e)[:2]) for e in events}) == 1, f"one subject or time: {events}"
        for event in events:
            assert event[0].isupper(), event
            assert not ngrams(event, 5) & ngrams(r["scenario"], 5), f"restates the scenario: {event}"


@pytest.mark.parametrize("name", SETS)
def test_sev_texts_are_one_sentence_without_emotion_words(name: str) -> None:
    for text in sev_sentences(name):
        assert text.endswith(".") and n_sentences(text) == 1, text
        assert not re.search(r"[!?;:]", text), text
        assert not emotion_words_in(text), text


def test_sev_sentences_are_unique_and_nothing_is_shared() -> None:
    texts = [t.lower() for name in SETS for t in sev_sentences(name)] + [t.lower() for t in few_shot_sentences()]
    assert [t for t, n in Counter(texts).items() if n > 1] == []
    ids = [r["skeleton_id"] for name in SETS for r in load(name)]
    assert len(set(ids)) == len(ids)


def test_no_two_scenarios_begin_with_the_same_four_words() -> None:
    texts = [r["scenario"] for name in SETS for r in load(name)] + [e["scenario"] for e in exchanges()]
    starts = Counter(tuple(words(text)[:4]) for text in texts)
    assert [s for s, n in starts.items() if n > 1] == []


@pytest.mark.parametrize("name", SETS)
def test_scenario_openings_vary(name: str) -> None:
    starts = Counter(words(r["scenario"])[0] for r in load(name))
    assert max(starts.values()) <= 0.25 * sum(starts.values()), starts.most_common(3)
    assert len(starts) >= 0.4 * sum(starts.values())


def test_no_two_scenarios_have_the_same_topic() -> None:
    texts = [r["scenario"] for name in SETS for r in load(name)] + [e["scenario"] for e in exchanges()]
    for a, b in combinations(texts, 2):
        assert jaccard(content(a), content(b)) < 0.25, (a, b)


def test_sets_share_no_long_run_of_words() -> None:
    train, test = sev_sentences("sev"), sev_sentences("sev_test")
    few = few_shot_sentences()
    for a, b in [*product(train, test), *product(train, few), *product(test, few)]:
        assert not ngrams(a, 6) & ngrams(b, 6), (a, b)


def test_reply_fields_and_counts() -> None:
    records = load("replies")
    assert all(list(r) == ["set", "theme", "emotion", "text"] for r in records)
    expected = Counter(product(SETS, THEMES.values(), STYLES))
    assert Counter((r["set"], r["theme"], r["emotion"]) for r in records) == expected


def test_reply_lengths() -> None:
    records = load("replies")
    for r in records:
        assert 12 <= n_words(r["text"]) <= 28, r
        assert 1 <= n_sentences(r["text"]) <= 2 and r["text"][-1] in ".!?", r
        assert r["text"][0].isupper(), r
    for name, theme in product(SETS, THEMES.values()):
        group = [r["text"] for r in records if (r["set"], r["theme"]) == (name, theme)]
        assert spread(group) <= 0.25, [(n_words(t), t) for t in group]


def test_replies_are_unique_and_share_nothing_between_sets() -> None:
    records = load("replies")
    texts = [r["text"].lower() for r in records]
    texts += [text.lower() for style in STYLES for text in few_shot_replies(style)]
    sentences = [s.strip() for text in texts for s in re.split(r"(?<=[.!?])\s+", text)]
    assert [s for s, n in Counter(sentences).items() if n > 1] == []
    starts = Counter((r["emotion"], *words(r["text"])[:3]) for r in records)
    assert [s for s, n in starts.items() if n > 1] == []
    by_set = {name: [r["text"] for r in records if r["set"] == name] for name in SETS}
    for a, b in product(by_set["sev"], by_set["sev_test"]):
        assert not ngrams(a, 6) & ngrams(b, 6), (a, b)


def test_replies_name_no_detail_of_a_scenario() -> None:
    for name in SETS:
        replies = [r["text"] for r in load("replies") if r["set"] == name]
        for text, sentence in product(replies, sev_sentences(name)):
            assert not ngrams(text, 5) & ngrams(sentence, 5), (text, sentence)


def test_neutral_replies_have_no_emotion_words_and_no_exclamation_marks() -> None:
    replies = [r["text"] for r in load("replies") if r["emotion"] == "neutral"] + few_shot_replies("neutral")
    for text in replies:
        assert not emotion_words_in(text) and "!" not in text, text


def test_few_shot_fields_and_counts() -> None:
    records = load("few_shot")
    assert [r["id"] for r in records] == [f"fs{i:02d}" for i in range(FEW_SHOT_SETS)]
    for r in records:
        assert list(r) == ["id", "exchanges"] and len(r["exchanges"]) == 2
        for e in r["exchanges"]:
            assert list(e) == ["scenario", "event", "replies"] and tuple(e["replies"]) == STYLES


def test_few_shot_scenarios_and_events() -> None:
    for e in exchanges():
        assert 10 <= n_words(e["scenario"]) <= 18, e["scenario"]
        assert 8 <= n_words(e["event"]) <= 14, e["event"]
        assert set(words(e["scenario"])) & FIRST_PERSON, e["scenario"]
        for text in (e["scenario"], e["event"]):
            assert text.endswith(".") and n_sentences(text) == 1 and text[0].isupper(), text
            assert not emotion_words_in(text), text


@pytest.mark.parametrize("style", STYLES)
def test_few_shot_replies(style: str) -> None:
    texts = few_shot_replies(style)
    for text in texts:
        assert 8 <= n_words(text) <= 22, (n_words(text), text)
        assert 1 <= n_sentences(text) <= 2 and text[-1] in ".!?" and text[0].isupper(), text
    starts = Counter(tuple(words(text)[:2]) for text in texts)
    assert [s for s, n in starts.items() if n > 1] == []
    interjections = sum(words(text)[0] in INTERJECTIONS for text in texts)
    assert interjections <= 0.25 * len(texts)


def test_open_prompt_fields_and_counts() -> None:
    records = load("open_prompts")
    assert all(list(r) == ["id", "kind", "prompt"] for r in records)
    assert [r["kind"] for r in records] == [kind for kind in PROMPT_KINDS for _ in range(PROMPTS_PER_KIND)]
    assert [r["id"] for r in records] == [f"open_{i:02d}" for i in range(len(records))]


def test_open_prompts_are_everyday_requests_of_their_own() -> None:
    """Everyday requests, each of its own topic and wording, none taken from a scenario or an event."""
    texts = [r["prompt"] for r in load("open_prompts")]
    for text in texts:
        assert 6 <= n_words(text) <= 40, (n_words(text), text)
        assert 1 <= n_sentences(text) <= 2 and text[-1] in ".!?" and text[0].isupper(), text
        assert not emotion_words_in(text), text
    starts = Counter(tuple(words(text)[:4]) for text in texts)
    assert [s for s, n in starts.items() if n > 1] == []
    for a, b in combinations(texts, 2):
        assert jaccard(content(a), content(b)) < 0.25, (a, b)
    others = [text for name in SETS for text in sev_sentences(name)] + few_shot_sentences()
    for a, b in product(texts, others):
        assert not ngrams(a, 6) & ngrams(b, 6), (a, b)


@pytest.mark.parametrize(("name", "low", "high"), [("refusals.txt", 20, 40), ("emotion_words.txt", 120, 220)])
def test_word_lists_have_no_entry_twice(name: str, low: int, high: int) -> None:
    entries = phrases(name)
    assert low <= len(entries) <= high
    assert all(e == e.strip().lower() for e in entries)
    assert [e for e, n in Counter(entries).items() if n > 1] == []


def test_emotion_words_are_single_words() -> None:
    assert all(re.fullmatch(r"[a-z]+", word) for word in phrases("emotion_words.txt"))
    named = (
        "happy sad glad upset angry disappointed relieved worried thrilled pleased annoyed surprised disgusting afraid"
    )
    named += " delighted frustrated unfortunately sadly thankfully luckily"
    assert word_set(named) <= set(phrases("emotion_words.txt"))


def test_no_reply_is_a_refusal() -> None:
    replies = [r["text"] for r in load("replies")] + [t for style in STYLES for t in few_shot_replies(style)]
    for text, phrase in product(replies, phrases("refusals.txt")):
        assert phrase not in text.lower(), (phrase, text)
