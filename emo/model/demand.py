"""How much memory a model needs, without reading its weights, and how much there is."""

from __future__ import annotations

import os

import torch

from emo.config.schema import Config
from emo.core.errors import UserError
from emo.model.lm import ModelSpec
from emo.model.size import count_parameters, shape_config

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROMPT = 200  # tokens of a prompt, roughly
GB = 1e9


def demand_lines(spec: ModelSpec, config: Config, asked_gb: float | None) -> list[str]:
    """Return what a model needs against what there is, a line each.

    Args:
        spec: the model.
        config: of a job on it: batch size and length of replies.
        asked_gb: memory that the launcher asks for (GB); None: none.
    """
    try:
        weights = count_parameters(spec) * BYTES[spec.dtype] / GB
        cache = cache_bytes(spec, config) / GB
    except UserError as error:
        return [f"memory of {spec.name}: not known ({error})"]
    tokens = PROMPT + config.generation.max_new_tokens
    need = weights + cache
    told = (
        f"memory of {spec.name}: weights {weights:.2g} GB ({spec.dtype}), and a cache of about {cache:.2g} GB "
        f"(batch_size={config.batch_size} x {tokens} tokens)"
    )
    parts = []
    if torch.cuda.is_available():
        largest = max(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())) / GB
        parts.append(f"a GPU here has {largest:.3g} GB" + _short(need, largest))
    if asked_gb is not None:
        parts.append(f"hydra.launcher.mem_gb={asked_gb:g} is asked for" + _short(weights, asked_gb))
    elif spec.device == "cpu":
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
        parts.append(f"this machine has {here:.3g} GB" + _short(need, here))
    return [f"{told}; {'; '.join(parts)}" if parts else told]


def cache_bytes(spec: ModelSpec, config: Config) -> int:
    """Return the bytes of keys and values of a batch at the end of its replies: 2 x layers x heads x width x tokens."""
    shape = shape_config(spec).get_text_config()
    heads = getattr(shape, "num_key_value_heads", None) or spec.n_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // spec.n_heads
    tokens = PROMPT + config.generation.max_new_tokens
    return 2 * spec.n_layers * heads * width * BYTES[spec.dtype] * config.batch_size * tokens


def _short(need: float, there: float) -> str:
    return ": TOO LITTLE" if need > there else ""
