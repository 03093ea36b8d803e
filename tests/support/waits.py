"""Where would the host wait for a GPU? Counted on a CPU, where nothing waits.

Two nets, because neither sees all: calls on tensors as Python makes them (``.cpu()`` of a CPU tensor dispatches
nothing), and operations that ask a device for a number however they were called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CALLS = {
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__bool__, Tensor.__int__, Tensor.__float__,
    Tensor.__index__, Tensor.__contains__, Tensor.nonzero, Tensor.unique, Tensor.masked_select,
    torch.tensor, torch.as_tensor, torch.equal, torch.nonzero, torch.unique, torch.masked_select, torch.bincount,
}  # fmt: skip
INDEXED = {Tensor.__getitem__, Tensor.__setitem__}
OPS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal", "bincount")


class Calls(TorchFunctionMode):
    """Counts calls that bring numbers to the host, or take them from it and wait for that."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, then call."""
        if func in CALLS and not (args and isinstance(args[0], list) and not args[0]):  # an empty tensor copies nothing
            self.seen[getattr(func, "__name__", str(func))] += 1
        elif func in INDEXED and any(_asks(part) for part in (args[1] if isinstance(args[1], tuple) else (args[1],))):
            self.seen["index by a list or a mask"] += 1
        return func(*args, **(kwargs or {}))


def _asks(index: Any) -> bool:
    """Return whether an index is a list of the host, or a mask of which somebody must count the true ones."""
    return isinstance(index, list) or (isinstance(index, Tensor) and index.dtype is torch.bool)


class Ops(TorchDispatchMode):
    """Counts operations that give the host a number."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, then call."""
        name = func.overloadpacket.__name__
        if name in OPS or (name in ("index", "index_put", "index_put_") and any(map(_is_mask, args[1]))):
            self.seen[f"aten::{name}"] += 1
        return func(*args, **(kwargs or {}))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count every wait inside the context, by its name."""
    seen: Counter[str] = Counter()
    with Calls(seen), Ops(seen):
        yield seen
