"""What is measured: seconds, token-forwards, the seconds spent in hooks, and peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from emo.model.lm import LM


def seconds(lm: LM, run: Callable[[], Any]) -> float:
    """Return how long ``run`` takes, until the device is done."""
    start = time.perf_counter()
    run()
    if lm.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Tokens:
    """Tokens that went through the embedding, padding included."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted(lm: LM) -> Iterator[Tokens]:
    """Count every token that the model is given inside the context, by whomever."""
    tokens = Tokens()

    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens.count += (args[0] if args else kwargs["input"]).numel()

    handle = lm.model.get_input_embeddings().register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield tokens
    finally:
        handle.remove()


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
