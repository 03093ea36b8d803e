"""Checkpoints of many kinds in one hub cache: loaded as transformers loads them, or refused in one true line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from support.hub_cache import BLOCKS, HubCache, change_json, change_weights, own_code, read, refusal

from emo.model.prefix_tree import TokenTrees, plain_block
from emo.model.tiny import tiny_model

pytestmark = [pytest.mark.usefixtures("quiet", "hub"), pytest.mark.long]  # each writes a model and reads it
IDS = [5 + 7 * i % 250 for i in range(40)]  # longer than the sliding windows
Make = Callable[[HubCache, str], Any]
WINDOW = {"sliding_window": 24}


def is_like(kind: str = "llama", **config: Any) -> Make:
    """Make a checkpoint of a type with some keys of its configuration set."""
    return lambda hub, name: hub.model(name, kind, **config)


def stored(dtype: torch.dtype) -> Make:
    """Make a checkpoint whose weights are stored in half precision."""
    return lambda hub, name: hub.model(name, dtype=dtype)


def sharded(hub: HubCache, name: str) -> None:
    """Make a checkpoint of several files with an index."""
    folder = hub.model(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def earlier_gpt2(hub: HubCache, name: str) -> None:
    """Make a checkpoint as OpenAI's: no prefix, no head, the causal masks among the weights."""
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(BLOCKS)}
    change_weights(hub.model(name, "gpt2"), lambda w: {k.removeprefix("transformer."): v for k, v in w.items()} | masks)


def earlier_neox(hub: HubCache, name: str) -> None:
    """Make a checkpoint as EleutherAI's: masks and rotary frequencies among the weights."""
    parts = {"bias": torch.ones(1, 1, 8, 8), "masked_bias": torch.tensor(-1e9), "rotary_emb.inv_freq": torch.ones(4)}
    more = {f"gpt_neox.layers.{i}.attention.{key}": x.clone() for i in range(BLOCKS) for key, x in parts.items()}
    change_weights(hub.model(name, "gpt_neox"), lambda weights: weights | more)


def earlier_llama(hub: HubCache, name: str) -> None:
    """Make a checkpoint with the rotary frequencies of earlier versions and a value head beside the model."""
    frequencies = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(BLOCKS)}
    more = frequencies | {"v_head.summary.weight": torch.ones(1, 4)}
    change_weights(hub.model(name), lambda weights: weights | more)


def no_template(hub: HubCache, name: str) -> None:
    """Make a base model: its tokenizer has no chat template."""
    (hub.model(name) / "chat_template.jinja").unlink()


def no_pad_token(hub: HubCache, name: str) -> None:
    """Make a checkpoint as LLaMA's: neither configuration nor tokenizer names a pad token."""
    folder = hub.model(name)
    for file in ("config.json", "generation_config.json"):
        change_json(folder, file, pad_token_id=None)
    change_json(folder, "tokenizer_config.json", pad_token=None)


def with_images(hub: HubCache, name: str) -> None:
    """Make a checkpoint that reads images too."""
    hub.model(name)
    tiny_model("gemma3_images").save_pretrained(hub.repository(name))


def several_ends(hub: HubCache, name: str) -> None:
    """Make a checkpoint with three tokens that end a reply."""
    change_json(hub.model(name), "generation_config.json", eos_token_id=[2, 7, 9])


LOADED: dict[str, Make] = {
    "llama": is_like(),
    "llama-tied": is_like(tie_word_embeddings=True),
    "llama-biased": is_like(attention_bias=True, mlp_bias=True),
    "llama-wide-heads": is_like(head_dim=12),
    "llama-scaled-rotary": is_like(
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
    ),
    "llama-several-ends": several_ends,
    "llama-no-pad-token": no_pad_token,
    "llama-no-template": no_template,
    "llama-float16": stored(torch.float16),
    "llama-bfloat16": stored(torch.bfloat16),
    "llama-sharded": sharded,
    "llama-earlier": earlier_llama,
    "mistral-window": is_like("mistral", **WINDOW),
    "mistral-full": is_like("mistral", sliding_window=None),
    "qwen2": is_like("qwen2"),
    "qwen2-window": is_like("qwen2", use_sliding_window=True, max_window_layers=1, **WINDOW),
    "qwen3": is_like("qwen3", head_dim=12),
    "gemma2": is_like("gemma2", head_dim=12, query_pre_attn_scalar=12, **WINDOW),
    "gemma3": is_like("gemma3_text", head_dim=12, query_pre_attn_scalar=12, sliding_window_pattern=2, **WINDOW),
    "gpt2": is_like("gpt2"),
    "gpt2-untied": is_like("gpt2", tie_word_embeddings=False),
    "gpt2-earlier": earlier_gpt2,
    "phi3": is_like("phi3"),
    "phi3-window": is_like("phi3", **WINDOW),
    "olmo2": is_like("olmo2"),
    "granite": is_like("granite", logits_scaling=8.0, residual_multiplier=0.22, embedding_multiplier=12.0),
    "smollm3": is_like("smollm3"),
    "smollm3-window": is_like("smollm3", use_sliding_window=True, no_rope_layer_interval=2, **WINDOW),
    "ministral": is_like(
        "ministral", head_dim=12, layer_types=["full_attention", *["sliding_attention"] * 2], **WINDOW
    ),
    "gemma3-images": with_images,
    "gpt_neox": is_like("gpt_neox"),
    "gpt_neox-earlier": earlier_neox,
    "gpt_neox-sequential": is_like("gpt_neox", use_parallel_residual=False),
    "mixtral": is_like("mixtral", num_local_experts=4),
    "mixtral-window": is_like("mixtral", num_local_experts=4, **WINDOW),
    "qwen3_moe": is_like("qwen3_moe", head_dim=12, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12),
    "qwen3_moe-normed": is_like(
        "qwen3_moe", head_dim=12, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=True
    ),
}


@pytest.mark.parametrize("name", LOADED)
def test_loaded_as_transformers_loads_it(hub: HubCache, name: str) -> None:
    """A weight, a window, a bias or a scale that is lost would be another model under the same name."""
    LOADED[name](hub, name)
    lm = read(name)
    eager = {"attn_implementation": "eager"} if name == "gemma2" else {}
    own = transformers.AutoModelForCausalLM.from_pretrained(hub.repository(name), dtype=torch.float32, **eager)
    with torch.inference_mode():
        theirs = own(input_ids=torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
        ours = lm.logits(TokenTrees(lm).extend(plain_block([IDS], lm.device)))[0, -1].log_softmax(-1)
    assert float(theirs.max() - theirs.min()) > 0.1
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)
    if name == "llama-several-ends":
        assert lm.stop_ids() == {2, 7, 9}


def changed(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], **config: Any) -> Make:
    """Make a checkpoint whose weights are not those that its configuration describes."""
    return lambda hub, name: change_weights(hub.model(name, **config), change)


def block(key: str) -> int:
    """Return the number of the block that a key lies in, -1 outside the blocks."""
    return int(key.split(".")[2]) if ".layers." in key else -1


def packed(how: str, **keys: Any) -> Make:
    """Make a checkpoint whose config.json says that its weights are quantised."""
    found = {"quant_method": how, **keys}
    return lambda hub, name: change_json(hub.model(name), quantization_config=found)


def pickled(hub: HubCache, name: str) -> None:
    """Make a repository that holds a pickle in the place of safetensors."""
    folder = hub.model(name)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def adapter(hub: HubCache, name: str) -> None:
    """Make the repository of a LoRA adapter."""
    folder = hub.repository(name)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/llama"}))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def gguf(hub: HubCache, name: str) -> None:
    """Make a repository of GGUF files."""
    (hub.repository(name) / "model-Q4_K_M.gguf").write_bytes(b"GGUF")


def cut(hub: HubCache, name: str) -> None:
    """Make a checkpoint whose download stopped half-way."""
    file = hub.model(name) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def shard_missing(hub: HubCache, name: str) -> None:
    """Make a checkpoint of several files of which one is not in the cache."""
    sharded(hub, name)
    next(hub.repository(name).glob("model-00002-*")).unlink()


def without(*files: str, kind: str = "llama") -> Make:
    """Make a checkpoint without some of its files."""

    def make(hub: HubCache, name: str) -> None:
        folder = hub.model(name, kind)
        for file in files:
            (folder / file).unlink()

    return make


def broken_config(hub: HubCache, name: str) -> None:
    """Make a checkpoint whose config.json is cut."""
    file = hub.model(name) / "config.json"
    file.write_text(file.read_text()[:40])


def encoder_decoder(hub: HubCache, name: str) -> None:
    """Make a repository of type t5."""
    folder = hub.model(name)
    transformers.T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=2).save_pretrained(folder)


def image_model(hub: HubCache, name: str) -> None:
    """Make a repository of type vit."""
    folder = hub.model(name)
    transformers.ViTConfig().save_pretrained(folder)


def state_space(hub: HubCache, name: str) -> None:
    """Make a repository of type mamba."""
    transformers.MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1).save_pretrained(hub.model(name))


def quantised_beside(hub: HubCache, name: str) -> None:
    """Make a checkpoint as AutoGPTQ wrote them: config.json says nothing."""
    (hub.model(name) / "quantize_config.json").write_text("{}")


def nothing(*_: Any) -> None:
    """Make no repository."""


HEAD = "lm_head.weight"
KEYS = "its files are not those of the LlamaForCausalLM with 3 blocks that its config.json describes"
REFUSED: dict[str, tuple[Make, tuple[str, ...]]] = {
    "prefixed": (
        changed(lambda w: {f"base_model.model.{key}": x for key, x in w.items()}),
        (KEYS, "they lack lm_head.weight, model.embed_tokens.weight, model.layers.0.", "(30 in all)"),
    ),
    "half": (
        changed(lambda w: {key: x for key, x in w.items() if block(key) < 1}),
        (KEYS, "they lack model.layers.1.input_layernorm.weight", "(18 in all)"),
    ),
    "deeper": (
        changed(lambda w: w | {k.replace("layers.2.", "layers.3."): x.clone() for k, x in w.items() if block(k) == 2}),
        (KEYS, "the model has no place for model.layers.3.input_layernorm.weight", "(9 in all)"),
    ),
    "one-missing": (
        changed(lambda w: {key: x for key, x in w.items() if key != "model.norm.weight"}),
        (KEYS, "they lack model.norm.weight"),
    ),
    "no-head": (changed(lambda w: {key: x for key, x in w.items() if key != HEAD}), (KEYS, "they lack lm_head.weight")),
    "biased-head": (
        changed(lambda w: w | {"lm_head.bias": torch.ones(len(w[HEAD]))}),
        (KEYS, "the model has no place for lm_head.bias"),
    ),
    "narrower": (
        changed(lambda w: w | {"model.layers.1.mlp.up_proj.weight": torch.ones(40, 32)}),
        (KEYS, "of another shape are model.layers.1.mlp.up_proj.weight ([40, 32] in the files, [48, 32] in the model)"),
    ),
    "lora-inside": (
        changed(lambda w: w | {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)}),
        (KEYS, "the model has no place for model.layers.0.self_attn.q_proj.lora_A.weight"),
    ),
    "own-code": (own_code, ("needs code of its own repository, which is never run",)),
    "pickled": (pickled, ("pickled weights only (pytorch_model.bin)", "never opened")),
    "gptq": (packed("gptq", bits=4), ("weights are quantised (gptq: quantization_config in config.json)",)),
    "awq": (packed("awq", bits=4), ("weights are quantised (awq:",)),
    "bitsandbytes": (packed("bitsandbytes", load_in_4bit=True), ("weights are quantised (bitsandbytes:",)),
    "fp8": (packed("fp8"), ("weights are quantised (fp8:",)),
    "compressed": (packed("compressed-tensors", format="pack-quantized"), ("quantised (compressed-tensors:",)),
    "gptq-beside": (quantised_beside, ("weights are quantised (GPTQ: quantize_config.json)",)),
    "scaled-logits": (
        is_like("hyperclovax", use_post_norm=False, logits_scaling=0.125),
        ("model type 'hyperclovax': its logits are 0.125 times those of its output head", "logits_scaling=0.125"),
    ),
    "scaled-updates": (
        is_like("hyperclovax", use_post_norm=False, residual_multiplier=0.5),
        ("model type 'hyperclovax': resid_mid of block 0 is not the sum of its parts",),
    ),
    "some-experts": (
        is_like("qwen3_moe", num_experts=4, moe_intermediate_size=12, mlp_only_layers=[1]),
        ("model type 'qwen3_moe': some of its blocks have experts, others one MLP (mlp_only_layers=[1])",),
    ),
    "every-other-experts": (
        is_like("qwen3_moe", num_experts=4, moe_intermediate_size=12, decoder_sparse_step=2),
        ("model type 'qwen3_moe': some of its blocks have experts, others one MLP (decoder_sparse_step=2)",),
    ),
    "other-experts": (
        is_like("olmoe", num_experts=4),
        ("model type 'olmoe': site 'neuron' not found at 'mlp.down_proj'", "emo/model/families.py"),
    ),
    "lora": (
        adapter,
        ("a LoRA adapter (adapter_config.json), not a model", "type its base model, and model.adapter=owner/lora"),
    ),
    "gguf": (gguf, ("holds GGUF files only",)),
    "cut": (cut, ("model.safetensors is truncated or damaged", "delete /", "and type the same line again")),
    "shard-missing": (shard_missing, ("not whole in the local cache (model-00002-of-", "task=prefetch")),
    "no-weights": (without("model.safetensors"), ("not whole in the local cache (model.safetensors missing)",)),
    "no-tokenizer": (without("tokenizer.json"), ("no tokenizer (tokenizer.json,",)),
    "gpt2-no-tokenizer": (
        without("tokenizer.json", "tokenizer_config.json", kind="gpt2"),
        ("no tokenizer (tokenizer.json,",),
    ),
    "no-config": (without("config.json"), ("not whole in the local cache (config.json missing)",)),
    "broken-config": (broken_config, ("could not be loaded (", "not a valid JSON file")),
    "unknown-type": (
        lambda hub, name: change_json(hub.model(name), model_type="of_next_year"),
        ("model type 'of_next_year' is not known to transformers", "pip install -U transformers"),
    ),
    "encoder": (is_like("bert"), ("model type 'bert' is an encoder, not a decoder-only language model",)),
    "encoder-decoder": (encoder_decoder, ("model type 't5' is an encoder-decoder, not a decoder-only",)),
    "image": (image_model, ("model type 'vit' is no causal language model",)),
    "state-space": (state_space, ("model type 'mamba' has no one num_attention_heads; type a transformer",)),
    "missing": (nothing, ("not in the local cache", "HF_HUB_OFFLINE is set")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_true_line(hub: HubCache, name: str) -> None:
    """Random weights, packed weights and code of a repository: none of them may reach a number."""
    make, parts = REFUSED[name]
    make(hub, name)
    line = refusal(name)
    assert line.startswith(f"model.id=owner/{name}: ")
    for part in parts:
        assert part in line
    assert not (hub.repository(name) / "was_here").exists()
