"""Circuits of random units for tests, of the size of a tiny model."""

from __future__ import annotations

import torch
from torch import Tensor

from emo.find.circuit import Circuit, Part, Shape

EMOTIONS = ("anger", "fear", "sadness")
SHAPE = Shape(4, 32, 48, 4, 8)  # of tiny_llama


def part(kind: str, k: int, shape: Shape = SHAPE, seed: int = 0, size: float = 1.0) -> Part:
    """Return k different random units of one kind."""
    units, width = shape.units(kind)
    draw = torch.Generator().manual_seed(seed)
    places = torch.randperm(shape.n_layers * units, generator=draw)[:k]
    return Part(places // units, places % units, size * torch.randn(k, width, generator=draw))


def circuit(
    shape: Shape = SHAPE,
    seed: int = 0,
    weights: str = "w" * 64,
    emotions: tuple[str, ...] = EMOTIONS,
    size: float = 1.0,
    counts: tuple[int, int] = (20, 6),
) -> Circuit:
    """Return a circuit with other units for every emotion."""
    neurons, heads = (
        tuple(part(kind, k, shape, 10 * seed + e, size) for e in range(len(emotions)))
        for kind, k in zip(("neurons", "heads"), counts, strict=True)
    )
    return Circuit(emotions, neurons, heads, shape, weights, {"model": "tiny", "importance": [0.5, -1.0]})


def units(layers: list[int], indices: list[int], delta: Tensor) -> Part:
    """Return a part by hand."""
    return Part(torch.tensor(layers, dtype=torch.long), torch.tensor(indices, dtype=torch.long), delta)
