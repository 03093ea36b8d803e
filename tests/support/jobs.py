"""Small jobs for tests: a configuration composed as the command line does it, on a tiny model."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from emo.cli.composing import Composer
from emo.config.check import REPOSITORY, to_config
from emo.config.schema import Config, ModelConfig

SMOL = ModelConfig(name="smollm2_135m", source="embedded", id="HuggingFaceTB/SmolLM2-135M-Instruct")
SMALL = (
    "model=tiny_llama",
    "dataset.limit=2",
    "dataset.valences=[positive,negative]",
    "emotions.names=[anger,sadness,fear]",
    "intervention.alpha=1",
    "intervention.layers=1-2",
    "control.seeds=2",
    "evaluator=margin",
    "elicitation.judge=none",
    "generation.max_new_tokens=4",
    "evaluator.bootstrap=20",
    "evaluator.kl_tokens=3",
    "device=cpu",
    "console=quiet",
)


def overrides(folder: Path, *more: str) -> list[str]:
    """Return the words of a command line for a job of seconds that writes into ``folder``; later words win."""
    given: dict[str, str] = {}
    for word in (*SMALL, f"paths.outputs={folder}", *more):
        given[word.partition("=")[0]] = word
    unread = _unread(given) - {word.partition("=")[0] for word in more}  # typed, they would be refused
    return [word for key, word in given.items() if key not in unread]


def _unread(given: dict[str, str]) -> set[str]:
    """Return the keys of `SMALL` that a job does not read, where the words name one kind of it."""
    kind, evaluator = (given.get(key, "").partition("=")[2] for key in ("intervention", "evaluator"))
    circuits = given.get("control.circuits", "steer")
    keys = set()
    if kind in ("none", "prompt"):
        keys |= {"intervention.alpha", "intervention.layers", "control.seeds"}
    if kind.endswith(("_neurons", "_heads")):
        keys.add("intervention.alpha")
    if kind == "ablate_circuit" or (kind.endswith("circuit") and "steer" not in circuits.replace("matched_steer", "")):
        keys |= {"intervention.alpha", "intervention.layers"}
    if evaluator == "projection":
        keys |= {"evaluator.kl_tokens", "generation.max_new_tokens"}
    return keys


def config(folder: Path, *more: str) -> Config:
    """Return the checked configuration of such a job."""
    return compose(overrides(folder, *more))


def compose(words: list[str]) -> Config:
    """Return the checked configuration of a job with these overrides, as Hydra composes it, at a fifth of the time."""
    return to_config(_composer().compose(words))


@cache
def _composer() -> Composer:
    """Return what jobs of a sweep are composed with; `tests/cli/test_composing.py` holds it against Hydra."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


def read_result(folder: Path) -> dict[str, Any]:
    """Return the only result.json below ``folder``."""
    [path] = folder.glob("run/*/result.json")
    return json.loads(path.read_text(encoding="utf-8"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
