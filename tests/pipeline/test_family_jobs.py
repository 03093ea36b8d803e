"""Whole jobs on families unlike LLaMA: parallel blocks, factors, experts, a text model beside an image tower."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.command import refused_here
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.core.errors import UserError
from emo.core.types import Site
from emo.find.directions import ATTN, MLP
from emo.pipeline.scenario import Job

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]
ASK = ("emotions.names=[anger,fear]", "dataset.limit=1", "evaluator=projection", "control.score_seeds=1")
UNLIKE = ("gpt_neox", "granite", "mixtral", "gemma3_images", "olmo2")
CIRCUIT = ("intervention=circuit", "circuit.budget=24", "circuit.push_sizes=[0.3]", "circuit.floor=[1,1]",
           "control.circuits=[random_circuit]", "control.seeds=1")  # fmt: skip
AT_MLP = "attribution.score_at=mlp_input"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("family", UNLIKE)
@pytest.mark.parametrize("units", ["heads", "neurons"])
def test_all_units_of_a_block_are_ablated(tmp_path: Path, family: str, units: str) -> None:
    """From the command line to a number that moved; heads are read behind the attention, wherever that is."""
    k = {"heads": 4, "neurons": 48}[units]
    words = (f"model=tiny_{family}", f"intervention=ablate_{units}", f"intervention.k={k}", "intervention.layers=1")
    made = Job(config(tmp_path, *ASK, *words))
    assert made.bank.site == (Site.RESID_MID if units == "heads" and family != "gpt_neox" else Site.RESID_POST)
    assert run_job(made.config) == 0
    result = read_result(tmp_path)
    assert result["status"] == "done"
    assert result["arms"][f"ablate_{units}"]["delta_s"]["value"] != 0


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("family", UNLIKE)
def test_a_circuit_is_found_and_applied(tmp_path: Path, family: str) -> None:
    """Importance, quotas, units of both kinds, and controls that match them."""
    made = Job(config(tmp_path, *ASK, *CIRCUIT, f"model=tiny_{family}"))
    assert run_job(made.config) == 0
    result = read_result(tmp_path)
    assert {"circuit", "random_circuit"} <= set(result["arms"])
    assert result["arms"]["circuit"]["dose"]["value"] > 0
    assert made.importance.tensors["values"].isfinite().all()


def test_directions_of_a_parallel_block_are_those_of_its_output(tmp_path: Path) -> None:
    """There is one state behind both sublayers."""
    v = {f: Job(config(tmp_path, *ASK, f"model=tiny_{f}")).directions.tensors["v"] for f in ("gpt_neox", "granite")}
    assert torch.equal(v["gpt_neox"][:, :, ATTN], v["gpt_neox"][:, :, MLP])
    assert not torch.equal(v["granite"][:, :, ATTN], v["granite"][:, :, MLP])


@pytest.mark.parametrize("words", [("intervention=ablate_heads", "intervention.k=1"), CIRCUIT])
def test_a_site_that_is_not_there_is_refused_early(tmp_path: Path, words: tuple[str, ...]) -> None:
    """By name, with what to type instead, before anything is written; the same line runs on other families."""
    said = refused_here(tmp_path, *ASK, *words, "model=tiny_gpt_neox", AT_MLP)
    for part in ("tiny_gpt_neox", "'gpt_neox'", "has no site 'resid_mid'", "type attribution.score_at=residual"):
        assert part in said
    Job(config(tmp_path, *ASK, *words, "model=tiny_olmo2", AT_MLP))
    Job(config(tmp_path, *ASK, "intervention=steer", "model=tiny_gpt_neox"))


def test_neurons_of_all_experts_are_counted(tmp_path: Path) -> None:
    """Known before the weights are read."""
    words = (*ASK, "model=tiny_mixtral", "intervention=ablate_neurons")
    Job(config(tmp_path, *words, "intervention.k=48"))
    with pytest.raises(UserError, match="intervention.k=49: tiny_mixtral has 48 neurons in each block"):
        Job(config(tmp_path, *words, "intervention.k=49"))
