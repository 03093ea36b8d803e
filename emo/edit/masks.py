"""What is done to a set of neurons: masking, attenuation, gain, and directed induction (methods 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emo.core.types import Site, Tokens
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked
from emo.model.hooks import Edit, Op
from emo.model.ops import AddUnits, Zero
from emo.model.unit_ops import Attenuate, Gain, Replace

OPS = ("zero", "mean", "attenuate", "gain", "add")


@dataclass(frozen=True, eq=False)
class Mask:
    """What one condition does to its units.

    Attributes:
        op: ``zero``: 0; ``mean``: the mean over all train tokens; ``attenuate``: less, the more active the unit is;
            ``gain``: times ``strength``; ``add``: ``strength`` times the target class's mean is added.
        strength: alpha of ``attenuate``, the factor of ``gain``, beta or omega of ``add``; nothing to the others.
        units: m units; none: the model is left alone.
        live: ``attenuate`` measures the activation at hand, or (False) uses the target's mean of |a|.
        values: (m,) what ``add`` adds, times ``strength``, in place of the target's means.
    """

    op: str
    strength: float
    units: Ranked
    live: bool = True
    values: Tensor | None = None

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ValueError(f"op {self.op!r}: not one of {', '.join(OPS)}")
        if self.values is not None and (self.op != "add" or len(self.values) != len(self.units.unit)):
            raise ValueError("values go with op 'add', one for each unit")

    def key(self) -> list[object]:
        """Return what it does, as a JSON value: two masks of one key have the same effect."""
        units = [self.units.layer.tolist(), self.units.unit.tolist()]
        return [self.op, self.strength, self.live, *units, None if self.values is None else self.values.tolist()]


def plan_masks(masks: Sequence[Mask], stats: Statistics, classes: Sequence[int | None], n_layers: int) -> list[Edit]:
    """Compile masks into edits of ``neuron`` on all tokens; condition c does what ``masks[c]`` says.

    Args:
        masks: one per condition.
        stats: of the train tokens, at `Site.NEURON`.
        classes: target class of each mask, whose means and peaks are used; None: those of all classes.
        n_layers: number of blocks.
    """
    numbers = [_numbers(mask, stats, target) for mask, target in zip(masks, classes, strict=True)]
    edits = []
    for layer in range(n_layers):
        for name in OPS:
            own = [(mask.units.layer == layer) & (mask.op == name) for mask in masks]
            if any(bool(here.any()) for here in own):
                units = [mask.units.unit[here] for mask, here in zip(masks, own, strict=True)]
                first, second = ([x[k][here] for x, here in zip(numbers, own, strict=True)] for k in (0, 1))
                op = _op(name, units, [mask.strength for mask in masks], first, second)
                edits.append(Edit(Site.NEURON, layer, op, Tokens.ALL))
    return edits


def _numbers(mask: Mask, stats: Statistics, target: int | None) -> Tensor:
    """Return (2, m) what the op takes for every unit: peak and size of ``attenuate``, else one number, twice."""
    at = mask.units.layer, mask.units.unit
    if mask.op == "attenuate":
        peak = (stats.peak.amax(0) if target is None else stats.peak[target])[at]
        return torch.stack([peak, torch.full_like(peak, torch.nan) if mask.live else stats.mean_absolute(target)[at]])
    if mask.op == "mean":
        number = stats.mean()[at]
    elif mask.op == "add":
        number = mask.strength * (stats.mean(target)[at] if mask.values is None else mask.values)
    else:
        number = torch.full(mask.units.unit.shape, mask.strength)
    return number.expand(2, -1)


def _op(name: str, units: list[Tensor], strength: list[float], first: list[Tensor], second: list[Tensor]) -> Op:
    if name == "zero":
        return Zero.of(units)
    if name == "mean":
        return Replace.of(units, first)
    if name == "attenuate":
        return Attenuate.of(units, strength, first, second)
    return (Gain if name == "gain" else AddUnits).of(units, first)


def injected(emotion: Ranked, rhetoric: Ranked, means: Tensor) -> Tensor:
    """Return what rhetoric gives to every emotion unit: the mean of its own set's activations in the same block.

    Args:
        emotion: m units that are to be edited.
        rhetoric: the device's units.
        means: (l, f) mean activation of every unit, e.g. on the device's train tokens.

    Returns:
        (m,) values for `Mask.values`, still without omega; 0 in a block where ``rhetoric`` has no units.
    """
    total = torch.zeros(len(means), dtype=means.dtype)
    total.index_add_(0, rhetoric.layer, means[rhetoric.layer, rhetoric.unit])
    count = torch.bincount(rhetoric.layer, minlength=len(means))
    return (total / count.clamp(min=1))[emotion.layer]
