"""Labelled texts: every layout on invented rows, splits by group, and what a wrong file is told."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.jobs import config

from emo.config.schema import DatasetConfig
from emo.core.errors import UserError
from emo.data.labelled import ClassSplits, Item, load_items
from emo.data.scenarios import load_splits
from emo.data.texts import read_jsonl
from emo.pipeline.scenario import Job

EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
N = 10  # rows of each value in an invented file


def dataset(folder: Path, *words: str) -> DatasetConfig:
    """Return the section dataset as the command line composes it."""
    goes_with = [] if "dataset=sev" in words else ["intervention=mask", "evaluator=prediction"]
    return config(folder, "dataset.limit=null", *goes_with, *words).dataset


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def lines(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def every(splits: ClassSplits) -> list[Item]:
    """Return the items of all parts."""
    return [*splits.train, *splits.dev, *splits.test]


def labels_of(splits: ClassSplits) -> dict[str, str]:
    """Return the class of every text."""
    return {item.text: item.label for item in every(splits)}


def text(i: int, value: object) -> str:
    """Return an invented text with a comma, a quote and a line break: what breaks a naive reader of CSV."""
    return f'Row {i} says, "{value}",\nand ends.'


def test_a_topic_of_the_dialogues_lies_in_one_part(tmp_path: Path) -> None:
    """All 360 in the three parts, every topic in one of them, with all of its six emotions."""
    splits = load_items(dataset(tmp_path, "dataset=dialogues"), None, 0)
    assert splits.classes == EMOTIONS and splits.task == "emotion" and splits.left_out == {}
    assert labels_of(splits) == {r["dialogue"]: r["emotion"] for r in read_jsonl("dialogues.jsonl")}
    for part, topics in zip(splits[:3], (36, 12, 12), strict=True):
        assert Counter(Counter(item.group for item in part).values()) == {6: topics}
        assert set(Counter(item.label for item in part).values()) == {topics}
    groups = [{item.group for item in part} for part in splits[:3]]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len({item.id for item in every(splits)}) == 360


def test_a_pair_of_rhetoric_stays_together(tmp_path: Path) -> None:
    """A pair stays together; literal counterparts are the last class; each device has its share of every part."""
    splits = load_items(dataset(tmp_path, "dataset=rhetoric"), None, 0)
    assert splits.classes == ("metaphor", "hyperbole", "humour", "sarcasm", "literal") and splits.task == "rhetoric"
    wanted = {r["text"]: r["device"] for r in read_jsonl("rhetoric.jsonl")}
    counterparts = {r["literal"]: "literal" for r in read_jsonl("rhetoric.jsonl")}
    found = labels_of(splits)
    assert wanted.items() <= found.items() <= (wanted | counterparts).items()
    assert splits.left_out == {"literal": len(wanted) + len(counterparts) - len(found)}
    for part, share in zip(splits[:3], (0.6, 0.2, 0.2), strict=True):
        count = Counter(item.label for item in part)
        assert count["literal"] == max(count[device] for device in splits.classes[:4])  # no class is half of all
        assert all(abs(count[device] - 64 * share) < 2 for device in splits.classes[:4]), count
        pairs = Counter(item.group for item in part if item.label == "literal")
        devices = {item.group: item.label for item in part if item.label != "literal"}
        assert set(pairs.values()) == {1} and pairs.keys() <= devices.keys()
        assert len({devices[group] for group in pairs}) == 4  # counterparts of every device


def test_splits_hang_on_the_seed_alone(tmp_path: Path) -> None:
    """The same seed gives the same parts in the same order, another one others."""
    given = dataset(tmp_path, "dataset=dialogues")
    one, same, other = (load_items(given, None, seed) for seed in (0, 0, 1))
    assert one == same
    assert {item.group for item in one.test} != {item.group for item in other.test}


def test_limit_and_classes(tmp_path: Path) -> None:
    """At most so many of each class in each part; classes that were not asked for are left out and counted."""
    given = dataset(tmp_path, "dataset=dialogues", "dataset.limit=3")
    splits = load_items(given, ["fear", "anger"], 0)
    assert splits.classes == ("fear", "anger")
    assert splits.left_out == dict.fromkeys(("sadness", "happiness", "surprise", "disgust"), 60)
    for part in splits[:3]:
        assert Counter(item.label for item in part) == {"fear": 3, "anger": 3}
    whole = load_items(dataset(tmp_path, "dataset=dialogues"), ["fear", "anger"], 0)
    assert [set(part) <= set(of) for part, of in zip(splits[:3], whole[:3], strict=True)] == [True] * 3


def test_the_published_dialogues(tmp_path: Path) -> None:
    """Their column names, another word for an emotion, and a topic that no two parts share."""
    rows = [
        {"topic": f"t{i % 5}", "label": name, "dialogue": f"A: {name} {i}.\nB: Yes."}
        for i in range(N)
        for name in ("happy", "anger")
    ]
    path = lines(tmp_path / "published.jsonl", rows)
    words = ("dataset=dialogues", f"dataset.path={path}", "dataset.label=label")
    splits = load_items(dataset(tmp_path, *words, "dataset.labels=[happy:happiness,anger:anger]"), None, 0)
    assert splits.classes == ("happiness", "anger") and len(every(splits)) == 2 * N
    assert sorted(len({item.group for item in part}) for part in splits[:3]) == [1, 1, 3]


def layout(name: str, folder: Path) -> tuple[Path, dict[str, str], dict[str, int]]:
    """Return an invented file in the layout of a public set, the class of every text, and what is left out."""
    if name == "dailydialog":
        ids = {1: "anger", 2: "disgust", 3: "fear", 4: "happiness", 5: "sadness", 6: "surprise"}
        records = [
            {"dialog": [f"Said {i} {k} .", f" Answer {i} {k} . "], "act": [1, 2], "emotion": [0, k]}
            for i in range(N)
            for k in ids
        ]
        wanted = {f"Answer {i} {k} .": name for i in range(N) for k, name in ids.items()}
        return lines(folder / "train.jsonl", records), wanted, {"0": N * len(ids)}
    header, file, values = {
        "trofi": (("verb", "sentence", "verb_idx", "label"), "TroFi_formatted_all3737.csv", ("1", "0")),
        "colbert": (("text", "humor"), "dataset.csv", ("True", "False")),
        "iac_v2": (("class", "id", "text"), "GEN-sarc-notsarc.csv", ("sarc", "notsarc")),
        "hypo": (("HYPO", "PARAPHRASES", "MINIMAL UNITS CORPUS"), "HYPO.tsv", ("loud", "plain")),
    }[name]
    made = [(text(i, value), value) for i in range(N) for value in values]
    if name == "hypo":  # no quotes in a TSV: those of a text are its own
        said = {value: [f'"Row {i}, {value}' for i in range(N + 1)] for value in values}
        rows = [*zip(said["loud"], said["plain"], map(str, range(N)), strict=False), (said["loud"][N], "", "")]
        (folder / file).write_text("".join("\t".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")
        wanted = {one: value for value in values for one in said[value]}
        del wanted[said["plain"][N]]
        return folder / file, wanted, {"(no text)": 1}
    rows = {
        "trofi": [("absorb", said, 3, value) for said, value in made],
        "colbert": made,
        "iac_v2": [(value, i, said) for i, (said, value) in enumerate(made)],
    }[name]
    return table(folder / file, header, rows), dict(made), {}


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("dailydialog", {}),
        ("trofi", {"1": "metaphor", "0": "literal"}),
        ("hypo", {"loud": "hyperbole", "plain": "literal"}),
        ("colbert", {"True": "humour", "False": "literal"}),
        ("iac_v2", {"sarc": "sarcasm", "notsarc": "literal"}),
    ],
)
def test_a_ready_configuration_reads_its_layout(name: str, names: dict[str, str], tmp_path: Path) -> None:
    """Each ready configuration reads its layout: every text with its class, nothing else."""
    path, wanted, left_out = layout(name, tmp_path)
    splits = load_items(dataset(tmp_path, f"dataset={name}", f"dataset.path={path}"), None, 0)
    assert labels_of(splits) == {said: names.get(value, value) for said, value in wanted.items()}
    assert splits.left_out == left_out
    assert splits.classes == (tuple(names.values()) or EMOTIONS)
    assert splits.task == ("rhetoric" if names else "emotion")


def test_utterances_of_a_dialogue_stay_together(tmp_path: Path) -> None:
    """A row of lists is a group of its own."""
    records = [{"dialog": [f"Oh no {i} .", f"I {i} ."], "act": [1, 1], "emotion": [3, 4]} for i in range(N)]
    path = lines(tmp_path / "d.jsonl", records)
    splits = load_items(dataset(tmp_path, "dataset=dailydialog", f"dataset.path={path}"), ["fear", "happiness"], 0)
    assert [len(part) for part in splits[:3]] == [12, 4, 4]
    assert all(set(Counter(item.group for item in part).values()) == {2} for part in splits[:3])


def test_equal_texts_are_one_group(tmp_path: Path) -> None:
    """A text that stands in two rows must not be trained on and tested."""
    rows = [(f"Text {i}.", value) for i in range(N) for value in ("a", "b")] + [("text  0.", "a"), ("TEXT 1.", "b")]
    path = table(tmp_path / "t.csv", ("text", "label"), rows)
    splits = load_items(dataset(tmp_path, "dataset=labelled", f"dataset.path={path}"), None, 0)
    groups = [{" ".join(item.text.lower().split()) for item in part} for part in splits[:3]]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


GOOD = "text,label\n" + "".join(f"Row {i}.,{'ab'[i % 2]}\n" for i in range(2 * N))


@pytest.mark.parametrize(
    ("file", "content", "words", "said"),
    [
        ("t.csv", GOOD, ["dataset.text=txt"], "line 2: no column 'txt' (dataset.text), only text, label; did you mean"),
        ("t.csv", GOOD, ["dataset.label=class"], "no column 'class' (dataset.label), only text, label"),
        ("t.csv", GOOD, ["dataset.group=topic"], "no column 'topic' (dataset.group)"),
        ("t.csv", "", [], "empty; a header and one row per text"),
        ("t.csv", "text,label\n", [], "empty; a header and one row per text"),
        ("t.csv", GOOD, ["dataset.labels=[x:anger,y:fear]"], "no text of 'anger', 'fear' for the train split"),
        ("t.csv", GOOD, ["dataset.labels=[x:anger,y:fear]"], "left out: 'a', 'b'"),
        ("t.csv", GOOD.replace(",b", ",a", N - 1), [], "no text of 'b' for the"),
        ("t.csv", GOOD, ["dataset.labels=[a]"], "'a' is not VALUE:CLASS"),
        ("t.csv", GOOD, ["dataset.labels=[a:x,a:y]"], "'a:y' is not VALUE:CLASS with a value of its own"),
        ("t.csv", GOOD, ["dataset.label=null"], "dataset.labels must be the one class of all texts"),
        ("t.csv", GOOD, [f"dataset.test_path={__file__}"], "dataset.test_path: labelled texts are one file"),
        ("t.csv", GOOD + "Hello, you.,a\n", [], "line 22: 3 cells, the header has 2; put quotes"),
        ("t.csv", b"text,label\ncaf\xe9,a\n", [], "not UTF-8 (byte 14)"),
        ("t.txt", GOOD, [], "not a .jsonl, .json, .csv, .tsv or .parquet file"),
        ("t.jsonl", '{"text": "a"\n', [], "line 1: not JSON"),
        ("t.jsonl", '\n["a"]\n', [], "line 2: a list, not a JSON object"),
        ("t.jsonl", '{"text": 3, "label": "a"}\n', [], "line 1: 'text' must be a text, is 3"),
        ("t.jsonl", '{"text": ["a", "b"], "label": [1]}\n', [], "must be lists of one length"),
        ("t.jsonl", '{"text": ["a", "b"], "label": 1}\n', [], "must be lists of one length"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(
    file: str, content: str | bytes, words: list[str], said: str, tmp_path: Path
) -> None:
    """One line that names the file, and the line or the column."""
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_items(dataset(tmp_path, "dataset=labelled", f"dataset.path={path}", *words), None, 0)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert path.name in str(caught.value) or "dataset." in str(caught.value)


def test_a_long_list_of_classes_is_not_shown_whole(tmp_path: Path) -> None:
    """The text column taken for the label column: every text would be a class."""
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"Row {i}.,a\n" for i in range(3 * N)), encoding="utf-8")
    with pytest.raises(UserError, match=r"'Row \d+\.' and \d+ more for the \w+ split"):
        load_items(dataset(tmp_path, "dataset=labelled", f"dataset.path={path}", "dataset.label=text"), None, 0)


def test_rows_without_text_or_label_are_left_out(tmp_path: Path) -> None:
    """A short row, an empty cell, a null: counted, in no part, no class of their own."""
    rows = [{"text": f"Row {i}.", "label": "ab"[i % 2]} for i in range(2 * N)]
    rows += [{"text": "", "label": "a"}, {"text": "x", "label": None}, {"text": "y", "label": " "}]
    path = lines(tmp_path / "t.jsonl", rows)
    splits = load_items(dataset(tmp_path, "dataset=labelled", f"dataset.path={path}"), None, 0)
    assert splits.left_out == {"(no text)": 1, "(no label)": 2} and splits.classes == ("a", "b")
    short = tmp_path / "t.csv"
    short.write_text(GOOD + "Only a text.\n", encoding="utf-8")
    splits = load_items(dataset(tmp_path, "dataset=labelled", f"dataset.path={short}"), None, 0)
    assert splits.left_out == {"(no label)": 1} and len(every(splits)) == 2 * N


def test_a_file_is_needed(tmp_path: Path) -> None:
    """The line says which kinds are read."""
    for name in ("labelled", "dailydialog", "trofi", "hypo", "colbert", "iac_v2"):
        with pytest.raises(
            UserError, match=rf"dataset={name} needs dataset.path=FILE, a .jsonl, .json, .csv, .tsv or .parquet"
        ):
            dataset(tmp_path, f"dataset={name}")


def test_scenarios_and_labelled_texts_are_not_mixed_up(tmp_path: Path) -> None:
    """Each reader refuses what the other one reads."""
    with pytest.raises(UserError, match="dataset=sev: no labelled texts"):
        load_items(dataset(tmp_path, "dataset=sev"), None, 0)
    with pytest.raises(UserError, match="dataset=dialogues: labelled texts, no scenarios; type dataset=sev"):
        load_splits(dataset(tmp_path, "dataset=dialogues"), 0)


def test_a_job_on_scenarios_does_not_read_the_columns(tmp_path: Path) -> None:
    """Its address is what it was before there were labelled texts."""
    one, other = (
        Job(config(tmp_path, *words)).result_address
        for words in ((), ("dataset.text=x", "dataset.label=y", "dataset.labels=[a:b]", "dataset.task=rhetoric"))
    )
    assert one == other


def test_one_class_is_no_choice(tmp_path: Path) -> None:
    """Nothing can be named, and nothing compared."""
    with pytest.raises(UserError, match="'fear' alone is no choice; two classes are needed"):
        load_items(dataset(tmp_path, "dataset=dialogues"), ["fear"], 0)
