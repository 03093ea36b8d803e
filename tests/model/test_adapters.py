"""A LoRA adapter is added to the weights exactly, is part of the address, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from support.hub_cache import HubCache, change_json
from support.jobs import config
from support.own_models import (
    adapter_weights,
    local_config,
    save_adapter,
    save_model,
    tiny_section,
    write_adapter_weights,
)

import emo
from emo.config.schema import ModelConfig
from emo.core.errors import UserError
from emo.model import adapter
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.tiny import TINY, tiny_model, tiny_tokenizer
from emo.pipeline.scenario import Job

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]
IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep digests in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an adapter of the tiny LLaMA."""
    return save_adapter(tmp_path / "lora")


def merged(folder: Path, family: str = "llama", dtype: str = "float32") -> LM:
    return load(describe(tiny_section(family, adapter=str(folder)), "cpu", dtype))


def by_hand(folder: Path, family: str = "llama") -> transformers.PreTrainedModel:
    """Return the tiny model with (lora_alpha / r) B A added to every target: the slow twin."""
    model, weights = tiny_model(family), adapter_weights(folder)
    how = json.loads((folder / "adapter_config.json").read_text())
    for key, a in weights.items():
        if key.endswith("lora_A.weight"):
            b = weights[key.replace("lora_A", "lora_B")]
            delta = (how["lora_alpha"] / how["r"]) * b.double() @ a.double()
            module: Any = model.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            delta = delta if isinstance(module, torch.nn.Linear) else delta.T
            module.weight.data = (module.weight.data.double() + delta).float()
    return model


@pytest.mark.parametrize("family", TINY)
def test_merged_is_the_sum_by_hand(family: str, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "lora", family)
    lm, twin, base = merged(folder, family), by_hand(folder, family), tiny_model(family)
    torch.testing.assert_close(lm.model(IDS).logits, twin(IDS).logits, rtol=1e-4, atol=1e-4)
    assert (lm.model(IDS).logits - base(IDS).logits).abs().max() > 0.05
    assert type(lm.model) is type(base)
    added = {name for name, _ in lm.model.named_modules()} - {name for name, _ in base.named_modules()}
    assert not added or lm.family.experts, added  # sites of experts are modules that every job puts there
    assert not any("lora" in name for name in added)
    assert not any(weight.requires_grad for weight in lm.model.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": "all-linear", "bias": "none"},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"trainable_token_indices": [5, 7]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_variants_are_as_peft_runs_them(settings: dict[str, Any], tmp_path: Path) -> None:
    """The twin: the adapter beside the weights, unmerged."""
    folder = save_adapter(tmp_path / "lora", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        beside = peft.PeftModel.from_pretrained(tiny_model("llama"), folder).eval()
    torch.testing.assert_close(merged(folder).model(IDS).logits, beside(IDS).logits, rtol=1e-4, atol=1e-4)


def test_half_precision_is_rounded_after_the_sum(tmp_path: Path) -> None:
    """The twin: the merged model, saved in float32 and read in bfloat16; not a bit differs."""
    base, lora = save_model(tmp_path / "base"), save_adapter(tmp_path / "lora", scale=0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = peft.PeftModel.from_pretrained(tiny_model("llama"), lora).merge_and_unload()
    own.save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    given = local_config(base, adapter=str(lora))
    spec = describe(given, "cpu", "bfloat16")
    one = load(spec)
    got, kept = one.model(IDS).logits, {name: x.clone() for name, x in one.model.named_buffers()}
    other = load(describe(local_config(tmp_path / "merged"), "cpu", "bfloat16"))
    assert got.dtype == torch.bfloat16 and torch.equal(got, other.model(IDS).logits)
    assert all(x.dtype == kept[name].dtype and torch.equal(x, kept[name]) for name, x in other.model.named_buffers())
    assert spec.dtype == "bfloat16" and one.model.config.dtype == torch.bfloat16


def test_jobs_and_scripts_take_it(folder: Path, tmp_path: Path) -> None:
    made = config(tmp_path, f"model.adapter={folder}")
    assert emo.load_model("tiny_llama", "cpu", adapter=folder) is load(describe(made.model, "cpu"))
    base = save_model(tmp_path / "base")
    lm = emo.load_model(base, "cpu", adapter=folder)
    torch.testing.assert_close(lm.model(IDS).logits, by_hand(folder)(IDS).logits, rtol=1e-4, atol=1e-4)


# --- identity ----------------------------------------------------------------------------------------


def test_it_is_in_every_address_and_only_where_it_is_set(folder: Path, tmp_path: Path) -> None:
    plain, own = Job(config(tmp_path)), Job(config(tmp_path, f"model.adapter={folder}"))
    assert plain.spec.weights == plain.spec.commit and own.spec.commit == plain.spec.commit
    assert own.result_address != plain.result_address and own.directions_address != plain.directions_address
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "README.md").write_text("changed")
    again = Job(config(tmp_path, f"model.adapter={moved}"))
    assert again.result_address == own.result_address and again.directions_address == own.directions_address
    write_adapter_weights(moved, {key: 2 * x for key, x in adapter_weights(moved).items()})
    other = Job(config(tmp_path, f"model.adapter={moved}"))
    assert other.result_address != own.result_address
    assert own.spec.adapter_commit[:12] in own.spec.told and "adapter" not in plain.spec.told


def test_of_the_hub_it_is_its_commit(hub: HubCache) -> None:
    save_adapter(hub.repository("lora"))
    spec = describe(tiny_section(adapter="owner/lora"), "cpu")
    assert spec.weights == f"{spec.commit}+{hub.repository('lora').name}"
    torch.testing.assert_close(load(spec).model(IDS).logits, by_hand(hub.repository("lora"))(IDS).logits)
    with pytest.raises(UserError, match=r"^model\.adapter=owner/gone: not in the local cache"):
        describe(tiny_section(adapter="owner/gone"), "cpu")
    with pytest.raises(UserError, match=r"^model\.id=owner/lora: a LoRA adapter .*model\.adapter=owner/lora"):
        describe(ModelConfig(name="hub", id="owner/lora"), "cpu")


# --- vocabulary --------------------------------------------------------------------------------------


def more_tokens(folder: Path, *, whole: bool) -> int:
    """Write an adapter that was trained with new tokens, with or without their rows; returns how many rows."""
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    tokenizer.add_tokens(["<happy>", "<sad>"])
    tokenizer.chat_template = "{{ messages[0]['content'] }}<happy>"
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    wrapped.save_pretrained(folder, save_embedding_layers=whole)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def test_new_tokens_come_with_their_rows(tmp_path: Path) -> None:
    """Tokenizer and template are the adapter's: with these it was trained."""
    rows = more_tokens(tmp_path / "lora", whole=True)
    lm = merged(tmp_path / "lora")
    assert len(lm.tokenizer) == rows == len(lm.model.get_input_embeddings().weight)  # type: ignore[arg-type]
    own = adapter_weights(tmp_path / "lora")["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(lm.model.get_input_embeddings().weight, own)
    assert "<happy>" in lm.tokenizer.chat_template


def test_new_tokens_without_their_rows_are_refused(tmp_path: Path) -> None:
    rows = more_tokens(tmp_path / "lora", whole=False)
    with pytest.raises(UserError, match=f"its tokenizer has {rows} tokens, the embedding .*it brings no embedding"):
        describe(tiny_section(adapter=str(tmp_path / "lora")), "cpu")


# --- refused -----------------------------------------------------------------------------------------


def other_width(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48)
    )
    shutil.rmtree(folder)
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)
    change_json(folder, "adapter_config.json", base_model_name_or_path="owner/wide")


def deeper(folder: Path) -> None:
    weights = adapter_weights(folder)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    write_adapter_weights(folder, weights | {key.replace("layers.0", "layers.9"): weights[key]})


def without(part: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_adapter_weights(folder, {key: x for key, x in adapter_weights(folder).items() if part not in key})

    return change


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def unlisted(folder: Path) -> None:
    change_json(folder, "adapter_config.json", target_modules=["q_proj", "down_proj"])


def not_a_number(folder: Path) -> None:
    write_adapter_weights(folder, {key: x * float("nan") for key, x in adapter_weights(folder).items()})


def truncated(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def is_model(folder: Path) -> None:
    shutil.rmtree(folder)
    save_model(folder)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "other width": (other_width, "does not fit tiny_llama: base_model.model.model.layers.0.self_attn.q_proj.lora_A"),
    "deeper": (deeper, "it has no place for base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"),
    "half a pair": (without("layers.2.self_attn.v_proj.lora_B"), "v_proj.lora_B.weight is missing in it"),
    "unlisted": (unlisted, "v_proj.lora_A.weight has no place in what adapter_config.json describes"),
    "not finite": (not_a_number, "could not be loaded (ValueError: NaNs detected"),
    "pickled": (pickled, "holds pickled weights only (adapter_model.bin), which can run code"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors in"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json in it"),
    "no json": (lambda folder: (folder / "adapter_config.json").write_text("["), "adapter_config.json is no JSON"),
    "a model": (is_model, "a model, not an adapter; type model=local model.path={}"),
    "truncated": (truncated, "adapter_model.safetensors is truncated or damaged"),
    "prefix": (
        lambda folder: change_json(folder, "adapter_config.json", peft_type="PREFIX_TUNING"),
        "an adapter of kind PREFIX_TUNING, and only LoRA is merged",
    ),
    "task": (
        lambda folder: change_json(folder, "adapter_config.json", task_type="SEQ_CLS"),
        "made for SEQ_CLS, not for a causal language model",
    ),
    "blocks repeated": (
        lambda folder: change_json(folder, "adapter_config.json", layer_replication=[[0, 4], [2, 4]]),
        "layer_replication in adapter_config.json",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, folder: Path) -> None:
    change, said = REFUSED[case]
    change(folder)
    with pytest.raises(UserError) as error:
        merged(folder)
    line = str(error.value)
    assert line.startswith(f"model.adapter={folder}: ") and said.format(folder) in line and "\n" not in line


def test_the_base_that_it_was_trained_on_is_named(folder: Path) -> None:
    other_width(folder)
    with pytest.raises(UserError, match=r"has shape \[8, 64\], the model's .* it was trained on owner/"):
        merged(folder)


def test_without_peft(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = adapter.importlib.util.find_spec
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(UserError, match=r"the package peft is not installed.*; type pip install peft==0\.21\.2"):
        merged(folder)
    assert describe(tiny_section(), "cpu").weights  # nobody else needs it
