"""What leaves for other programs: the same vectors in the same blocks, at the strength that the metadata names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import gguf
import pytest
import torch
from safetensors import safe_open
from support.jobs import config, overrides

import emo
from emo.core.errors import UserError
from emo.core.types import Site, Tokens
from emo.edit.steering import steering_arm
from emo.find.control_vectors import read_control_vector, write_control_vector
from emo.find.directions import MLP
from emo.model.capture import states
from emo.model.hooks import Edit, edited, reading
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids
from emo.pipeline.scenario import Job
from emo.results.exported import export, export_address, strength_of

pytestmark = pytest.mark.usefixtures("quiet")


def job_of(folder: Path, *more: str) -> Job:
    """Return a small job on steering."""
    return Job(config(folder, "intervention=steer", *more))


def shifts(lm: LM, ids: list[int], edits: list[Edit]) -> torch.Tensor:
    """Return what edits of all tokens change of resid_post (l, t, d) in one plain forward pass."""
    found: dict[int, torch.Tensor] = {}
    given = torch.tensor([ids])
    out = []
    for own in ([], edits):
        with torch.no_grad(), edited(lm, own) as cursor, reading(
            lm, [(Site.RESID_POST, layer) for layer in range(lm.n_layers)], lambda _, layer, x: found.update({layer: x})
        ):  # fmt: skip
            cursor.place(torch.zeros_like(given), torch.zeros_like(given))
            lm.model(input_ids=given)
        out.append(torch.cat([found[layer] for layer in range(lm.n_layers)]))
    return out[1] - out[0]


def test_a_control_vector_moves_the_stream_as_steering_does(tmp_path: Path) -> None:
    """Read back, its vector N is added behind block N: at the mean size, the states move as under the job's alpha."""
    job = job_of(tmp_path, "intervention.alpha=2", "intervention.layers=2-3")
    export(job, tmp_path / "out")
    vectors, told = read_control_vector(tmp_path / "out" / "gguf" / "fear.gguf")
    assert sorted(vectors) == [2, 3] and all(x.dtype is torch.float32 for x in vectors.values())
    assert told["controlvector.layer_count"] == 2 and told["controlvector.model_hint"] == "llama"
    v, e = job.directions.tensors["v"], job.names.index("fear")
    ids = prompt_ids(job.lm, job.config.elicitation, job.splits.test[:1], None)[0]
    which, one = torch.zeros(1, dtype=torch.long), torch.ones(1)
    raw = [Edit(Site.RESID_POST, n, Add(x[None], which, one, "raw"), Tokens.ALL) for n, x in vectors.items()]
    moved = shifts(job.lm, ids, raw)
    assert moved[:2].abs().max() == 0, "a block before its first vector was touched"
    # Behind block 2 nothing else has changed yet: the shift is alpha times the mean RMS along the unit direction.
    texts = [Text(own) for own in prompt_ids(job.lm, job.config.elicitation, job.splits.extract, None)]
    sizes = torch.stack([x[2, MLP].square().mean().sqrt() for _, x in states(job.lm, texts, 8)])
    torch.testing.assert_close(moved[2], (2 * sizes.mean() * v[e, 2, MLP]).expand_as(moved[2]), atol=1e-4, rtol=1e-4)
    # One whose state has just that size is moved as the job steers it, also by the blocks behind.
    [arm] = [arm for arm in job.arms if arm.kind == "steer"]
    assert arm.alpha == 2 and arm.layers == (2, 3)
    last = torch.tensor([job.lm.d**-0.5]) * moved[2].norm(dim=-1)[-1]
    assert float(last) == pytest.approx(2 * float(job.rms[2]) * job.lm.d**-0.5, rel=1e-4)


@pytest.mark.parametrize(("dose", "size"), [("rms", 1.0), ("rel", None), ("raw", 0.0)])
def test_scale_one_is_the_dose(dose: str, size: float | None, tmp_path: Path) -> None:
    """Of rms the mean root mean square, of rel the mean length, of raw nothing: alpha itself."""
    job = job_of(tmp_path, "intervention.alpha=-0.5", "intervention.layers=1-2", f"intervention.dose={dose}")
    export(job, tmp_path / "out")
    unit = {1.0: job.rms, None: job.rms * job.lm.d**0.5, 0.0: torch.ones(job.lm.n_layers)}[size]
    for name in job.names:
        vectors, told = read_control_vector(tmp_path / "out" / "gguf" / f"{name}.gguf")
        assert f"alpha -0.5 {'along' if dose == 'raw' else 'times'}" in str(told["emo.scale"])
        assert told["emo.alpha"] == pytest.approx(-0.5) and told["emo.strength"] == "given"
        assert told["emo.rms"] == pytest.approx(job.rms[1:3].tolist())
        for block, x in vectors.items():
            torch.testing.assert_close(
                x, -0.5 * unit[block] * job.directions.tensors["v"][job.names.index(name), block, 1]
            )


def test_block_zero_is_left_out(tmp_path: Path) -> None:
    """llama.cpp has no vector for it; nor does a file without a vector come about."""
    job = job_of(tmp_path, "intervention.layers=0-1")
    export(job, tmp_path / "out")
    assert sorted(read_control_vector(tmp_path / "out" / "gguf" / "anger.gguf")[0]) == [1]
    with pytest.raises(ValueError, match=r"\[0\]"):
        write_control_vector(tmp_path / "x.gguf", {0: torch.ones(3)}, "llama", {})
    assert not (tmp_path / "x.gguf").exists()
    (tmp_path / "junk.gguf").write_bytes(b"no gguf at all, but long enough to look at")
    with pytest.raises(UserError, match="no control vector"):
        read_control_vector(tmp_path / "junk.gguf")


def test_a_control_vector_is_what_llama_cpp_reads(tmp_path: Path) -> None:
    """Its reader takes tensors of float32 with one axis, all of one length, and fails on others."""
    given = {block: torch.randn(8, dtype=torch.float64) for block in (3, 1, 12)}
    write_control_vector(tmp_path / "x.gguf", given, "mistral", {"scale": 1.0})
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.3", "direction.12"]
    assert all(tensor.tensor_type == gguf.GGMLQuantizationType.F32 for tensor in reader.tensors)
    assert all(list(tensor.shape) == [8] for tensor in reader.tensors)
    assert reader.fields["controlvector.model_hint"].contents() == "llama"


def test_directions_say_what_they_are_of(tmp_path: Path) -> None:
    """Tensors by site and emotion; model, data, template and dose in the metadata; no path of this machine."""
    job = job_of(tmp_path, "intervention.layers=1-2")
    export(job, tmp_path / "out")
    with safe_open(tmp_path / "out" / "directions.safetensors", "pt") as file:
        told = file.metadata()
        v = job.directions.tensors["v"]
        for e, name in enumerate(job.names):
            assert torch.equal(file.get_tensor(f"resid_post/{name}"), v[e, :, 1])
            assert torch.equal(file.get_tensor(f"resid_mid/{name}"), v[e, :, 0])
        assert torch.equal(file.get_tensor("rms"), job.rms)
    assert json.loads(told["emotions"]) == job.names and told["model_version"] == job.spec.weights
    assert told["dose"] == "rms" and told["layers"] == "1-2" and json.loads(told["alpha"])["anger"] == 1.0
    assert json.loads(told["dataset"]) == {"name": "sev", "groups": len(job.splits.extract)}
    assert not any(str(tmp_path) in text for text in told.values())
    with (tmp_path / "out" / "rankings.csv").open(encoding="utf-8") as rows:
        best = next(row for row in csv.DictReader(rows) if row["emotion"] == "sadness" and row["kind"] == "heads")
    scores = job.attribution.tensors["heads"][job.names.index("sadness")]
    assert float(best["score"]) == pytest.approx(float(scores.max()), rel=1e-5)
    assert float(scores[int(best["layer"]), int(best["unit"])]) == pytest.approx(float(scores.max()))
    assert not (tmp_path / "out" / "circuit").exists(), "a steering job has none"


def test_the_strength_is_given_or_chosen_or_said_to_be_open(tmp_path: Path) -> None:
    """Auto is what a run has chosen on dev; before that scale 1 is alpha 1, and nothing is generated to find out."""
    given = job_of(tmp_path, "intervention.alpha=[0.5,1,2]", "intervention.layers=1-2")
    assert strength_of(given)[:2] == ((1.0, 1.0, 1.0), (1, 2)), "of a list the scale is alpha"
    tried = (
        *("intervention.alpha=auto", "intervention.layers=auto", "intervention.select.alpha=[0.7]"),
        *("intervention.select.layers=[1-2]", "intervention.select.extend=0", "intervention.select.prompts=1"),
    )
    job = job_of(tmp_path, *tried)
    assert strength_of(job) == ((1.0,) * 3, (0, 1, 2, 3), "rms", "not chosen")
    before = export_address(job)
    assert not job.store.root.exists()
    assert job.selection is not None
    assert strength_of(job) == ((0.7,) * 3, (1, 2), "rms", "chosen on dev")
    assert export_address(job) != before
    circuit = Job(config(tmp_path, "intervention=circuit", *tried, "control.circuits=[steer]"))
    assert strength_of(circuit).how == "chosen on dev", "the choice is the steering's, whatever else the job edits"


def test_a_handle_exports_its_circuit_too(tmp_path: Path) -> None:
    """Of a job on a circuit; the folder is one that `emo.circuits.load` reads."""
    words = overrides(tmp_path, "intervention=circuit", "intervention.scale=2", "control.circuits=[random_circuit]")
    job = emo.job([*words, "circuit.budget=2x"])
    folder = job.export(tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"circuit", "gguf", "directions.safetensors", "rankings.csv"}
    assert emo.circuits.load(folder / "circuit").digest() == job.circuit.digest()


def test_a_steering_arm_is_what_strength_says(tmp_path: Path) -> None:
    """The arm of the job has the alpha, blocks and dose that the files name."""
    job = job_of(tmp_path, "intervention.alpha=1.5", "intervention.layers=[1,3]", "intervention.dose=rel")
    arm, strength = steering_arm(job, "steer", "steer", *job.steering), strength_of(job)
    assert (arm.layers, arm.dose) == (strength.layers, strength.dose)
    assert [arm.strength(e) for e in range(3)] == list(strength.alpha)
