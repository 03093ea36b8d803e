"""A hub cache of tiny checkpoints in the hub's own folder layout, made in code: no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from emo.config.schema import ModelConfig
from emo.core.errors import UserError
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.tiny import FFN, HEADS, KV_HEADS, WIDTH, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCKS = 3
SIZES = {
    "num_hidden_layers": BLOCKS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 2048,
}
Tensors = dict[str, torch.Tensor]


class HubCache:
    """The folder that ``HF_HUB_CACHE`` names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = root / "tokenizer"
        tiny_tokenizer().save_pretrained(self._tokenizer)
        self.vocabulary = len(tiny_tokenizer())

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Make the libraries read this cache, without a network, in this process."""
        patch.setattr(constants, "HF_HUB_CACHE", str(self.root))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)

    def repository(self, name: str) -> Path:
        """Return the folder of the one snapshot of owner/``name``, made on first use."""
        repo = self.root / f"models--owner--{name}"
        snapshot = repo / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / "main").write_text(COMMIT)
        return snapshot

    def revision(self, name: str, ref: str, commit: str, change: Callable[[Tensors], Tensors]) -> Path:
        """Write another revision of a checkpoint, with its weights changed; returns the folder of its snapshot."""
        main = self.repository(name)
        folder = main.parent / commit
        shutil.copytree(main, folder)
        (main.parents[1] / "refs" / ref).write_text(commit)
        change_weights(folder, change)
        return folder

    def model(self, name: str, kind: str = "llama", dtype: torch.dtype = torch.float32, **config: Any) -> Path:
        """Write a checkpoint with random weights and a tokenizer; ``config`` goes over the tiny sizes."""
        folder, tokens = self.repository(name), {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        sizes = {"n_positions": 2048, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS} if kind == "gpt2" else SIZES
        made = transformers.AutoConfig.for_model(kind, **{"vocab_size": self.vocabulary, **sizes, **tokens, **config})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(made)
            for weight in model.parameters():
                weight.data.add_(0.1 * torch.randn_like(weight))
        model.to(dtype).save_pretrained(folder)  # type: ignore[call-arg]
        for path in self._tokenizer.iterdir():
            shutil.copy(path, folder)
        return folder


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Write the weights of a checkpoint anew."""
    file = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def change_json(folder: Path, name: str = "config.json", **keys: Any) -> None:
    """Set keys of a JSON file of a checkpoint; None takes one away."""
    file = folder / name
    found = json.loads(file.read_text(encoding="utf-8")) | keys
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}), encoding="utf-8")


def read(name: str, revision: str | None = None, dtype: str = "float32") -> LM:
    """Load owner/``name`` as a job does."""
    return load(describe(ModelConfig(name="hub", id=f"owner/{name}", revision=revision), "cpu", dtype))


def refusal(name: str, **how: Any) -> str:
    """Return the line with which owner/``name`` is refused."""
    with pytest.raises(UserError) as error:
        read(name, **how)
    line = str(error.value)
    assert "\n" not in line
    assert "check the network" not in line
    return line


def own_code(hub: HubCache, name: str) -> None:
    """Make a repository whose modelling code would leave a file."""
    folder = hub.model(name)
    (folder / "modeling.py").write_text(f"open({str(folder / 'was_here')!r}, 'w').close()\n")
    code = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    change_json(folder, auto_map=code, model_type="of_its_own")
