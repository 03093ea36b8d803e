"""Files as people have them: delimiters, headers, quotes, gzip, folders, arrays, parquet, labels of every kind."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from support.jobs import config

from emo.config.schema import DatasetConfig
from emo.core.errors import UserError
from emo.data.delimited import Layout, read_table
from emo.data.labelled import ClassSplits, load_items, remarks

NAMES = ("anger", "sadness", "fear")
N = 10  # texts of each class
PAIRS = [(f"Text {i}, of {name}", name) for i in range(N) for name in NAMES]


def given(path: Path, *words: str) -> DatasetConfig:
    """Return the section dataset as the command line composes it."""
    goes_with = ["dataset=labelled", "intervention=mask", "evaluator=prediction", "dataset.limit=null"]
    return config(path.parent, *goes_with, f"dataset.path={path}", *words).dataset


def read(path: Path, *words: str) -> ClassSplits:
    """Return the splits of a file of texts with an emotion each."""
    return load_items(given(path, *words), NAMES, 0)


def pairs(splits: ClassSplits) -> list[tuple[str, str]]:
    """Return all texts with their classes, sorted."""
    return sorted((item.text, item.label) for part in splits[:3] for item in part)


def refused(path: Path, *words: str) -> str:
    """Return the line that is said about a file."""
    with pytest.raises(UserError) as caught:
        read(path, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(path: Path, rows: list[tuple[str, ...]], delimiter: str = ",", **how: object) -> Path:
    """Write a table with all that needs it in quotes."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter, **how).writerows(rows)  # type: ignore[arg-type]
    return path


TABLE = [("text", "label"), *PAIRS]
LAYOUTS = {
    "semicolon": ("t.csv", TABLE, ";", ()),
    "pipe": ("t.CSV", TABLE, "|", ()),
    "typed": ("t.csv", TABLE, "#", ("dataset.delimiter='#'",)),
    "by name": ("t.txt", TABLE, "\t", ("dataset.delimiter=tab",)),
    "tabs": ("t.tsv", TABLE, "\t", ()),
    "tabs in a csv": ("t.csv", TABLE, "\t", ()),
    "spaces": ("t.csv", [(" text", "label "), *PAIRS], ",", ()),
    "no header": ("t.csv", PAIRS, ",", ("dataset.header=false", "dataset.text=0", "dataset.label=1")),
    "no header, tabs": (
        "t.TSV", [(name, "x", text) for text, name in PAIRS], "\t",
        ("dataset.header=false", "dataset.text=2", "dataset.label=0"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_text_of_a_table_has_its_class(name: str, tmp_path: Path) -> None:
    """Every text with its class, whatever stands between them."""
    file, rows, delimiter, words = LAYOUTS[name]
    splits = read(written(tmp_path / file, list(rows), delimiter), *words)
    assert pairs(splits) == sorted(PAIRS) and remarks(splits) == []


@pytest.mark.parametrize("mark", [";", "|", "semicolon", "pipe"])
def test_a_delimiter_may_be_typed_as_it_is(mark: str, tmp_path: Path) -> None:
    """The command line has its own meaning for some: quotes keep it."""
    path = written(tmp_path / "t.csv", TABLE, {"semicolon": ";", "pipe": "|"}.get(mark, mark))
    assert pairs(read(path, f"dataset.delimiter='{mark}'")) == sorted(PAIRS)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dataset.delimiter=ab", "dataset.delimiter=ab: type one character, or comma"),
        ("dataset.multilabel=all", "dataset.multilabel=all: not one of skip, first"),
    ],
)
def test_a_column_that_is_not_there_is_refused(word: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        given(written(tmp_path / "t.csv", TABLE), word)


def test_json_gzip_and_folders(tmp_path: Path) -> None:
    """An array, a packed file, a folder; the digest of a folder is of all of its files."""
    records = [{"text": text, "label": name} for text, name in PAIRS]
    array = tmp_path / "t.json"
    array.write_text(json.dumps(records, indent=1), encoding="utf-8")
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    for path in (array, packed):
        assert pairs(read(path)) == sorted(PAIRS)
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "README.md").write_text("Texts.", encoding="utf-8")
    for k in range(2):
        (folder / f"{k}.csv.gz").write_bytes(
            gzip.compress(written(tmp_path / "x.csv", [TABLE[0], *PAIRS[k::2]]).read_bytes())
        )
    one = read(folder)
    assert pairs(one) == sorted(PAIRS) and len({item.id for part in one[:3] for item in part}) == len(PAIRS)
    (folder / "1.csv.gz").write_bytes(gzip.compress(written(tmp_path / "x.csv", [TABLE[0], *PAIRS[3::2]]).read_bytes()))
    assert read(folder).digest != one.digest
    (folder / "more.jsonl").write_text("", encoding="utf-8")
    assert "a folder of files of one kind is needed, it has .csv, .jsonl" in refused(folder)
    packed.write_bytes(packed.read_bytes()[:40])
    assert "no whole gzip file" in refused(packed)
    array.write_text("[1]", encoding="utf-8")
    assert "record 1: a int, not a JSON object" in refused(array)


def test_parquet_without_its_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by pandas; without its engine one line says what to install."""
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")

    def missing(_: Path) -> pd.DataFrame:
        raise ImportError("no engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    assert "reading parquet needs pyarrow; type pip install pyarrow" in refused(path)
    holes = pd.DataFrame(
        {"text": [text for text, _ in PAIRS] + ["x"], "label": [float(NAMES.index(name)) for _, name in PAIRS] + [None]}
    )
    monkeypatch.setattr(pd, "read_parquet", lambda _: holes)
    splits = read(path, "dataset.labels=[0:anger,1:sadness,2:fear]")  # pandas has 0.0 where a number is missing
    assert pairs(splits) == sorted(PAIRS) and splits.left_out == {"(no label)": 1}


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """120 of 180 texts vanished for their capitals; NaN was a class."""
    rows = [
        (text, name if i % 3 else [name.upper(), f" {name.title()}"][i % 2]) for i, (text, name) in enumerate(PAIRS)
    ]
    splits = read(
        written(tmp_path / "t.csv", [TABLE[0], *rows, ("What?", "joy"), ("No.", ""), ("So", "NaN"), ("", "fear")])
    )
    assert pairs(splits) == sorted(PAIRS)
    assert splits.left_out == {"joy": 1, "(no label)": 2, "(no text)": 1}
    assert splits.matched == {"ANGER": "anger", "Anger": "anger"}
    assert remarks(splits) == [
        "left out: 4 texts: 2 (no label), 1 joy, 1 (no text)",
        "labels matched whatever their case and spaces: ANGER as anger, Anger as anger",
    ]
    path = tmp_path / "nan.jsonl"
    lines = [
        json.dumps({"text": text, "label": float("nan") if i % 5 == 4 else name})
        for i, (text, name) in enumerate(PAIRS)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    splits = load_items(given(path), None, 0)  # without a list of classes: those of the file
    assert splits.classes == NAMES and splits.left_out == {"(no label)": 6}


def test_spellings_of_classes_of_the_file(tmp_path: Path) -> None:
    """One class, called as most texts call it; two that were listed apart are not guessed between."""
    rows = [(text, name if i % 4 else name.upper()) for i, (text, name) in enumerate(PAIRS)]
    splits = load_items(given(written(tmp_path / "t.csv", [TABLE[0], *rows])), None, 0)
    assert set(splits.classes) == set(NAMES) and set(splits.matched) == {name.upper() for name in NAMES}
    path = written(tmp_path / "u.csv", [TABLE[0], *PAIRS, ("Us?", "Us")])
    words = "dataset.labels=[us:anger,US:fear,sadness:sadness,anger:anger,fear:fear]"
    assert "the value 'Us' may be us or US; list it as one of them" in refused(path, words)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """The last one won without a word; so it did for fields of an object."""
    path = written(tmp_path / "t.csv", [("text", "label", " label"), *((a, b, "fear") for a, b in PAIRS)])
    assert "line 1: two columns are called 'label'" in refused(path)
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": "fear", "label": "anger"}\n', encoding="utf-8")
    assert "line 1: two fields are called 'label'" in refused(path)


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    """Refused with their number; skipped and counted, or the first is taken and it is said."""
    rows = [*PAIRS, ("Both of a", "anger,fear"), ("Both of b", "fear; joy"), ("Other", "joy, and pride")]
    path = written(tmp_path / "t.tsv", [TABLE[0], *rows], "\t")
    told = refused(path)
    assert "2 texts have several labels in a cell, e.g. 'anger,fear'; type dataset.multilabel=skip" in told
    splits = read(path, "dataset.multilabel=skip")
    assert pairs(splits) == sorted(PAIRS)
    assert splits.left_out == {"(several labels)": 2, "joy, and pride": 1}
    splits = read(path, "dataset.multilabel=first")
    assert pairs(splits) == sorted([*PAIRS, ("Both of a", "anger"), ("Both of b", "fear")])
    assert "several labels in a cell: 2 texts, of which the first label was taken" in remarks(splits)
    lists = tmp_path / "t.jsonl"
    records = [{"text": text, "label": name.split(",")} for text, name in rows[:-2]]
    lists.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert "1 texts have several labels" in refused(lists)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_quote_that_is_not_closed(suffix: str, tmp_path: Path) -> None:
    """40 rows were one text: a CSV is refused with the line, a TSV has no quotes."""
    mark = {"csv": ",", "tsv": "\t"}[suffix]
    rows = [(f"Text {i} of {name}", name) for i in range(N) for name in NAMES]
    rows[4], rows[20] = (f'"{rows[4][0]}', rows[4][1]), (f'"{rows[20][0]}', rows[20][1])
    path = tmp_path / f"t.{suffix}"
    path.write_text("".join(f"{a}{mark}{b}\n" for a, b in [TABLE[0], *rows]), encoding="utf-8")
    if suffix == "tsv":
        assert pairs(read(path)) == sorted(rows)
    else:
        assert f"{path}, line 6: a cell begins with a quote that is not closed" in refused(path)


@pytest.mark.parametrize("end", ["5'10\"", "the end"])
def test_rows_that_a_quote_swallowed(end: str, tmp_path: Path) -> None:
    """Closed by an inch, or by nothing: the line on which it begins is named."""
    rows = [f"Text {i} of {name},{name}" for i in range(N) for name in NAMES]
    rows[4] = f'"{rows[4]}'
    rows[9] = f"Text of {end},fear"
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert f"{path}, line 6: " in refused(path)


def test_dialogues_in_quotes_are_no_rows(tmp_path: Path) -> None:
    """Line breaks, commas, doubled quotes; only as many commas a line as a row has is worth a word."""
    texts = [f'A: Well, {i}, "so".\nB: Oh.\nA: Yes, I am.' for i in range(3 * N)]
    rows = [(text, NAMES[i % 3]) for i, text in enumerate(texts)]
    splits = read(written(tmp_path / "t.csv", [TABLE[0], *rows]))
    assert pairs(splits) == sorted(rows) and splits.warnings == []
    first = [(NAMES[i % 3], text) for i, text in enumerate(texts)]  # the label stands before the text
    assert pairs(read(written(tmp_path / "f.csv", [("label", "text"), *first]))) == sorted(rows)
    even = [(f"A: Well, {i}.\nB: No, {i}.", NAMES[i % 3]) for i in range(3 * N)]
    splits = read(written(tmp_path / "u.csv", [TABLE[0], *even]))
    assert pairs(splits) == sorted(even)
    assert (
        "30 texts in quotes hold line breaks and as many delimiters a line as a row has, the first in lines 2-3"
        in (splits.warnings[0])
    )


def test_tabs_and_line_breaks(tmp_path: Path) -> None:
    """A TSV that a table program wrote with quotes: read where its header has them too, refused where a row breaks."""
    rows = [(f"A: Well {i}.\nB: No.", NAMES[i % 3]) for i in range(3 * N)]
    quoted = written(tmp_path / "q.tsv", [TABLE[0], *rows], "\t", quoting=csv.QUOTE_ALL)
    assert pairs(read(quoted)) == sorted(rows)
    some = written(tmp_path / "s.tsv", [TABLE[0], *rows], "\t")
    assert "line 2: 1 cells, the header has 2; text divided by tabs is read without quotes" in refused(some)


def test_a_file_without_a_header(tmp_path: Path) -> None:
    """Its first row was taken for names: the line says what to type."""
    path = written(tmp_path / "t.csv", PAIRS)
    assert "dataset.header=false dataset.text=0 dataset.label=1 (numbers of columns)" in refused(path)
    assert "no column '7' (dataset.label), only 0, 1" in refused(
        path, "dataset.header=false", "dataset.text=0", "dataset.label=7"
    )


def test_lines_are_counted_in_the_file(tmp_path: Path) -> None:
    """A row is named by its first line, blank ones and those inside a text counted."""
    found, _ = read_table(tmp_path / "t.csv", 'a,b\n\n"1\n2",x\ny,z\n', Layout())
    assert found == [(3, {"a": "1\n2", "b": "x"}), (5, {"a": "y", "b": "z"})]
