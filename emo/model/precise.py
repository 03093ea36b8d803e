"""A model of half precision that computes in float32 for a while, without a second copy of its weights.

A push of a tenth of a sublayer's update is near bfloat16's rounding: what arrives at the final state is then noise
(rank correlation over pushes 0.6 to 0.8, where float32 has 1.000). Weights stay what the checkpoint has; each module
widens its own while it runs, so that memory grows by one block. bfloat16 and float16 are subsets of float32.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emo.model.lm import LM


@contextmanager
def in_float32(lm: LM) -> Iterator[None]:
    """Make embeddings, blocks and the final norm compute in float32 inside the context.

    Prompts that were read before are put aside: their keys and values are of the other precision.
    """
    if lm.model.dtype is torch.float32:
        yield
        return
    parts = _parts(lm)
    before = [vars(part).get("forward") for part in parts]
    prefixes, lm.prefixes = lm.prefixes, OrderedDict()
    try:
        for part in parts:
            vars(part)["forward"] = _widened(part)
        yield
    finally:
        lm.prefixes = prefixes
        for part, forward in zip(parts, before, strict=True):
            del vars(part)["forward"]
            if forward is not None:  # of a model on several devices
                vars(part)["forward"] = forward


def _parts(lm: LM) -> list[nn.Module]:
    """Return the largest modules that hold weights and lie on the way from token ids to the final state."""
    found: list[nn.Module] = []
    for child in lm.decoder.children():
        if child is lm.blocks:
            found += list(lm.blocks)
        elif any(True for _ in child.parameters()):
            found.append(child)
    return found


def _widened(part: nn.Module) -> Callable[..., Any]:
    forward = part.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        held = [(weight, weight.data) for weight in part.parameters()]
        try:
            for weight, narrow in held:
                if narrow.is_floating_point():
                    weight.data = narrow.float()
            out = forward(*args, **kwargs)
        finally:
            for weight, narrow in held:
                weight.data = narrow
        # An embedding hands out rows in its own precision where it looks them up before the weights are widened.
        return out.float() if isinstance(out, Tensor) and out.is_floating_point() else out

    return run
