"""A model in a folder of the user's own: loaded as it is, known by its content, or refused in one true line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from support.hub_cache import change_json, change_weights
from support.jobs import config
from support.own_models import local_config, save_adapter, save_model

import emo
from emo.core.errors import UserError
from emo.model.load import describe, load
from emo.model.named import model_config
from emo.model.tiny import tiny_model
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep digests in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny model, that no test changes."""
    return save_model(tmp_path_factory.mktemp("models") / "tuned")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of it for one test."""
    return shutil.copytree(saved, tmp_path / "tuned")


def digest(folder: Path) -> str:
    return describe(local_config(folder), "cpu").commit


def logits(lm: object) -> torch.Tensor:
    return lm.model(IDS).logits  # type: ignore[attr-defined]


def test_it_is_the_model_in_the_folder(saved: Path) -> None:
    """The twin: transformers' own reading of the folder."""
    lm = load(describe(local_config(saved), "cpu"))
    own = transformers.AutoModelForCausalLM.from_pretrained(saved).eval()
    assert torch.equal(logits(lm), own(IDS).logits) and torch.equal(logits(lm), tiny_model("llama")(IDS).logits)
    assert (lm.spec.name, lm.spec.family, lm.spec.dtype) == ("tuned", "llama", "float32")
    assert lm.spec.title == f"model.path={saved}" and "sha256" in lm.spec.told


def test_the_precision_is_the_checkpoints_own(folder: Path) -> None:
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert describe(local_config(folder), "cpu").dtype == "bfloat16"
    assert load(describe(local_config(folder), "cpu")).model.dtype == torch.bfloat16


# --- identity ----------------------------------------------------------------------------------------


def test_neither_place_nor_time_nor_other_files_are_part_of_it(folder: Path, saved: Path) -> None:
    before = digest(saved)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"\x80")
    (folder / "checkpoint-1").mkdir()
    assert digest(folder) == before
    assert digest(folder.rename(folder.parent / "another name")) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: change_weights(folder, lambda w: w | {"model.norm.weight": w["model.norm.weight"] + 1e-3}),
        lambda folder: change_json(folder, rms_norm_eps=1e-5),
        lambda folder: change_json(folder, "generation_config.json", eos_token_id=[2, 7]),
        lambda folder: change_json(folder, "tokenizer_config.json", pad_token="<|im_end|>"),
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}"),
        lambda folder: (folder / "chat_template.jinja").unlink(),
    ],
    ids=["weights", "config", "ends", "tokenizer", "template", "no template"],
)
def test_every_part_of_it_is(folder: Path, change: Callable[[Path], object]) -> None:
    before = digest(folder)
    change(folder)
    assert digest(folder) != before


def test_trained_on_in_one_process(folder: Path) -> None:
    """A notebook that trains, measures and trains on gets the new weights, under another address."""
    before = load(describe(local_config(folder), "cpu"))
    change_weights(folder, lambda w: w | {"model.norm.weight": w["model.norm.weight"] + 1})
    after = load(describe(local_config(folder), "cpu"))
    assert before.spec.commit != after.spec.commit and not torch.equal(logits(before), logits(after))


def test_changed_while_it_was_read(folder: Path) -> None:
    spec = describe(local_config(folder), "cpu")
    change_weights(folder, lambda w: w | {"model.norm.weight": w["model.norm.weight"] + 1})
    with pytest.raises(UserError, match=r"^model\.path=.*was changed while it was read"):
        load(spec)


def test_addresses_hold_the_content_alone(folder: Path, saved: Path, tmp_path: Path) -> None:
    """Two copies under two names share every stage; another training shares none."""
    moved = folder.rename(folder.parent / "moved")
    one, other = (Job(config(tmp_path, "model=local", f"model.path={path}")) for path in (saved, moved))
    assert (one.config.model.name, other.config.model.name) == ("tuned", "moved")
    assert one.result_address == other.result_address and one.directions_address == other.directions_address
    change_weights(moved, lambda w: w | {"model.norm.weight": w["model.norm.weight"] + 1})
    third = Job(config(tmp_path, "model=local", f"model.path={moved}"))
    assert third.result_address != one.result_address and third.directions_address != one.directions_address


# --- by name -----------------------------------------------------------------------------------------


def test_a_relative_path_from_any_directory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept in a result is absolute: it is read again from elsewhere."""
    monkeypatch.chdir(tmp_path)
    made = config(tmp_path, "model=local", "model.path=tuned")
    assert made.model.path == str(folder) and made.model.name == "tuned"
    monkeypatch.chdir("/")
    assert describe(made.model, "cpu").commit == digest(folder)
    named = config(tmp_path, "model=local", f"model.path={folder}", "model.name=mine", "model.chat=plain")
    assert (named.model.name, named.model.chat) == ("mine", "plain")


def test_of_scripts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`emo.load_model` gives what a job has: the same object."""
    lm = emo.load_model(folder, "cpu")
    assert lm is load(describe(config(tmp_path, "model=local", f"model.path={folder}").model, "cpu"))
    monkeypatch.chdir(tmp_path)
    assert emo.load_model("tuned", "cpu") is lm and emo.load_model("./tuned", "cpu") is lm
    folder.rename(tmp_path / "gpt2")
    assert model_config("gpt2").source == "hub" and model_config("./gpt2").source == "local"
    with pytest.raises(UserError, match=r"^revision=main: not read by \./gpt2, only by repositories of the hub"):
        emo.load_model("./gpt2", "cpu", revision="main")
    with pytest.raises(UserError, match=r"^model a/b/c: no folder .*, no OWNER/NAME of the hub, none of "):
        emo.load_model("a/b/c")


# --- refused -----------------------------------------------------------------------------------------


def shards(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")


def test_several_files_of_weights(folder: Path) -> None:
    shards(folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    before, lm = digest(folder), load(describe(local_config(folder), "cpu"))
    assert torch.equal(logits(lm), tiny_model("llama")(IDS).logits)
    last = sorted(folder.glob("model-*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"\x01")
    assert digest(folder) != before


def test_a_part_of_several_is_missing(folder: Path) -> None:
    shards(folder)
    (lost := sorted(folder.glob("model-*.safetensors"))[1]).unlink()
    with pytest.raises(UserError, match=f"not whole: model.safetensors.index.json names .*; {lost.name} is missing"):
        digest(folder)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    no_weights(folder)
    (folder / "training_args.bin").write_bytes(b"\x80")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")


def gguf(folder: Path) -> None:
    no_weights(folder)
    (folder / "model-q4.gguf").write_bytes(b"GGUF")


def nested(folder: Path) -> None:
    (inner := folder / "checkpoint-200").mkdir()
    for path in list(folder.iterdir()):
        if path.is_file():
            path.rename(inner / path.name)


def damaged(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    save_adapter(folder)


def holed(folder: Path) -> None:
    change_weights(folder, lambda w: {key: x for key, x in w.items() if key != "model.norm.weight"})


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder (looked from "),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json in it; type the folder that"),
    "folders inside": (nested, "no config.json in it; it holds checkpoint-200: type model.path={}/checkpoint-200"),
    "no weights": (no_weights, "no weights in safetensors (model.safetensors) in it"),
    "pickled": (pickled, "holds pickled weights only (pytorch_model.bin), which can run code"),
    "gguf": (gguf, "holds GGUF files only, whose weights are quantised"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer (tokenizer.json, "),
    "adapter": (adapter, "a LoRA adapter (adapter_config.json), not a model; type its base model and model.adapter={}"),
    "quantised": (
        lambda folder: change_json(folder, quantization_config={"quant_method": "gptq", "bits": 4}),
        "its weights are quantised (gptq: quantization_config in config.json)",
    ),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "config.json is no JSON"),
    "unknown type": (lambda folder: change_json(folder, model_type="of_its_own"), "model type 'of_its_own' is not"),
    "encoder": (
        lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "bert"})),
        "model type 'bert' is an encoder",
    ),
    "damaged": (damaged, "model.safetensors is truncated or damaged"),
    "weights are missing": (holed, "its files are not those of the LlamaForCausalLM with 4 blocks"),
    "depth": (lambda folder: change_json(folder, num_hidden_layers=5), "they lack model.layers.4."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, folder: Path) -> None:
    change, said = REFUSED[case]
    change(folder)
    with pytest.raises(UserError) as error:
        load(describe(local_config(folder), "cpu"))
    line = str(error.value)
    assert line.startswith(f"model.path={folder}: ") and said.format(folder) in line and "\n" not in line
    assert "hub" not in line and "network" not in line and "cache" not in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=local"], "model=local needs model.path=FOLDER"),
        (["model=local", "model.path="], "model=local needs model.path=FOLDER"),
        (["model=local", "model.path=nowhere"], "model.path=nowhere: no such folder (looked from "),
        (["model=local", "model.path={}/config.json"], "config.json: a file; type the folder that it lies in, model."),
        (["model=tiny_llama", "model.adapter=no/where/at/all"], "model.adapter=no/where/at/all: no such folder"),
    ],
)
def test_refused_before_anything_is_read(words: list[str], said: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        config(tmp_path, *(word.format(folder) for word in words))
    assert said in str(error.value)
