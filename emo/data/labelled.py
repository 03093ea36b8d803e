"""Texts with a class each, and their splits (methods 2, 3): ours, the published form, or a user's file.

Neurons are selected on ``train``, loops steered by ``dev``, every number reported on ``test``; no two splits share a
group (a topic, a pair, a dialogue) or a text; without a column for it, texts that are equal are one group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.config.schema import DatasetConfig
from emo.core.errors import UserError, nearest
from emo.data.class_names import LITERAL, Naming, names_of, value_of
from emo.data.delimited import Layout
from emo.data.reading import Row, read_rows, shown
from emo.data.splitting import SHARES, divide, drop_shared, join
from emo.data.texts import TEXTS

PARTS = ("train", "dev", "test")
NO_TEXT = "(no text)"  # stands for the value of a row that has a label and nothing to read
SHARED = "(text of another split)"  # for that of a text of too many groups to join them
# The shipped sets beside which another is seen, as in conf/dataset: devices beside emotions, emotions beside devices.
BESIDE = {
    "emotion": DatasetConfig(
        name="rhetoric", kind="labelled", text="text", label="device", literal="literal", task="rhetoric"
    ),
    "rhetoric": DatasetConfig(name="dialogues", kind="labelled", text="dialogue", label="emotion", group="topic"),
}


class Item(NamedTuple):
    """One labelled text."""

    id: str  # file:line, and which text of the line
    group: str  # no two splits share one
    label: str  # its class
    text: str


class ClassSplits(NamedTuple):
    """Items of the three parts; ``digest`` is the sha256 of the files they came from."""

    train: list[Item]
    dev: list[Item]
    test: list[Item]
    classes: tuple[str, ...]
    digest: str
    task: str  # emotion | rhetoric
    left_out: dict[str, int]  # value of the label column -> texts that are in no split because of it
    matched: dict[str, str]  # value -> class from which it differs in case or white space only
    several: int  # texts with several labels in their cell, of which the first was taken
    joined: int  # groups that joined another, with which they have a text in common
    warnings: list[str]  # about how the file was read


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
    names, read = names_of(config), read_rows(path, "dataset.path", _layout(config), config._target_)
    if not read.rows:
        raise UserError(f"dataset.path={path}: empty; a header and one row per text, or one JSON object a line")
    found = list(_texts(read.rows, config, names))
    naming = Naming(names, classes, (one.value for one in found), config.multilabel)
    naming.check(f"dataset.path={path}")
    items, left_out = [], Counter[str]()
    for one in found:
        label, counted = naming(one.value)
        if label is None or not one.text:
            left_out[counted if one.text else NO_TEXT] += 1
        else:
            items.append(Item(one.id, one.group, label, one.text))
    known = list(dict.fromkeys([*names.values(), *(item.label for item in items)]))
    known.sort(key=lambda name: name == LITERAL)  # sorting is stable: counterparts come last
    kept = tuple(known if classes is None else classes)
    if len(kept) < 2:
        raise UserError(
            f"dataset={config.name}: {_some(kept) or 'no class'} alone is no choice; two classes are needed "
            "(dataset.labels, emotions.names)"
        )
    items, joined = _joined(items)
    parts = _divided(items, seed)
    parts, left_out[SHARED] = drop_shared(parts, [[item.text for item in part] for part in parts])
    _refuse_lacking(parts, items, kept, config, path, left_out)
    left_out[LITERAL] += sum(len(part) - len(_balanced(part)) for part in parts)
    train, dev, test = (_balanced(_limit(part, config.limit)) for part in parts)
    told = dict(+left_out), naming.matched, naming.first, joined, read.warnings
    return ClassSplits(train, dev, test, kept, read.digest, config.task, *told)


def left_out_line(splits: ClassSplits) -> str:
    """Return what is in no split, counted by value of the label column; empty: nothing."""
    count = splits.left_out
    told = [f"{n} {name}" for name, n in sorted(count.items(), key=lambda one: -one[1])]
    more = f" and {len(told) - 8} values more" if len(told) > 8 else ""
    return f"left out: {sum(count.values())} texts: {', '.join(told[:8])}{more}" if count else ""


def remarks(splits: ClassSplits) -> list[str]:
    """Return, in words, what was done to a file's texts on the way to the splits."""
    told = [line] if (line := left_out_line(splits)) else []
    if splits.matched:
        pairs = [f"{value} as {name}" for value, name in splits.matched.items()]
        told.append(f"labels matched whatever their case and spaces: {_some_of(pairs)}")
    if splits.several:
        told.append(f"several labels in a cell: {splits.several} texts, of which the first label was taken")
    if splits.joined:
        told.append(f"groups joined: {splits.joined}, which have a text of another group: no text stands in two splits")
    return [*told, *splits.warnings]


def _some(names: Sequence[str]) -> str:
    return _some_of([repr(name) for name in names])


def _some_of(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _layout(config: DatasetConfig) -> Layout:
    columns = (config.text, config.label, config.literal, config.group)
    return Layout(config.delimiter, config.header, tuple(c for c in columns if c is not None), config.label)


def _texts(rows: Sequence[Row], config: DatasetConfig, names: dict[str, str]) -> Iterator[_Found]:
    """Yield every text of a file: one per row, two with a literal counterpart, several where a row holds lists."""
    for where, own, record in rows:
        text = _cell(record, "text", config, where)
        label = next(iter(names)) if config.label is None else _cell(record, "label", config, where)
        if isinstance(label, list) and not isinstance(text, list):  # several labels of one text
            label = ",".join(map(value_of, label))
        lists = isinstance(text, list)
        if lists and not (isinstance(label, list) and len(text) == len(label)):
            raise UserError(f"{where}: '{config.text}' and '{config.label}' must be lists of one length where one is")
        texts = [_text(x, config.text, where) for x in (text if lists else [text])]
        group = value_of(_cell(record, "group", config, where)) if config.group is not None else ""
        if not group:  # a row whose group is unknown is one of its own
            group = own if lists else texts[0] or own
        for k, (one, value) in enumerate(zip(texts, label if lists else [label], strict=True)):
            yield _Found(f"{own}/{k}" if lists else own, group, value_of(value), one)
        if config.literal is not None:
            other = _text(_cell(record, "literal", config, where), config.literal, where)
            yield _Found(f"{own}/{LITERAL}", group, LITERAL, other)


def _cell(record: dict[str, Any], key: str, config: DatasetConfig, where: str) -> Any:
    column = getattr(config, key)
    if column in record:
        return record[column]
    told = f"{where}: no column '{column}' (dataset.{key}), only {', '.join(record)}{nearest(column, record)}; "
    wanted = {str(config.text): "The kiln opened and every bowl was whole."}
    if config.label is not None:
        names = names_of(config)
        wanted[config.label] = next(
            (value for value, name in names.items() if name == "happiness"), next(iter(names), "happiness")
        )
    raise UserError(told + (_no_header(record, config) or f"such a record is needed: {shown(wanted)}"))


def _no_header(record: dict[str, Any], config: DatasetConfig) -> str:
    """Return what to type for a table without a header: none of its names is one that is needed."""
    path = (config.path or "").lower().removesuffix(".gz")
    if not config.header or not path.endswith((".csv", ".tsv", ".txt")) or set(record) & {config.text, config.label}:
        return ""
    return "for a table without a header type dataset.header=false dataset.text=0 dataset.label=1 (numbers of columns)"


def _text(value: Any, column: str | None, where: str) -> str:
    if value is None or value != value:  # NaN is not itself
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{column}' must be a text, is {value!r}")
    return value.strip()


def _joined(items: Sequence[Item]) -> tuple[list[Item], int]:
    groups, joined = join([item.group for item in items], [item.text for item in items])
    return [item._replace(group=group) for item, group in zip(items, groups, strict=True)], joined


def _divided(items: Sequence[Item], seed: int) -> list[list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return divide(list(groups.values()), [own[0].label for own in groups.values()], SHARES, seed, every=True)


def _refuse_lacking(
    parts: Sequence[Sequence[Item]],
    items: Sequence[Item],
    classes: Sequence[str],
    config: DatasetConfig,
    path: Path,
    left_out: Counter[str],
) -> None:
    """Raise `UserError` where a class has no text in a part: how many groups it has, and how many are needed."""
    for part, name in zip(parts, PARTS, strict=True):
        lacking = [one for one in classes if all(item.label != one for item in part)]
        if not lacking:
            continue
        groups = {one: len({item.group for item in items if item.label == one}) for one in lacking}
        few = [one for one in lacking if groups[one] < len(PARTS)]
        told = ", ".join(f"{one!r} {groups[one]}" for one in lacking[:8])
        need = f"a class needs {len(PARTS)} groups, one for each split (groups of it: {told})"
        others = [one for one in classes if one not in few]
        if config.task == "emotion" and len(others) > 1:
            need += f"; type emotions.names=[{','.join(others)}] to go without"
        if not few:
            need = f"its groups ({told}) fell to the other splits, with a text or a class of theirs: type another seed"
        raise UserError(
            f"dataset={config.name}: no text of {_some(lacking)} for the {name} split; {need}; labels of {path.name} "
            f"that were left out: {_some([one for one, n in left_out.items() if n]) or 'none'} (dataset.labels)"
        )


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
