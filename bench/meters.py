"""What is measured: seconds, token-forwards, products, the seconds spent in hooks, and peak memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from emo.model.lm import LM


def seconds(lm: LM, run: Callable[[], Any]) -> float:
    """Return how long ``run`` takes, until the device is done."""
    start = time.perf_counter()
    run()
    if lm.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Work:
    """What went through a model inside `counted`."""

    def __init__(self) -> None:
        self.tokens = 0  # through the embedding, padding included
        self.products: Counter[Product] = Counter()  # of a linear module each, and how often

    @property
    def operations(self) -> int:
        """Floating-point operations of the products: 2 x weights x rows; attention's own are not among them."""
        return sum(2 * shape.rows * shape.inputs * shape.outputs * times for shape, times in self.products.items())


class Product(NamedTuple):
    """A matrix product (rows, inputs) x (inputs, outputs)."""

    rows: int
    inputs: int
    outputs: int


@contextmanager
def counted(lm: LM) -> Iterator[Work]:
    """Count the tokens and the products of every model with an embedding like that of ``lm``, whoever runs it.

    By the functions below the modules, not by hooks: some peers have copies of the weights, and one takes all hooks
    off a model. Products of ``nn.Linear`` alone are seen (of every family but GPT-2).
    """
    work, shape = Work(), lm.model.get_input_embeddings().weight.shape
    embed, multiply = functional.embedding, functional.linear

    def embedding(ids: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if weight.shape == shape:
            work.tokens += ids.numel()
        return embed(ids, weight, *args, **kwargs)

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        outputs, inputs = weight.shape
        work.products[Product(x.numel() // inputs, inputs, outputs)] += 1
        return multiply(x, weight, bias)

    with patch.object(functional, "embedding", embedding), patch.object(functional, "linear", linear):
        yield work


@contextmanager
def hook_seconds() -> Iterator[list[float]]:
    """Collect the seconds of every call of every forward hook that is registered inside the context."""
    spent: list[float] = []

    def timed(register: Callable[..., Any]) -> Callable[..., Any]:
        def registered(module: nn.Module, hook: Callable[..., Any], **options: Any) -> Any:
            def call(*args: Any) -> Any:
                start = time.perf_counter()
                out = hook(*args)
                spent.append(time.perf_counter() - start)
                return out

            return register(module, call, **options)

        return registered

    names = ("register_forward_hook", "register_forward_pre_hook")
    first, second = (patch.object(nn.Module, name, timed(getattr(nn.Module, name))) for name in names)
    with first, second:
        yield spent


def reset_peak() -> None:
    """Forget the peak of resident memory so far, e.g. of loading the model (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """Return the largest resident memory since the last reset, in MiB (Linux).

    Not ``ru_maxrss``: a child process starts with its parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024
