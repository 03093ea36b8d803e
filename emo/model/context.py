"""How many tokens a model can read, from its configuration alone."""

from __future__ import annotations

from typing import Any

STRETCHED = ("yarn", "dynamic", "linear")  # rotary scalings that state the length before them, and a factor


def context_of(config: Any) -> int | None:
    """Return the most tokens of prompt and reply together; None where a configuration states no bound.

    It is ``max_position_embeddings`` (GPT-2: ``n_positions``) as it stands. Where a rotary scaling states the length
    that the model was trained on and a factor, it is at least their product: some repositories state the length before
    the scaling, others that after it. A sliding window is no bound.

    Args:
        config: transformers' configuration of the language model.
    """
    stated = getattr(config, "max_position_embeddings", None)
    if not isinstance(stated, int) or stated < 1:
        return None
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    before, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    if kind in STRETCHED and before and factor:
        return max(stated, int(before * factor))
    return stated
