"""What is refused around a checkpoint: paths, revisions, code of a repository, and that nothing is written then."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError
from support.hub_cache import BLOCKS, COMMIT, HubCache, change_json, change_weights, own_code, read, refusal
from support.jobs import config
from transformers.utils import peft_utils

import emo
from emo.cli.run import run_job
from emo.config.error_text import guard
from emo.config.schema import ModelConfig
from emo.core import console
from emo.core.errors import UserError
from emo.model import embedded
from emo.model import load as loading
from emo.model.load import describe

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"

pytestmark = pytest.mark.usefixtures("quiet", "hub")


def test_a_revision_that_is_not_there(hub: HubCache) -> None:
    """The model is cached, the revision is not: another sentence than for a model that is not there."""
    hub.model("revised")
    line = refusal("revised", revision="v2")
    assert line.startswith("model.revision=v2: not in the local cache") and "of owner/revised it holds main" in line
    assert read("revised", revision="main").n_layers == BLOCKS


def test_a_prefetched_repository(hub: HubCache) -> None:
    """The hub's client keeps the whole listing; what is never downloaded (README.md) makes no model incomplete."""
    folder = hub.model("prefetched")
    trees = folder.parents[1] / "trees"
    trees.mkdir()
    names = ["README.md", *(path.name for path in folder.iterdir())]
    files = {name: {"size": 9, "blob_id": "0" * 40} for name in names}
    (trees / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))
    with pytest.raises(IncompleteSnapshotError):
        snapshot_download("owner/prefetched", local_files_only=True)
    assert read("prefetched").n_layers == BLOCKS


def test_a_local_folder(hub: HubCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers reads a folder of the id's name before the hub's repository, under the hub's commit."""
    hub.model("shadowed")
    shutil.copytree(hub.model("elsewhere"), tmp_path / "owner" / "shadowed")
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "owner"), "./owner/shadowed", "~/nowhere", "owner/shadowed"):
        with pytest.raises(UserError, match=r"a local path, and .* OWNER/NAME; a model in a folder is model=local"):
            describe(ModelConfig(name="hub", id=name), "cpu", "float32")


def test_weights_go_straight_to_their_device(hub: HubCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dispatched or hooked on one device, every weight is the same; a map that is typed goes first."""
    hub.model("straight")
    spec = describe(ModelConfig(name="hub", id="owner/straight"), "cpu", "float32")
    read_weights, given = loading.read_weights, []

    def noted(*words: object, **options: object) -> object:
        given.append(options.get("device_map"))
        return read_weights(*words, **{**options, **({"device_map": {"": "cpu"}} if given[-1] else {})})

    monkeypatch.setattr(loading, "read_weights", noted)
    plain, *others = [
        loading._from_pretrained(spec._replace(device=device, device_map=device_map))
        for device, device_map in (("cpu", None), ("cuda", None), ("cuda:1", None), ("cuda", "auto"))
    ]
    assert given == [None, {"": "cuda"}, {"": "cuda:1"}, "auto"]
    for model in others:
        assert not any(hasattr(part, "_hf_hook") for part in model.modules())
        loading.check_held(spec, model)
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert all(torch.equal(x, plain.state_dict()[key]) for key, x in model.state_dict().items())
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    assert loading._straight_to("cuda") is None


def test_no_adapter_is_looked_for_on_the_hub(hub: HubCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where peft is installed transformers asks the hub for one, half a minute long without a network."""
    asked: list[bool] = []
    find = peft_utils.cached_file

    def counted(*given: Any, **how: Any) -> str | None:
        asked.append(how["local_files_only"])
        return find(*given, **how)

    monkeypatch.setattr(peft_utils, "cached_file", counted)
    hub.model("plain")
    assert read("plain").n_layers == BLOCKS and asked == [True, True]


def test_quantised_is_refused_before_weights_are_read(hub: HubCache) -> None:
    """A sweep's planner reads no weights, and must know."""
    change_json(hub.model("packed"), quantization_config={"quant_method": "gptq", "bits": 4})
    (hub.repository("packed") / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="weights are quantised"):
        describe(ModelConfig(name="hub", id="owner/packed"), "cpu", "float32")


def test_a_job_that_is_refused_writes_nothing(
    hub: HubCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What only the weights tell is known after the job's start: exit code 2, one line, no folder."""
    half = {f"model.layers.{i}.mlp.up_proj.weight" for i in range(1, BLOCKS)}
    change_weights(hub.model("refused-job"), lambda w: {key: x for key, x in w.items() if key not in half})
    words = ("model=hub", "model.id=owner/refused-job", "evaluator=projection")
    assert guard(lambda: run_job(config(tmp_path, *words))) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("error: model.id=owner/refused-job: its files are not")
    assert not any(tmp_path.iterdir())


def test_known_type_with_code_of_its_own(hub: HubCache, capsys: pytest.CaptureFixture[str]) -> None:
    """Many repositories carry the code of a type that transformers has had for long: said, not run."""
    own_code(hub, "known-code")
    change_json(hub.repository("known-code"), model_type="llama")
    console.setup("rich")
    read("known-code")
    text = " ".join("".join(capsys.readouterr()).split())
    assert "code of its repository is not run; the model is transformers' LlamaForCausalLM" in text
    assert not (hub.repository("known-code") / "was_here").exists()


def test_load_model_of_scripts(hub: HubCache, tmp_path: Path) -> None:
    """`emo.load_model` goes the same way as a job."""
    assert emo.load_model(f"owner/{hub.model('scripted').parents[1].name[15:]}", "cpu").n_layers == BLOCKS
    change_weights(hub.model("holed"), lambda w: {key: x for key, x in w.items() if key != "model.norm.weight"})
    for key, name, said in (("id", "owner/holed", "they lack model.norm"), ("path", str(tmp_path), "no config.json")):
        with pytest.raises(UserError, match=f"^model.{key}={name}: .*{said}"):
            emo.load_model(name, "cpu")


def test_a_damaged_conversion_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embedded model: who deletes the file that the line names gets it again, and not half a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "whole.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(embedded, "gguf_files", lambda _: [tmp_path / "whole.gguf"])
    made: list[Path] = []
    files = embedded.WRITTEN
    monkeypatch.setattr(embedded, "_write", lambda _, to, __: made.extend(to / n for n in files if fill(to / n)))
    folder, _ = embedded.embedded_folder(EMBEDDED)
    assert len(made) == 3 and embedded.embedded_folder(EMBEDDED)[0] == folder and len(made) == 3
    (folder / "model.safetensors").unlink()
    assert embedded.embedded_folder(EMBEDDED)[0] == folder and len(made) == 6
    assert sorted(path.name for path in folder.iterdir()) == sorted(embedded.WRITTEN)


def test_a_model_in_parts_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma-3 270M comes in four packages: absent, damaged, whole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    gemma = embedded.PACKAGED["google/gemma-3-270m"]
    away = gemma._replace(files=tuple((f"away_{package}", name) for package, name in gemma.files))
    monkeypatch.setitem(embedded.PACKAGED, "google/gemma-3-270m", away)
    for i, (package, name) in enumerate(away.files):
        with pytest.raises(UserError, match="^model=gemma3_270m: not installed; type: make models"):
            embedded.embedded_folder("google/gemma-3-270m")
        (tmp_path / package / "data").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('a package of weights is not imported')")
        (tmp_path / package / name).write_bytes(bytes([i]) * 3)
        importlib.invalidate_caches()
    with pytest.raises(UserError, match="^model=gemma3_270m: its installed files are damaged .*force-reinstall"):
        embedded.embedded_folder("google/gemma-3-270m")
    assert not (tmp_path / "cache").exists()
    whole = bytes([0] * 3 + [1] * 3 + [2] * 3 + [3] * 3)
    honest = away._replace(sha256=hashlib.sha256(whole).hexdigest())
    monkeypatch.setitem(embedded.PACKAGED, "google/gemma-3-270m", honest)
    read: list[bytes] = []
    monkeypatch.setattr(embedded, "_write", lambda source, *_: read.append(source.read_bytes()))
    folder, digest = embedded.embedded_folder("google/gemma-3-270m")
    assert read == [whole] and digest == honest.sha256 and folder.name.startswith(f"gemma3_270m-{digest[:16]}-")
    assert [path.name for path in (tmp_path / "cache" / "emo").iterdir()] == [folder.name], "the joined file is gone"


def fill(path: Path) -> int:
    """Write something; returns how much."""
    return path.write_text("x")


def test_yes_to_custom_code_is_not_asked_for(hub: HubCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer with code of its own beside a model that is known: no question, the file is not there."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = hub.model("tokenizer-code")
    (folder / "tok.py").write_text(f"open({str(folder / 'was_here')!r}, 'w').close()\n")
    change_json(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tok.T"]}, tokenizer_class="T")
    own_code(hub, "asked")
    assert "code of its own repository" in refusal("asked")
    try:
        read("tokenizer-code")
    except UserError as error:
        assert "code of its own repository" in str(error)  # noqa: PT017
    assert not (folder / "was_here").exists()
    assert not (hub.repository("asked") / "was_here").exists()
