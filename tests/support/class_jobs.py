"""Jobs over labelled texts, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emo.cli.run import run_job
from emo.config.schema import Config
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from support.jobs import compose

SMALL = (
    "model=tiny_llama", "dataset.limit=2", "emotions.names=[anger,sadness,fear]", "control.seeds=2",
    "control.units=[random,other_emotion]", "evaluator.bootstrap=20", "selector.ratio=0.2", "device=cpu",
    "console=quiet", "generation.max_new_tokens=3", "adaptive.rounds=2",
)  # fmt: skip


def made(folder: Path, *more: str) -> Config:
    """Return the checked configuration of a small job on classes; later words win."""
    given = {word.partition("=")[0]: word for word in (*SMALL, f"paths.outputs={folder}", "intervention=mask", *more)}
    return compose(list(given.values()))


def done(folder: Path, *more: str) -> tuple[ClassJob, Path, dict[str, Any]]:
    """Run a job; returns it, its folder and its result."""
    config = made(folder, *more)
    job = make_job(config)
    assert isinstance(job, ClassJob)
    assert run_job(config) == 0
    where = folder / "run" / job.result_address[:16]
    return job, where, json.loads((where / "result.json").read_text(encoding="utf-8"))


def pairs(units: Any) -> list[tuple[int, int]]:
    return list(zip(units.layer.tolist(), units.unit.tolist(), strict=True))
