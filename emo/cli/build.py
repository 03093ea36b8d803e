"""task=build_sev, build_dialogues, build_stories: have a set written, check it, write its files, say what there is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from emo.config import error_text as cli
from emo.config.build import refuse_other
from emo.config.schema import Config
from emo.core import console
from emo.core.disk import writing
from emo.pipeline.building.sets import MadeSet, build
from emo.report.set_card import judged_by, read_by
from emo.report.set_files import write_set

SHOWN = 5  # of what could not be had


def build_texts(config: Config, typed: Sequence[str]) -> int:
    """Have a set written; returns 0, or 1 where not one record could be had.

    Raises:
        UserError: a key that is not read, a value, file or folder that is none, or a server that refuses.
    """
    refuse_other(config, list(typed))
    command = cli.command(typed)
    made = build(config)
    with writing(made.folder, "the set"):
        write_set(made, command)
    _show(made, command)
    console.answer(made.folder)
    return 0 if made.records else cli.FAILED


def _show(made: MadeSet, command: str) -> None:
    console.say(f"this call: {made.took}")
    if made.spent:
        console.say(f"all answers so far: {made.spent}")
    rows = [
        [filled.stage.name, len(filled.slots), len(filled.made), len(filled.missing()),
         sum(map(len, filled.tries.values())), ", ".join(f"{rule} {n}" for rule, n in filled.broken().most_common())]
        for filled in made.stages
    ]  # fmt: skip
    console.table(
        f"{made.kind}, {made.language.name}", ["stage", "wanted", "had", "given up", "answers", "rules broken"], rows
    )
    lost = [(filled.stage.name, slot, last) for filled in made.stages for slot, last in filled.missing()]
    for stage, slot, last in lost[:SHOWN]:
        console.say(f"not had: {stage} {slot.id}: {'; '.join(broken.how for broken in last.broken)}")
    if lost:
        kept = [word for word in shlex.split(command) if not word.startswith("build.tries=")]
        again = shlex.join([*kept, f"build.tries={2 * _tries(made)}"])
        console.warn(
            f"{len(lost)} could not be had in {_tries(made)} answers each (all in {made.folder / 'missing.jsonl'}); to "
            f"try again: {again}"
        )
    events = f" with {3 * len(made.records)} events" if made.kind == "sev" else ""
    console.say(f"{len(made.records)} records{events}: {made.file}")
    console.say(f"to look through it: {made.folder / 'report.html'}; data card: {made.folder / 'README.md'}")
    if made.records:
        console.say(f"next, try: {read_by(made)}")
        if line := judged_by(made):
            console.say(line)


def _tries(made: MadeSet) -> int:
    return max(len(own) for filled in made.stages for own in filled.tries.values())
