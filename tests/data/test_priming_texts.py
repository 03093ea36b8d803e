"""Rules of the shipped priming passages: a mood without its name, each of its own wording."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

from support.texts import (
    SETS,
    STYLES,
    content,
    emotion_words_in,
    few_shot_sentences,
    jaccard,
    load,
    n_sentences,
    n_words,
    ngrams,
    priming_passages,
    sev_sentences,
    spread,
    word_set,
    words,
)

PRIMING_SETS = 12
SYNONYMS = word_set(  # beside emotion_words.txt: names of the six that a priming passage must not use either
    "wrath ire indignant indignation aggravated hostile hatred hate bitter bitterness sulk sullen tears crying "
    "cried heartbreak mournful sombre bleak unbearable blissful bliss glee merry jolly content contented smile smiled "
    "laughing fright afraid horror horrified horrible threat threatening menacing petrified tense unexpected "
    "unexpectedly sudden suddenly bewildered baffled speechless wonder wondrous gross filthy vile foul loathing loathe "
    "repugnant sickening sick mood feel feeling feelings felt"
)


def test_priming_fields_and_counts() -> None:
    records = load("priming")
    assert [r["id"] for r in records] == [f"pr{i:02d}" for i in range(PRIMING_SETS)]
    for r in records:
        assert list(r) == ["id", "passages"] and tuple(r["passages"]) == STYLES
        assert spread(list(r["passages"].values())) <= 0.25, [(n_words(t), t) for t in r["passages"].values()]


def test_priming_passages_name_no_emotion() -> None:
    for text in priming_passages():
        assert 25 <= n_words(text) <= 45, (n_words(text), text)
        assert 2 <= n_sentences(text) <= 4 and text[-1] == "." and text[0].isupper(), text
        assert "!" not in text, text
        assert not emotion_words_in(text) and not set(words(text)) & (SYNONYMS | set(STYLES)), text


def test_priming_passages_share_nothing() -> None:
    """Each of its own wording and topic, and none taken from a scenario, an event or a request that it may precede."""
    texts = priming_passages()
    starts = Counter(tuple(words(text)[:4]) for text in texts)
    assert [s for s, n in starts.items() if n > 1] == []
    for a, b in combinations(texts, 2):
        assert jaccard(content(a), content(b)) < 0.25, (a, b)
        assert not ngrams(a, 6) & ngrams(b, 6), (a, b)
    others = [text for name in SETS for text in sev_sentences(name)] + few_shot_sentences()
    others += [r["prompt"] for r in load("open_prompts")] + [r["text"] for r in load("replies")]
    for a, b in product(texts, others):
        assert not ngrams(a, 6) & ngrams(b, 6), (a, b)
