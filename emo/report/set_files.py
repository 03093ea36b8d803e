"""The files of a set that a model wrote (`emo.pipeline.building`): data, provenance, what is missing, card, page.

sev.jsonl          the set, as ``dataset=jsonl`` reads it (dialogues.jsonl, stories.jsonl: as labelled texts)
provenance.jsonl   per record and stage: who wrote it, when (UTC), sha256 of the request's messages, tries
missing.jsonl      what could not be had: the last answer, the rules it broke, tries
README.md          the data card          report.html   a page to look through it
log.jsonl          every answer and what it broke: from here the same line goes on
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from emo.pipeline.building.sets import MadeSet
from emo.pipeline.building.sev import shown
from emo.report import elements as page
from emo.report.set_card import card

LAST = 300  # characters of a refused answer on the page


def write_set(made: MadeSet, command: str, rule_limits: Sequence[str] = ()) -> None:
    """Write the files of a set; each appears as a whole or not at all.

    Args:
        made: the set.
        command: the line that goes on with it.
        rule_limits: what no rule can tell, for the card.
    """
    _lines(made.file, made.records)
    _lines(made.folder / "provenance.jsonl", _provenance(made))
    _lines(made.folder / "missing.jsonl", missing(made))
    _text(made.folder / "README.md", card(made, command, rule_limits))
    title = f"{made.kind}, {made.language.name}: {len(made.records)} records to look through"
    page.write_page(made.folder, title, _page(made, command))


def missing(made: MadeSet) -> list[dict[str, Any]]:
    """Return what could not be had, in the order of the slots."""
    return [
        {
            "id": slot.id,
            "stage": filled.stage.name,
            "about": slot.about,
            "tries": len(filled.tries[slot.id]),
            "broken": [list(broken) for broken in last.broken],
            "last": last.raw if last.value is None else last.value,
        }
        for filled in made.stages
        for slot, last in filled.missing()
    ]


def _provenance(made: MadeSet) -> Iterable[dict[str, Any]]:
    for record in made.records:
        name = record.get("skeleton_id") or record["id"]
        for filled in made.stages:
            one = filled.made[name]
            yield {
                "id": name, "stage": filled.stage.name, "model": one.model, "date": one.date, "prompt": one.prompt,
                "tries": len(filled.tries[name]),
            }  # fmt: skip


def _page(made: MadeSet, command: str) -> list[str]:
    rows = [[filled.stage.name, len(filled.slots), len(filled.made), len(filled.missing()),
             sum(map(len, filled.tries.values()))] for filled in made.stages]  # fmt: skip
    rules = [[filled.stage.name, rule, n] for filled in made.stages for rule, n in filled.broken().most_common()]
    lost = missing(made)
    wanted = page.table(["stage", "wanted", "had", "given up", "answers"], rows)
    facts = {
        "written by": f"{made.writer} ({made.said})",
        "all answers": made.spent or "written in this process",
        "data": made.file.name,
    }
    return [
        page.facts(facts),
        page.section("What was asked for and had", wanted),
        page.section("Rules that answers broke", page.table(["stage", "rule", "answers"], rules) if rules else ""),
        *_records(made),
        page.section(f"What could not be had ({len(lost)})", "".join(_lost(row) for row in lost)),
        f"<h2>To go on with this set</h2><pre>{page.text(command)}</pre>",
    ]


def _records(made: MadeSet) -> list[str]:
    """Return a folding section per theme or emotion."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in made.records:
        groups.setdefault(record.get("theme") or record["emotion"], []).append(record)
    parts = ["<h2>Records</h2>"]
    for i, (name, own) in enumerate(groups.items()):
        body = "".join(_record(made, record) for record in own)
        opened = " open" if i == 0 else ""
        parts.append(f'<details class="job"{opened}><summary>{page.text(name)} ({len(own)})</summary>{body}</details>')
    return parts


def _record(made: MadeSet, record: dict[str, Any]) -> str:
    name = record.get("skeleton_id") or record["id"]
    tries = ", ".join(f"{filled.stage.name} {len(filled.tries[name])}" for filled in made.stages)
    texts = {"scenario": record["scenario"], **record["event"]} if "event" in record else {
        record["topic"]: record.get("dialogue") or record.get("text")
    }  # fmt: skip
    rows = "".join(
        f"<tr{' class=prompt' if key == 'scenario' else ''}><th>{page.text(key)}</th>"
        f'<td dir="auto" lang="{made.language.code}">{page.text(text)}</td></tr>'
        for key, text in texts.items()
    )
    head = f"{page.text(name)} <span class=small>answers: {page.text(tries)}</span>"
    return f'<table class="sample"><thead><tr><th colspan="2">{head}</th></tr></thead><tbody>{rows}</tbody></table>'


def _lost(row: dict[str, Any]) -> str:
    last = shown(row["last"])[:LAST] or "(nothing)"
    rules = "; ".join(f"{rule}: {how}" for rule, how in row["broken"])
    return page.facts({f"{row['id']}, {row['stage']}, {row['tries']} answers": rules, "the last one": last})


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
