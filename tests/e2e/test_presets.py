"""Presets on neurons, heads and circuits, and experiments: which jobs they are, and that they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.presets import run

import emo

KINDS = {
    "sweeps=neuron_ablation": ["ablate_neurons"],
    "sweeps=head_ablation": ["ablate_heads"],
    "sweeps=neuron_enhancement": ["enhance_neurons"],
    "sweeps=head_enhancement": ["enhance_heads"],
    "sweeps=scales": ["enhance_neurons", "enhance_heads"],
    "experiment=first_three": ["ablate_neurons", "steer", "enhance_heads"],
}
CIRCUITS = {  # jobs per model, and a word that one of them has
    "sweeps=budget": (34, "circuit.split=auto"),
    "sweeps=min_budget": (7, "circuit.budget=10x"),
    "sweeps=circuit_scale": (1, "circuit_scale"),
    "sweeps=llama_vs_qwen": (5, "intervention.scale=0.045"),
    "experiment=paper_circuits": (5, "intervention.k=[0,1,2,4]"),
}


@pytest.mark.parametrize("preset", KINDS)
def test_the_jobs_of_a_preset(tmp_path: Path, preset: str) -> None:
    """One per intervention and model; the numbers of units are a list inside each."""
    said = run(tmp_path, preset, "model=tiny_llama,tiny_qwen2", "intervention.k=[0,2]", "task=status")
    said, count = " ".join(said.split()), 2 * len(KINDS[preset])
    assert f"{count} jobs: 0 done, 0 failed, {count} missing" in said
    assert "model=tiny_qwen2" in said
    for kind in KINDS[preset] if len(KINDS[preset]) > 1 else []:
        assert f"intervention={kind}" in said


@pytest.mark.parametrize(
    "preset",
    [pytest.param(x, marks=pytest.mark.slow) if x in ("sweeps=budget", "sweeps=min_budget") else x for x in CIRCUITS],
)
def test_the_jobs_of_a_preset_on_circuits(tmp_path: Path, preset: str) -> None:
    said = " ".join(run(tmp_path, preset, "model=tiny_llama", "task=status").split())
    count, word = CIRCUITS[preset]
    assert f"{count} jobs: 0 done, 0 failed, {count} missing" in said
    assert word in said


@pytest.mark.parametrize(
    "preset", [pytest.param(x, marks=pytest.mark.slow) for x in ("sweeps=head_ablation", "experiment=first_three")]
)
def test_a_preset_runs(tmp_path: Path, preset: str) -> None:
    """Every job's own arm stands in the table, on disk and on the terminal."""
    words = ["model=tiny_llama", "evaluator=projection", "intervention.k=[0,2]", "control.score_seeds=2"]
    said = run(tmp_path, preset, *words)
    frame = emo.load_results(tmp_path / preset.partition("=")[2])
    assert list(dict.fromkeys(frame["intervention"])) == KINDS[preset]
    for kind in KINDS[preset]:
        own = frame[(frame["intervention"] == kind) & (frame["arm"].str.partition("@")[0] == kind)]
        ks = set(own["intervention.k"].dropna())
        assert len(own) and ks == (set() if kind == "steer" else {0, 2})
        columns = 1 + (len(KINDS[preset]) > 1)  # the arm, and the intervention where it is swept
        cells = [[cell.strip() for cell in line.split("│")] for line in said.splitlines()]
        assert any(row.count(kind) == columns for row in cells)
    if preset == "sweeps=head_ablation":
        assert "ranking check" in said  # 8 prompts are asked for; so small a set has fewer


@pytest.mark.slow
def test_a_first_look_begins_with_its_picture(tmp_path: Path) -> None:
    said = run(tmp_path, "experiment=first_look", "model=tiny_llama")
    [path] = (tmp_path / "first_look").glob("*/result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert f"see first: {path.parent / 'first_look.png'}" in said and (path.parent / "first_look.png").is_file()
    assert result["figures"][0]["file"] == "first_look.png"
    assert {"none", "prompt", "steer", "random", "shuffled"} == {*result["arms"]}
    assert str(path.parent / "report.html") in said
