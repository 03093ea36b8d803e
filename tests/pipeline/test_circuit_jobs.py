"""Jobs on circuits, from words to results: saved and loaded, strengths, controls, a planted circuit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import refused_here
from support.jobs import config, overrides, read_rows
from support.planted import BLOCK, NAMES, planted_lm

from emo.cli.run import run_job
from emo.config.check import REPOSITORY
from emo.core.errors import UserError
from emo.find.circuit import Circuit
from emo.model.lm import LM
from emo.model.load import load
from emo.model.tiny import tiny_model
from emo.pipeline import addresses, extracted
from emo.pipeline.scenario import Job
from emo.results.estimates import estimates, long_table

pytestmark = pytest.mark.usefixtures("quiet")
SMALL = (
    "intervention=circuit", "emotions.names=[anger,fear]", "dataset.valences=[positive]", "control.seeds=1",
    "generation.max_new_tokens=5", "circuit.budget=24", "circuit.push_sizes=[0.3]", "circuit.floor=[1,1]",
)  # fmt: skip
FEW = ("control.circuits=[random_circuit]", "control.score_seeds=1")
PROJECTED = ("evaluator=projection", "control.circuits=[]", "control.score_seeds=1")


def results(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return folder and result.json of every job in ``folder``, by address."""
    found = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("run/*/result.json")}
    return {result["address"]: (path, result) for path, result in found.items()}


def done(folder: Path, *words: str) -> tuple[Path, dict[str, Any]]:
    """Run one job and return its folder and result."""
    made = config(folder, *SMALL, *words)
    assert run_job(made) == 0
    return results(folder)[Job(made).result_address]


def written(folder: Path, arm: str) -> list[tuple[str, str, str]]:
    """Return the replies of one arm."""
    rows = read_rows(folder / "samples.jsonl")
    return [(r["scenario"], r["emotion"], r["reply"]) for r in rows if r["arm"] == arm]


@pytest.mark.slow
def test_a_saved_circuit_gives_the_same_replies(tmp_path: Path) -> None:
    """In a process of its own, from the folder of the result; and no other model takes it."""
    folder, result = done(tmp_path, *FEW, "intervention.scale=3")
    assert (folder / "circuit" / "circuit.json").is_file() and (folder / "circuit.png").is_file()
    assert set(result["arms"]) == {"none", "prompt", "circuit", "random_circuit"}
    assert {"delta_s", "delta_s_last", "logprob_margin", "ppl_ratio", "dose"} <= set(result["arms"]["circuit"])
    circuit = Circuit.load(folder / "circuit")
    assert circuit.emotions == ("anger", "fear")
    assert [len(circuit.part(kind, 0).unit) for kind in ("neurons", "heads")] == [17, 7]
    own = written(folder, "circuit")
    assert own != written(folder, "none") and len(own) == 2 * result["arms"]["circuit"]["length"]["n"] / 2
    again = tmp_path / "again"
    own_data = [word for word in SMALL if not word.startswith("circuit.")]  # nothing of it is read with a saved one
    words = overrides(again, *own_data, *FEW, "intervention.scale=3", f"circuit.path={folder}")
    command = [sys.executable, str(REPOSITORY / "run.py"), *words]
    started = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr
    [(second, other)] = results(again).values()
    assert written(second, "circuit") == own
    ours, theirs = result["arms"]["circuit"], other["arms"]["circuit"]
    assert ours.keys() == theirs.keys()  # the other process shares its passes otherwise
    assert all(x["value"] == pytest.approx(theirs[key]["value"], rel=1e-4, abs=1e-5) for key, x in ours.items())
    assert Circuit.load(second / "circuit").digest() == circuit.digest()
    for model in ("tiny_gemma3", "tiny_gpt2"):
        said = refused_here(tmp_path, *SMALL, f"circuit.path={folder}", f"model={model}")
        assert said.startswith("circuit.path: this circuit ") and "type " in said


def test_other_weights_of_the_same_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is written, unless it is asked for."""
    folder, _ = done(tmp_path, *PROJECTED)
    words = (*SMALL, *PROJECTED, f"circuit.path={folder}", "intervention.scale=0.5")
    Job(config(tmp_path, *words)).check()

    def other(spec: Any) -> LM:
        own = load(spec)
        return LM(tiny_model("llama", seed=1).requires_grad_(False), own.tokenizer, spec)

    monkeypatch.setattr(extracted, "load", other)
    assert "type circuit.allow_other_weights=true" in refused_here(tmp_path / "outputs", *words)
    Job(config(tmp_path, *words, "circuit.allow_other_weights=true")).check()


def test_a_scale_chosen_on_dev(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By margin where nothing labels; what was tried and taken stands in the result, and is called a scale."""
    free = (
        "intervention.select.max_ppl_ratio=1e9",
        "intervention.select.max_degenerate=1",
        "intervention.select.extend=0",
    )
    words = ("intervention.select.scale=[0.5,4]", "intervention.select.prompts=2", "console=rich", *free)
    _, result = done(tmp_path, "control.circuits=[]", "intervention.scale=auto", *words)
    chosen = result["chosen_scale"]
    assert result["chosen"] is None and chosen["metric"] == "logprob_margin" and chosen["layers"] == [0, 1, 2, 3]
    assert [row["alpha"] for row in chosen["tried"]] == [0.5, 4.0]
    best = max(chosen["tried"], key=lambda row: row["score"])
    assert best["chosen"] and chosen["alpha"] == best["alpha"]
    assert f"scale {chosen['alpha']:g} (raw), chosen on dev" in result["facts"]["intervention"]
    said = " ".join(capsys.readouterr().out.split())
    assert f"chosen on dev: scale {chosen['alpha']:g}, layers all (logprob_margin" in said
    assert f"scale chosen on dev (logprob_margin): {chosen['alpha']:g}" in said
    assert "next, try: " in said and "intervention=prompt_circuit" in said
    _, given = done(tmp_path, "control.circuits=[]", "console=quiet", f"intervention.scale={chosen['alpha']}")
    assert given["arms"]["circuit"] == result["arms"]["circuit"] and given["chosen_scale"] is None


def test_several_scales_and_one_per_emotion(tmp_path: Path) -> None:
    """A list makes an arm of each; a number per emotion is that emotion's of the single jobs."""
    _, listed = done(tmp_path, *PROJECTED, "intervention.scale=[0.5,2]", "control.circuits=[matched_steer]")
    assert {"circuit@scale=0.5", "circuit@scale=2", "matched_steer@scale=2"} <= set(listed["arms"])
    _, own = done(tmp_path, *PROJECTED, "intervention.scale={fear: 2, anger: 0.5}")
    for emotion, scale in (("anger", "0.5"), ("fear", "2")):
        there = listed["arms"][f"circuit@scale={scale}"][f"delta_s/{emotion}"]
        assert own["arms"]["circuit"][f"delta_s/{emotion}"]["value"] == pytest.approx(there["value"], rel=1e-3)
    assert own["facts"]["intervention"] == "circuit, scale 0.5, 2 (raw), as given"


def test_steering_at_the_circuits_dose(tmp_path: Path) -> None:
    """Both blocks' sublayers together are what the one edit of steering is compared with: within a factor of two."""
    words = ("control.circuits=[matched_steer]", "circuit.dose=rel", "intervention.scale=0.05")
    made = Job(config(tmp_path, *SMALL, *words))
    doses = {arm: [row["dose"] for row in rows] for arm, rows in made.doses.items()}
    assert set(doses) == {"circuit", "matched_steer"}
    for circuit, steer in zip(doses["circuit"], doses["matched_steer"], strict=True):
        assert 0.04 < circuit < 0.06 and circuit < steer < 2 * circuit


@pytest.mark.parametrize("kind", ["ablate_circuit", "prompt_circuit"])
def test_the_other_interventions_run(tmp_path: Path, kind: str) -> None:
    """With every control that they have, replies and figures."""
    controls = "control.circuits=[random_circuit,shuffled_circuit,other_circuit,circuit_neurons,circuit_heads,steer]"
    folder, result = done(tmp_path, f"intervention={kind}", controls, "control.score_seeds=1")
    arms = ["none", "prompt", "ablate_circuit", "random_circuit", "other_circuit"]
    if kind == "prompt_circuit":
        arms = ["none", "prompt", "steer", "circuit", kind, "random_circuit", "shuffled_circuit", "other_circuit",
                "circuit_neurons", "circuit_heads"]  # fmt: skip
    assert list(result["arms"]) == arms
    assert all({"delta_s", "logprob_margin", "degenerate"} <= set(result["arms"][arm]) for arm in arms[2:])
    assert {"claims.png", "circuit.png", "states.png", "overlap.png"} <= {path.name for path in folder.iterdir()}


def test_the_planted_circuit_is_taken_and_moves_the_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head and its neurons, one of each in a block; they bring the emotion, random ones do not."""
    lm = planted_lm(neurons=True)
    describe, sizes = addresses.describe, {"n_layers": lm.n_layers, "n_heads": lm.h, "n_neurons": lm.f}
    monkeypatch.setattr(addresses, "describe", lambda *a: describe(*a)._replace(commit="planted", **sizes))
    monkeypatch.setattr(extracted, "load", lambda _: lm)
    words = (f"emotions.names=[{','.join(NAMES)}]", "elicitation=paper", "circuit.reference_layers=3-5",
             "circuit.budget=12", "circuit.split=0.5", "evaluator=projection", "control.circuits=[random_circuit]",
             "control.score_seeds=3", "intervention=circuit", "dataset.valences=[positive]")  # fmt: skip
    job = Job(config(tmp_path, *words))
    for e in range(len(NAMES)):
        heads, neurons = job.circuit.part("heads", e), job.circuit.part("neurons", e)
        assert heads.unit[heads.layer == BLOCK].tolist() == [0]
        assert neurons.unit[neurons.layer == BLOCK + 1].tolist() == [e]
    found = estimates(job, long_table(job))
    gap, own, random = (found[arm]["delta_s"].value for arm in ("prompt", "circuit", "random_circuit"))
    assert gap is not None and own is not None and random is not None
    assert own > 0.3 * gap > 0 and abs(random) < 0.5 * own
    away = estimates(other := Job(config(tmp_path, *words, "intervention.scale=-1")), long_table(other))
    assert (away["circuit"]["delta_s"].value or 0) < 0


WRONG = {
    "circuit.budget=abc": "circuit.budget=abc: type a number of units (560)",
    "circuit.floor=[1]": "circuit.floor=[1]: two whole numbers from 0 on",
    "circuit.split=2": "circuit.split=2: a number from 0 to 1",
    "circuit.path=missing": "circuit.path=missing: neither circuit.json nor",
    "circuit.cap=0": "circuit.cap=0",
    "circuit.push_sizes=[0]": "circuit.push_sizes: 0 pushes nothing",
    "circuit.allocation=deepfirst": "did you mean deep_first?",
    "circuit.layers=90": "circuit.layers=90: there is no block 90; the model has 4 blocks",
    "circuit.reference_layers=9": "circuit.reference_layers=9: there is no block 9",
    "control.circuits=[foo]": "control.circuits: foo is not one of random_circuit,",
    "intervention.scale={envy:1}": "intervention.scale: one number for each of anger, fear is needed",
    "intervention.scale=much": "intervention.scale=much: much is no finite number; type a number",
    "intervention.select.scale=[]": "intervention.select.scale=[]: a list needs at least one number",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_setting_of_circuits_is_one_line(tmp_path: Path, word: str) -> None:
    assert WRONG[word] in refused_here(tmp_path, *SMALL, word)


def test_a_scale_by_name_is_one_of_circuits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^intervention.scale: one number for each of"):
        config(tmp_path, "intervention=enhance_heads", "intervention.scale={anger: 1}")
