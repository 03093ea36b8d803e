"""What a device can do at most, measured (a large matrix product, a large copy), and what a model is given to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from emo.core.types import Site
from emo.model.lm import LM

ROUNDS = 10


class Peak(NamedTuple):
    """Of a device: floating-point operations, and bytes read and written, per second."""

    flops: float
    bytes: float


def peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Measure both; small on a CPU, where nobody is to wait for it."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    product = _seconds(lambda: a @ b, device)
    x = torch.zeros(n * n * (16 if device.type == "cuda" else 4), dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    return Peak(2 * n**3 / product, 2 * x.nbytes / _seconds(lambda: y.copy_(x), device))


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Return the shortest of some rounds."""
    found = []
    for _ in range(ROUNDS):
        start = wait(device)
        run()
        found.append(wait(device) - start)
    return min(found[1:])


def wait(device: torch.device) -> float:
    """Wait for the device, and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Work:
    """What a model was given: tokens by block, and positions that went through its head."""

    def __init__(self, lm: LM) -> None:
        self.lm, self.block_tokens, self.head_positions = lm, 0, 0

    @property
    def flops(self) -> float:
        """Floating-point operations of its products with weights, 2 x weights x tokens; attention is left out."""
        block = sum(x.numel() for x in self.lm.blocks[0].parameters())
        return 2.0 * (block * self.block_tokens + self.lm.config.vocab_size * self.lm.d * self.head_positions)


@contextmanager
def working(lm: LM) -> Iterator[Work]:
    """Count what the model is given inside the context; blocks that are skipped are not counted."""
    work = Work(lm)

    def block(_: nn.Module, args: tuple[Any, ...]) -> None:
        work.block_tokens += args[0].numel() // lm.d

    def head(_: nn.Module, args: tuple[Any, ...]) -> None:
        work.head_positions += args[0].numel() // lm.d

    handles = [lm.module(Site.MLP_ADD, k)[0].register_forward_pre_hook(block) for k in range(lm.n_layers)]
    handles.append(lm.model.get_output_embeddings().register_forward_pre_hook(head))
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()
