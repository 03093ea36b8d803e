"""Strengths at equal divergence: the search, and that what it finds diverges so much by two plain forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import twin
from support.jobs import compose, config, overrides

from emo.core.errors import UserError
from emo.edit.base import compiled
from emo.edit.circuits import CircuitArm
from emo.measure.batch import Measure
from emo.measure.equal_divergence import MOST, NEAR, TOKENS, AtDivergence, at_divergence, percentile
from emo.pipeline.scenario import Job
from emo.results.equal_divergence import described, doubts, one_described

pytestmark = pytest.mark.usefixtures("quiet")


def searched(curve: Callable[[float], float], target: float = 1.0) -> AtDivergence:
    """Search along a known curve of divergence over strength."""

    def evaluate(given: Mapping[str, Any]) -> dict[str, list[tuple[None, list[float]]]]:
        return {name: [(None, [curve(strength)])] for name, strength in given.items()}

    return at_divergence(evaluate, {"steer": 1.0}, target, {"steer": 0})["steer"]


@pytest.mark.parametrize("unit", [1e-3, 0.3, 1.0, 40.0, 1e4])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_it_finds_the_strength_in_a_few_evaluations(unit: float, power: float) -> None:
    found = searched(lambda x: unit * x**power)
    assert found.reached == [True] and found.divergence[0] == pytest.approx(1.0, rel=NEAR)
    assert unit * float(found.strength) ** power == pytest.approx(1.0, rel=NEAR)  # type: ignore[arg-type]
    assert len(found.tried) <= 6, found.tried


def test_it_copes_with_jumps_plateaus_and_explosions() -> None:
    """As replies change, divergence jumps; a broken model's stays the same; beyond that there are no numbers."""
    jumpy = searched(lambda x: x**2 * (1 + 0.3 * math.sin(25 * x)), target=3.0)
    assert jumpy.reached == [True]
    explodes = searched(lambda x: math.inf if x > 0.2 else 0.01 * x**2 / 0.04, target=0.008)
    assert explodes.reached == [True]
    flat = searched(lambda x: min(x**2, 2.0), target=5.0)
    assert flat.reached == [False] and flat.divergence == [2.0] and len(flat.tried) <= MOST
    nothing = searched(lambda _: 0.0)
    assert nothing.reached == [False] and len(nothing.tried) <= MOST


def test_every_emotion_gets_its_own_strength() -> None:
    def evaluate(given: Mapping[str, Any]) -> dict[str, list[tuple[int, list[float]]]]:
        return {name: [(e, [(e + 1) * x**2]) for e, x in enumerate(own)] for name, own in given.items()}

    found = at_divergence(evaluate, {"steer": 1.0}, 2.0, {"steer": 3})["steer"]
    assert isinstance(found.strength, list) and all(found.reached)
    assert found.strength == pytest.approx([math.sqrt(2 / (e + 1)) for e in range(3)], rel=NEAR)
    again = AtDivergence.from_artifact(found.to_artifact())
    assert again == found


def test_a_percentile_of_what_explodes() -> None:
    assert percentile(list(range(101))) == 95
    assert percentile([1.0] * 99 + [math.inf]) == 1.0
    assert percentile([1.0] * 9 + [math.inf]) == math.inf == percentile([])


def naive(job: Job, kind: str) -> float:
    """Return the 95th percentile of an arm's divergence, by whole sequences through the plain model, one at a time."""
    arm = next(arm for arm in job.arms if arm.kind == kind)
    measure = Measure(job.lm, job.config, job.dev_samples, "sev", job.found, "dev")
    made, stop, found = compiled([arm], job.found), sorted(job.lm.stop_ids()), []
    for entry in measure.entries(arm):
        ids, cond = measure.prompts[entry.sample], made.cond[arm.name, entry.seed, entry.emotion]
        reply = twin.reply(job.lm, ids, TOKENS, made.edits, cond, stop)
        whole = [*ids, *reply]
        scored = min(len(reply) + 1, TOKENS)  # the end counts too
        edited, plain = (
            torch.log_softmax(twin.scores(job.lm, whole, len(ids), edits, cond)[len(ids) - 1 :][:scored], -1)
            for edits in (made.edits, ())
        )
        found += (edited.exp() * (edited - plain)).sum(-1).tolist()
    return float(np.percentile(found, 95))


def test_a_found_strength_diverges_so_much(tmp_path: Path) -> None:
    """Each arm by itself, measured anew; half the strength diverges less, twice the strength more."""
    job = Job(config(tmp_path, "intervention.alpha=kl:0.1", "intervention.select.prompts=2", "control.seeds=1"))
    found = described(job)
    assert set(found) == {"steer", "random", "shuffled"} and doubts(found) == []
    strengths = {kind: one["strength"]["all"] for kind, one in found.items()}
    assert len(set(strengths.values())) == 3  # the controls have strengths of their own
    for kind, one in found.items():
        assert one["divergence"]["all"] == pytest.approx(0.1, rel=NEAR) and 3 <= len(one["evaluations"]) <= MOST
        if kind != "shuffled":  # most rows, and nothing that steer has not
            assert naive(job, kind) == pytest.approx(one["divergence"]["all"], rel=1e-3)
    measure = Measure(job.lm, job.config, job.dev_samples, "sev", job.found, "dev")
    steer = next(arm for arm in job.arms if arm.kind == "steer")
    curve = [
        percentile([kl for _, own in measure.divergences([arm], TOKENS)[arm.name] for kl in own])
        for arm in (replace(steer, alpha=factor * steer.alpha) for factor in (0.25, 0.5, 1.0, 2.0))
    ]
    assert curve == sorted(curve) and curve[2] == pytest.approx(0.1, rel=NEAR)


def test_a_divergence_that_is_not_reached_is_said(tmp_path: Path) -> None:
    """Broken replies diverge no more, whatever is added; and a curve may jump past the target."""
    words = ("control.arms=[]", "intervention.select.prompts=1", "emotions.names=[anger,sadness]")
    job = Job(config(tmp_path, "intervention.alpha=kl:9", *words))
    [line] = doubts(described(job))
    assert line.startswith("steer does not reach a divergence of 9 nats") and "not compared at equal divergence" in line
    jump = searched(lambda x: 0.5 if x < 1.5 else 2.0)
    assert jump.reached == [False] and len(jump.tried) == MOST
    [line] = doubts({"steer": one_described(jump, [])})
    assert "between strengths" in line and "it jumps from 0.5 to 2 nats" in line


def test_per_emotion_and_under_the_prompt(tmp_path: Path) -> None:
    """A random vector knows no emotion; an arm under the prompt has the strength of the same edit without it."""
    words = ("intervention=prompt_steer", "intervention.alpha=kl:0.1", "intervention.select.per=emotion")
    job = Job(config(tmp_path, *words, "intervention.select.prompts=2", "control.seeds=1"))
    arms = {arm.kind: arm for arm in job.arms}
    assert arms["steer"].alpha == arms["prompt_steer"].alpha and len(set(arms["steer"].alpha)) == 3  # type: ignore[arg-type]
    assert isinstance(arms["prompt_random"].alpha, float) and isinstance(arms["prompt_shuffled"].alpha, tuple)
    assert set(described(job)["steer"]["strength"]) == {"anger", "sadness", "fear"}


@pytest.mark.long
def test_a_circuit_beside_steering_at_one_divergence(tmp_path: Path) -> None:
    words = ("intervention=circuit", "intervention.scale=kl:0.1", "intervention.alpha=kl:0.1", "control.seeds=1")
    controls = "control.circuits=[random_circuit,steer,matched_steer]"
    job = Job(config(tmp_path, *words, controls, "intervention.select.prompts=2", "circuit.reference_layers=2-3"))
    found = described(job)
    assert set(found) == {"circuit", "random_circuit", "steer"}  # few tokens: a curve may jump past the target
    own = {arm.kind: arm for arm in job.arms}
    assert isinstance(own["circuit"], CircuitArm) and own["circuit"].alpha == found["circuit"]["strength"]["all"]
    assert naive(job, "circuit") == pytest.approx(found["circuit"]["divergence"]["all"], rel=1e-3)
    assert own["matched_steer"].alpha == tuple(job.matched_alphas[0])  # by dose, as without


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("intervention.alpha=kl:0", "intervention.alpha=kl:0: behind kl: a number of nats above 0"),
        ("intervention.alpha=kl:-1", "a number of nats above 0"),
        ("intervention.alpha=kl:abc", "a number of nats above 0"),
        ("intervention.alpha=kl:inf", "a number of nats above 0"),
        ("intervention.alpha='kl:'", "a number of nats above 0"),
        ("intervention.alpha=kl", "a number of nats above 0"),
        (
            "intervention.alpha=[kl:1,kl:2]",
            "kl:1 is no finite number; type a number, a list of numbers, auto or kl:NATS",
        ),
        ("intervention=circuit intervention.scale=kl:0", "intervention.scale=kl:0: behind kl:"),
        ("intervention=enhance_neurons intervention.scale=kl:1", "found for circuits only; type a number"),
    ],
)
def test_what_is_no_divergence_is_refused(words: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        compose([*overrides(tmp_path), *words.split()])
    assert line in str(refused.value)


def test_one_divergence_has_one_address(tmp_path: Path) -> None:
    one, same, other = (Job(config(tmp_path, f"intervention.alpha=kl:{nats}")) for nats in ("1", "1.00", "0.5"))
    assert one.config.intervention.alpha == "kl:1"
    assert one.result_address == same.result_address != other.result_address
    auto, ranges = (
        Job(config(tmp_path, f"intervention.alpha={a}", "intervention.layers=auto")) for a in ("auto", "kl:1")
    )
    assert auto._selection_key != ranges._selection_key
