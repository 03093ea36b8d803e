"""The arms of a job on classes, and the masks behind their conditions (methods 2 and 3).

An arm has one condition per class and draw: the neurons of class c are edited, and every text is asked. Controls take
as many neurons in every block at random, or those of another class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo.config.interventions import kind_of
from emo.config.kinds import CONTROLS, DRAWN, adaptive, injects
from emo.config.schema import Config
from emo.edit.base import variant
from emo.edit.masks import Mask, injected
from emo.find.selectors import Ranked, Selection, matched_random, top, within

Told = tuple[tuple[str, float], ...]
STRENGTHS = {"attenuate": "attenuation", "gain": "gain"}  # op of a mask -> the key of its strength


@dataclass(frozen=True)
class ClassArm:
    """One arm.

    Attributes:
        name: as printed, e.g. ``mask@ratio=0.5``.
        pick: none (unedited) | own | random | other_emotion: whose neurons.
        op: zero | mean | attenuate | gain | add.
        strength: alpha of attenuate, factor of gain, beta or omega of add; 1 of the others, which have none.
        ratio: share of the neurons.
        seeds: draws of a control.
        adaptive: alpha and share are found on dev (`emo.edit.adaptive`).
        device: whose activations are injected; None: the class's own.
        settings: values of a list that this arm stands for, by key.
    """

    name: str
    pick: str = "none"
    op: str = "zero"
    strength: float = 1.0
    ratio: float = 1.0
    seeds: int = 1
    adaptive: bool = False
    device: str | None = None
    settings: tuple[tuple[str, float], ...] = ()

    def conditions(self, classes: int) -> list[tuple[int, int | None]]:
        """Return (draw, class) of every condition; the class is None where nothing is edited."""
        targets: list[int | None] = [None] if self.pick == "none" else list(range(classes))
        return [(seed, target) for seed in range(self.seeds) for target in targets]

    def key(self) -> dict[str, Any]:
        """Return what the arm's results depend on; its name is not part of it."""
        return {k: v for k, v in asdict(self).items() if k not in ("name", "settings")}


def arms_of(config: Config, devices: Sequence[str]) -> list[ClassArm]:
    """Return the arms of a job: unedited, the intervention, its controls; a list of shares or scales gives one each."""
    given, none = config.intervention, ClassArm("none")
    if kind_of(config).edits == "nothing":
        return [none]
    picks = ["own", *(name for name in CONTROLS if name in config.control.units)]
    looped = adaptive(config)
    op = "add" if kind_of(config).op == "add" else "attenuate" if looped else given.op
    made = [none]
    for pick in picks:
        seeds = config.control.seeds if pick in DRAWN else 1
        for device in devices if injects(config) else [None]:
            stem = given.kind if pick == "own" else pick
            stem = stem if device is None else f"{stem}_{device}"
            for told, strength, ratio in _settings(config):
                name = variant(stem, told)
                made.append(ClassArm(name, pick, op, strength, ratio, seeds, looped, device, told))
    return made


def _settings(config: Config) -> list[tuple[Told, float, float]]:
    """Return (values of lists, strength, share) of every arm of one pick.

    Only what the kind reads is read: a strength has a key of its own for every op, so no two share a default.
    """
    given = config.intervention
    if adaptive(config):  # found on dev
        return [((), 1.0, 1.0)]
    if kind_of(config).op == "add":
        return [(name, x, 1.0) for name, x in _listed("scale", given.scale)]
    key = STRENGTHS.get(given.op)
    strengths: list[tuple[Told, float]] = [((), 1.0)] if key is None else _listed(key, getattr(given, key))
    return [(a + b, x, share) for a, x in strengths for b, share in _listed("ratio", given.ratio)]


def _listed(key: str, value: float | list[float]) -> list[tuple[Told, float]]:
    """Return (settings, value): of a list every value is a setting."""
    return [(((key, float(x)),), x) for x in value] if isinstance(value, list) else [((), float(value))]


def units_of(
    arm: ClassArm,
    selection: Selection,
    target: int,
    seed: int,
    layers: Sequence[int],
    shape: tuple[int, int],
    base: int,
) -> Ranked:
    """Return the neurons of one condition.

    Args:
        arm: which share of whose neurons.
        selection: sets of all classes.
        target: class.
        seed: draw of a control.
        layers: blocks that may be edited.
        shape: (L, F).
        base: seed of the job.
    """
    own = top(within(selection.sets[target], layers), arm.ratio)
    if arm.pick == "own":
        return own
    if arm.pick == "random":
        drawn = int(np.random.SeedSequence([base, seed, target]).generate_state(1)[0])
        return matched_random(own, shape, selection.sets, drawn)
    other = (target + 1 + seed) % len(selection.sets)
    return top(within(selection.sets[other], layers), arm.ratio)


def mask_of(arm: ClassArm, units: Ranked, live: bool, values: Callable[[Ranked], Tensor] | None) -> Mask:
    """Return what a condition does to its units; ``values``: from units to what an injection adds."""
    return Mask(arm.op, arm.strength, units, live, None if values is None else values(units))


def injection(device: Ranked, means: Tensor) -> Callable[[Ranked], Tensor]:
    """Return the function from emotion units to what a device gives to them, without omega."""
    return lambda units: injected(units, device, means).to(torch.float64)
