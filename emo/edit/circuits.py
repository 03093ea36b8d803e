"""Arms that add a whole circuit's difference vectors, and the circuits to compare with (methods 1.10, 1.11).

    h_unit <- h_unit + lambda * delta[e, unit] at the circuit's neurons and heads, from the last prompt token on

``dose: raw``: lambda as given. ``dose: rel``: lambda such that the mean over touched sublayers of |W_out edit| / |h| is
the given number; |h| is the mean norm of the emotion-free states behind the sublayer (before a post-norm, where the
family has one). Scales do not carry over between recipes, doses do.

Controls have the circuit's quota in every layer: `random` units with their own difference vectors, and the circuit's
units with `shuffled` values and random signs, both rescaled per layer and kind so that the change of the sublayer's
output is as long as the circuit's; the circuit of an `other` emotion; neurons or heads alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from emo.config.choices import UNITS
from emo.core.types import Tokens
from emo.edit.banks import CircuitBank, Found
from emo.edit.base import Arm, Plan
from emo.find.circuit import SITES, Part
from emo.model.hooks import Edit
from emo.model.ops import AddUnits, Zero


@dataclass(frozen=True)
class CircuitArm(Arm):
    """An arm on a circuit; ``alpha`` is lambda, in units of ``dose`` (raw | rel).

    Attributes:
        variant: own | random | shuffled | other: which circuit.
        parts: neurons, heads or both.
        op: add | zero.
        head_tokens: positions at which heads are edited.
    """

    variant: str = "own"
    parts: tuple[str, ...] = UNITS
    op: str = "add"
    head_tokens: str = "every_step"

    @property
    def steered(self) -> bool:
        """Every arm of this kind edits the model."""
        return True

    @property
    def prompted(self) -> bool:
        """A circuit is zeroed where the prompt asks for the emotion, and added where it does not."""
        return self.op == "zero" or self.kind.startswith("prompt")

    @property
    def reference(self) -> str:
        """What is zeroed is measured from the emotion prompt."""
        return "prompt" if self.op == "zero" else "none"

    def conditions(self, emotions: int, scored: bool = False) -> list[tuple[int, int | None]]:
        """Return (seed, emotion index) of every condition; the other emotions stand in the place of seeds."""
        return [(seed, e) for seed in range(self.draws(scored)) for e in range(emotions)]

    @property
    def needs(self) -> frozenset[str]:
        """The circuit, and draws of its own."""
        return frozenset(("circuit", "seed"))

    @classmethod
    def compile(cls, arms: Sequence[CircuitArm], found: Found, skip_layer: int | None = None) -> Plan:
        """Return the edits of arms on a circuit; see `plan_circuits`."""
        return plan_circuits(arms, found.circuits, found.seed, skip_layer) if found.circuits else Plan([], {})


def parts_of(arm: CircuitArm, bank: CircuitBank, emotion: int, seed: int, base_seed: int) -> dict[str, Part]:
    """Return the units and values of one condition, by kind, at lambda 1."""
    circuit = bank.circuit
    source = (emotion + 1 + seed) % len(circuit.emotions) if arm.variant == "other" else emotion
    own = {kind: circuit.part(kind, source) for kind in arm.parts}
    if arm.variant not in ("random", "shuffled"):
        return own
    change = _random if arm.variant == "random" else _shuffled
    return {
        kind: _as_long(change(bank, kind, emotion, part, (base_seed, seed, emotion, k)), part, bank, kind)
        for k, (kind, part) in enumerate(own.items())
    }


def _random(bank: CircuitBank, kind: str, emotion: int, own: Part, key: tuple[int, ...]) -> Part:
    """Return as many random units of every block, with their own difference vectors."""
    units, width = bank.circuit.shape.units(kind)
    unit = own.unit.clone()
    for layer in own.layer.unique().tolist():
        here = own.layer == layer
        draw = np.random.default_rng((*key, layer))
        unit[here] = torch.from_numpy(draw.permutation(units)[: int(here.sum())].copy())
    return Part(own.layer, unit, bank.delta(kind)[emotion].unflatten(-1, (units, width))[own.layer, unit])


def _shuffled(bank: CircuitBank, kind: str, emotion: int, own: Part, key: tuple[int, ...]) -> Part:  # noqa: ARG001
    """Return the circuit's own units, their values exchanged within each block, with random signs."""
    delta = own.delta.clone()
    for layer in own.layer.unique().tolist():
        here = own.layer == layer
        draw = np.random.default_rng((*key, layer))
        values = delta[here].flatten().numpy()
        mixed = draw.permutation(values) * draw.choice([-1.0, 1.0], len(values))
        delta[here] = torch.from_numpy(mixed).float().view_as(delta[here])
    return replace(own, delta=delta)


def _as_long(made: Part, own: Part, bank: CircuitBank, kind: str) -> Part:
    """Rescale ``made`` block by block so that it changes the sublayer's output by as much as ``own`` does."""
    wanted, held = bank.pushes(own, kind), bank.pushes(made, kind)
    factor = torch.where(held > 0, wanted / held.clamp(min=1e-30), 0.0)
    return replace(made, delta=made.delta * factor[made.layer][:, None])


def before_rescaling(bank: CircuitBank, emotions: int, base_seed: int) -> float:
    """Return how far random units' own difference vectors push, as a share of the circuit's: mean over sublayers."""
    ratios = []
    for e in range(emotions):
        for k, kind in enumerate(UNITS):
            own = bank.circuit.part(kind, e)
            made = _random(bank, kind, e, own, (base_seed, 0, e, k))
            wanted, held = bank.pushes(own, kind), bank.pushes(made, kind)
            ratios.append((held / wanted)[wanted > 0])
    return float(torch.cat(ratios).mean())


def plan_circuits(arms: Sequence[CircuitArm], bank: CircuitBank, base_seed: int, skip_layer: int | None = None) -> Plan:
    """Compile circuit arms into one edit per block and kind; all must share op, tokens and decay.

    Args:
        arms: arms to compile.
        bank: the circuit.
        base_seed: of drawn controls.
        skip_layer: a block that is left alone in every arm.
    """
    cond: dict[tuple[str, int, int | None], int] = {}
    held: list[dict[str, Part]] = []
    for arm in arms:
        for seed, emotion in arm.conditions(len(bank.circuit.emotions), scored=True):
            assert emotion is not None
            parts = parts_of(arm, bank, emotion, seed, base_seed)
            scale = bank.lam(arm.strength(emotion), arm.dose, parts)
            cond[arm.name, seed, emotion] = len(held)
            held.append({kind: replace(part, delta=scale * part.delta) for kind, part in parts.items()})
    edits = []
    some = next(iter(arms), None)
    for layer in range(bank.circuit.shape.n_layers) if some else ():
        assert some is not None
        for kind in UNITS:
            at = [parts[kind].at(layer) if kind in parts and layer != skip_layer else _NOTHING for parts in held]
            if not any(len(columns) for columns, _ in at):
                continue
            columns, values = zip(*at, strict=True)
            op = Zero.of(columns) if some.op == "zero" else AddUnits.of(columns, values)
            tokens = some.head_tokens if kind == "heads" else some.tokens
            edits.append(Edit(SITES[kind], layer, op, Tokens(tokens), some.decay))
    return Plan(edits, cond)


_NOTHING = (torch.zeros(0, dtype=torch.long), torch.zeros(0))
