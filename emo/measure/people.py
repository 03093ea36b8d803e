"""Labels by people: files that are read, checked and joined with replies by the text itself.

The id of a reply is a digest of its text, so a label sheet says nothing of arm, target or model, needs no key that
leads back, and its labels hold for every run in which the text stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from emo.core.console import say, warn
from emo.core.errors import UserError, nearest
from emo.core.types import NEUTRAL, OTHER
from emo.data.class_names import value_of
from emo.data.delimited import Layout
from emo.data.reading import Row, read_rows

KEY = "agreement.people"
DIGITS = 12  # of a text's digest
TOLD = 3  # places named in a message


class Rater(NamedTuple):
    """One person's labels."""

    name: str  # of the file
    labels: dict[str, str]  # by the id of the text
    lost: int  # labels of texts that are not among the replies


def text_id(text: str) -> str:
    """Return the id of a reply: equal texts have one."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:DIGITS]


def read_people(files: Sequence[str], known: Mapping[str, str], names: Sequence[str]) -> list[Rater]:
    """Read files of labels, one for each rater: columns ``label``, and ``id`` or ``text``.

    Args:
        files: .csv, .jsonl and others that `emo.data.reading` reads.
        known: {id: text} of the replies that can be labelled.
        names: the emotions; neutral and other may be given too.

    Raises:
        UserError: a file is not there or lacks a column, or holds no known id, a label that is not allowed, two
            labels for a reply, or none at all; two files have one name. Some unknown ids are said and counted: labels
            outlive runs, and a sheet may be of more runs than these.
    """
    raters = [_read(Path(file).expanduser(), known, (*names, NEUTRAL, OTHER)) for file in files]
    called = [rater.name for rater in raters]
    if len(set(called)) < len(called):
        raise UserError(f"{KEY}={','.join(files)}: two files of one name; name each as its rater")
    return raters


def _read(path: Path, known: Mapping[str, str], allowed: Sequence[str]) -> Rater:
    rows = read_rows(path, KEY, Layout(columns=("label",))).rows
    columns = set(rows[0].cells) if rows else set()
    if "label" not in columns or not columns & {"id", "text"}:
        raise UserError(f"{KEY}={path}: columns label, and id or text, are needed; it has {', '.join(sorted(columns))}")
    labels: dict[str, str] = {}
    empty, strange, wrong, twice = [], [], [], []
    for row in rows:
        label, key = value_of(row.cells["label"]), _id(row)
        if key not in known:
            strange.append((f"{row.where}: {key}", label))
        elif not label:
            empty.append(key)
        elif label not in allowed:
            wrong.append((row.where, label))
        elif labels.setdefault(key, label) != label:
            twice.append(row.where)
    places = "; ".join(where for where, _ in strange[:TOLD])
    if strange and len(strange) == len(rows):
        raise UserError(
            f"{KEY}={path}: {len(strange)} of {len(rows)} ids are of no reply here ({places}); "
            "give the runs (runs=FOLDER) or the file that the sheet was made of"
        )
    lost = sum(bool(label) for _, label in strange)
    if lost:
        warn(
            f"{path.name}: {lost} of its labels are of replies that are not here ({places}), and count nowhere: they "
            "are of other runs, or of replies that were written anew; what is left may be no random draw of these"
        )
    if wrong:
        where, label = wrong[0]
        raise UserError(f"{where}: label '{label}': not one of {', '.join(allowed)}{nearest(label, allowed)}")
    if twice:
        raise UserError(f"{twice[0]}: another label than before for the same text; one file for each rater is needed")
    if not labels:
        raise UserError(f"{KEY}={path}: no label in it; fill the column label with {', '.join(allowed)}")
    if empty:
        say(f"{path.name}: {len(labels)} replies labelled, {len(set(empty))} left empty")
    return Rater(path.name.partition(".")[0], labels, lost)


def _id(row: Row) -> str:
    given = row.cells.get("id")
    return str(given).strip() if given not in (None, "") else text_id(str(row.cells.get("text") or ""))
