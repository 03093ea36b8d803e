"""Scenarios with three outcome events each, and their splits (methods 1.1).

Directions are extracted on ``extract``, strengths chosen on ``dev``, every number reported on
``test``; no two splits share a scenario, whatever its case, white space and punctuation. The bundle ``sev`` holds its
test set in a file of its own; a user's single file is split 60 / 20 / 20 by scenario, stratified by theme.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from emo.config.choices import BUNDLES, LANGUAGES
from emo.config.schema import DatasetConfig
from emo.core.errors import UserError, nearest
from emo.data import splitting
from emo.data.delimited import Layout
from emo.data.language import UNSPACED, common_language
from emo.data.language_words import Language, read_language
from emo.data.reading import Rows, read_rows
from emo.data.splitting import SHARES, folded
from emo.data.text_rules import MOST_SPREAD, VALENCES, emotion_words_in, n_words
from emo.data.text_rules import spread as spread_of
from emo.data.texts import TEXTS

TELLING = 50  # scenarios by which a set's language is told
OPEN = "open"  # the "valence" of a prompt that tells no outcome
EXAMPLE = "such a record is needed: " + json.dumps(
    {
        "skeleton_id": "work_1",
        "theme": "work",
        "scenario": "I waited for the letter about the orchard job.",
        "event": {
            "positive": "It said that I had got it.",
            "neutral": "It said that they would write again.",
            "negative": "It said that there was no job.",
        },
    }
)


class Sample(NamedTuple):
    """One (scenario, event) pair: a group, seen once per emotion."""

    id: str  # scenario id / valence
    scenario_id: str
    theme: str
    valence: str
    scenario: str
    event: str  # empty for an open prompt

    @property
    def text(self) -> str:
        """Scenario and event, in one line."""
        return f"{self.scenario} {self.event}".strip()


class Splits(NamedTuple):
    """Samples of the three parts; ``digest`` is the sha256 of the files they came from."""

    extract: list[Sample]
    dev: list[Sample]
    test: list[Sample]
    digest: str
    broken_rules: dict[str, int]  # rule of methods 1.1 -> scenarios of a user's file that break it
    shipped: bool
    joined: int  # scenarios that stand in the file under another id already, and stay in its split

    def scenarios(self) -> tuple[int, int, int]:
        """Return the number of scenarios of extract, dev and test."""
        extract, dev, test = (len({s.scenario_id for s in part}) for part in (self.extract, self.dev, self.test))
        return extract, dev, test


_SPLIT: dict[str, Splits] = {}  # jobs of a sweep share a dataset
KEPT = 8  # of these, the newest


def load_splits(config: DatasetConfig, seed: int) -> Splits:
    """Read, check and split a dataset, once in a process while its files are the same.

    Raises:
        UserError: names file, line and field.
    """
    files = [Path(name).expanduser() for name in (config.path, config.test_path) if name is not None]
    key = json.dumps([asdict(config), seed, [stat_of(path) for path in files]])
    if not all(path.is_file() for path in files):
        return _load_splits(config, seed)
    if key not in _SPLIT:
        made = _load_splits(config, seed)
        while len(_SPLIT) >= KEPT:
            del _SPLIT[next(iter(_SPLIT))]
        _SPLIT[key] = made
    return _SPLIT[key]


def stat_of(path: Path) -> list[int]:
    """Return what tells whether a file is another one than before; empty where it cannot be had."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _load_splits(config: DatasetConfig, seed: int) -> Splits:
    if config.kind == "labelled":
        raise UserError(f"dataset={config.name}: labelled texts, no scenarios; type dataset=sev (or jsonl)")
    bundled = BUNDLES.get(config.name) if config.path is None else None
    shipped = TEXTS / f"{'sev' if bundled else config.name}.jsonl"
    main = shipped if config.path is None else Path(config.path).expanduser()
    held_out = None if config.test_path is None else Path(config.test_path).expanduser()
    if bundled and held_out is None:
        held_out = TEXTS / f"{bundled}.jsonl"
    files = [("dataset.path", main)] if held_out is None else [("dataset.path", main), ("dataset.test_path", held_out)]
    read = [read_rows(path, key, Layout(), config._target_) for key, path in files]
    records = [_records(rows, path, key) for rows, (key, path) in zip(read, files, strict=True)]
    digest = "-".join(rows.digest for rows in read)
    broken = {} if config.path is None else broken_rules([record for part in records for record in part])
    kept = [_keep_themes(part, config.themes) for part in records]
    if config.leave_out is not None:
        kept = _leave_out(kept, config)

    if len(kept) == 1:
        parts = divide(kept[0], SHARES, seed)
    else:
        _refuse_shared(kept[0], kept[1])
        share = Fraction(str(config.dev_fraction))  # as typed: 0.2 is a fifth
        extract, dev = divide(kept[0], (1 - share, share), seed)
        parts = [extract, dev, kept[1]]
    samples = [_samples(_limit(part, config.limit), config.valences) for part in parts]
    for name, part in zip(("extraction", "dev", "test"), samples, strict=True):
        if not part:
            sizes = " + ".join(str(len(p)) for p in parts)
            raise UserError(
                f"dataset={config.name}: no scenario left for the {name} split (sizes {sizes}); "
                "at least four different scenarios are needed, or a dataset.test_path and a larger dataset.dev_fraction"
            )
    return Splits(samples[0], samples[1], samples[2], digest, broken, config.path is None, _repeated(kept))


def read_records(path: Path, key: str = "dataset.path") -> list[dict[str, Any]]:
    """Read scenarios (the published format: JSON lines, or an array); raises `UserError` naming the line."""
    return _records(read_rows(path, key, Layout()), path, key)


def _records(read: Rows, path: Path, key: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for row in read.rows:
        record = _record(row.cells, row.where)
        if (first := seen.setdefault(record["skeleton_id"], row.where)) != row.where:
            file, _, place = first.rpartition(", ")
            there = place if row.where.startswith(f"{file}, ") else first
            raise UserError(f"{row.where}: skeleton_id '{record['skeleton_id']}' stands in {there} already")
        records.append(record)
    if not records:
        raise UserError(f"{key}={path}: empty; each line is one JSON object with skeleton_id, theme, scenario, event")
    return records


def _record(record: dict[str, Any], where: str) -> dict[str, Any]:
    if set(record) == {"id", "kind", "prompt"}:  # a request instead of a scenario and its outcome
        return {
            "skeleton_id": record["id"], "theme": record["kind"], "scenario": record["prompt"], "event": {OPEN: ""}
        }  # fmt: skip
    if "scenario" not in record and {"text", "dialogue"} & set(record) and {"emotion", "label"} & set(record):
        text, label = ("dialogue" if "dialogue" in record else "text"), ("emotion" if "emotion" in record else "label")
        group = " dataset.group=topic" if "topic" in record else ""
        raise UserError(
            f"{where}: a text with its {label}, no scenario with events; type intervention=mask dataset=labelled "
            f"dataset.text={text} dataset.label={label}{group} instead of dataset=jsonl"
        )
    for key in ("skeleton_id", "theme", "scenario"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise UserError(f"{where}: '{key}' must be a non-empty text, is {record.get(key)!r}; {EXAMPLE}")
    events = record.get("event")
    if not isinstance(events, dict):
        raise UserError(f"{where}: 'event' must be an object with {', '.join(VALENCES)}, is {events!r}; {EXAMPLE}")
    for key in VALENCES:
        if not isinstance(events.get(key), str) or not events[key].strip():
            raise UserError(f"{where}: event '{key}' must be a non-empty text, is {events.get(key)!r}; {EXAMPLE}")
    return record


def _keep_themes(records: list[dict[str, Any]], themes: list[str] | None) -> list[dict[str, Any]]:
    """Filter by theme; a part of a theme's name (``work``) is enough where it is unambiguous."""
    if not themes or OPEN in records[0]["event"]:  # kinds of requests are no themes
        return records
    chosen = {_theme("dataset.themes", theme, records) for theme in themes}
    return [r for r in records if r["theme"] in chosen]


def _theme(key: str, given: str, records: list[dict[str, Any]]) -> str:
    known = sorted({r["theme"] for r in records})
    hits = [k for k in known if k.lower() == given.lower()] or [k for k in known if given.lower() in k.lower()]
    if len(hits) != 1:
        raise UserError(f"{key}={given}: not one of {'; '.join(known)}{nearest(given, known)}")
    return hits[0]


def _leave_out(parts: list[list[dict[str, Any]]], config: DatasetConfig) -> list[list[dict[str, Any]]]:
    """Return [scenarios of all other themes, scenarios of one theme]: leave-one-theme-out (methods 1.14.2)."""
    given = str(config.leave_out)
    if config.themes:
        raise UserError(f"dataset.leave_out={given}: not together with dataset.themes; type one of the two")
    main, test = parts[0], parts[-1]
    if OPEN in test[0]["event"]:
        raise UserError(
            f"dataset.leave_out={given}: the test prompts of dataset={config.name} have no themes; type dataset=sev"
        )
    theme = _theme("dataset.leave_out", given, test)
    kept = [r for r in test if r["theme"] == theme]
    shown = {_text(r) for r in kept} if main is test else set()  # one text may be filed under two themes
    return [[r for r in main if r["theme"] != theme and _text(r) not in shown], kept]


def divide(records: list[dict[str, Any]], shares: Sequence[Fraction], seed: int) -> list[list[dict[str, Any]]]:
    """Split by ``scenario``, stratified by ``theme``: one text under two ids stays together."""
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_text[_text(record)].append(record)
    groups = list(by_text.values())
    return splitting.divide(groups, [same[0]["theme"] for same in groups], shares, seed)


def _limit(records: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """Keep ``limit`` scenarios, taken round-robin over the themes."""
    if limit is None:
        return records
    queues: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        queues[record["theme"]].append(record)
    kept: list[dict[str, Any]] = []
    while len(kept) < limit and any(queues.values()):
        for queue in queues.values():
            if queue and len(kept) < limit:
                kept.append(queue.pop(0))
    return kept


def _repeated(parts: Sequence[Sequence[dict[str, Any]]]) -> int:
    """Return how many scenarios have the text of an earlier one of their file."""
    return sum(len(part) - len({_text(record) for record in part}) for part in parts)


def joined_line(splits: Splits) -> str:
    """Return, in words, how many scenarios are another's text; empty: none."""
    return (
        f"scenarios joined: {splits.joined}, which have the text of another one: no text stands in two splits"
        if splits.joined
        else ""
    )


def _samples(records: Iterable[dict[str, Any]], valences: Sequence[str]) -> list[Sample]:
    return [
        Sample(f"{r['skeleton_id']}/{v}", r["skeleton_id"], r["theme"], v, r["scenario"], r["event"][v])
        for r in records
        for v in ([OPEN] if OPEN in r["event"] else valences)
    ]


def _refuse_shared(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    seen = {_text(record): record["skeleton_id"] for record in train}
    shared = [record["skeleton_id"] for record in test if _text(record) in seen]
    if shared:
        first = next(record for record in test if _text(record) in seen)
        raise UserError(
            f"dataset.test_path: {len(shared)} of its {len(test)} scenarios also stand in dataset.path (whatever their "
            f"case, white space and punctuation), e.g. '{first['skeleton_id']}', there '{seen[_text(first)]}': "
            f'"{first["scenario"][:60]}"; delete them from one of the two, or leave dataset.test_path out for 60/20/20'
        )


def spread(samples: Sequence[Sample], bound: int | None) -> list[int]:
    """Return at most ``bound`` indices spread over scenarios and outcomes; null: all.

    Scenarios are taken evenly over the set (so over its themes), the outcome changes from one to the next.
    """
    if bound is None or bound >= len(samples):
        return list(range(len(samples)))
    by_scenario: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        by_scenario[sample.scenario_id].append(i)
    groups = list(by_scenario.values())
    step = max(1.0, len(groups) / bound)
    picks = (
        [(int(j * step) % len(groups), j // len(groups) + j) for j in range(bound)]
        if step > 1
        else [(j % len(groups), j % len(groups) + j // len(groups)) for j in range(bound)]
    )
    return sorted({groups[g][v % len(groups[g])] for g, v in picks})


def _text(record: dict[str, Any]) -> str:
    return folded(record["scenario"])


def broken_rules(records: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the scenarios that break a rule of methods 1.1 (the published set does too: a warning, never an error).

    They are measured by the words and lengths of the language that most of the first ones are in.
    """
    records = [record for record in records if OPEN not in record["event"]]
    language = _language_of(records[:TELLING])
    low, high = language.scenario

    def events(record: dict[str, Any]) -> list[str]:
        return [record["event"][v] for v in VALENCES]

    rules: dict[str, Callable[[dict[str, Any]], bool]] = {
        f"scenario not {low}-{high} {language.unit}": lambda r: not low <= n_words(r["scenario"], language) <= high,
        "event lengths spread over 20 %": lambda r: spread_of(events(r), language) > MOST_SPREAD,
        "emotion words": lambda r: bool(emotion_words_in(" ".join([r["scenario"], *events(r)]), language)),
    }
    counts = {name: sum(map(rule, records)) for name, rule in rules.items()}
    return {name: count for name, count in counts.items() if count}


def _language_of(records: Sequence[dict[str, Any]]) -> Language:
    """Return the words of a set's language; of one without shipped words, its way of counting alone."""
    name = common_language(record["scenario"] for record in records)
    shipped = (read_language(code) for code in LANGUAGES)
    if (found := next((one for one in shipped if one.name == name), None)) is not None:
        return found
    like = read_language("zh" if name in UNSPACED else "en")
    return like._replace(name=name, words=frozenset(), beginnings=(), endings=())
