"""Replies that labellers are compared on: those of finished runs, or texts of a file."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.errors import UserError, nearest
from emo.core.types import NEUTRAL, OTHER
from emo.data.class_names import value_of
from emo.data.delimited import Layout
from emo.data.near import joined
from emo.data.reading import read_rows
from emo.measure.people import text_id
from emo.results.table import job_folders, read_result

SAMPLES = "samples.jsonl"
TARGETS = ("target", "emotion")  # columns of a file


class Reply(NamedTuple):
    """One reply."""

    id: str  # of its text (`emo.measure.people.text_id`)
    text: str
    target: str | None  # what it was to express; None: nothing
    cluster: int  # scenario
    row: dict[str, Any]  # of samples.jsonl, with ``job``; or of the file


class Replies(NamedTuple):
    """All of them, and the emotions that they can be."""

    rows: list[Reply]
    names: tuple[str, ...]
    results: dict[str, dict[str, Any]]  # job -> its result.json; of a file nothing
    folders: dict[str, list[Path]]  # job -> where it lies: under several names it is the same one

    def texts(self) -> dict[str, str]:
        """Return {id: text} of the different replies."""
        return {reply.id: reply.text for reply in self.rows}


def of_runs(folders: Sequence[Path]) -> Replies:
    """Return the replies of all finished runs below some folders.

    Raises:
        UserError: there are none, or two runs have other emotions.
    """
    results: dict[str, dict[str, Any]] = {}
    places: dict[str, list[Path]] = {}
    rows = []
    for folder in dict.fromkeys(path for root in folders for path in job_folders(root, None)):
        result = read_result(folder)
        if result is None or not (folder / SAMPLES).is_file():
            continue
        places.setdefault(folder.name, []).append(folder)
        if folder.name in results:
            continue
        results[folder.name] = result
        lines = (folder / SAMPLES).read_text(encoding="utf-8").split("\n")
        rows += [json.loads(line) | {"job": folder.name} for line in lines if line]
    if not rows:
        raise UserError(f"runs={', '.join(map(str, folders))}: no finished run with replies; type runs=FOLDER of one")
    asked = {tuple(result["config"]["emotions"]["names"]) for result in results.values()}
    if len({frozenset(names) for names in asked}) > 1:
        raise UserError(f"runs: jobs of other emotions ({'; '.join(map(', '.join, sorted(asked)))}); name those of one")
    place = joined([row["sample"].rpartition("/")[0] for row in rows], [row["scenario"] for row in rows])
    made = [
        Reply(text_id(row["reply"]), row["reply"], row["emotion"], number, row)
        for row, number in zip(rows, place, strict=True)
    ]
    return Replies(made, min(asked), results, places)


def of_file(path: Path, names: Sequence[str]) -> Replies:
    """Return the texts of a file: text, and where they are there target (or emotion), scenario, label, match.

    Raises:
        UserError: no such file or column, a text is empty, or a target or label is none of the emotions.
    """
    key = "agreement.file"
    rows = read_rows(path, key, Layout(columns=("text",))).rows
    if not rows:
        raise UserError(f"{key}={path}: no text in it")
    made, groups = [], []
    for row in rows:
        text = str(row.cells.get("text") or "")
        if not text.strip():
            raise UserError(f"{row.where}: no text; a column text is needed, it has {', '.join(row.cells)}")
        target = next((value_of(row.cells[c]) for c in TARGETS if value_of(row.cells.get(c))), None)
        _allowed(target, (*names, NEUTRAL), row.where, "target")
        _allowed(value_of(row.cells.get("label")) or None, (*names, NEUTRAL, OTHER), row.where, "label")
        match = row.cells.get("match")
        if match is not None and value_of(match) not in ("", "0", "1"):
            raise UserError(f"{row.where}: match '{match}': 0 or 1 is needed, or nothing")
        made.append((text, target, row.cells))
        groups.append(value_of(row.cells.get("scenario")) or row.id)
    place = joined(groups, [text for text, *_ in made])
    replies = [
        Reply(text_id(text), text, target, number, cells)
        for (text, target, cells), number in zip(made, place, strict=True)
    ]
    return Replies(replies, tuple(names), {}, {})


def _allowed(given: str | None, names: Sequence[str], where: str, what: str) -> None:
    if given is not None and given not in names:
        raise UserError(
            f"{where}: {what} '{given}': not one of {', '.join(names)}{nearest(given, names)}; "
            "type emotions.names=[...]"
        )


def drawn(replies: Sequence[Reply], limit: int | None, seed: int) -> list[Reply]:
    """Return different replies drawn evenly over job, arm, target and valence, in an order that tells nothing of them.

    Args:
        replies: all there are; of equal texts one is drawn.
        limit: so many; None: all.
        seed: same seed, same replies.
    """
    strata: dict[Hashable, list[Reply]] = defaultdict(list)
    order = list(replies)
    random.Random(seed).shuffle(order)
    for reply in order:
        row = reply.row
        strata[row.get("job"), row.get("arm"), reply.target, row.get("valence")].append(reply)
    taken: dict[str, Reply] = {}
    wanted = len(order) if limit is None else limit
    piles = [strata[key] for key in sorted(strata, key=str)]
    random.Random(seed).shuffle(piles)  # where the limit ends within a round, no arm is favoured
    while len(taken) < wanted and any(piles):
        for pile in piles:
            while pile and len(taken) < wanted:
                reply = pile.pop()
                if reply.id not in taken and reply.text.strip():
                    taken[reply.id] = reply
                    break
    found = list(taken.values())
    random.Random(seed).shuffle(found)
    return found
