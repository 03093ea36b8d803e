"""Several devices on a machine that has one: tensors that say where they are, and refuse to meet others elsewhere.

A `Part` is a tensor of the CPU that reports a device of its own. Inside `devices()` every operation checks what a GPU
would: all its tensors are on one device (a single number of the CPU may join, and indices of the CPU may pick), and
its result is there too. `spread` lays a model over such devices with accelerate's own hooks, as ``device_map`` does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from emo.model.lm import LM

KIND = "maia"  # a type of device that torch knows by name only: nothing has to be initialised
PICKS = ("aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default", "aten._index_put_impl_.default")


class Part(Tensor):
    """A tensor of the CPU that says it is on ``device``; for torch's own guards it stays one of the CPU."""

    inner: Tensor
    there: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, there: torch.device) -> Part:
        """Wrap ``inner``, whose values it shares."""
        return Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype
        )

    def __init__(self, inner: Tensor, there: torch.device) -> None:
        self.inner, self.there = inner, there

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it is said to be."""
        return self.there

    def __repr__(self) -> str:  # type: ignore[override]
        """Show the values and the device."""
        return f"Part({self.inner!r}, {self.device})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Move by the device that is said, not by the one that is."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.tolist:
                return args[0].inner.tolist()
            if func == Tensor.data.__set__:
                args[0].inner = args[1].inner
            if func is Tensor.numpy:
                raise TypeError(f"a tensor on {args[0].device} has no numpy array")
            if func not in (Tensor.to, Tensor.cpu):
                return func(*args, **kwargs)
            x, *rest = args
            if func is Tensor.cpu:
                device, dtype = torch.device("cpu"), None
            elif rest and isinstance(rest[0], Tensor):
                device, dtype = rest[0].device, rest[0].dtype
            else:
                device, dtype, *_ = torch._C._nn._parse_to(*rest, **kwargs)
            device, dtype = x.device if device is None else device, x.dtype if dtype is None else dtype
            return x if (device, dtype) == (x.device, x.dtype) else _moved(x, device, dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation where all its tensors are."""
        return _run(func, args, kwargs or {})


def _moved(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    plain = x.inner if isinstance(x, Part) else x
    with torch.inference_mode(False), torch.no_grad():
        copied = plain.to(dtype, copy=True)
        return copied if device.type == "cpu" else Part(copied, device)


class _Devices(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    checked = tensors
    if str(func) in PICKS:  # indices of the CPU may pick from any device
        checked = [tensors[0], *(x for x in tensors[1:] if x.device.type != "cpu")]
    if "copy_" not in str(func):
        at = {x.device for x in checked if x.device.type != "cpu" or x.dim()}
        if len(at) > 1:
            raise RuntimeError(f"{func}: tensors on {' and '.join(sorted(map(str, at)))}")
    device = kwargs.get("device")
    if device is None:
        device = next((x.device for x in checked if x.device.type != "cpu"), torch.device("cpu"))
    device = torch.device(device)
    plain = tree_map_only(Part, lambda x: x.inner, (args, kwargs))
    if plain[1].get("device") is not None:
        plain[1]["device"] = torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad():  # a view made in inference mode must have been one before
        out = func(*plain[0], **plain[1])
        if device.type != "cpu" and not func._schema.is_mutable:
            out = tree_map_only(Tensor, lambda x: Part(x, device), out)
    if func._schema.is_mutable and tensors and out is not None:
        return args[0] if isinstance(args[0], Tensor) else out
    return out


@contextmanager
def devices() -> Iterator[None]:
    """Make tensors of several devices possible inside the context."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Devices():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def spread(lm: LM, count: int = 3, model: Any = None) -> LM:
    """Return a copy of a model over ``count`` devices: the embedding on the first, norm and head on the last.

    ``model``: the same model as transformers has it, before anything of it was put elsewhere.
    """
    model = copy.deepcopy(lm.model) if model is None else model
    blocks = lm.family.blocks
    places = {f"{blocks}.{i}": i * count // lm.n_layers for i in range(lm.n_layers)}
    places |= {path: 0 if first else count - 1 for path, first in _beside(model, blocks)}
    device_map = {name: torch.device(KIND, index) for name, index in places.items()}
    for name, device in device_map.items():
        _place(model.get_submodule(name), device)
    return LM(dispatch_model(model, device_map), lm.tokenizer, lm.spec)


def _beside(module: nn.Module, blocks: str, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the paths of all that lies beside the blocks, and whether it stands before them."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if blocks.startswith(f"{path}."):
            yield from _beside(child, blocks, f"{path}.")
        elif path != blocks:
            yield path, "emb" in name or name in ("wte", "wpe", "drop")


def _place(module: nn.Module, device: torch.device) -> None:
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(Part(weight.data, device), requires_grad=False)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = Part(value, device)
