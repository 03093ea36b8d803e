"""How near a run comes to the matrix products that it consists of: achieved over attainable operations a second.

Attainable is measured, on this machine and in the same run: a large square product, and the products of the shapes
that went through the model, on the model's own weights one after another, as a forward pass reads them.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.meters import Product
from emo.model.lm import LM

SQUARE = 2048  # rows and columns of the large product
REPEATS = 3  # the fastest counts: what is attainable
SHARE = 0.95  # of the operations whose shapes are measured; the rest is taken to be as fast
WEIGHTS = 6  # different ones of a shape


class Roofline:
    """Operations a second that products reach on the device of a model; every shape is measured once."""

    def __init__(self, lm: LM) -> None:
        self.lm, self.known = lm, dict[Product, float]()
        self.weights: dict[tuple[int, int], list[Tensor]] = defaultdict(list)  # by (outputs, inputs)
        for module in lm.model.modules():
            if isinstance(module, nn.Linear) and len(self.weights[tuple(module.weight.shape)]) < WEIGHTS:
                self.weights[tuple(module.weight.shape)].append(module.weight)

    def square(self) -> float:
        """Return the rate of a large square product."""
        return self._rate(Product(SQUARE, SQUARE, SQUARE))

    def attainable(self, products: Counter[Product]) -> float | None:
        """Return the rate of ``products`` alone, nothing between them; None where there are none."""
        operations = {shape: 2 * shape.rows * shape.inputs * shape.outputs * n for shape, n in products.items()}
        whole, measured, needed = sum(operations.values()), 0, 0.0
        for shape, own in sorted(operations.items(), key=lambda item: -item[1]):
            if measured >= SHARE * whole:
                break
            measured += own
            needed += own / self._rate(shape)
        return measured / needed if needed else None

    @torch.inference_mode()
    def _rate(self, shape: Product) -> float:
        if shape not in self.known:
            like = {"device": self.lm.device, "dtype": self.lm.model.dtype}
            x = torch.randn(shape.rows, shape.inputs, **like)
            own = self.weights.get((shape.outputs, shape.inputs))
            weights = own or [torch.randn(shape.outputs, shape.inputs, **like)]
            fastest = min(self._seconds(x, weights) for _ in range(1 + REPEATS))
            self.known[shape] = 2 * shape.rows * shape.inputs * shape.outputs * len(weights) / fastest
        return self.known[shape]

    def _seconds(self, x: Tensor, weights: list[Tensor]) -> float:
        start = time.perf_counter()
        for weight in weights:
            functional.linear(x, weight)
        if self.lm.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start
