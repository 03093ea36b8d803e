"""Texts with a class each, and their splits (methods 2, 3): ours, the published form, or a user's file.

Neurons are selected on ``train``, loops steered by ``dev``, every number reported on ``test``; no two splits share a
group (a topic, a pair, a dialogue); without a column for it, texts that are equal are one group.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.config import DatasetConfig
from emo.data import divide
from emo.errors import UserError, nearest
from emo.texts import TEXTS

SHARES = (0.6, 0.2, 0.2)  # of train, dev and test
LITERAL = "literal"  # the class of counterparts without a device
NO_TEXT = "(no text)"  # stands for the value of a row that has a label and nothing to read
# The shipped sets beside which another is seen, as in conf/dataset: devices beside emotions, emotions beside devices.
BESIDE = {
    "emotion": DatasetConfig(
        name="rhetoric", kind="labelled", text="text", label="device", literal="literal", task="rhetoric"
    ),
    "rhetoric": DatasetConfig(name="dialogues", kind="labelled", text="dialogue", label="emotion", group="topic"),
}
DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Item(NamedTuple):
    """One labelled text."""

    id: str  # file:line, and which text of the line
    group: str  # no two splits share one
    label: str  # its class
    text: str


class ClassSplits(NamedTuple):
    """Items of the three parts; ``digest`` is the sha256 of the file they came from."""

    train: list[Item]
    dev: list[Item]
    test: list[Item]
    classes: tuple[str, ...]
    digest: str
    task: str  # emotion | rhetoric
    left_out: dict[str, int]  # value of the label column -> texts that are in no split because of it


class _Found(NamedTuple):
    """One text of a file with its value of the label column."""

    id: str
    group: str
    value: str
    text: str


def load_items(config: DatasetConfig, classes: Sequence[str] | None, seed: int) -> ClassSplits:
    """Read labelled texts and split them 60 / 20 / 20 by group, stratified by class.

    Args:
        config: file, columns and map of labels; ``limit`` bounds the items of each class in each split.
        classes: those to keep, in the order of tables; None: all that the file (or ``dataset.labels``) has.
        seed: of the split.

    Counterparts without a device (literal) beyond the size of the largest class are left out: names are guessed, and
    a class that is half of all texts would be guessed best.

    Raises:
        UserError: the line names the file, the line or the column.
    """
    if config.kind != "labelled" or config.text is None:
        raise UserError(f"dataset={config.name}: no labelled texts; type dataset=dialogues, rhetoric or labelled")
    if config.test_path is not None:
        raise UserError("dataset.test_path: labelled texts are one file, split by group; leave it out")
    path = TEXTS / f"{config.name}.jsonl" if config.path is None else Path(config.path).expanduser()
    names = _names(config)
    items, left_out = [], Counter[str]()
    for found in _read(path, config, names):
        label = names.get(found.value) if names else found.value
        if not label or not found.text or (classes is not None and label not in classes):
            left_out[found.value if found.text else NO_TEXT] += 1
        else:
            items.append(Item(found.id, found.group, label, found.text))
    known = list(dict.fromkeys([*names.values(), *(item.label for item in items)]))
    known.sort(key=lambda name: name == LITERAL)  # sorting is stable: counterparts come last
    kept = tuple(known if classes is None else classes)
    if len(kept) < 2:
        raise UserError(
            f"dataset={config.name}: {_some(kept) or 'no class'} alone is no choice; two classes are needed "
            "(dataset.labels, emotions.names)"
        )
    rows = [{"theme": item.label, "scenario": item.group, "item": item} for item in items]
    parts = [[row["item"] for row in part] for part in divide(rows, SHARES, seed)]
    for part, where in zip(parts, ("train", "dev", "test"), strict=True):
        lacking = [name for name in kept if all(item.label != name for item in part)]
        if lacking:
            raise UserError(
                f"dataset={config.name}: no text of {_some(lacking)} for the {where} split; each class needs five "
                f"groups (labels of {path.name} that were left out: {_some(list(left_out)) or 'none'}; dataset.labels)"
            )
    left_out[LITERAL] += sum(len(part) - len(_balanced(part)) for part in parts)
    train, dev, test = (_balanced(_limit(part, config.limit)) for part in parts)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ClassSplits(train, dev, test, kept, digest, config.task, dict(+left_out))


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _names(config: DatasetConfig) -> dict[str, str]:
    """Return the class of every listed value, in the order of the list; empty: the values are the classes."""
    if config.label is None:
        if len(config.labels) != 1 or ":" in config.labels[0]:
            raise UserError("dataset.label=null: dataset.labels must be the one class of all texts, e.g. [hyperbole]")
        return {config.labels[0]: config.labels[0]} | ({LITERAL: LITERAL} if config.literal else {})
    names: dict[str, str] = {}
    for entry in config.labels:
        value, colon, name = (part.strip() for part in entry.rpartition(":"))
        if not (value and colon and name) or value in names:
            raise UserError(f"dataset.labels: '{entry}' is not VALUE:CLASS with a value of its own, e.g. 4:happiness")
        names[value] = name
    return names | ({LITERAL: LITERAL} if names and config.literal else {})


def _read(path: Path, config: DatasetConfig, names: dict[str, str]) -> Iterator[_Found]:
    """Yield every text of a file: one per row, two with a literal counterpart, several where a row holds lists."""
    empty = True
    for line, record in _records(path):
        empty = False
        where = f"{path}, line {line}"
        text = _cell(record, "text", config.text, where)
        label = next(iter(names)) if config.label is None else _cell(record, "label", config.label, where)
        lists = isinstance(text, list) or isinstance(label, list)
        if lists and not (isinstance(text, list) and isinstance(label, list) and len(text) == len(label)):
            raise UserError(f"{where}: '{config.text}' and '{config.label}' must be lists of one length where one is")
        own = f"{path.stem}:{line}"
        texts = [_text(x, config.text, where) for x in (text if lists else [text])]
        if config.group is not None:
            group = str(_cell(record, "group", config.group, where))
        else:
            group = own if lists else texts[0] or own
        for k, (one, value) in enumerate(zip(texts, label if lists else [label], strict=True)):
            yield _Found(f"{own}/{k}" if lists else own, group, "" if value is None else str(value).strip(), one)
        if config.literal is not None:
            other = _text(_cell(record, "literal", config.literal, where), config.literal, where)
            yield _Found(f"{own}/{LITERAL}", group, LITERAL, other)
    if empty:
        raise UserError(f"dataset.path={path}: empty; a header and one row per text, or one JSON object a line")


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line (1: the first) and the columns of every row."""
    if path.suffix not in (".jsonl", *DELIMITERS):
        raise UserError(f"dataset.path={path}: not a .jsonl, .csv or .tsv file")
    if not path.is_file():
        raise UserError(f"dataset.path={path}: no such file")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"dataset.path={path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    yield from _table(path, content) if path.suffix in DELIMITERS else _objects(path, content)


def _objects(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), 1):  # not splitlines: JSON allows U+2028 inside a text
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: a {type(record).__name__}, not a JSON object")
        yield number, record


def _table(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=DELIMITERS[path.suffix])
    try:
        header = next(rows, [])
        for row in rows:
            if len(row) > len(header):
                raise UserError(
                    f"{path}, line {rows.line_num}: {len(row)} cells, the header has {len(header)}; put quotes "
                    "around texts that hold the delimiter"
                )
            if row:
                yield rows.line_num, dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}") from None


def _cell(record: dict[str, Any], key: str, column: str | None, where: str) -> Any:
    if column not in record:
        raise UserError(
            f"{where}: no column '{column}' (dataset.{key}), only {', '.join(record)}{nearest(column, record)}"
        )
    return record[column]


def _text(value: Any, column: str | None, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: '{column}' must be a text, is {value!r}")
    return (value or "").strip()


def _balanced(items: Sequence[Item]) -> list[Item]:
    """Keep no more counterparts than the largest other class has, spread evenly over their order."""
    count = Counter(item.label for item in items)
    own, most = count.pop(LITERAL, 0), max(count.values(), default=0)
    if own <= most or not most:
        return list(items)
    kept, seen = [], 0
    for item in items:
        if item.label == LITERAL:
            seen += 1
            if seen * most // own == (seen - 1) * most // own:
                continue
        kept.append(item)
    return kept


def _limit(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Keep the first ``limit`` items of each class, and all counterparts: `_balanced` spreads those over the rest."""
    seen = Counter[str]()
    kept = []
    for item in items:
        seen[item.label] += 1
        if limit is None or item.label == LITERAL or seen[item.label] <= limit:
            kept.append(item)
    return kept


def parts(items: Sequence[Item], n: int) -> list[list[int]]:
    """Return the places of the items of n parts without a common group, classes dealt evenly; one may be empty."""
    classes: dict[str, list[str]] = {}
    for item in items:
        classes.setdefault(item.group, []).append(item.label)
    kinds: dict[tuple[str, ...], list[str]] = {}  # groups of the same classes, e.g. pairs with a counterpart
    for group, labels in classes.items():
        kinds.setdefault(tuple(sorted(labels)), []).append(group)
    dealt = {group: k % n for k, group in enumerate(group for groups in kinds.values() for group in groups)}
    found: list[list[int]] = [[] for _ in range(n)]
    for i, item in enumerate(items):
        found[dealt[item.group]].append(i)
    return found
