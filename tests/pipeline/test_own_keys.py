"""Where nothing of a user's own is named, no address knows that it could be: stored results stay where they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import class_jobs
from support.jobs import config

from emo.config.schema import Config
from emo.core.store import address
from emo.pipeline import addresses, finding, labelled
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
OWN = {"_target_", "settings", "metrics"}  # keys that name, or serve, what is a user's own
SCENARIOS = ("intervention=steer intervention.alpha=auto", "intervention=circuit intervention.scale=auto",
             "intervention=ablate_heads intervention.k=2", "evaluator=projection")  # fmt: skip
CLASSES = ("", "selector=direct_effect", "selector=random selector.space=joint", "intervention=inject",
           "intervention=adaptive_mask")  # fmt: skip


def keys(value: Any) -> Iterator[str]:
    """Yield every key of nested objects and lists."""
    if isinstance(value, dict):
        yield from value
    for x in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from keys(x)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what goes into addresses."""
    seen: list[Any] = []

    def spy(stage: str, version: int, **inputs: Any) -> str:
        seen.append(json.loads(json.dumps(inputs)))
        return address(stage, version, **inputs)

    for module in (addresses, finding, labelled):
        monkeypatch.setattr(module, "address", spy)
    return seen


def of_scenarios(made: Config) -> None:
    job = Job(made)
    assert job.result_address and job.circuit_address and job._selection_key and job._scale_selection_key


def of_classes(made: Config) -> None:
    job = make_job(made)
    assert isinstance(job, ClassJob) and job.result_address
    assert all(job.address("predictions", **job._arm_key(arm)) for arm in job.arms)


@pytest.mark.parametrize("words", SCENARIOS)
def test_no_address_of_scenarios_has_keys_of_ones_own(words: str, tmp_path: Path, hashed: list[Any]) -> None:
    of_scenarios(config(tmp_path, *words.split()))
    assert hashed and not OWN & {key for inputs in hashed for key in keys(inputs)}


@pytest.mark.parametrize("words", CLASSES)
def test_no_address_of_classes_has_keys_of_ones_own(words: str, tmp_path: Path, hashed: list[Any]) -> None:
    of_classes(class_jobs.made(tmp_path, *words.split()))
    assert hashed and not OWN & {key for inputs in hashed for key in keys(inputs)}
