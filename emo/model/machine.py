"""Which kind of machine computes: what a rate holds for."""

from __future__ import annotations

import platform
from typing import Any

import torch

from emo.model.lm import ModelSpec


def made_by(spec: ModelSpec) -> dict[str, Any]:
    """Return model, commit, dtype and kind of machine, as manifests keep them beside the seconds."""
    return {"model": spec.id, "commit": spec.weights, "dtype": spec.dtype, "machine": machine(spec)}


def machine(spec: ModelSpec) -> str:
    """Return the kind of machine that a model runs on: the GPU's name, or processor and threads."""
    if spec.device.startswith("cuda") and torch.cuda.device_count():
        count = torch.cuda.device_count() if spec.device_map else 1
        return torch.cuda.get_device_name(0) + (f" x {count}" if count > 1 else "")
    return f"{spec.device} ({platform.machine()}, {torch.get_num_threads()} threads)"
