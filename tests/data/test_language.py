"""Which language a reply is in, and that the English dictionary speaks of English replies only."""

from __future__ import annotations

import importlib.util
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from support.jobs import config, read_result, read_rows

from emo.cli.run import run_job
from emo.config.check import REPOSITORY
from emo.config.schema import EvaluatorConfig
from emo.data.language import ENGLISH, common_language, language, small_words, words_of
from emo.data.texts import CORPUS, read_jsonl, shipped_words
from emo.measure.encoder import PACKAGE, vocabulary
from emo.measure.fluency import fluency
from emo.measure.labels import hits

pytestmark = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
BOUNDS = EvaluatorConfig(name="margin")
ROWS = [
    json.loads(line)
    for line in (REPOSITORY / "tests" / "texts" / "fluent_replies.jsonl").read_text(encoding="utf-8").splitlines()
]
LANGUAGES = tuple(dict.fromkeys(row["language"] for row in ROWS))
SHIPPED = [row["text"] for name in (*CORPUS, "replies.jsonl") for row in read_jsonl(name)]
PLAIN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # what a word was before other scripts were read


def replies(name: str) -> list[str]:
    """Return the fluent replies in one language."""
    return [row["text"] for row in ROWS if row["language"] == name]


@pytest.mark.parametrize("name", LANGUAGES)
def test_fluent_replies_are_clean_and_loops_are_not(name: str) -> None:
    """All of them, where the replies around them tell the language; most tell it by themselves."""
    texts = replies(name)
    assert len(texts) == 10 and common_language(texts) == name
    found = [fluency(text, BOUNDS, name) for text in texts]
    assert not any(one.degenerate for one in found)
    assert all((one.nonwords is None) == (name != ENGLISH) for one in found)
    assert sum(language(text) == name for text in texts) >= 7
    assert all(fluency(" ".join([text] * 4), BOUNDS, name).degenerate for text in texts)
    assert all(fluency("".join([text[:5]] * 12), BOUNDS, name).degenerate for text in texts)
    assert fluency("", BOUNDS, name).degenerate and fluency("!!! 123", BOUNDS, name).degenerate
    clean = [hits({"label": "anger", "forced": None}, "anger", one.degenerate)["clean_accuracy"] for one in found]
    assert clean == [1.0] * 10


def test_the_language_that_is_expected_is_not_believed_against_evidence() -> None:
    """English replies among German ones are measured as English, and the other way round."""
    for text in replies(ENGLISH):
        assert fluency(text, BOUNDS, "German") == fluency(text, BOUNDS)
    for name in LANGUAGES[1:]:
        assert all(language(text, ENGLISH) in (name, ENGLISH) for text in replies(name))
    assert fluency("Mzkx idrz qwpf vbnt lkjh", BOUNDS, "German").nonwords is None
    assert common_language(["...", "Mzkx"]) == ENGLISH


def broken(text: str, rng: random.Random) -> str:
    """Return a reply as a model under too strong an edit writes it: words of noise, scrambled, cut off, repeated."""
    words = []
    for word in text.split():
        draw = rng.random()
        if draw < 0.3:
            word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in word)
        elif draw < 0.5:
            word = "".join(rng.sample(word, len(word)))
        elif draw < 0.6:
            word = word[: rng.randint(1, len(word))]
        words += [word] * (3 if draw > 0.9 else 1)
    return " ".join(words)


def test_english_replies_keep_their_values() -> None:
    """Also broken ones, their first words, and words in a row without a sentence: no other language is seen in them."""
    rng = random.Random(0)
    known = sorted(vocabulary())
    noise = [broken(text, rng) for text in SHIPPED[::2]]
    noise += [" ".join(rng.sample(known, n)) for n in (3, 5, 10, 20) for _ in range(500)]
    texts = [*SHIPPED, *(" ".join(text.split()[:k]) for text in SHIPPED[::2] for k in (1, 2, 3))]
    texts += [
        "ughhhh blarg",
        "Oh no no no no no",
        "die die die die",
        "No.",
        "ha ha ha",
        "a e i o u",
        "的 angry 了 so 不",
    ]
    assert Counter(map(language, texts)) == {ENGLISH: len(texts)}
    told = Counter(map(language, noise))
    assert told[ENGLISH] >= len(noise) - 2  # words drawn at random can be those of another language
    texts += [text for text in noise if language(text) == ENGLISH]
    for text in texts[:: len(texts) // 1000]:
        words = [word.lower() for word in PLAIN.findall(text)]
        assert words_of(text) == words
        strange = sum(not any(w in vocabulary() or w in shipped_words() for w in _forms(word)) for word in words)
        assert fluency(text, BOUNDS).nonwords == (strange / len(words) if words else 0.0)


def _forms(word: str) -> tuple[str, str]:
    plain = word.replace("’", "'")
    return plain, plain.split("'")[0]


def test_marks_belong_to_the_letters_before_them() -> None:
    assert words_of("हिन्दी में") == ["हिन्दी", "में"] and words_of("لَقَدْ كَانَ") == ["لَقَدْ", "كَانَ"]
    assert words_of("ที่นี่ ดี") == ["ที่นี่", "ดี"]
    assert fluency(replies("Chinese")[0], BOUNDS).words == len(re.findall(r"\w", replies("Chinese")[0]))


def test_small_words_are_lists_without_repeats() -> None:
    lists = small_words()
    assert len(lists) == 22 and min(map(len, lists.values())) >= 35
    assert all(word == word.lower() for words in lists.values() for word in words)


def write_german(_: object, __: object, rows: object, *more: object) -> list[list[int]]:
    """Stand in for `emo.model.generate.generate`: the bytes of a German reply, whatever was asked."""
    texts = replies("German")
    written = [list(texts[i % 10].encode()) for i, _ in enumerate(rows)]  # type: ignore[arg-type]
    if len(more) > 5:
        for i, ids in enumerate(written):
            more[-1](i, ids)  # type: ignore[operator]
    return written


def test_a_job_says_which_language_its_replies_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    monkeypatch.setattr("emo.measure.batch.generate", write_german)
    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.decode", lambda _, ids, **__: bytes(ids).decode())
    monkeypatch.setattr("emo.pipeline.lens.texts_of", lambda _, ids: list(map(str, ids)))
    assert run_job(config(tmp_path, "console=rich", "control.arms=[]")) == 0
    out, result = capsys.readouterr().out, read_result(tmp_path)
    assert {tuple(counts) for counts in result["languages"].values()} == {("German",)}
    line = "Languages of the replies: none German 100%; prompt German 100%; steer German 100%."
    page = next(tmp_path.glob("run/*/report.html")).read_text(encoding="utf-8")
    assert line in out and line in page and "measured on English ones only" in page
    assert result["facts"]["language of replies"] == "German 100%"
    assert result["arms"]["steer"]["degenerate"]["value"] == 0.0
    rows = read_rows(next(tmp_path.glob("run/*/samples.jsonl")))
    assert {row["nonwords"] for row in rows} == {None}
    monkeypatch.setattr("emo.measure.batch.generate", None)  # rules of what is degenerate touch no reply
    assert run_job(config(tmp_path, "control.arms=[]", "evaluator.min_distinct4=1", "evaluator.max_nonwords=0.1")) == 0
    stricter = [json.loads(path.read_text()) for path in tmp_path.glob("run/*/result.json")]
    assert len({one["arms"]["steer"]["degenerate"]["value"] for one in stricter}) == 2


def test_a_strength_is_feasible_for_replies_of_another_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emo.pipeline.scenario import Job

    monkeypatch.setattr("emo.measure.batch.generate", write_german)
    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.decode", lambda _, ids, **__: bytes(ids).decode())
    words = ("intervention.alpha=auto", "intervention.select.alpha=[0.5]", "intervention.select.max_ppl_ratio=1e9")
    choice = Job(config(tmp_path, *words)).selection
    assert choice is not None and choice.feasible and choice.tried[0]["degenerate"] == 0.0
