"""Which repositories can be loaded, by the names of their files and by their configuration: no weight is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import transformers

from emo.core.errors import UserError
from emo.model.families import dense_keys

TOKENIZERS = (".model", ".tiktoken", "tekken.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SAFE = ("model.safetensors", "model.safetensors.index.json")
QUANTISED = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}  # of writers that config.json does not name


def check_files(name: str, files: Collection[str], whole: bool) -> None:
    """Refuse a repository by the names of its files.

    Args:
        name: what the line names, e.g. ``model.id=OWNER/NAME``.
        files: paths in the repository; empty where unknown.
        whole: these are all its files, not only those that the local cache holds.

    Raises:
        UserError: only a LoRA adapter, GGUF files or pickled weights are there, or the weights are quantised.
    """
    top = sorted(file for file in files if "/" not in file)
    safe = any(file in SAFE for file in top)
    holds = f"{name}: holds" if whole else f"{name}: the local cache holds"
    if "adapter_config.json" in top:
        key, _, given = name.partition("=")
        how = f"type its base model, and model.adapter={given}" if key == "model.id" else "type its base model"
        raise UserError(f"{name}: a LoRA adapter (adapter_config.json), not a model; {how}")
    if not safe and any(file.lower().endswith(".gguf") for file in files):
        raise UserError(
            f"{holds} GGUF files only, whose weights are quantised; type the repository that they "
            "were made from (its weights are in safetensors)"
        )
    pickled = next((file for file in top if file.endswith(PICKLED) and "train" not in file), None)
    if not safe and pickled:
        raise UserError(
            f"{holds} pickled weights only ({pickled}), which can run code when they are read; "
            "they are never opened: type a repository with model.safetensors"
        )
    if top and whole and (not safe or "config.json" not in top):
        lacking = "config.json" if safe else "weights in safetensors (model.safetensors)"
        raise UserError(f"{name}: no {lacking} in its repository; type another id")
    for file in top:
        if file in QUANTISED:
            raise quantised(name, QUANTISED[file], file)


def check_packed(name: str, config: Any) -> None:
    """Refuse a model whose configuration says that its weights are quantised or pickled; raises `UserError`."""
    for part in (config, config.get_text_config()):
        for key in ("quantization_config", "compression_config"):
            if packed := getattr(part, key, None):
                how = packed.get("quant_method") if isinstance(packed, dict) else getattr(packed, "quant_method", None)
                raise quantised(name, str(getattr(how, "value", how) or "unnamed method"), f"{key} in config.json")
    weights = getattr(config, "transformers_weights", None)
    if weights is not None and not str(weights).endswith((".safetensors", ".safetensors.index.json")):
        raise UserError(f"{name}: names pickled weights ({weights}); only safetensors are read")


def check_config(name: str, config: Any) -> None:
    """Refuse a model by its configuration.

    Raises:
        UserError: its weights are quantised or pickled, it is no decoder-only language model, or its blocks differ.
    """
    check_packed(name, config)
    kind = config.model_type
    encodes = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    decodes = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if getattr(config, "is_encoder_decoder", False) or not decodes or encodes:
        form = "an encoder-decoder" if getattr(config, "is_encoder_decoder", False) else "an encoder"
        named = form if encodes or "decoder" in form else "none"
        what = "no causal language model" if named == "none" else f"{named}, not a decoder-only language model"
        raise UserError(f"{name}: model type '{kind}' is {what}; type one that writes, e.g. of type llama")
    for size in ("num_hidden_layers", "num_attention_heads", "hidden_size"):
        if not isinstance(getattr(config.get_text_config(), size, None), int):
            raise UserError(f"{name}: model type '{kind}' has no one {size}; type a transformer, e.g. of type llama")
    dense = dense_keys(config)
    if dense:
        told = ", ".join(f"{key}={value}" for key, value in dense.items())
        raise UserError(
            f"{name}: model type '{kind}': some of its blocks have experts, others one MLP ({told}): their neurons are "
            "not as many; type a model whose blocks are alike"
        )


def check_tokenizer_files(name: str, files: Collection[str]) -> None:
    """Refuse a repository without the vocabulary of a tokenizer: some classes would make up an empty one.

    Raises:
        UserError: there is no tokenizer.
    """
    known = any(file == "tokenizer.json" or file.endswith(TOKENIZERS) for file in files)
    if not (known or "vocab.txt" in files or {"vocab.json", "merges.txt"} <= set(files)):
        raise UserError(
            f"{name}: no tokenizer (tokenizer.json, tokenizer.model or vocab.json with merges.txt) "
            "beside the weights; add one, or type a model that has it"
        )


def quantised(name: str, how: str, where: str) -> UserError:
    """Return the refusal of quantised weights: by which method, and which file says so."""
    return UserError(
        f"{name}: its weights are quantised ({how}: {where}); heads, neurons and projections are read "
        "from the weights themselves, so type the unquantised model"
    )
