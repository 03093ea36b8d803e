"""The rules of texts: what each refuses, in several languages, and what the shipped sets are by them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emo.config.choices import LANGUAGES
from emo.core.errors import UserError
from emo.data.language_words import read_language
from emo.data.text_rules import emotion_words_in, event_rules, n_sentences, persons_in, scenario_rules
from emo.data.texts import read_jsonl

GOOD = {
    "en": "On Tuesday morning I sent the revised delivery schedule to the three drivers who cover the northern route.",
    "de": "Am Dienstag habe ich den neuen Lieferplan an die drei Fahrer geschickt, die im Norden der Stadt unterwegs "
    "sind.",
    "fr": "Mardi matin, j'ai envoyé le nouveau planning des livraisons aux trois chauffeurs qui desservent le nord.",
    "es": "El martes por la mañana envié el nuevo plan de entregas a los tres conductores que cubren la ruta norte.",
    "zh": "星期二早上我把修改过的送货时间表发给了负责北边路线的三位司机师傅。",
}
EMOTIONAL = {
    "en": "happily",
    "de": "wütend",
    "fr": "furieux",
    "es": "tristemente",
    "zh": "高兴",
}


def rules(text: str, code: str = "en") -> set[str]:
    return {broken.rule for broken in scenario_rules(text, read_language(code))}


def test_the_shipped_sets_keep_the_rules_but_for_the_one_of_the_pronouns() -> None:
    """7 of 320 triples change their subject in the middle: the limit that the docstring names."""
    english, found = read_language("en"), Counter()
    for row in (*read_jsonl("sev.jsonl"), *read_jsonl("sev_test.jsonl")):
        found.update(broken.rule for broken in scenario_rules(row["scenario"], english))
        found.update(broken.rule for broken in event_rules(row["event"], english))
    assert found == {"same participants": 7}


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_plain_scenario_passes_and_one_with_an_emotion_does_not(code: str) -> None:
    assert rules(GOOD[code], code) == set()
    end = GOOD[code][-1]
    said = f"{GOOD[code][:-1]}{'' if code == 'zh' else ' '}{EMOTIONAL[code]}{end}"
    assert rules(said, code) == {"emotion words"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("I packed my bag.", "length"),
        (GOOD["en"][:-1] + " and then to the two more who cover all of the south coast.", "length"),
        (GOOD["en"].replace("I sent", "Ada sent"), "first person"),
        (GOOD["en"].replace(" who cover", ". We cover"), "one sentence"),
        (GOOD["en"][:-1], "one sentence"),
        (GOOD["en"].replace("revised", "disappointing"), "emotion words"),
    ],
)
def test_every_rule_of_a_scenario_refuses(text: str, rule: str) -> None:
    assert rules(text) == {rule}


EVENTS = {
    "positive": "The drivers finished two hours earlier than under the old plan.",
    "neutral": "The drivers finished in the same hours as under the plan.",
    "negative": "The drivers finished two hours later than under the old plan.",
}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"negative": "The drivers finished two hours later than under the old plan of March and April."}, "spread"),
        ({"negative": "Then drivers finished two hours later than under the old plan."}, "same participants"),
        (
            {"positive": "The drivers told me of the new plan for her street.",
             "negative": "The drivers told him of the old plan and his street."},
            "same participants",
        ),
        ({"negative": "The drivers finished. They were later than under the old plan."}, "one sentence"),
        ({"negative": "The drivers were furious for two hours under the old plan."}, "emotion words"),
        ({"negative": "The drivers finished in the same hours as under the plan."}, "alike"),
    ],
)  # fmt: skip
def test_every_rule_of_events_refuses(change: dict[str, str], rule: str | None) -> None:
    found = {broken.rule for broken in event_rules(EVENTS | change, read_language("en"))}
    assert found == ({rule} if rule else set())


@pytest.mark.parametrize(
    ("text", "n", "code"),
    [
        ("Dr. Hale came at 5 p.m. on Monday and paid 3.50 euros.", 1, "en"),
        ("Mr. and Mrs. Lee left early, at 7 a.m. Monday.", 1, "en"),
        ("It rained... and then it stopped.", 1, "en"),
        ("It rained. We left!", 2, "en"),
        ("I live at number 3. Ada came.", 2, "en"),
        ("He asked “Is it open?” and left.", 1, "en"),
        ("我去了车站。火车晚点了。", 2, "zh"),
        ("no end", 0, "en"),
        ("Am 3. März habe ich die Kisten in den 2. Stock getragen.", 1, "de"),
        ("Ich wohne in Nummer 3. Der Bus hält dort.", 2, "de"),
        ("Ich zog 2019. Ada blieb dort.", 2, "de"),
        ("Die Nachbarin sagte zu mir: „Kommen Sie morgen.“", 1, "de"),
        ("Sie sagte: „Kommen Sie.“ Dann ging sie.", 2, "de"),
        ("Er fragte mich: »Ist offen?«", 1, "de"),
        ("Elle m'a dit : « Venez demain. »", 1, "fr"),
        ("Elle m'a dit : « Venez. » Puis elle partit.", 2, "fr"),
    ],
)
def test_sentences_are_counted(text: str, n: int, code: str) -> None:
    assert n_sentences(text, read_language(code)) == n


def test_beginnings_of_words_are_found_and_friends_are_not_joy() -> None:
    german = read_language("de")
    assert emotion_words_in("Die Überraschung war groß, aber mein Freund kam nicht.", german) == ["überraschung"]


@pytest.mark.parametrize(
    ("text", "found", "code"),
    [
        ("Ich bin wu\u0308tend.", ["wütend"], "de"),  # a letter and its sign
        ("Ich bin wuetend und unglücklich.", ["wuetend", "unglücklich"], "de"),
        ("Meine Prüfungsangst und die Pruefungsaengste der anderen.", ["prüfungsangst", "pruefungsaengste"], "de"),
        ("Herr Hassan spricht in Freudenstadt von der Armut.", [], "de"),
        ("我今天很高興。", ["高興"], "zh"),
    ],
)
def test_an_emotion_word_is_found_however_it_is_written(text: str, found: list[str], code: str) -> None:
    """Compounds, umlauts without their letters, either way of writing Chinese; names are none."""
    assert emotion_words_in(text, read_language(code)) == found


@pytest.mark.parametrize(
    ("text", "persons", "code"),
    [
        ("我和其他人坐在那里弹吉他。", {"first"}, "zh"),
        ("他把信给了你。", {"he", "you"}, "zh"),
        ("Mir muss der Zug, er war zu spät, egal sein.", {"first"}, "de"),
        ("Il pleuvait et elle était en retard, la lettre.", set(), "fr"),
        ("He told her of it.", {"he", "she"}, "en"),
    ],
)
def test_only_what_stands_for_persons_names_them(text: str, persons: set[str], code: str) -> None:
    assert persons_in(text, read_language(code)) == persons


def test_a_language_of_ones_own(tmp_path: Path) -> None:
    """A file gives its words; what it lacks is said."""
    file = tmp_path / "it.txt"
    file.write_text("# mine\nname: Italian\nfirst: io mi mio ho\nscenario: 3 9\nfelice\narrabbi*\n", encoding="utf-8")
    italian = read_language("it", str(file))
    assert scenario_rules("Ieri ho portato la valigia.", italian) == []
    assert [b.rule for b in scenario_rules("Ieri ho portato, arrabbiata, la valigia.", italian)] == ["emotion words"]
    for text, said in (("first: io\nfelice\n", "name"), ("name: Italian\nfirst: io\n", "no emotion words"),
                       ("name: I\nfirst: io\nscenario: 9\nx\n", "two whole numbers")):  # fmt: skip
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said):
            read_language("it", str(file))
    with pytest.raises(UserError, match="en, de, zh, fr, es"):
        read_language("it")
