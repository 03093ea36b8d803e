"""Datasets: splits that never share a scenario, and errors that name the file and the line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo.config.check import REPOSITORY
from emo.config.schema import DatasetConfig, ElicitationConfig
from emo.core.errors import UserError
from emo.data.scenarios import OPEN, VALENCES, Sample, Splits, load_splits
from emo.model.prompts import messages

PUBLISHED = REPOSITORY.parent / "shared" / "golden" / "published_sev.jsonl"
THEMES = ("Work/Job", "School", "Housing", "Travel")


def record(i: int, theme: str = THEMES[0], **changed: Any) -> dict[str, Any]:
    """Return one valid record."""
    event = {valence: f"Then it was {valence} {i}." for valence in VALENCES}
    return {
        "skeleton_id": f"s{i}",
        "theme": theme,
        "scenario": f"I met number {i}.",
        "event": event,
    } | changed


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """Write a JSONL file and return its name."""
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return str(path)


def even(folder: Path, n: int, **options: Any) -> DatasetConfig:
    """Return the configuration of a file of ``n`` scenarios, spread evenly over THEMES."""
    path = write(folder / f"even{n}.jsonl", [record(i, THEMES[i % 4]) for i in range(n)])
    return DatasetConfig(name="jsonl", path=path, **options)


def ids(part: list[Sample]) -> list[str]:
    """Return the scenario ids of a part in their order, once each."""
    return list(dict.fromkeys(s.scenario_id for s in part))


def check_apart(splits: Splits) -> None:
    """Assert that no scenario, by name or by text, stands in two parts."""
    for field in ("scenario_id", "scenario", "id"):
        seen = [{getattr(s, field) for s in part} for part in splits[:3]]
        assert sum(map(len, seen)) == len(set().union(*seen))


@given(counts=st.lists(st.integers(0, 25), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_splits_never_share_a_scenario(tmp_path_factory: pytest.TempPathFactory, counts: list[int], seed: int) -> None:
    """Directions tested on their own scenarios, strengths read on the test set; or a scenario lost."""
    names = [f"theme {k}" for k, n in enumerate(counts) for _ in range(n)]
    path = write(tmp_path_factory.getbasetemp() / "drawn.jsonl", [record(i, t) for i, t in enumerate(names)])
    config = DatasetConfig(name="jsonl", path=path)
    if len(names) < 4:
        with pytest.raises(UserError, match=r"no scenario left for the .* split|empty"):
            load_splits(config, seed)
        return
    splits = load_splits(config, seed)
    check_apart(splits)
    sizes = splits.scenarios()
    assert sum(sizes) == len(names)
    owed = [share * len(names) for share in (0.6, 0.2, 0.2)]
    assert all(abs(size - share) <= 1.5 for size, share in zip(sizes, owed, strict=True))
    assert splits == load_splits(config, seed)


@given(seed=st.integers(0, 10**6), dev_fraction=st.sampled_from([0.1, 0.2, 0.5]))
def test_the_bundle_reports_on_its_own_file(seed: int, dev_fraction: float) -> None:
    """Extraction and dev divide one file; the held-out file is the test split, whole, whatever the seed."""
    splits = load_splits(DatasetConfig(name="sev", dev_fraction=dev_fraction), seed)
    held_out = load_splits(DatasetConfig(name="sev_test"), 0)
    check_apart(splits)
    assert splits.shipped
    assert {s.scenario for s in splits.test} == {s.scenario for part in held_out[:3] for s in part}
    extract, dev, _ = splits.scenarios()
    assert dev == round(dev_fraction * (extract + dev))


def test_open_prompts_are_tested_on_requests() -> None:
    """Extraction and dev come from sev as always; the 60 requests tell no outcome and ignore themes and valences."""
    given = DatasetConfig(name="open_prompts", themes=["work"], valences=["positive"])
    splits = load_splits(given, 0)
    sev = load_splits(DatasetConfig(name="sev", themes=["work"], valences=["positive"]), 0)
    assert (splits.extract, splits.dev) == (sev.extract, sev.dev)
    assert len(splits.test) == 60
    assert {(s.valence, s.event) for s in splits.test} == {(OPEN, "")}
    assert splits.test[0].text == splits.test[0].scenario
    shown = messages(ElicitationConfig(template="paper"), splits.test[0], "anger", 0)
    assert shown[-1] == {"role": "user", "content": splits.test[0].scenario}


def test_60_20_20_by_theme(tmp_path: Path) -> None:
    """Splits are stratified by theme; every event stays with its scenario."""
    splits = load_splits(even(tmp_path, 80), 3)
    assert splits.scenarios() == (48, 16, 16)
    assert not splits.shipped
    for part, n in zip(splits[:3], (12, 4, 4), strict=True):
        assert Counter(s.theme for s in part) == dict.fromkeys(THEMES, n * len(VALENCES))
        assert Counter(s.valence for s in part) == dict.fromkeys(VALENCES, n * len(THEMES))
        assert all(s.event == f"Then it was {s.valence} {s.scenario_id[1:]}." for s in part)
    assert ids(splits.test) != ids(load_splits(even(tmp_path, 80), 4).test)


def test_limit_takes_themes_in_turn(tmp_path: Path) -> None:
    """A limit of EACH split that takes the first theme only; a large one is no error."""
    splits = load_splits(even(tmp_path, 80, limit=6), 0)
    assert splits.scenarios() == (6, 6, 6)
    for part in splits[:3]:
        counts = Counter(s.theme for s in part)
        assert sorted(counts.values()) == [3, 3, 6, 6]
    whole = load_splits(even(tmp_path, 80), 0)
    assert all(set(a) <= set(b) for a, b in zip(splits[:3], whole[:3], strict=True))
    assert load_splits(even(tmp_path, 80, limit=13), 0).scenarios() == (13, 13, 13)
    assert load_splits(even(tmp_path, 80, limit=99), 0).scenarios() == (48, 16, 16)


def test_themes_and_valences(tmp_path: Path) -> None:
    """A part of a theme's name is enough; an unknown or an ambiguous one names what there is."""
    splits = load_splits(even(tmp_path, 80, themes=["work", "Travel"], valences=["negative"]), 0)
    assert {s.theme for part in splits[:3] for s in part} == {"Work/Job", "Travel"}
    assert {s.valence for part in splits[:3] for s in part} == {"negative"}
    with pytest.raises(UserError, match=r"dataset.themes=Travl: not one of .*; did you mean Travel\?"):
        load_splits(even(tmp_path, 80, themes=["Travl"]), 0)
    with pytest.raises(UserError, match="dataset.themes=o: not one of Housing; School; Travel; Work/Job"):
        load_splits(even(tmp_path, 80, themes=["o"]), 0)


def check_left_out(splits: Splits, theme: str) -> None:
    """Assert that the test split is one theme alone, which no other split has."""
    assert {s.theme for s in splits.test} == {theme}
    assert theme not in {s.theme for part in (splits.extract, splits.dev) for s in part}
    check_apart(splits)


def test_leave_one_theme_out_of_the_bundle() -> None:
    """Directions from seven themes, numbers on the eighth: all of its held-out scenarios, and none of its others."""
    whole = load_splits(DatasetConfig(name="sev"), 0)
    for theme in dict.fromkeys(s.theme for s in whole.test):
        splits = load_splits(DatasetConfig(name="sev", leave_out=theme), 0)
        check_left_out(splits, theme)
        assert splits.test == [s for s in whole.test if s.theme == theme]
        for part, before in zip(splits[:2], whole[:2], strict=True):
            assert part == [s for s in before if s.theme != theme]
    assert load_splits(DatasetConfig(name="sev", leave_out="work"), 0).test[0].theme == "Work/Job"
    assert load_splits(DatasetConfig(name="sev", leave_out="work", limit=3), 0).scenarios() == (3, 3, 3)


def test_leave_one_theme_out_of_one_file(tmp_path: Path) -> None:
    """The theme is tested whole; the rest is divided by dev_fraction, without texts that the theme has too."""
    splits = load_splits(even(tmp_path, 80, leave_out="Travel", dev_fraction=0.25), 0)
    check_left_out(splits, "Travel")
    assert splits.scenarios() == (45, 15, 20)
    twice = [record(i, THEMES[i % 2], scenario=f"I met number {i // 2}.") for i in range(20)]
    twice += [record(i, THEMES[0]) for i in range(20, 40)]
    path = write(tmp_path / "twice.jsonl", twice)
    splits = load_splits(DatasetConfig(name="jsonl", path=path, leave_out="School"), 0)
    check_left_out(splits, "School")
    assert sum(splits.scenarios()) == 30


def test_what_leave_out_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.leave_out=Travl: not one of Housing; .*; did you mean Travel\?"):
        load_splits(even(tmp_path, 80, leave_out="Travl"), 0)
    with pytest.raises(UserError, match=r"leave_out=Travel: not together with dataset.themes"):
        load_splits(even(tmp_path, 80, leave_out="Travel", themes=["Travel", "School"]), 0)
    with pytest.raises(UserError, match=r"dataset=open_prompts have no themes; type dataset=sev"):
        load_splits(DatasetConfig(name="open_prompts", leave_out="work"), 0)
    alone = write(tmp_path / "alone.jsonl", [record(i) for i in range(9)])
    with pytest.raises(UserError, match="no scenario left for the extraction split"):
        load_splits(DatasetConfig(name="jsonl", path=alone, leave_out="work"), 0)


def test_a_test_path_of_ones_own(tmp_path: Path) -> None:
    """The held-out file is the test split; a scenario that stands in both files is refused."""
    own = write(tmp_path / "own.jsonl", [record(i) for i in range(10)])
    other = write(tmp_path / "other.jsonl", [record(i) for i in range(10, 14)])
    splits = load_splits(DatasetConfig(name="jsonl", path=own, test_path=other), 0)
    assert splits.scenarios() == (8, 2, 4)
    again = [record(20), record(21, scenario=" i MET number 3.")]
    shared = write(tmp_path / "shared.jsonl", again)
    with pytest.raises(
        UserError, match=r"test_path: 1 of its 2 scenarios also stand in dataset.path .* 's21', there 's3'"
    ):
        load_splits(DatasetConfig(name="jsonl", path=own, test_path=shared), 0)


def test_one_edited_line_is_another_dataset(tmp_path: Path) -> None:
    """The digest is part of every address: an edited file must not read old artifacts."""
    config = even(tmp_path, 8)
    before = load_splits(config, 0).digest
    write(Path(str(config.path)), [record(i, THEMES[i % 4], scenario=f"I saw number {i}.") for i in range(8)])
    assert load_splits(config, 0).digest != before


def line(**changed: Any) -> str:
    """Return a record as JSON."""
    return json.dumps(record(1, **changed)) + "\n"


BROKEN = {
    "empty": ("", ["empty"]),
    "blank": ("\n \n", ["empty"]),
    "no JSON": (line() + "\n{'a': 1}\n", ["line 3", "not JSON", "column"]),
    "half a line": (line()[:40], ["line 1", "not JSON"]),
    "an array": (line() + "[1]\n", ["line 2", "list", "not a JSON object"]),
    "duplicate id": (line() + line(skeleton_id="s2") + line(), ["line 3", "'s1'", "line 1"]),
    "no id": (line().replace("skeleton_id", "id"), ["line 1", "'skeleton_id'"]),
    "id is a number": (line(skeleton_id=7), ["line 1", "'skeleton_id'", "7"]),
    "blank scenario": (line(scenario=" "), ["line 1", "'scenario'", "non-empty"]),
    "no theme": (line(theme=None), ["line 1", "'theme'", "None"]),
    "event is text": (line(event="It rained."), ["line 1", "'event'", "positive, neutral, negative"]),
    "event missing": (line(event={"positive": "a", "neutral": "b"}), ["line 1", "'negative'"]),
    "event is a number": (line(event=dict.fromkeys(VALENCES, 3)), ["line 1", "'positive'", "3"]),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    """A traceback instead of the line to mend."""
    text, said = BROKEN[name]
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_splits(DatasetConfig(name="jsonl", path=str(path)), 0)
    for part in (str(path), *said):
        assert part in str(error.value)


def test_a_missing_or_foreign_file(tmp_path: Path) -> None:
    """No file, a folder, another encoding."""
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(UserError, match="no such file") as error:
            load_splits(DatasetConfig(name="jsonl", path=str(path)), 0)
        assert str(path) in str(error.value)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(json.dumps(record(1, scenario="Ein Käse."), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8") as error:
        load_splits(DatasetConfig(name="jsonl", path=str(latin)), 0)
    assert str(latin) in str(error.value)


def test_rules_are_counted_for_a_users_file_only(tmp_path: Path) -> None:
    """Broken rules are a warning with counts, never an error; our own sets are tested elsewhere."""
    scenario = "On Monday I carried the two grey boxes from the old office up to the new one alone."  # 17 words
    event = dict.fromkeys(VALENCES, "The boxes were in the new office by noon.")
    good = [record(i, scenario=f"{scenario} {i}", event=event) for i in range(6)]
    angry = record(
        6,
        scenario=f"{scenario} 6",
        event=event | {"negative": "The boxes made all the others angry, at noon."},
    )
    long = record(7, scenario=f"{scenario} 7", event=event | {"positive": "The boxes stood there."})
    path = write(tmp_path / "mine.jsonl", [*good, angry, long, record(8, event=event)])
    found = load_splits(DatasetConfig(name="jsonl", path=path), 0).broken_rules
    assert found == {"scenario not 15-25 words": 1, "event lengths spread over 20 %": 1, "emotion words": 1}
    assert load_splits(DatasetConfig(name="sev"), 0).broken_rules == {}


@pytest.mark.parametrize(
    ("scenario", "event", "angry", "counts"),
    [
        (
            "Am 3. März habe ich die beiden grauen Kisten aus dem alten Büro in das neue im 2. Stock getragen.",
            "Die Kisten waren am Mittag in dem neuen Büro.",
            "Die Kisten waren am Mittag zu meinem Ärger fort.",
            {"emotion words": 1},
        ),
        (
            "星期二早上我把修改过的送货时间表发给了负责北边路线的三位司机师傅。",
            "那三位司机师傅在中午以前都收到了新的时间表。",
            "那三位司机师傅在中午以前都很生气地走开了。",
            {"emotion words": 1},
        ),
        (
            "火曜日の朝、私は新しい配達の予定表を北の道を走る三人の運転手に送りました。",
            "その三人の運転手は昼までに新しい予定表を受け取りました。",
            "その三人の運転手は昼までに怒って帰ってしまったのでした。",
            {},  # no words of it are known
        ),
    ],
    ids=["German", "Chinese", "Japanese"],
)
def test_rules_are_those_of_the_files_language(
    tmp_path: Path, scenario: str, event: str, angry: str, counts: dict[str, int]
) -> None:
    """A set that task=build_sev wrote in another language is not measured by English words and lengths."""
    events = dict.fromkeys(VALENCES, event)
    records = [record(i, scenario=f"{scenario[:-1]}{i}{scenario[-1]}", event=events) for i in range(6)]
    records[0]["event"] = events | {"negative": angry}
    path = write(tmp_path / "mine.jsonl", records)
    assert load_splits(DatasetConfig(name="jsonl", path=path), 0).broken_rules == counts


def test_labelled_texts_are_told_from_scenarios(tmp_path: Path) -> None:
    """A set of task=build_stories is no set of scenarios: what reads it is said."""
    path = write(tmp_path / "stories.jsonl", [{"id": "s0", "topic": "a key", "emotion": "anger", "text": "It was."}])
    with pytest.raises(UserError, match=r"line 1: a text with its emotion, .* dataset=labelled .*dataset.group=topic"):
        load_splits(DatasetConfig(name="jsonl", path=path), 0)


def test_the_published_format() -> None:
    """The authors' file is read as it is, and breaks its own rules as often as was counted by hand."""
    if not PUBLISHED.is_file():
        pytest.skip(f"{PUBLISHED} is not here")
    splits = load_splits(DatasetConfig(name="jsonl", path=str(PUBLISHED)), 0)
    check_apart(splits)
    assert splits.scenarios() == (96, 32, 32)
    assert splits.broken_rules["scenario not 15-25 words"] == 124
    assert splits.broken_rules["event lengths spread over 20 %"] == 97


def test_further_keys_are_ignored(tmp_path: Path) -> None:
    """Whatever else a user keeps in a record, also inside `event`, is not ours to read."""
    records = [record(i, note=[1], event=record(i)["event"] | {"checked": True}) for i in range(5)]
    load_splits(DatasetConfig(name="jsonl", path=write(tmp_path / "mine.jsonl", records)), 0)


def test_a_line_ends_with_a_newline_only(tmp_path: Path) -> None:
    """Texts copied from the web hold line separators; JSON does not escape them."""
    records = [record(i, scenario=f"I saw\u2028number\x85{i}.") for i in range(5)]
    load_splits(DatasetConfig(name="jsonl", path=write(tmp_path / "mine.jsonl", records)), 0)


def test_one_text_under_two_names_stays_together(tmp_path: Path) -> None:
    """The same scenario under several ids must not stand in two splits."""
    records = [record(i, scenario=f"I met number {i // 2}.") for i in range(40)]
    check_apart(load_splits(DatasetConfig(name="jsonl", path=write(tmp_path / "mine.jsonl", records)), 0))


def test_one_text_under_two_themes_stays_together(tmp_path: Path) -> None:
    """The same scenario filed under two themes must not stand in two splits."""
    records = [record(i, THEMES[i % 2], scenario=f"I met number {i // 2}.") for i in range(40)]
    check_apart(load_splits(DatasetConfig(name="jsonl", path=write(tmp_path / "mine.jsonl", records)), 0))
