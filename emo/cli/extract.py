"""task=extract: directions, rankings and the circuit of a job, as files for other programs; no reply is measured.

Nothing is written by the model but what extraction itself reads: elicited replies where the job takes its states from
them or accepts only some. Every step is a stage of the store: the same line goes on where it was, and a later run of
the job finds all of it there.
"""

from __future__ import annotations

import csv
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emo.cli.check_job import check_job
from emo.config.choices import UNITS
from emo.config.kinds import on_classes
from emo.config.schema import Config
from emo.core import console
from emo.core.disk import writing
from emo.core.errors import UserError, refuse
from emo.find.circuit import Circuit
from emo.pipeline.context_length import check_length
from emo.pipeline.scenario import Job
from emo.report.titles import model_title
from emo.results.exported import (
    BEST,
    CIRCUIT,
    DIRECTIONS,
    OPEN,
    RANKINGS,
    VECTORS,
    Strength,
    export,
    export_address,
    strength_of,
)

FOLDER = "extract"  # below the folder of the job's name


def extract(jobs: Sequence[tuple[Config, str]]) -> None:
    """Extract from every job; those of one model, data and settings once.

    Args:
        jobs: configuration of each, and the line that runs it.

    Raises:
        UserError: a job that cannot be run here, or is about labelled texts; nothing was started.
    """
    made: dict[str, tuple[Job, str]] = {}
    wrong: dict[str, list[str]] = {}
    for config, line in jobs:
        try:
            job = extraction(config)
            check_job(job)
            check_length(job)
            made.setdefault(export_address(job), (job, line))
        except UserError as error:
            wrong.setdefault(str(error), []).append(line)
    refuse(wrong, len(jobs))
    for key, (job, line) in made.items():
        _extract(job, key, line)


def extraction(config: Config) -> Job:
    """Return the job whose stages are extracted: that of the circuit, which takes in all others.

    Raises:
        UserError: it is about labelled texts.
    """
    if on_classes(config):
        raise UserError(
            f"task=extract intervention={config.intervention.kind}: jobs on labelled texts have neither directions nor "
            "a circuit; type an intervention on scenarios, or leave it out"
        )
    circuit = replace(config.intervention, kind="circuit", _target_=None, settings={})
    evaluator = config.evaluator
    if config.elicitation.accept != "judged":  # then nothing labels a reply
        evaluator = replace(evaluator, name="projection", _target_=None, settings=None, metrics=[])
    return Job(replace(config, intervention=circuit, evaluator=evaluator, against=None))


def _extract(job: Job, key: str, line: str) -> None:
    c = job.config
    console.say(
        f"{model_title(c.model)} x {c.dataset.name} ({job.splits.scenarios()[0]} scenarios): directions, rankings and "
        "the circuit; no reply is measured"
    )
    parent = Path(c.paths.outputs) / c.name / FOLDER
    folder = parent / key[:16]
    if folder.is_dir():
        console.say(f"already there: {folder}")
        strength = strength_of(job)
    else:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            with writing(folder, "what was extracted"):
                strength = export(job, scratch)
                scratch.chmod(0o755)  # a temporary folder is private
                if not folder.is_dir():  # another process may have been faster
                    scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    _show(job, folder, strength, line)
    console.answer(folder)


def _best(rankings: Path) -> dict[tuple[str, str], str]:
    """Return the best unit of every emotion and kind, as ``block:unit``."""
    with rankings.open(encoding="utf-8", newline="") as file:
        first = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    return {(row["emotion"], row["kind"]): f"{row['layer']}:{row['unit']}" for row in first}


def _show(job: Job, folder: Path, strength: Strength, line: str) -> None:
    """Print what was found, where it lies and how it is used."""
    rows, circuit, best = [], Circuit.load(folder / CIRCUIT), _best(folder / RANKINGS)
    for e, name in enumerate(job.names):
        counts = [str(len(circuit.part(kind, e).layer)) for kind in UNITS]
        rows.append([name, *(best[name, kind] for kind in UNITS), " + ".join(counts)])
    columns = ["emotion", "best neuron (block:unit)", "best head", "circuit: neurons + heads"]
    console.table("found", columns, rows)
    name, words = job.names[0], [word for word in shlex.split(line) if not word.startswith("task=")]
    run = [word for word in words if word.partition("=")[0] not in ("intervention", "circuit.path")]
    console.say(f"written to {folder}:")
    console.say(f"  {DIRECTIONS}: unit directions per emotion and block; what they are of is in its metadata")
    console.say(f"  {VECTORS}/: control vectors for llama.cpp; scale 1 is {strength.told(job.names)}")
    console.say(f"  {RANKINGS}: the {BEST} best neurons and heads of every emotion")
    console.say(f"  {CIRCUIT}/: the circuit and its card")
    if 0 in strength.layers:
        console.note("llama.cpp has no vector for block 0: the control vectors leave it out")
    if strength.how == OPEN:
        console.warn(
            "no strength is chosen yet (alpha=auto is chosen on dev replies, and none is written here): after "
            f"{shlex.join(words)} this line writes the chosen one"
        )
    used = shlex.join([*run, "intervention=circuit", f"circuit.path={folder / CIRCUIT}"])
    console.say(f"llama.cpp: llama-cli -m MODEL.gguf --control-vector {folder / VECTORS / name}.gguf")
    console.say(f'python: circuit = emo.circuits.load("{folder / CIRCUIT}")')
    console.say(f"next, try: {used}")
