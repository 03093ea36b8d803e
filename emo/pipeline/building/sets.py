"""A whole set: its slots and stages, where it lies, what it must not repeat, and what became of everything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.config.schema import Config
from emo.core.console import note, say, warn
from emo.core.errors import UserError
from emo.core.locks import held
from emo.core.sealed_lines import SealedLines
from emo.core.store import writable
from emo.data.language_words import Language, read_language
from emo.data.scenarios import read_records
from emo.data.text_rules import VALENCES
from emo.data.texts import read_jsonl
from emo.measure.chat_server import ChatRequest
from emo.measure.prices import Tokens, cost_words
from emo.measure.rate_limit import CHARACTERS_PER_TOKEN
from emo.pipeline.building.authors import doubts
from emo.pipeline.building.known import Known
from emo.pipeline.building.labelled_texts import Dialogues, Stories, Texts, text_slots
from emo.pipeline.building.sev import Events, Scenarios, event_slots, scenario_slots
from emo.pipeline.building.stage import Ask, Log, Rounds, Slot, Stage, Try, accepted, fill, first_requests
from emo.pipeline.building.writers import ServerWriter, Writer, writer_of

TOPICS = "build_topics.jsonl"
SHIPPED = {"scenarios": ("sev.jsonl", "sev_test.jsonl"), "dialogues": ("dialogues.jsonl",), "stories": ()}
ENGLISH_ANSWERS = {"scenarios": 35, "events": 90, "dialogues": 90, "stories": 180}  # tokens of one, for the estimate
EXAMPLE = "I " + "word " * 19  # a scenario of usual length, for the estimate


class Filled(NamedTuple):
    """What became of one stage."""

    stage: Stage
    slots: list[Slot]
    made: dict[str, Try]  # accepted, by slot
    tries: dict[str, list[Try]]
    request: ChatRequest | None  # the first one, for the card

    def missing(self) -> list[tuple[Slot, Try]]:
        """Return the slots that were given up, each with its last try."""
        return [(slot, self.tries[slot.id][-1]) for slot in self.slots if slot.id not in self.made]

    def broken(self) -> Counter[str]:
        """Return how many answers broke each rule."""
        return Counter(rule for own in self.tries.values() for one in own for rule in {b.rule for b in one.broken})


class MadeSet(NamedTuple):
    """A set as it is on disk now."""

    kind: str  # sev | dialogues | stories
    folder: Path
    language: Language
    writer: str
    said: str  # how it writes
    took: str  # requests, tokens, cost of this call
    spent: str  # tokens and cost of all answers; empty: a model of this process
    records: list[dict[str, Any]]
    stages: list[Filled]

    @property
    def file(self) -> Path:
        """The data file."""
        return self.folder / f"{self.kind}.jsonl"


def build(config: Config) -> MadeSet:
    """Have a set written, as far as it is not there; returns what there is.

    Raises:
        UserError: a key, file, folder or server that is none, or a folder that holds another set.
    """
    b, kind = config.build, config.task.removeprefix("build_")
    language, writer = read_language(b.language, b.language_file), writer_of(config)
    writer.check()
    default = Path(config.paths.outputs) / "sets" / f"{kind}_{b.language}"
    folder = default if b.path is None else Path(b.path).expanduser().absolute()
    others = [(path, _others(Path(path).expanduser(), kind)) for path in b.against]
    writable(folder)
    with held(folder / ".lock", config.task):
        lines = SealedLines(folder / "log.jsonl")
        _check_same(lines, config.task, b.language)
        with lines:
            if not lines.path.stat().st_size:
                lines.add({"set": {"task": config.task, "language": b.language}})
            log = Log(lines)
            note(f"{config.task}: {folder} (Ctrl-C loses nothing: the same line goes on)")
            make = _sev if kind == "sev" else _texts
            stages = make(config, language, writer, log, others)
    return MadeSet(
        kind,
        folder,
        language,
        writer.title,
        writer.said,
        writer.line(),
        writer.spent(_spent(stages)),
        _records(kind, stages),
        stages,
    )


def _check_same(lines: SealedLines, task: str, language: str) -> None:
    given = next((row["set"] for row in lines.read() if "set" in row), None)
    if given is not None and given != {"task": task, "language": language}:
        raise UserError(
            f"build.path={lines.path.parent}: holds the set of task={given['task']} "
            f"build.language={given['language']}; type another build.path"
        )
    if given is None and lines.path.exists() and lines.path.stat().st_size:
        raise UserError(f"{lines.path}: not a log of this task, or damaged at its beginning; type another build.path")


def _sev(
    config: Config, language: Language, writer: Writer, log: Log, others: Sequence[tuple[str, dict[str, list[str]]]]
) -> list[Filled]:
    b, english = config.build, language.code == "en"
    slots = scenario_slots(_themes(b.themes), b.count)
    scenarios, events = Scenarios(language, b.at_once), Events(language, b.max_cosine, english=english)
    _introduce(config, writer, log, scenarios, slots, events)
    done = _run(scenarios, slots, config, writer, log, language, _known(config, "scenarios", english, others))
    written = {name: str(one.value) for name, one in done.made.items()}
    after = event_slots(slots, written)
    return [done, _run(events, after, config, writer, log, language, _known(config, "events", english, others))]


def _texts(
    config: Config, language: Language, writer: Writer, log: Log, others: Sequence[tuple[str, dict[str, list[str]]]]
) -> list[Filled]:
    stage: Texts = Dialogues(language) if config.task == "build_dialogues" else Stories(language)
    topics = _topics(config.build.count)
    slots = text_slots(topics, config.emotions.names, config.emotions.words or {}, stage.key[0])
    _introduce(config, writer, log, stage, slots, None)
    known = _known(config, stage.name, language.code == "en", others)
    return [_run(stage, slots, config, writer, log, language, known)]


def _run(
    stage: Stage, slots: list[Slot], config: Config, writer: Writer, log: Log, language: Language, known: Known
) -> Filled:
    fill(stage, slots, Rounds(log, writer, known, language.name, config.build.tries))
    first = stage.request([Ask(slots[0], None)]) if slots else None
    made = dict(accepted(stage, slots, log))
    return Filled(stage, slots, made, {slot.id: log.of(stage.name, slot) for slot in slots}, first)


def _themes(given: list[str] | None) -> list[tuple[str, str, list[str]]]:
    """Return name, short name and subjects of the themes; one of a user's own has no subjects."""
    shipped = {row["theme"]: (row["theme"], row["short"], list(row["matters"])) for row in read_jsonl(TOPICS)}
    if given is None:
        return list(shipped.values())
    found = []
    for theme in given:
        short = re.sub(r"\W+", "_", theme.lower()).strip("_") or "theme"
        found.append(shipped.get(theme, (theme, short, [])))
    if len({short for _, short, _ in found}) < len(found):
        raise UserError(f"build.themes={given}: two of them give the same short name; name them apart")
    return found


def _topics(count: int) -> list[str]:
    """Return subjects, spread over the themes."""
    rows = read_jsonl(TOPICS)
    every = [matter for own in zip(*(row["matters"] for row in rows), strict=True) for matter in own]
    if count > len(every):
        raise UserError(f"build.count={count}: {len(every)} topics are there; type a smaller number")
    return every[:count]


def _known(config: Config, kind: str, english: bool, others: Sequence[tuple[str, dict[str, list[str]]]]) -> Known:
    """Return the texts of other sets that nothing may repeat: the shipped ones, and those of ``build.against``."""
    shipped = SHIPPED["scenarios" if kind == "events" else kind] if english else ()
    texts = [(name, text) for name in shipped for text in texts_of(list(read_jsonl(name))).get(kind, [])]
    texts += [(path, text) for path, own in others for text in own.get(kind, [])]
    return Known(config.build.max_cosine, english=english, others=texts)


def _others(path: Path, kind: str) -> dict[str, list[str]]:
    """Return the texts of a user's file, by kind; raises `UserError` where it is none."""
    if kind == "sev":
        return texts_of(read_records(path, "build.against"))
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return texts_of([row for row in rows if isinstance(row, dict)])
    except (OSError, ValueError) as error:
        raise UserError(f"build.against={path}: cannot be read as JSON lines ({type(error).__name__})") from None


def texts_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the texts of records, by the stage that writes such ones."""
    found: dict[str, list[str]] = {"scenarios": [], "events": [], "dialogues": [], "stories": []}
    for row in rows:
        if isinstance(row.get("event"), dict) and "scenario" in row:
            found["scenarios"].append(str(row["scenario"]))
            found["events"] += [str(text) for text in row["event"].values() if text]
        for key, kind in (("dialogue", "dialogues"), ("text", "stories")):
            if isinstance(row.get(key), str):
                found[kind].append(row[key])
    return found


def _introduce(config: Config, writer: Writer, log: Log, stage: Stage, slots: list[Slot], after: Stage | None) -> None:
    """Say what will be written by whom, what is there, and what it may cost."""
    b, last = config.build, after or stage
    there = len(accepted(last, slots, log))
    what = f"{len(slots)} {stage.unit}" + (f" with {3 * len(slots)} events" if after else "")
    say(f"{config.task}: {what}, {there} of them there already; written by {writer.title} ({writer.said})")
    for line in doubts(writer, log, config.task) if there < len(slots) else ():
        warn(line)
    if not isinstance(writer, ServerWriter):
        return
    asked = first_requests(stage, slots, log, b.tries)
    answers = sum(not any(one.good for one in log.of(stage.name, slot)) for slot in slots)
    tokens_out = answers * ENGLISH_ANSWERS[stage.name]
    if after:
        example = Slot("", {"theme": slots[0].about["theme"], "scenario": EXAMPLE})
        asked += [after.request([Ask(example, None)])] * (len(slots) - there)
        tokens_out += (len(slots) - there) * ENGLISH_ANSWERS[after.name]
    tokens_in = sum(len(turn["content"]) for one in asked for turn in one.messages) // CHARACTERS_PER_TOKEN
    if asked:
        tokens = Tokens().plus(tokens_in, tokens_out, b.batch)
        say(
            f"{config.task}: {len(asked)} requests where nothing is refused, about {tokens_in:,} input tokens "
            f"(characters / {CHARACTERS_PER_TOKEN}) and {tokens_out:,} output tokens, "
            f"{cost_words(writer.settings, tokens, 2, about=True)}; at most {b.tries} times that"
        )


def _spent(stages: Sequence[Filled]) -> Tokens:
    """Return the tokens of all answers."""
    every = [one.tokens for filled in stages for own in filled.tries.values() for one in own]
    return Tokens(*(sum(own) for own in zip(Tokens(), *every, strict=True)))


def _records(kind: str, stages: Sequence[Filled]) -> list[dict[str, Any]]:
    """Return the records that are whole, in the order of their slots."""
    if kind == "sev":
        scenarios, events = stages
        return [
            {
                "skeleton_id": slot.id,
                "theme": slot.about["theme"],
                "scenario": scenarios.made[slot.id].value,
                "event": {v: events.made[slot.id].value[v] for v in VALENCES},
            }
            for slot in scenarios.slots
            if slot.id in events.made
        ]
    [texts] = stages
    key = "dialogue" if kind == "dialogues" else "text"
    return [
        {"id": slot.id, "topic": slot.about["topic"], "emotion": slot.about["emotion"], key: texts.made[slot.id].value}
        for slot in texts.slots
        if slot.id in texts.made
    ]
