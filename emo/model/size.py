"""How many weights a model has, without reading one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import transformers

from emo.model import tiny
from emo.model.checkpoint import read_config
from emo.model.lm import ModelSpec
from emo.model.load_errors import load_errors


@lru_cache(maxsize=32)
def count_parameters(spec: ModelSpec) -> int:
    """Return the number of weights, tied ones once: those of an empty model made from the configuration.

    Raises:
        UserError: the configuration cannot be had.
    """
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(shape_config(spec), trust_remote_code=False)
    empty.tie_weights()
    return sum(weight.numel() for weight in empty.parameters())


def shape_config(spec: ModelSpec) -> Any:
    """Return the configuration of a model's shape, as transformers has it; raises `UserError` where there is none."""
    if spec.source == "tiny":
        return tiny.tiny_config(spec.id)
    with load_errors(spec.id, spec.commit, spec.local, None if spec.source == "hub" else spec.folder or None):
        return read_config(spec.folder, **spec.where)
