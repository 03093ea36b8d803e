"""Equal texts, joined groups, exact shares; and the shipped splits, on which every stored number depends."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from support.jobs import config

from emo.config.schema import DatasetConfig
from emo.core.errors import UserError
from emo.data.labelled import BESIDE, ClassSplits, load_items, remarks
from emo.data.scenarios import joined_line, load_splits
from emo.data.splitting import SHARES, divide, drop_shared, folded, join
from emo.pipeline.scenario import Job
from emo.report.remarks import notes

VALENCES = ("positive", "neutral", "negative")


def digest(ids: list[list[str]]) -> str:
    """Return the first hex digits of the ids of three parts, in their order."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "seed", "wanted"),
    [
        ("sev", 0, "497e96434cab4050"),
        ("sev", 1, "c917ecb63eb2c60e"),
        ("sev_test", 0, "6a1c67090fa19d76"),
        ("sev_test", 1, "c24cf4907e41dd07"),
        ("dialogues", 0, "cf0c07154ecfadf1"),
        ("dialogues", 1, "b06a6ae609b98848"),
        ("rhetoric", 0, "955579e4c7a6e847"),
        ("rhetoric", 1, "7c66ac252112c6cd"),
    ],
)
def test_the_shipped_splits_are_what_they_were(name: str, seed: int, wanted: str) -> None:
    """Computed before shares were fractions and equal texts joined: every stored number stands on these parts."""
    if name.startswith("sev"):
        parts = load_splits(DatasetConfig(name=name), seed)[:3]
    else:
        parts = load_items(BESIDE["rhetoric" if name == "dialogues" else "emotion"], None, seed)[:3]
    assert digest([[one.id for one in part] for part in parts]) == wanted


def test_case_space_and_punctuation_tell_no_texts_apart() -> None:
    """Case, white space and punctuation tell no texts apart; letters, marks, digits and pictures do."""
    assert folded(" It’s  TEN, o'clock!") == folded("Its ten oclock") == "itstenoclock"
    assert folded("Straße") == folded("STRASSE")
    assert folded("。好 的！") == folded("好的")
    assert folded("कि") != folded("का")  # vowel signs are no punctuation
    assert folded("I am here 😡") != folded("I am here 😀")
    assert folded("?!") != folded("...")  # of punctuation alone, itself
    assert folded("part 1") != folded("part 2")


def test_groups_with_a_text_in_common_join() -> None:
    """Over several steps; the first names them; others stay as they are."""
    groups = ["a", "a", "b", "b", "c", "c", *"defghijklmnopq"]
    texts = ["One.", "two", "TWO!", "three", "three ", "four", *map(str, range(14))]
    assert join(groups, texts) == (["a"] * 4 + ["c"] * 2 + [*"defghijklmnopq"], 1)  # with c: over a fifth
    assert join(groups + [f"x{i}" for i in range(20)], texts + [f"x{i}" for i in range(20)])[0][:6] == ["a"] * 6


def test_a_phrase_of_all_groups_joins_none() -> None:
    """ "Thank you" in every dialogue would make one group of the whole file; it stays in one part instead."""
    groups = [f"g{i}" for i in range(10) for _ in range(2)]
    texts = [text for i in range(10) for text in ("Thank you.", f"Text {i}")]
    assert join(groups, texts) == (groups, 0)
    parts = [["Thank you.", "Text 1"], ["thank you", "Text 2"], ["Text 3", "Thank you!", "text 2."]]
    assert drop_shared(parts, parts) == ([["Thank you.", "Text 1"], ["Text 2"], ["Text 3"]], 3)


def test_shares_are_exact() -> None:
    """Counts of groups, whatever the number of themes: a sum of floats loses one to a tie."""
    for themes in (1, 3, 7):
        for n in (5, 10, 35):
            for size in (1, 3, 7):
                groups = [[(t, i)] * size for i in range(n) for t in range(themes)]
                parts = divide(groups, [str(group[0][0]) for group in groups], SHARES, 0)
                assert [len(part) for part in parts] == [size * share * n * themes for share in SHARES]
                for t in range(themes):
                    own = [sum(one[0] == t for one in part) for part in parts]
                    assert own == [size * share * n for share in SHARES]
    halves = divide([[i] for i in range(9)], ["a"] * 9, (Fraction(2, 3), Fraction(1, 3)), 1)
    assert [len(part) for part in halves] == [6, 3]


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_every_class_with_three_groups_is_in_every_part(n: int) -> None:
    """Fractions carried from class to class left some without a test text; the shares stay what they were."""
    groups = [[(t, i)] * 3 for i in range(n) for t in range(6)]
    themes = [str(group[0][0]) for group in groups]
    parts = divide(groups, themes, SHARES, 0, every=True)
    assert all({one[0] for one in part} == set(range(6)) for part in parts)
    if n > 4:  # below, the other parts have less than one of each
        assert [len(part) for part in parts] == [len(part) for part in divide(groups, themes, SHARES, 0)]
    assert sorted(one for part in parts for one in part) == sorted(one for group in groups for one in group)


def texts_of(splits: ClassSplits) -> list[set[str]]:
    """Return the folded texts of every part."""
    return [{folded(item.text) for item in part} for part in splits[:3]]


def test_dialogues_that_stand_in_a_file_twice(tmp_path: Path) -> None:
    """27 of 72 test texts stood in train too; the groups join, and it is said."""
    records = [
        {"dialog": [f"Said {i} by {k}." for k in range(3)], "emotion": [1 + (3 * i + k) % 6 for k in range(3)]}
        for i in range(60)
    ]
    again = [{**record, "dialog": [text.upper() for text in record["dialog"]]} for record in records]
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records + again), encoding="utf-8")
    labels = ["1:anger", "2:disgust", "3:fear", "4:happiness", "5:sadness", "6:surprise"]
    given = DatasetConfig(
        name="dailydialog", kind="labelled", path=str(path), text="dialog", label="emotion", labels=labels
    )
    splits = load_items(given, None, 0)
    train, dev, test = texts_of(splits)
    assert not test & train and not test & dev and not train & dev
    assert [len(part) for part in splits[:3]] == [216, 72, 72]
    assert splits.joined == 60
    assert remarks(splits) == ["groups joined: 60, which have a text of another group: no text stands in two splits"]


def test_what_a_class_lacks_is_said(tmp_path: Path) -> None:
    """How many groups it has and how many it needs; six groups of three copies are enough."""

    def given(rows: list[tuple[str, str]]) -> DatasetConfig:
        path = tmp_path / "copies.csv"
        path.write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows), encoding="utf-8")
        return DatasetConfig(name="labelled", kind="labelled", path=str(path), text="text", label="label")

    rows = [(f"Text {i} of {name}", name) for _ in range(3) for i in range(6) for name in "abcdef"]
    splits = load_items(given(rows), None, 0)
    assert all({item.label for item in part} == set("abcdef") for part in splits[:3])
    assert sum(map(len, splits[:3])) == 108
    few = [*rows, ("One of g", "g"), ("Two of g", "g")]
    with pytest.raises(UserError, match=r"no text of 'g' for the \w+ split; a class needs 3 groups, .*of it: 'g' 2\)"):
        load_items(given(few), None, 0)


def scenarios(path: Path, names: list[tuple[str, str]]) -> str:
    """Write scenarios of (id, text)."""
    event = {valence: f"It was {valence}." for valence in VALENCES}
    rows = [{"skeleton_id": a, "theme": "work", "scenario": b, "event": event} for a, b in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_scenarios_that_stand_in_a_file_twice(tmp_path: Path) -> None:
    """Under another id, in capitals, without the full stop: one split, and it is said on the page too."""
    first = [(f"s{i}", f"I met number {i} at the harbour.") for i in range(12)]
    again = [(f"{name}b", text.upper().rstrip(".")) for name, text in first]
    path = scenarios(tmp_path / "dup.jsonl", first + again)
    splits = load_splits(DatasetConfig(name="jsonl", path=path), 0)
    parts = [{folded(sample.scenario) for sample in part} for part in splits[:3]]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12
    assert splits.joined == 12
    line = "scenarios joined: 12, which have the text of another one: no text stands in two splits"
    assert joined_line(splits) == line
    job = Job(config(tmp_path, "dataset=jsonl", f"dataset.path={path}", "evaluator=projection"))
    assert f"S{line[1:]}." in notes(job, {}, None)
    assert load_splits(DatasetConfig(name="sev"), 0).joined == 0


def test_a_test_file_that_shares_scenarios_is_refused(tmp_path: Path) -> None:
    """With their number, one of them, and what to do."""
    own = scenarios(tmp_path / "own.jsonl", [(f"s{i}", f"I met number {i}.") for i in range(10)])
    test = scenarios(
        tmp_path / "test.jsonl", [("t0", "I met number 10."), ("t1", "i met Number 3"), ("t2", "I met number 4.")]
    )
    with pytest.raises(UserError) as caught:
        load_splits(DatasetConfig(name="jsonl", path=own, test_path=test), 0)
    told = str(caught.value)
    assert "2 of its 3 scenarios also stand in dataset.path" in told
    assert "'t1', there 's3'" in told and "leave dataset.test_path out" in told


def test_a_record_without_a_field_shows_one_that_has_all(tmp_path: Path) -> None:
    """Of scenarios and of labelled texts; the example is a record that is read."""
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "a", "scenario": "I waited."}\n', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_splits(DatasetConfig(name="jsonl", path=str(path)), 0)
    shown = json.loads(str(caught.value).partition("such a record is needed: ")[2])
    assert set(shown) == {"skeleton_id", "theme", "scenario", "event"} and set(shown["event"]) == set(VALENCES)
    with pytest.raises(UserError) as caught:
        load_items(DatasetConfig(name="x", kind="labelled", path=str(path), text="dialog", label="emotion"), None, 0)
    told = str(caught.value)
    assert "line 1: no column 'dialog' (dataset.text), only id, scenario" in told
    assert '{"dialog": "The kiln opened and every bowl was whole.", "emotion": "happiness"}' in told


def test_classes_keep_their_share_of_groups() -> None:
    """Groups of several classes are filed under their first: no class is crowded out of a part."""
    splits = load_items(BESIDE["rhetoric"], None, 3)
    assert [len({item.group for item in part}) for part in splits[:3]] == [36, 12, 12]
    assert all(set(Counter(item.label for item in part).values()) == {len(part) // 6} for part in splits[:3])


def test_a_large_group_comes_first() -> None:
    """Dealt last it went to the part that was owed one text, and another part had none."""
    for seed in range(20):
        parts = divide([[0] * 10, [1], [2], [3]], ["a"] * 4, SHARES, seed)
        assert all(parts) and len(parts[0]) >= 10
        assert all(divide([[0], [1] * 4, [2] * 4, [3] * 4], ["a", "b", "b", "b"], SHARES, seed))


def test_a_phrase_of_every_dialogue_stays_in_one_part(tmp_path: Path) -> None:
    """It joins no groups; what is dropped from the other parts is counted."""
    path = tmp_path / "d.jsonl"
    records = [{"dialog": ["Thank you .", f"Bad {i} .", f"Good {i} ."], "emotion": [4, 1, 4]} for i in range(30)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    given = DatasetConfig(
        name="dailydialog", kind="labelled", path=str(path), text="dialog", label="emotion",
        labels=["1:anger", "4:happiness"],
    )  # fmt: skip
    splits = load_items(given, None, 0)
    train, dev, test = texts_of(splits)
    assert "thankyou" in train and not test & train and not dev & train and not dev & test
    assert [len(part) for part in splits[:3]] == [54, 12, 12] and splits.joined == 0
    assert splits.left_out == {"(text of another split)": 12}
