"""A person who opens a folder of the store reads what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.jobs import config

from emo.core.sealed import seal
from emo.pipeline import manifests
from emo.pipeline.scenario import Job
from emo.pipeline.stage import CLASSES, EXPORTED, SCENARIOS

pytestmark = pytest.mark.usefixtures("quiet")
TOLD = ("what", "model", "dataset", "emotions", "holds")


def test_every_stage_is_described() -> None:
    """Those that leave artifacts: neither results nor the circuit do."""
    assert {*manifests.SCENARIOS} == {*SCENARIOS, *EXPORTED} - {"result", "circuit"}
    assert {*manifests.CLASSES} == {*CLASSES} - {"result"}


def test_a_manifest_names_what_it_is_of(tmp_path: Path) -> None:
    """Model, data, emotions, shapes; without a word of it, as written before, it is read as before."""
    job = Job(config(tmp_path, "intervention=steer"))
    v = job.directions.tensors["v"]
    path = job.store.folder("directions", job.directions_address) / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["what"] == manifests.SCENARIOS["directions"] and "emotion, block, sublayer" in manifest["what"]
    assert manifest["model"] | {"blocks": 4} == manifest["model"] and manifest["model"]["name"] == "tiny_llama"
    assert manifest["dataset"] == {
        "name": "sev", "digest": job.splits.digest, "scenarios": {"extract": 2, "dev": 2, "test": 2}
    }  # fmt: skip
    assert manifest["emotions"] == ["anger", "sadness", "fear"]
    assert manifest["holds"]["tensors"]["v"] == f"float32 {list(v.shape)}"
    assert manifest["holds"]["rows"] == {"count": len(job.splits.extract), "columns": ["sample", "accepted"]}
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    path.write_text(json.dumps(seal({key: x for key, x in manifest.items() if key not in TOLD})), encoding="utf-8")
    again = job.store.get("directions", job.directions_address)
    assert again is not None and (again.tensors["v"] == v).all()
