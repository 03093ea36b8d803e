"""Jobs that are handed out, without a model."""

from __future__ import annotations

import json

from emo.cli.plan import Planned
from emo.config.schema import Config
from emo.core.sealed import seal


def job(made: Config, number: int, model: str = "tiny_llama") -> Planned:
    """Return a job of a plan with an address of its own."""
    made = Config(**{**vars(made), "seed": number, "model": type(made.model)(**{**vars(made.model), "name": model})})
    return Planned([f"seed={number}"], made, f"{number:016x}" * 4, 2, "float32")


def finish(one: Planned, state: str = "done") -> None:
    """Write a result as the job would."""
    one.folder.mkdir(parents=True, exist_ok=True)
    result = {"status": state, "address": one.address, "config": {}, "arms": {}, "wall_s": 1.0, "files": {}}
    (one.folder / "result.json").write_text(json.dumps(seal(result | ({"error": "E: x"} if state != "done" else {}))))
