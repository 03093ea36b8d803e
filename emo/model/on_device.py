"""From the host to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def on_device(numbers: np.ndarray | Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return integers as a tensor on ``device``; on a GPU the copy waits in line, and the host goes on.

    Args:
        numbers: of any shape; an array of the host that nobody changes afterwards.
        device: where the tensor is needed.
    """
    host = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
    if device.type == "cuda":  # pageable memory would be copied at once, behind all that the device still has to do
        return host.pin_memory().to(device, non_blocking=True)
    return host.to(device)


def for_sums(device: torch.device) -> torch.device:
    """Return where float64 sums over what ``device`` computes are held: there, if it has float64."""
    return torch.device("cpu") if device.type == "mps" else device
