"""Models and adapters in folders, made in code: what a user's own training would leave."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from emo.config.schema import ModelConfig
from emo.model.tiny import tiny_model, tiny_tokenizer

# Of families without LLaMA's modules; experts' projections are one parameter, which no LoRA of modules reaches.
TARGETS = {
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "qwen3_moe": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
}


def save_model(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """Write a tiny model and its tokenizer, as ``save_pretrained`` does."""
    transformers.utils.logging.disable_progress_bar()
    tiny_model(family, seed).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, family: str = "llama", scale: float = 0.3, **settings: Any) -> Path:
    """Write a LoRA adapter with random weights for the tiny model of a family; ``settings`` of `peft.LoraConfig`."""
    targets = TARGETS.get(family, ["q_proj", "v_proj", "down_proj"])
    how = {"r": 4, "lora_alpha": 8, "target_modules": targets, "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        wrapped = peft.get_peft_model(tiny_model(family), peft.LoraConfig(**how))
        for name, weight in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.data.add_(scale * torch.randn_like(weight))
        wrapped.save_pretrained(folder)
    return folder


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return what an adapter's file holds."""
    return load_file(folder / "adapter_model.safetensors")


def write_adapter_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write an adapter's file anew."""
    made = {key: x.clone().contiguous() for key, x in weights.items()}
    save_file(made, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def local_config(folder: Path, **keys: Any) -> ModelConfig:
    """Return the ``model`` section of a folder."""
    return ModelConfig(name=folder.name, source="local", id="local", path=str(folder), **keys)


def tiny_section(family: str = "llama", **keys: Any) -> ModelConfig:
    """Return the ``model`` section of a tiny model."""
    return ModelConfig(name=f"tiny_{family}", source="tiny", id=family, **keys)
