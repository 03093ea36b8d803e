"""The released code's readings of the emotion-circuits paper, all at once: the preset composes, runs, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.jobs import config

from emo.cli.run import run_job
from emo.pipeline.addresses import Addresses
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
SMALL = (
    "emotions.names=[anger,fear]", "dataset.valences=[positive]", "control.circuits=[random_circuit]",
    "control.seeds=1", "control.score_seeds=1", "circuit.budget=24", "circuit.push_sizes=[0.3]", "circuit.floor=[1,1]",
    "intervention.scale=2",
)  # fmt: skip


def test_all_readings_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    made = config(tmp_path, "experiment=released_code", *SMALL)
    c = made.circuit
    assert (made.attribution.score_at, made.directions.last) == ("mlp_input", "normed")
    assert (c.sigma, c.importance_at, c.head_tokens) == ("residual", "normed", "all")
    assert (made.generation.decoding, made.intervention.kind, made.name) == ("paper", "circuit", "released_code")
    assert run_job(made) == 0
    [path] = tmp_path.glob("released_code/*/result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {"none", "prompt", "circuit", "random_circuit"} == set(result["arms"])
    job = Job(made)
    assert job.importance.tensors["sigma"].shape == (2, 4, 2)
    plain = Job(config(tmp_path, "intervention=circuit", *SMALL))
    for stage in ("directions_address", "attribution_address", "importance_address", "circuit_address"):
        assert getattr(job, stage) != getattr(plain, stage)
    v, other = job.directions.tensors["v"], plain.directions.tensors["v"]
    assert torch.equal(v[:, :-1], other[:, :-1]) and not torch.equal(v[:, -1, 1], other[:, -1, 1])


def test_what_was_always_so_keeps_its_address(tmp_path: Path) -> None:
    """The new reading is part of an address only where it is chosen."""
    plain, normed = (Addresses(config(tmp_path, f"directions.last={last}")) for last in ("resid", "normed"))
    assert plain.directions_address != normed.directions_address
    assert plain.directions_address == Addresses(config(tmp_path)).directions_address
