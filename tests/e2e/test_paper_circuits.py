"""The paper on one model by one line: which settings its jobs have, and that four families go through it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from support.presets import run
from support.tracked import seen

import emo
from emo.cli.job_lists import read_jobs
from emo.config.check import REPOSITORY, to_config
from emo.config.schema import Config
from emo.core.errors import UserError

EXPERIMENT = "experiment=paper_circuits"
JOBS = ["circuit", "ablate_neurons", "ablate_heads", "enhance_neurons", "enhance_heads"]
SHORT = (
    "dataset.limit=1", "emotions.names=[anger,sadness]", "generation.max_new_tokens=3", "control.seeds=1",
    "control.score_seeds=1", "evaluator.bootstrap=20", "intervention.k=[0,2]", "circuit.budget=2x",
)  # fmt: skip


def made(*words: str) -> Config:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return to_config(compose("config", overrides=[EXPERIMENT, *words]))


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("model", ["llama32_3b", "qwen25_7b"])
def test_models_that_obey_get_the_settings_of_the_paper(model: str, kind: str) -> None:
    c = made(f"model={model}", f"intervention={kind}")
    assert (c.elicitation.template, c.elicitation.accept, c.directions.baseline) == ("paper", "all", "emotions_mean")
    assert (c.intervention.alpha, c.intervention.dose, c.intervention.scale) == (8.0, "rms", 1.0)
    assert c.intervention.layers == ("0.39-0.72" if kind == "circuit" else "all")
    assert (c.circuit.dose, c.circuit.budget, c.circuit.split, c.circuit.floor) == ("raw", "10x", 0.7, [4, 2])


def test_the_small_model_keeps_its_own() -> None:
    """The paper's settings do not work there; its file stands before the experiment's and is not overwritten."""
    c = made("model=smollm2_135m", "intervention=circuit")
    assert c.elicitation.template == "few_shot"
    assert (c.intervention.alpha, c.intervention.layers, c.intervention.scale) == ("auto", "auto", "auto")
    assert c.intervention.select.prompts == 12
    assert (c.dataset.limit, c.generation.max_new_tokens) == (8, 40)  # but how much is run is the experiment's
    assert made("model=smollm2_135m", "intervention=enhance_heads").intervention.scale == 1.0  # never chosen on dev


def test_size_and_what_is_typed_beside_it() -> None:
    def amounts(*words: str) -> tuple[Any, ...]:
        c = made("model=llama32_3b", *words)
        return c.dataset.limit, c.generation.max_new_tokens, c.control.seeds, c.control.score_seeds

    assert amounts() == amounts("size=small") == (8, 40, 1, 3)
    assert amounts("size=full") == (None, 100, 3, 10)
    typed = ("dataset.limit=2", "generation.max_new_tokens=5", "control.seeds=4", "control.score_seeds=6")
    for size in ("small", "full"):
        assert amounts(f"size={size}", *typed) == (2, 5, 4, 6)
    with pytest.raises(UserError, match="size=huge: not one of small, full"):
        made("size=huge")


def test_a_scale_per_emotion_is_the_circuits_alone() -> None:
    """It can be typed for the whole experiment: enhancements keep the paper's lambda."""
    words = ("emotions.names=[anger,fear]", "intervention.scale={anger: 0.8, fear: 1}")
    assert made("intervention=circuit", *words).intervention.scale == {"anger": 0.8, "fear": 1.0}
    assert made("intervention=enhance_heads", *words).intervention.scale == 1.0
    with pytest.raises(UserError, match="one number for each of anger, fear"):
        made("intervention=enhance_heads", *words[:1], "intervention.scale={anger: 0.8}")


def test_k_follows_the_size() -> None:
    """It stands in the list of jobs: the paper's k for Llama, or a few of them."""
    for size, neurons, heads in (
        ("small", [0, 2, 8, 32], [0, 1, 2, 4]),
        ("full", [0, *(2**i for i in range(1, 8))], [*range(9)]),
    ):
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            node = compose("config", overrides=[EXPERIMENT, f"size={size}"], return_hydra_config=True)
        first, *rest = read_jobs(node.hydra.sweeper.jobs)
        assert first == ["intervention=circuit"]
        for words, kind, k in zip(rest, JOBS[1:], [neurons, heads] * 2, strict=True):
            assert words == [f"intervention={kind}", "evaluator=projection", f"intervention.k={k}"]


def _read(evaluator: str) -> list[str]:
    """Return the words of `SHORT` that jobs with an evaluator read: without replies none has a length."""
    return [word for word in SHORT if evaluator != "projection" or not word.startswith("generation.")]


@pytest.mark.parametrize(
    ("model", "evaluator"),
    [
        pytest.param("tiny_llama", "margin", marks=pytest.mark.slow),
        pytest.param("tiny_qwen2", "projection", marks=pytest.mark.slow),
        pytest.param("tiny_qwen3", "projection", marks=pytest.mark.slow),
        pytest.param("tiny_gemma3", "projection", marks=pytest.mark.slow),
    ],
)
def test_a_family_goes_through_it(tmp_path: Path, model: str, evaluator: str) -> None:
    """All five jobs by the real line, one report with a section each."""
    said = run(tmp_path, EXPERIMENT, f"model={model}", f"evaluator={evaluator}", *_read(evaluator))
    if evaluator == "margin":
        assert "size=small: 2 test prompts x 2 emotions, replies of up to 3 tokens" in " ".join(said.split())
    root = tmp_path / "paper_circuits"
    frame = emo.load_results(root)
    assert list(dict.fromkeys(frame["intervention"])) == JOBS
    page = (root / "report.html").read_text()
    sections = dict(re.findall(r'<details class="job" open><summary>(.*?)</summary>(.*?)</details>', page, re.DOTALL))
    assert [name.split()[0] for name in sections] == [f"intervention={kind}" for kind in JOBS]
    assert all(section.count("<img ") > 1 for section in sections.values())
    assert "How many neurons and heads of each block" in next(iter(sections.values()))
    [result] = [r for path in root.glob("*/result.json") if (r := json.loads(path.read_text()))["budget"]]
    assert (result["config"]["circuit"]["budget"], result["budget"]) == ("2x", 2 * 2 * 4)
    assert {"none", "prompt", "steer", "circuit", "random_circuit"} <= set(result["arms"])
    metric = "logprob_margin" if evaluator == "margin" else "delta_s_rel"
    assert result["arms"]["circuit"][metric]["value"] is not None


@pytest.mark.slow
def test_two_models_are_one_group_with_a_curve_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    short = [word for word in _read("projection") if not word.startswith("intervention.k=")]
    words = ["model=tiny_llama,tiny_qwen2", "evaluator=projection", "intervention.scale=0.02,0.04", *short]
    run(tmp_path, "sweeps=llama_vs_qwen", "tracker=wandb", *words)
    runs = seen(tmp_path / "llama_vs_qwen")
    assert len({one.run["run_group"] for one in runs}) == 1
    assert sorted(one.run["job_type"] for one in runs) == ["compare", *["curve"] * 2, *["point"] * 4]
    drawn = [one for one in runs if one.run["job_type"] == "curve"]
    assert {one.config["model"]["name"] for one in drawn} == {"tiny_llama", "tiny_qwen2"}
    for one in drawn:
        assert [x["scale"] for x in one.history if "a_headline/1_delta_s_rel_over_scale" in x] == [0.02, 0.04]
    assert "offline: what a workspace" in run(tmp_path, "task=report", f"runs={tmp_path / 'llama_vs_qwen'}")
    planned = json.loads((tmp_path / "llama_vs_qwen" / "wandb_report.json").read_text(encoding="utf-8"))
    assert planned["urls"] == {} and sorted(planned["curve_runs"]) == sorted(one.run["run_id"] for one in drawn)
    [first, *rest] = planned["workspace"]["sections"]
    assert first["charts"][0]["keys"][0] == "a_headline/1_delta_s_rel_over_scale" and len(first["charts"]) <= 8
    assert {section["name"] for section in rest} > {"arm01_none", "tables", "figures"}
    assert any("| model | " in block.get("markdown", "") for block in planned["report"]["blocks"])
    assert {one.run["display_name"] for one in drawn} == {f"tiny_{x} circuit over scale" for x in ("llama", "qwen2")}
