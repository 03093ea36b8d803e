"""One dtype on every machine, and finished runs judged on a machine that cannot read their model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.fake_judge import FakeJudge, completion
from support.hub_cache import HubCache
from support.jobs import config, read_rows

from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.config.schema import ModelConfig
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.model import load as loading
from emo.model.load import describe, load
from emo.model.named import load_named
from emo.model.size import count_parameters
from emo.model.tiny import FAMILY_NAMES
from emo.pipeline.scenario import Job


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    """Return an empty cache that stands for the hub."""
    made = HubCache(tmp_path / "hub")
    made.use(monkeypatch)
    loading._describe.cache_clear()
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes this machine seem to have a GPU."""

    def plug() -> None:
        loading._describe.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(loading, "_device", lambda given: "cuda" if given == "auto" else given)

    yield plug
    loading._describe.cache_clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJudge]:
    """Return a judge that calls everything sadness."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing")

    def answer(request: Any) -> Any:
        blind = "Target emotion" not in request.text
        return completion('{"emotion": "sadness"}' if blind else '{"match": 0, "reason": "no"}')

    with FakeJudge(answer) as running:
        yield running


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float32, None])
def test_a_job_has_one_address_on_every_machine(
    tmp_path: Path, hub: HubCache, gpu: Any, kept: torch.dtype | None
) -> None:
    folder = hub.model("model", dtype=kept or torch.float32)
    if kept is None:  # a configuration that names none
        file = folder / "config.json"
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if "dtype" not in k}))
    words = ("model=hub", "model.id=owner/model", "device=auto", "intervention.layers=1-2")
    here = Job(config(tmp_path, *words))
    gpu()
    there = Job(config(tmp_path, *words))
    assert (here.spec.device, there.spec.device) == ("cpu", "cuda")
    assert here.spec.dtype == there.spec.dtype == ("float32" if kept is None else str(kept).removeprefix("torch."))
    assert here.result_address == there.result_address
    assert Job(config(tmp_path, *words, "dtype=float16")).result_address != here.result_address


@pytest.mark.parametrize(
    ("dtype", "units", "slow"),
    [
        ("bfloat16", {}, True),
        ("bfloat16", {"avx512_bf16": True}, False),
        ("bfloat16", {"amx_bf16": True}, False),
        ("float16", {"amx_bf16": True}, True),
        ("float32", {}, False),
    ],
)
def test_a_slow_dtype_is_said_once(
    hub: HubCache,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    units: dict[str, bool],
    slow: bool,
) -> None:
    hub.model("model", dtype=getattr(torch, dtype))
    told: list[str] = []
    monkeypatch.setattr(loading, "note", told.append)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    load.cache_clear()
    load(describe(ModelConfig(name="hub", id="owner/model"), "cpu"))
    assert sum("dtype=float32" in line for line in told) == slow


@pytest.mark.slow
def test_weights_are_counted_without_reading_them(hub: HubCache) -> None:
    for family in FAMILY_NAMES:
        lm = load_named(f"tiny_{family}", "cpu")
        assert count_parameters(lm.spec) == lm.parameters
    hub.model("tied", kind="gpt2")
    lm = load(describe(ModelConfig(name="hub", id="owner/tied"), "cpu"))
    assert count_parameters(lm.spec) == lm.parameters


STEER = ("intervention=steer", "intervention.alpha=1", "intervention.layers=1-2")
CIRCUIT = (
    "intervention=circuit",
    "circuit.budget=20",
    "circuit.reference_layers=1-2",
    "circuit.layers=all",
    "intervention.scale=0.5",
    "control.circuits=[random_circuit,matched_steer]",
)
UNITS = ("intervention=ablate_neurons", "intervention.k=2")


@pytest.mark.parametrize("kind", [STEER, CIRCUIT, UNITS], ids=["steer", "circuit", "neurons"])
def test_judging_loads_no_language_model(
    tmp_path: Path,
    hub: HubCache,
    gpu: Any,
    server: FakeJudge,
    monkeypatch: pytest.MonkeyPatch,
    kind: tuple[str, ...],
) -> None:
    """Also where the model is in no cache, and device and dtype are others."""
    # Nothing is drawn, but what a figure is drawn from is there.
    monkeypatch.setattr("emo.report.job_page.draw", lambda job, *_: [] if job.has_circuit and not job.modulated else [])
    folder = hub.model("model", dtype=torch.bfloat16, max_position_embeddings=2048)
    words = ("model=hub", "model.id=owner/model", "device=auto", *kind)
    assert run_job(config(tmp_path, *words)) == 0
    [run] = (tmp_path / "run").glob("*/result.json")
    first = json.loads(run.read_text())
    assert first["dtype"] == first["model"]["dtype"] == "bfloat16"
    assert str(tmp_path) not in json.dumps(first["model"])

    shutil.rmtree(folder.parents[1])
    gpu()

    def refused(*_: Any) -> Any:
        raise AssertionError("a language model was asked for")

    for name in (
        "emo.pipeline.extracted.load",
        "emo.pipeline.addresses.describe",
        "emo.pipeline.extracted.count_parameters",
    ):
        monkeypatch.setattr(name, refused)
    stored = {path for path in (tmp_path / "store").rglob("manifest.json") if path.parent.parent.name != "labels"}
    judge = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "task=judge", f"runs={tmp_path / 'run'}")
    assert run_task(config(tmp_path, *judge)) == 0
    both = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("*/result.json")]
    [second] = [r for r in both if r["config"]["evaluator"]["name"] == "openai_judge"]
    assert second["arms"].keys() == first["arms"].keys()
    for arm, metrics in first["arms"].items():
        assert metrics.items() <= second["arms"][arm].items()
    for key in ("model", "parameters", "dtype", "model_commit", "directions"):
        assert first[key] == second[key]
    now = {path for path in (tmp_path / "store").rglob("manifest.json") if path.parent.parent.name != "labels"}
    assert now == stored


def test_replies_that_left_the_store_are_read_from_the_run(
    tmp_path: Path, server: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    assert run_job(config(tmp_path)) == 0
    [samples] = (tmp_path / "run").glob("*/samples.jsonl")
    for stage in ("replies", "damage"):
        shutil.rmtree(tmp_path / "store" / stage)
    monkeypatch.setattr("emo.pipeline.extracted.load", lambda _: pytest.fail("a language model was asked for"))
    judge = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "task=judge", f"runs={tmp_path / 'run'}")
    assert run_task(config(tmp_path, *judge)) == 0
    assert not (tmp_path / "store" / "replies").exists()
    [judged] = [path for path in (tmp_path / "run").glob("*/samples.jsonl") if path != samples]
    own = ("arm", "sample", "emotion", "seed", "reply", "nll", "kl", "cosine", "degenerate")
    old, new = ([[row[key] for key in own] for row in read_rows(path)] for path in (samples, judged))
    assert old == new
    assert {row["label"] for row in read_rows(judged)} == {"sadness"}


def files_of(folder: Path) -> set[Path]:
    """Return all files below a folder but the lists of what running processes use."""
    return {path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".in-use"}


def test_what_is_missing_is_named_before_anything_is_labelled(
    tmp_path: Path, server: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emo.report.job_page.draw", lambda *_: [])
    assert run_job(config(tmp_path)) == 0
    [run] = (tmp_path / "run").iterdir()
    shutil.rmtree(tmp_path / "store" / "margins")
    before = files_of(tmp_path)
    judge = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "task=judge", f"runs={tmp_path / 'run'}")
    with pytest.raises(UserError, match="stage 'margins' of arm none is not in .*judging loads no language model") as e:
        run_task(config(tmp_path, *judge))
    assert str(run) in str(e.value) and "paths.store=FOLDER" in str(e.value)
    assert files_of(tmp_path) == before and not server.requests
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(seal({key: x for key, x in result.items() if key != "model"})))
    with pytest.raises(UserError, match="written by an earlier version.*run it again"):
        run_task(config(tmp_path, *judge))
