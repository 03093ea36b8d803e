"""Ops that mask single units: replaced, scaled, or attenuated by how active they are (methods 2 and 3).

As in `emo.model.ops`: one row of parameters per condition, float32 arithmetic, the activation's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emo.model.ops import PerToken, filled, times


@dataclass(frozen=True, eq=False)
class Replace(PerToken):
    """``x_j = value_j`` for the units j of a condition (mean masking).

    Attributes:
        index: (c, m) columns.
        value: (c, m) what stands there afterwards.
        on: (c, 1) 1, or 0 for a condition without units.
    """

    index: Int[Tensor, "c m"]
    value: Float[Tensor, "c m"]
    on: Float[Tensor, "c 1"]
    IDLE = {"index": 0, "value": 0.0, "on": 0.0}

    @classmethod
    def of(cls, units: Sequence[Tensor], values: Sequence[Tensor]) -> Replace:
        """Build from one list of columns, and of what replaces each, per condition."""
        on = torch.tensor([[1.0 if len(row) else 0.0] for row in units])
        return cls(filled(units, torch.long), filled(values, torch.float32), on)

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; a gain below 1 leaves a share of the activation, 1 gives the value to the bit."""
        index, value, on = rows
        new = torch.lerp(x.gather(-1, index).float(), value, times(gain, on))
        return x.scatter(-1, index, new.to(x.dtype))


@dataclass(frozen=True, eq=False)
class Gain(PerToken):
    """``x_j * factor_j`` for the units j of a condition; factor 1 leaves the activation bit-equal.

    Attributes:
        index: (c, m) columns.
        factor: (c, m) 1 where a condition has no units.
    """

    index: Int[Tensor, "c m"]
    factor: Float[Tensor, "c m"]
    IDLE = {"index": 0, "factor": 1.0}

    @classmethod
    def of(cls, units: Sequence[Tensor], factors: Sequence[Tensor]) -> Gain:
        """Build from one list of columns, and of the factor of each, per condition."""
        return cls(filled(units, torch.long), filled(factors, torch.float32, 1))

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; ``gain`` moves the factor towards 1."""
        index, factor = rows
        new = x.gather(-1, index).float() * (1 + times(gain, factor - 1))
        return x.scatter(-1, index, new.to(x.dtype))


@dataclass(frozen=True, eq=False)
class Attenuate(PerToken):
    """``x_j * clamp(1 - alpha * clamp(A_j / peak_j, 0, 1), 0, 1)`` for the units j of a condition (methods 3).

    Attributes:
        index: (c, m) columns.
        alpha: (c, 1) strength; 0 leaves the activation bit-equal.
        peak: (c, m) largest |x_j| that was seen; a unit whose peak is 0 is left alone.
        size: (c, m) A_j; nan: the live |x_j|.
    """

    index: Int[Tensor, "c m"]
    alpha: Float[Tensor, "c 1"]
    peak: Float[Tensor, "c m"]
    size: Float[Tensor, "c m"]
    IDLE = {"index": 0, "alpha": 0.0, "peak": 0.0, "size": 0.0}

    @classmethod
    def of(
        cls, units: Sequence[Tensor], alpha: Sequence[float], peaks: Sequence[Tensor], sizes: Sequence[Tensor]
    ) -> Attenuate:
        """Build from one alpha, and one list each of columns, of peaks and of sizes, per condition."""
        rows = [filled(numbers, torch.float32) for numbers in (peaks, sizes)]
        return cls(filled(units, torch.long), torch.tensor(alpha, dtype=torch.float32)[:, None], *rows)

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`; ``gain`` moves the factor towards 1."""
        index, alpha, peak, size = rows
        live = x.gather(-1, index).float()
        share = torch.where(size.isnan(), live.abs(), size) / torch.where(peak > 0, peak, torch.inf)
        kept = (1 - alpha * share.clamp(0, 1)).clamp(0, 1)
        return x.scatter(-1, index, (live * (1 + times(gain, kept - 1))).to(x.dtype))
