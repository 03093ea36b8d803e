"""Readers of public corpora whose files are no plain tables; options of ``conf/dataset`` name them by ``_target_``.

Each is a `emo.data.reading.Reader`. What a file says is handed on; which of it is a class is said by ``dataset.labels``
of the option, so that it can be typed anew. `docs/data.md` has a record of each, and where its layout was looked up.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from emo.data.delimited import Layout
from emo.data.reading import read_rows

Record = dict[str, Any]
AGREED = 2  # raters of GoEmotions who chose a label: what its authors ask for in their own splits
TURN = re.compile(r"(Ses\w+)\s+\[[^\]]*\]:\s*(.*)")  # of an IEMOCAP transcription: id [begin-end]: text
JUDGED = re.compile(r"\[[^\]]*\]\s+(Ses\w+)\s+(\w+)\s")  # of an IEMOCAP evaluation: [begin - end] id label [v, a, d]
REPLACED = re.compile(r"<([^<>]*)/>")  # the word of a FunLines headline that ``edit`` replaces
FUNLINES = ("original", "edit", "meanGrade")
ISEAR_TEXT = "SIT"
BROKEN = re.compile(r"\s+á\s+")  # what stands in ISEAR's file where a line of the form ended


def goemotions_raters(path: Path) -> Iterator[Record]:
    """Yield a comment with the labels that two or more raters chose; in the files every rater has a row.

    Args:
        path: goemotions_1.csv, or a folder of the three. Raters of one comment may stand in several.

    Raises:
        ValueError: the file has no column example_very_unclear, behind which the 28 labels stand.
    """
    comments: dict[str, dict[str, str]] = {}
    votes: dict[str, Counter[str]] = {}
    for file in _files(path, "*.csv"):
        rows = csv.DictReader(io.StringIO(_text(file), newline=""))
        columns = list(rows.fieldnames or ())
        if "example_very_unclear" not in columns:
            raise ValueError(
                f"line 1: no column example_very_unclear in {file.name}, which goemotions_1.csv has; the TSV is read "
                "by dataset=goemotions"
            )
        labels = columns[columns.index("example_very_unclear") + 1 :]
        for row in rows:
            comments.setdefault(row["id"], row)
            votes.setdefault(row["id"], Counter()).update(name for name in labels if row[name] == "1")
    for own, row in comments.items():
        agreed = [name for name, n in votes[own].items() if n >= AGREED]
        yield {"text": row["text"], "emotion": agreed, "link_id": row["link_id"]}


def empathetic_dialogues(path: Path) -> Iterator[Record]:
    """Yield a conversation: its ``context`` (the emotion), the ``prompt`` (the situation) and the ``dialogue``.

    The files quote nothing: a comma of a text is written ``_comma_``.

    Args:
        path: train.csv, valid.csv or test.csv, or the folder of the three.

    Raises:
        ValueError: a line has not 8 cells (9 in the test file), or one of its texts has a comma.
    """
    for file in _files(path, "*.csv"):
        turns: dict[str, list[list[str]]] = {}
        for n, line in _lines(file, 2):
            cells = [cell.replace("_comma_", ",").strip() for cell in line.split(",")]
            if len(cells) not in (8, 9) or not cells[4].isdigit():
                raise ValueError(
                    f"line {n} of {file.name}: {len(cells)} cells, not the 8 or 9 of conv_id, utterance_idx, context, "
                    "prompt, speaker_idx (a number), utterance, selfeval, tags; commas of texts are written _comma_"
                )
            turns.setdefault(cells[0], []).append(cells)
        for own, rows in turns.items():
            names = {speaker: "AB"[k % 2] for k, speaker in enumerate(dict.fromkeys(row[4] for row in rows))}
            said = "\n".join(f"{names[row[4]]}: {row[5]}" for row in rows)
            yield {"conv_id": own, "context": rows[0][2], "prompt": rows[0][3], "dialogue": said}


def funlines(path: Path) -> Iterator[Record]:
    """Yield an edited headline as ``text``, the headline as it was as ``original``, and its rounded mean ``grade``.

    Args:
        path: train_funlines.csv; ``original`` marks the replaced word, ``<word/>``.

    Raises:
        ValueError: a column is missing, a headline has no such mark, or a mean grade is no number.
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    columns = list(rows.fieldnames or ())
    if columns and (missing := [name for name in FUNLINES if name not in columns]):
        raise ValueError(f"line 1: no column {', '.join(missing)}, only {', '.join(columns)[:160]}")
    for row in rows:
        parts = REPLACED.split(row["original"], maxsplit=1)
        if len(parts) != 3:
            raise ValueError(f"line {rows.line_num}: no replaced word, <word/>, in 'original'")
        try:
            grade = _rounded(float(row["meanGrade"]))
        except (TypeError, ValueError):  # a line that is too short has None
            raise ValueError(f"line {rows.line_num}: 'meanGrade' is no number: {row['meanGrade']!r}") from None
        before, word, after = parts
        edited = f"{before}{row['edit'].strip()}{after}"
        yield {"text": edited, "original": f"{before}{word}{after}", "grade": grade}


def isear(path: Path) -> Iterator[Record]:
    """Yield a situation with its emotion (``Field1``) and who told it (``ID``).

    Nothing is quoted, so bars in a situation are its own; where a line of the form ended, its file has a stray mark.

    Args:
        path: isear.csv, divided by bars.

    Raises:
        ValueError: the header lacks the columns, or a line has fewer cells than it.
    """
    lines = _lines(path, 1)
    if (first := next(lines, None)) is None:
        return
    header = first[1].split("|")
    missing = [name for name in ("ID", "Field1", ISEAR_TEXT) if name not in header]
    if missing:
        raise ValueError(f"line 1: no column {', '.join(missing)}, only {', '.join(filter(None, header))[:160]}")
    place = header.index(ISEAR_TEXT)
    behind = len(header) - place - 1
    for n, line in lines:
        cells = line.split("|")
        if len(cells) < len(header):
            raise ValueError(f"line {n}: {len(cells)} cells, the header has {len(header)}")
        told = " ".join(BROKEN.sub(" ", "|".join(cells[place : len(cells) - behind])).split())
        if "no response" in told.casefold() and len(told) < 20:
            told = ""
        yield {"ID": cells[header.index("ID")], "Field1": cells[header.index("Field1")], ISEAR_TEXT: told}


def lcc(path: Path) -> Iterator[Record]:
    """Yield a sentence with the rounded mean of its ``metaphoricity`` (0 none to 3 clear) and its document.

    Args:
        path: en_small.xml, or en_large.xml; read instance by instance.

    Raises:
        ValueError: no XML, or without any LmInstance.
    """
    found = 0
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag != "LmInstance":
                continue
            found += 1
            current = element.find("TextContent/Current")
            text = "" if current is None else " ".join("".join(current.itertext()).split())
            scores = [float(one.get("score", "-1")) for one in element.iter("MetaphoricityAnnotation")]
            valid = [score for score in scores if score >= 0]
            grade = _rounded(sum(valid) / len(valid)) if valid else ""
            yield {"text": text, "metaphoricity": grade, "docid": element.get("docid") or ""}
            element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"line {error.position[0]}: no XML that can be read ({error})") from None
    if not found:
        raise ValueError("no LmInstance in it: en_small.xml or en_large.xml of the LCC metaphor datasets is needed")


class _Iemocap:
    """Yields a turn with the label of its evaluation and its dialogue."""

    # The release holds sounds and films of many gigabytes, and hidden files of a file system beside every text.
    files = ("dialog/transcriptions/Ses*.txt", "dialog/EmoEvaluation/Ses*.txt")

    def __call__(self, path: Path, /) -> Iterator[Record]:
        """Read the folder of the sessions, or one of them.

        Raises:
            ValueError: it has no transcriptions, or an evaluated turn has no text.
        """
        texts: dict[str, str] = {}
        for file in sorted(path.rglob(self.files[0])):
            texts |= {found[1]: found[2].strip() for _, line in _lines(file, 1) if (found := TURN.match(line))}
        evaluations = sorted(path.rglob(self.files[1]))
        if not texts or not evaluations:
            raise ValueError(
                f"no {' and no '.join(self.files)} below it; name the folder that has Session1 to Session5"
            )
        for file in evaluations:
            for n, line in _lines(file, 1):
                if not (found := JUDGED.match(line)):
                    continue
                if found[1] not in texts:
                    raise ValueError(f"line {n} of {file.name}: {found[1]} has no line in a transcription")
                yield {"id": found[1], "text": texts[found[1]], "emotion": found[2], "dialogue": file.stem}


iemocap = _Iemocap()


def aipsy_affect(path: Path) -> list[Record]:
    """Return the vignettes, each with the ``pair`` that it shares with its neutral twin and its milder version.

    Neutral controls are of the class neutral, whatever emotion their twin has.

    Args:
        path: the folder of clinical.parquet, neutral.parquet, moderate.parquet and complex_neutral.parquet, or a part.

    Raises:
        ValueError: a record lacks a field.
    """
    records = [row.cells for row in read_rows(path, "dataset.path", Layout()).rows]
    for n, record in enumerate(records, 1):
        missing = [name for name in ("id", "emotion", "intensity", "matched_control_id", "text") if name not in record]
        if missing:
            raise ValueError(f"record {n}: no field {', '.join(missing)}, only {', '.join(record)}")
    pairs: dict[str, str] = {}
    for record in records:
        twin = record["matched_control_id"]
        if twin and record["intensity"] != "moderate":
            pairs[record["id"]] = min(record["id"], twin)
    for record in records:
        # A moderate vignette has the id of its peak one, but for the m: Bm-rage-d1-v1, B-rage-d1-v1.
        own = re.sub(r"^Bm-", "B-", record["id"])
        neutral = {"emotion": "neutral"} if record["intensity"] == "none" else {}
        record |= {"pair": pairs.get(own, own), **neutral}
    return records


def _files(path: Path, pattern: str) -> Sequence[Path]:
    return [path] if path.is_file() else sorted(path.glob(pattern))


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # older files; every byte is a character of Latin-1
        return content.decode("latin-1")


def _lines(path: Path, first: int) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something, from one on, with their numbers."""
    for n, line in enumerate(_text(path).split("\n"), 1):
        if n >= first and line.strip():
            yield n, line.rstrip("\r")


def _rounded(mean: float) -> str:
    return str(math.floor(mean + 0.5))
