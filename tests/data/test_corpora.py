"""Public corpora: an invented file in the layout of each, and what its ready configuration makes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.command import run
from support.jobs import config

from emo.core.errors import UserError
from emo.data.delimited import Layout
from emo.data.labelled import ClassSplits, Item, load_items
from emo.data.reading import read_rows

SIX = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
N = 9  # texts of every value
EKMAN = {"anger": "anger", "sadness": "sadness", "joy": "happiness", "fear": "fear", "surprise": "surprise"}
EKMAN |= {"disgust": "disgust"}
Made = tuple[Path, dict[str, str], dict[str, int]]  # file, class of every text, what is left out


def splits_of(name: str, path: Path, *words: str, classes: Sequence[str] | None = None) -> ClassSplits:
    """Return the splits that a ready configuration makes of a file."""
    goes_with = ("intervention=mask", "evaluator=prediction", "dataset.limit=null")
    return load_items(
        config(path.parent, *goes_with, f"dataset={name}", f"dataset.path={path}", *words).dataset, classes, 0
    )


def items(splits: ClassSplits) -> list[Item]:
    return [item for part in splits[:3] for item in part]


def table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def text(i: int, value: str) -> str:
    return f'Row {i} says, "{value}"; and ends.'


def goemotions(folder: Path) -> Made:
    ids = {"2": "anger", "25": "sadness", "17": "happiness", "14": "fear", "26": "surprise", "11": "disgust"}
    rows = [(text(i, own), own, name) for i in range(N) for own, name in ids.items()]
    rows += [("Both are of anger", "2,3", "anger"), ("Nerves", "19,14", "fear"), ("Two of six", "2,25", "")]
    rows += [("None", "27", ""), ("Anger and none", "3,27", "")]
    path = folder / "train.tsv"
    path.write_text("".join(f"{said}\t{own}\teh{k}\n" for k, (said, own, _) in enumerate(rows)), encoding="utf-8")
    return path, {said: name for said, _, name in rows if name}, {"(several labels)": 2, "27": 1}


def goemotions_raters(folder: Path) -> Made:
    names = ("anger", "annoyance", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
    header = ("text", "id", "author", "subreddit", "link_id", "parent_id", "created_utc", "rater_id")
    votes = {f"{name} {i}": [{name}, {name}, {"neutral"}] for name in EKMAN for i in range(N)}
    votes["both"] = [{"anger", "annoyance"}, {"anger", "annoyance"}, {"joy"}]
    votes["mixed"] = [{"anger", "joy"}, {"anger", "joy"}, set()]
    votes["alone"] = [{"anger"}, {"joy"}, {"fear"}]
    votes["plain"] = [{"neutral"}] * 3
    for k in range(3):  # a rater a file: the votes for a comment are spread
        rows = [
            (text(n, own), f"id{n}", "u", "r", f"t3_{n // 2}", "p", "1.5e9", str(k), str(not chosen[k]))
            + tuple(int(name in chosen[k]) for name in names)
            for n, (own, chosen) in enumerate(votes.items())
        ]
        table(folder / f"goemotions_{k + 1}.csv", [(*header, "example_very_unclear", *names), *rows])
    wanted = {text(n, own): EKMAN.get(own.split()[0], "") for n, own in enumerate(votes)}
    wanted[next(said for said in wanted if '"both"' in said)] = "anger"
    left_out = {"(several labels)": 1, "(no label)": 1, "neutral": 1}
    return folder, {said: name for said, name in wanted.items() if name}, left_out


def empathetic_dialogues(folder: Path) -> Made:
    values = {"furious": "anger", "sad": "sadness", "joyful": "happiness", "terrified": "fear"}
    values |= {"surprised": "surprise", "disgusted": "disgust", "nostalgic": ""}
    lines = ["conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"]
    wanted = {}
    for i in range(N):
        for value, name in values.items():
            own = f"hit:{i}_conv:{value}"
            for k, said in enumerate(("Well_comma_ you see", '"Oh')):
                lines.append(
                    f"{own},{k + 1},{value},Row {i}_comma_ {value},{k + 7},{said},4|4|4_3|3|3," + ",a|b" * (i % 2)
                )
            wanted |= {f"Row {i}, {value}": name} if name else {}
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder, wanted, {"nostalgic": N}


def meld(folder: Path) -> Made:
    header = ("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season")
    values = EKMAN | {"neutral": ""}
    made = [(text(i, value), value, i) for i in range(N) for value in values]
    rows = [(k, said, "Ann", value, "negative", i, k, 1) for k, (said, value, i) in enumerate(made)]
    path = table(folder / "train_sent_emo.csv", [header, *rows])
    return path, {said: values[value] for said, value, _ in made if values[value]}, {"neutral": N}


def isear(folder: Path) -> Made:
    names = {name: own for name, own in EKMAN.items() if name != "surprise"} | {"shame": "", "guilt": ""}
    lines = ["ID|CITY|EMOT|Field1|MYKEY|SIT|STATE|"]
    lines += [f'{i}|1|1|{name}|0|"Row" {i} of á {name} | ends. |1|' for i in range(N) for name in names]
    lines += ["99|1|1|joy|0|[ No response.]|1|"]
    path = folder / "isear.csv"
    path.write_bytes("\r\n".join(lines).encode("latin-1"))
    wanted = {f'"Row" {i} of {name} | ends.': own for i in range(N) for name, own in names.items() if own}
    return path, wanted, {"shame": N, "guilt": N, "(no text)": 1}


def iemocap(folder: Path) -> Made:
    values = {"ang": "anger", "sad": "sadness", "hap": "happiness", "exc": "happiness", "fea": "fear"}
    values |= {"sur": "surprise", "dis": "disgust", "xxx": "", "fru": ""}
    wanted = {}
    for i in range(N):
        own = folder / f"Session{i % 5 + 1}" / "dialog"
        (own / "transcriptions").mkdir(parents=True, exist_ok=True)
        (own / "EmoEvaluation" / "Categorical").mkdir(parents=True, exist_ok=True)
        name = f"Ses0{i % 5 + 1}F_impro{i:02}"
        said, judged = ["M: one line of no turn"], ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for k, (value, label) in enumerate(values.items()):
            turn = f"{name}_F{k:03}"
            said.append(f"{turn} [001.5000-003.2500]: Row {i}, {value}: so.")
            judged += [f"[1.5000 - 3.2500]\t{turn}\t{value}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
            wanted |= {f"Row {i}, {value}: so.": label} if label else {}
        (own / "transcriptions" / f"{name}.txt").write_text("\n".join(said), encoding="utf-8")
        (own / "EmoEvaluation" / f"{name}.txt").write_text("\n".join(judged), encoding="utf-8")
        hidden = own / "EmoEvaluation" / f"._{name}.txt"  # a Mac leaves them beside every file
        hidden.write_text("[1.5000 - 3.2500]\tSes99F_none\tang\t[2.5, 2.5, 2.5]", encoding="utf-8")
    return folder, wanted, {"xxx": N, "fru": N}


def aipsy_affect(folder: Path) -> Made:
    values = {"rage": "anger", "grief": "sadness", "ecstasy": "happiness", "terror": "fear", "amazement": "surprise"}
    values |= {"loathing": "disgust", "vigilance": ""}
    parts: dict[str, list[dict[str, Any]]] = {"clinical": [], "neutral": [], "moderate": [], "complex_neutral": []}
    for i in range(N):
        for value in values:
            own, twin = f"B-{value}-d1-v{i}", f"N-{value}-d1-c{i}"
            record = {"domain": 1, "domain_label": "work", "word_count": 4}
            parts["clinical"].append(
                {"id": own, "emotion": value, "intensity": "peak", "matched_control_id": twin, "text": f"{own}."}
                | record
            )
            # The card leaves open which emotion a control names: both readings must give the same.
            named = value if i % 2 else "neutral"
            parts["neutral"].append(
                {"id": twin, "emotion": named, "intensity": "none", "matched_control_id": own, "text": f"{twin}."}
                | record
            )
            if i < 2:
                milder = {
                    "id": f"Bm-{value}-d1-v{i}",
                    "emotion": value,
                    "intensity": "moderate",
                    "text": f"Bm {value}{i}.",
                }
                parts["moderate"].append(milder | {"matched_control_id": None} | record)
    vivid = {"id": "C-1", "emotion": "neutral", "intensity": "none", "matched_control_id": None, "text": "A lathe."}
    parts["complex_neutral"] = [vivid | {"domain": None, "domain_label": "craft", "word_count": 2}]
    for name, records in parts.items():
        pd.DataFrame(records).to_parquet(folder / f"{name}.parquet")
    wanted = {
        record["text"]: values.get(record["emotion"], "") for name in ("clinical", "moderate") for record in parts[name]
    }
    return folder, {said: name for said, name in wanted.items() if name}, {"vigilance": N + 2, "neutral": 7 * N + 1}


def lcc(folder: Path) -> Made:
    scores = {"3.0 2.0": "metaphor", "2.0": "metaphor", "0.0 0.0 1.0": "literal", "0.0 -1.0 -1.0": "literal", "1.0": ""}
    wanted, instances = {}, []
    for i in range(N):
        for k, (given, name) in enumerate(scores.items()):
            judged = "".join(f'<MetaphoricityAnnotation id="1" score="{one}" />' for one in given.split())
            instances.append(
                f'<LmInstance id="{i}{k}" docid="d{i}" targetConcept="TAX" type="lm" chain=""><TextContent>'
                f"<Current>\n Row {i}{k} &amp; the <LmSource>load</LmSource> of <LmTarget>taxes</LmTarget>"
                f" .</Current><Next>Yes.</Next></TextContent><Annotations><MetaphoricityAnnotations>{judged}"
                "</MetaphoricityAnnotations></Annotations></LmInstance>"
            )
            wanted |= {f"Row {i}{k} & the load of taxes .": name} if name else {}
    path = folder / "en_small.xml"
    path.write_text(f'<LCC-Metaphor-SMALL lang="ENGLISH">{"".join(instances)}</LCC-Metaphor-SMALL>', encoding="utf-8")
    return path, wanted, {"1": N}


def hypo_l(folder: Path) -> Made:
    made = [(text(i, own), own) for i in range(N) for own in "10"]
    path = table(folder / "HYPO-L.csv", [("Text", "Label"), *made])
    return path, {said: {"1": "hyperbole", "0": "literal"}[own] for said, own in made}, {"Label": 1}


def funlines(folder: Path) -> Made:
    rows: list[tuple[object, ...]] = [("id", "original", "edit", "grades", "meanGrade")]
    wanted = {}
    for i in range(N):
        rows.append((i, f'Mayor, {i}, cuts <town taxes/> "now"', f" hair {i}", "21000", 0.6))
        wanted[f'Mayor, {i}, cuts hair {i} "now"'] = "humour"
        wanted[f'Mayor, {i}, cuts town taxes "now"'] = "literal"
    rows.append((99, "Nobody <laughs/>", "sleeps", "00001", 0.2))
    wanted["Nobody laughs"] = "literal"
    return table(folder / "train_funlines.csv", rows), wanted, {"0": 1}


def mustard(folder: Path) -> Made:
    records = {
        f"{k}_{i}": {
            "utterance": text(i, str(k)), "speaker": "ANN", "context": ["Well?", "No."], "context_speakers": ["B", "C"],
            "show": "BBT", "sarcasm": bool(k),
        }
        for i in range(N) for k in range(2)
    }  # fmt: skip
    path = folder / "sarcasm_data.json"
    path.write_text(json.dumps(records, indent=2), encoding="utf-8")
    return path, {x["utterance"]: "sarcasm" if x["sarcasm"] else "literal" for x in records.values()}, {}


MADE: tuple[Callable[[Path], Made], ...] = (
    goemotions, goemotions_raters, empathetic_dialogues, meld, isear, iemocap, aipsy_affect, lcc, hypo_l, funlines,
    mustard,
)  # fmt: skip


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_every_text_has_its_class_and_the_rest_is_counted(make: Callable[[Path], Made], tmp_path: Path) -> None:
    """Every text with its class; a label that is none of the six is counted under its own name; no group is torn."""
    path, wanted, left_out = make(tmp_path)
    emotions = [name for name in SIX if name in wanted.values()]
    splits = splits_of(make.__name__, path, classes=emotions or None)
    found = {item.text: item.label for item in items(splits)}
    surplus = {said for said in wanted if said not in found and wanted[said] == "literal"}  # more than of the device
    assert found == {said: name for said, name in wanted.items() if said not in surplus} and splits.warnings == []
    assert splits.left_out == left_out | ({"literal": len(surplus)} if surplus else {}) and len(surplus) < N / 2
    assert splits.task == ("emotion" if emotions else "rhetoric")
    groups = [{item.group for item in part} for part in splits[:3]]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_groups_hold_what_belongs_together(tmp_path: Path) -> None:
    """A vignette, its twin and its milder version; a dialogue; the versions of a headline."""
    for make, size in ((aipsy_affect, {1, 2, 3}), (iemocap, {7}), (meld, {6})):
        folder = tmp_path / make.__name__
        folder.mkdir()
        path = make(folder)[0]
        names = [*SIX, "unemotional"] if make is aipsy_affect else SIX
        groups: dict[str, set[str]] = {}
        for item in items(splits_of(make.__name__, path, classes=names)):
            groups.setdefault(item.group, set()).add(item.text)
        assert {len(own) for own in groups.values()} == size
    own = splits_of("aipsy_affect", tmp_path / "aipsy_affect", classes=[*SIX, "unemotional"])
    together = {item.group for item in items(own) if item.text in ("B-rage-d1-v0.", "N-rage-d1-c0.", "Bm rage0.")}
    assert len(together) == 1 and own.classes == (*SIX, "unemotional") and own.left_out == {"vigilance": N + 2}
    assert {item.label for item in items(own) if item.text.startswith("N-")} == {"unemotional"}


def test_a_conversation_may_be_read_instead_of_its_situation(tmp_path: Path) -> None:
    path = empathetic_dialogues(tmp_path)[0]
    dataset = config(
        tmp_path, "intervention=mask", "evaluator=prediction", "dataset=empathetic_dialogues", f"dataset.path={path}"
    ).dataset
    rows = read_rows(path, "dataset.path", Layout(), dataset._target_).rows
    assert rows[0].cells["dialogue"] == 'A: Well, you see\nB: "Oh'


def test_emotions_that_a_set_lacks_are_said_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'surprise' 0\); type emotions.names=\[anger,sadness,happiness,fear,disgust\]"
    ):
        splits_of("isear", isear(tmp_path)[0], classes=SIX)


def test_sounds_and_films_are_no_part_of_the_digest(tmp_path: Path) -> None:
    """A release has gigabytes beside its texts: they are not read."""
    path = iemocap(tmp_path)[0]
    first = splits_of("iemocap", path, classes=SIX)
    (path / "Session1" / "film.avi").write_bytes(b"a film")
    assert splits_of("iemocap", path, classes=SIX).digest == first.digest
    next(path.rglob("dialog/EmoEvaluation/Ses*.txt")).write_text("", encoding="utf-8")
    assert splits_of("iemocap", path, classes=SIX).digest != first.digest


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("goemotions_raters", "x.csv", "text,id\na,b\n", "line 1: no column example_very_unclear in x.csv"),
        ("empathetic_dialogues", "x.csv", "conv_id\nhit:0,1,sad,Well, so,1,a,5,\n", "line 2 of x.csv: 9 cells"),
        ("empathetic_dialogues", "x.csv", "conv_id\nhit:0,1,sad\n", "line 2 of x.csv: 3 cells, not the 8 or 9"),
        ("funlines", "x.csv", "id,original,edit,meanGrade\n1,No mark,b,1\n", "line 2: no replaced word, <word/>"),
        (
            "funlines",
            "x.csv",
            "id,original,edit,meanGrade\n1,A <b/>,b,much\n",
            "line 2: 'meanGrade' is no number: 'much'",
        ),
        ("funlines", "x.csv", "id,original,edit\n1,A <b/>,b\n", "line 1: no column meanGrade, only id, original, edit"),
        ("funlines", "x.csv", "", "empty; a header and one row per text"),
        ("isear", "x.csv", "", "empty; a header and one row per text"),
        ("meld", "x.csv", "Utterance,Dialogue_ID\na,1\n", 'such a record is needed: {"Utterance":'),
        ("mustard", "x.json", '{"1": {"utterance": "a"}}', '"sarcasm": "True"}'),
        ("isear", "x.csv", "emotion,text\njoy,a\n", "line 1: no column ID, Field1, SIT"),
        ("isear", "x.csv", "ID|Field1|SIT|\n1|joy\n", "line 2: 2 cells, the header has 4"),
        ("lcc", "x.xml", "<a>\n<b>", "line 2: no XML that can be read"),
        ("lcc", "x.xml", "<a></a>", "no LmInstance in it"),
        ("iemocap", "x.txt", "", "name the folder that has Session1 to Session5"),
        ("aipsy_affect", "x.jsonl", '{"id": "a", "text": "b"}\n', "record 1: no field emotion, intensity"),
        (
            "mustard",
            "x.json",
            '{"1": {"utterance": "a"}, "1": {"utterance": "b"}}',
            "two fields of an object are called '1'",
        ),
        ("mustard", "x.json", '{"utterance": "a", "sarcasm": true}\n{"utterance"\n', "line 2: not JSON"),
    ],
)
def test_a_wrong_file_is_one_line(name: str, file: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        splits_of(name, tmp_path / file)
    assert said in str(caught.value) and "\n" not in str(caught.value) and file in str(caught.value)


@pytest.mark.parametrize("make", [aipsy_affect, hypo_l, mustard], ids=lambda make: make.__name__)
def test_a_job_reads_a_published_layout_from_the_command_line(make: Callable[[Path], Made], tmp_path: Path) -> None:
    """As a user types it: what was left out is said, and the classes are those of the set."""
    (tmp_path / "data").mkdir()
    path, wanted, left_out = make(tmp_path / "data")
    words = (f"dataset={make.__name__}", f"dataset.path={path}", "intervention=mask", "model=tiny_llama")
    small = (
        f"paths.outputs={tmp_path / 'outputs'}",
        "selector.ratio=0.2",
        "control.seeds=2",
        "control.units=[random]",
        "evaluator.bootstrap=20",
        "device=cpu",
    )
    done = run(tmp_path, *words, *small, COLUMNS="300")
    assert done.returncode == 0, done.stderr
    [result] = (tmp_path / "outputs").rglob("result.json")
    page = (result.parent / "report.html").read_text(encoding="utf-8")
    said = done.stdout + done.stderr
    for name in set(wanted.values()):
        assert name in said and name in page
    for name, n in left_out.items():
        assert f"{n} {name}" in said


def test_a_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset=lcc needs dataset.path=FILE, as it is published \(docs/data.md\)"):
        config(tmp_path, "dataset=lcc", "intervention=mask", "evaluator=prediction")
