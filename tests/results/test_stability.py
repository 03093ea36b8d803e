"""Two models on the same data: equal ones reach their ceiling exactly, unrelated ones fall to the control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hub_cache import change_json
from support.jobs import config
from support.own_models import save_adapter, save_model

from emo.cli.run import run_job
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.find.circuit_similarity import compare
from emo.pipeline.halves import two_models
from emo.pipeline.scenario import Job
from emo.results.stability import exchange, stability

pytestmark = pytest.mark.usefixtures("quiet")
WORDS = (
    *("intervention=circuit", "evaluator=projection", "dataset.limit=4", "control.circuits=[random_circuit]"),
    *("circuit.budget=16", "circuit.floor=[1,1]", "circuit.reference_layers=1-2", "control.score_seeds=2"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the store of this file's jobs, and its models."""
    home = tmp_path_factory.mktemp("stability")
    save_model(home / "same")
    save_model(home / "unrelated", seed=1)
    save_adapter(home / "lora", scale=0.02)
    return home


@pytest.fixture(autouse=True)
def _cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


def against(home: Path, name: str | None, *more: str) -> Config:
    """Return a job's configuration with a second model of ``home``."""
    return config(home, *WORDS, *(() if name is None else (f"against={home / name}",)), *more)


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{row['part']}: {row['measure']}": row for row in found["rows"]}


def test_equal_weights_reach_the_ceiling_exactly(home: Path) -> None:
    """Whatever is lost across two copies of one model would be lost by the comparison."""
    found = stability(Job(against(home, "same")))
    assert len(found["rows"]) == 11 and len(found["blocks"]) == 5
    for name, row in rows(found).items():
        if row["across"] is not None:
            assert row["ceiling"] == pytest.approx([row["across"]] * 2, abs=1e-6), name
        assert row["across"] is None or row["control"] is None or row["control"] < row["across"] < 1, name
    for row in found["blocks"]:
        assert row["across"] == pytest.approx(row["ceiling"], abs=1e-6)
    first, own, moved = (found["arms"][key] for key in ("first", "second", "second, circuit of the first"))
    assert first["circuit"]["delta_s_rel"]["value"] == pytest.approx(own["circuit"]["delta_s_rel"]["value"], rel=1e-4)
    assert moved["circuit"]["delta_s_rel"]["value"] == pytest.approx(own["circuit"]["delta_s_rel"]["value"], rel=1e-4)


def test_unrelated_weights_fall_to_the_control(home: Path) -> None:
    found = stability(Job(against(home, "unrelated")))
    row = rows(found)["directions: cosine"]
    assert abs(row["across"]) < 0.2 < 0.4 < min(row["ceiling"])
    ranks = rows(found)["ranking of neurons: Spearman"]
    assert abs(ranks["across"]) < 0.25 < min(ranks["ceiling"]) and abs(ranks["control"]) < 0.1
    own, moved = (found["arms"][key]["circuit"]["delta_s_rel"]["value"] for key in list(found["arms"])[1:])
    assert moved < own / 2


def test_no_half_meets_itself_and_both_are_as_large(home: Path) -> None:
    job = Job(against(home, "lora"))
    made = two_models(job)
    halves = [{s.scenario_id for s in one.splits.extract} for one in (*made.first, *made.second)]
    assert halves[0] == halves[2] and halves[1] == halves[3] and not halves[0] & halves[1]
    assert halves[0] | halves[1] == {s.scenario_id for s in job.splits.extract} and len(halves[0]) == len(halves[1])
    assert made.first[0].spec == job.spec and made.second[0].spec.adapter_commit
    assert made.moved.circuit is job.circuit and made.own.circuit.digest() != job.circuit.digest()
    assert made.moved.circuit_address != made.own.circuit_address


def test_exchanged_units_keep_what_the_control_says(home: Path) -> None:
    circuit, drawn = Job(against(home, None)).circuit, np.random.default_rng(0)
    other = exchange(circuit, drawn, blocks=False)
    assert [other.quotas(kind) for kind in ("neurons", "heads")] == [circuit.quotas(k) for k in ("neurons", "heads")]
    assert other.digest() != circuit.digest()
    moved = exchange(circuit, drawn, blocks=True)
    assert [sorted(x) for x in moved.quotas("neurons")] == [sorted(x) for x in circuit.quotas("neurons")]
    assert {row["jaccard"] for row in compare(circuit, circuit)} == {1.0}


def test_it_is_in_the_address_and_on_the_page(home: Path) -> None:
    plain, other = Job(against(home, None)), Job(against(home, "lora"))
    assert plain.result_address != other.result_address and plain.circuit_address == other.circuit_address
    assert run_job(against(home, "lora")) == 0
    folder = home / "run" / other.result_address[:16]
    result = json.loads((folder / "result.json").read_text())
    assert "lora" not in result["stability"]["against"] and "with the adapter" in result["stability"]["against"]
    made = two_models(other)
    behind = {f"directions/{one.directions_address[:16]}" for one in (*made.first, *made.second, made.own)}
    assert behind <= set(result["artifacts"])  # task=gc keeps them
    page = (folder / "report.html").read_text()
    assert "ceiling, first" in page and "second, circuit of the first" in page and (folder / "stability.png").is_file()
    assert "stability" not in json.loads((folder / "result.json").read_text())["arms"]


def test_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^against=tiny_gpt2: another architecture \(gpt2, .*\) than tiny_llama"):
        Job(against(home, None, "against=tiny_gpt2"))
    deeper = save_model(tmp_path / "deeper")
    change_json(deeper, num_hidden_layers=3)
    with pytest.raises(UserError, match="another architecture .*3 blocks of width 32"):
        Job(against(home, None, f"against={deeper}"))
    with pytest.raises(UserError, match=r"^against=tiny_lama: no such folder .* did you mean tiny_llama"):
        against(home, None, "against=tiny_lama")
    with pytest.raises(UserError, match=r"^against: which model\? type against=FOLDER"):
        config(home, "experiment=finetune_stability")
    with pytest.raises(UserError, match="one scenario has no halves"):
        two_models(Job(against(home, "same", "dataset.limit=1")))
