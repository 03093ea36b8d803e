"""What one job compares: its arms, and the per-condition edits behind them (methods 1.4).

``h <- h + alpha * scale(h) * v_mlp[e,l]`` on resid_post of a range of blocks, from the last prompt token on.
An arm has one condition per emotion and seed; all conditions of all arms share a batch, because every
edit holds one strength per condition (0 where a block is not in the arm's range).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from emo.config.schema import Config
from emo.core.targets import target_digest
from emo.core.types import Site, Tokens
from emo.edit.banks import Bank, CircuitBank, Found
from emo.model.hooks import Edit
from emo.model.ops import Add

STEERED = ("steer", "prompt_steer", "matched_steer", "random", "shuffled", "prompt_random", "prompt_shuffled")


@dataclass(frozen=True)
class Arm:
    """One arm of the comparison.

    Attributes:
        name: as printed, e.g. ``steer@alpha=0.5``.
        kind: none | prompt | steer | random | shuffled, and each of the last three under the emotion prompt (prompt_*).
        alpha: strength in units of ``dose``, one or one per emotion; 0 for unsteered arms.
        layers: edited blocks.
        dose: rms | rel | raw.
        tokens: which positions are edited.
        decay: factor on the strength per generated token.
        seeds: draws of a control for replies and margins.
        score_seeds: draws of a control for projections; fewer than ``seeds``: as many as ``seeds``.
        settings: values of a list that this arm stands for, by key: ``(("alpha", 0.5),)``; its name shows them.
        decoding: plain | steering | circuit (as the released code decodes such arms), see `decoding_of`.
    """

    name: str
    kind: str
    alpha: float | tuple[float, ...] = 0.0
    layers: tuple[int, ...] = ()
    dose: str = "rms"
    tokens: str = "every_step"
    decay: float = 1.0
    seeds: int = 1
    decoding: str = "plain"
    score_seeds: int = 0
    settings: tuple[tuple[str, float], ...] = field(default=(), kw_only=True)

    @property
    def steered(self) -> bool:
        """Whether the arm edits the model."""
        return self.kind in STEERED

    @property
    def prompted(self) -> bool:
        """Whether the arm's prompts ask for the emotion."""
        return self.kind.startswith("prompt")

    @property
    def reference(self) -> str:
        """The arm whose projections delta-s is measured from."""
        return "none"

    def draws(self, scored: bool) -> int:
        """Return the number of seeds of projections (``scored``) or of what is written."""
        return max(self.seeds, self.score_seeds) if scored else self.seeds

    def conditions(self, emotions: int, scored: bool = False) -> list[tuple[int, int | None]]:
        """Return (seed, emotion index) of every condition; the emotion is None where the arm has none."""
        alike = self.kind == "none" or (self.kind == "random" and not isinstance(self.alpha, tuple))
        per_emotion: list[int | None] = [None] if alike else list(range(emotions))
        return [(seed, e) for seed in range(self.draws(scored)) for e in per_emotion]

    def strength(self, emotion: int | None) -> float:
        """Return the strength for an emotion (index)."""
        return self.alpha[emotion or 0] if isinstance(self.alpha, tuple) else self.alpha

    @property
    def needs(self) -> frozenset[str]:
        """What it is compiled from, so what addresses of its results hold: directions, shuffled, attribution, ...

        circuit, and seed where it draws. Shuffled are directions of permuted labels.
        """
        needs = {"directions"} if self.kind.endswith(("steer", "shuffled")) else set()
        needs |= {"shuffled"} if self.kind.endswith("shuffled") else set()
        return frozenset(needs | ({"seed"} if self.kind.endswith("random") else set()))

    def key(self, scored: bool = False) -> dict[str, Any]:
        """Return what the arm's projections (``scored``) or other results depend on; its name is not part of it."""
        left_out = ("name", "settings", "seeds", "score_seeds")
        kept = {k: v for k, v in asdict(self).items() if k not in left_out} | {"seeds": self.draws(scored)}
        module = type(self).__module__
        if not module.startswith("emo."):  # of a user: what it does is in its file, not in a version of ours
            kept["code"] = target_digest(f"{module}.{type(self).__name__}")
        return kept

    @classmethod
    def compile(cls, arms: Sequence[Any], found: Found, skip_layer: int | None = None) -> Plan:
        """Return the edits of arms of this class, all of them in one plan; see `Plan`.

        Args:
            arms: of this class; unedited ones get no condition.
            found: what they are compiled from.
            skip_layer: a block that is left alone in every arm.
        """
        doses = dict.fromkeys(arm.dose for arm in arms if arm.steered)
        return Plan.joined(
            [plan([arm for arm in arms if arm.dose == dose], found.directions, skip_layer) for dose in doses]
        )


def variant(name: str, settings: Sequence[tuple[str, float]]) -> str:
    """Return an arm's name with the values of lists that it stands for: ``steer@alpha=0.5``."""
    return (
        name
        + ("@" if settings else "")
        + ",".join(f"{key}={value if isinstance(value, int) else format(value, 'g')}" for key, value in settings)
    )


def decoding_of(how: str, edit: str | None = None) -> str:
    """Return how an arm is decoded.

    Args:
        how: ``generation.decoding``: same (plain) | no_repeat (as the released code decodes circuits) for all arms
            alike, or paper: each kind of arm as the released code does it.
        edit: steering | circuit: what is done to the model; None: nothing.
    """
    if how == "no_repeat":
        return "circuit"
    return edit or "plain" if how == "paper" else "plain"


def random_directions(seeds: int, n_layers: int, d: int, seed: int) -> Tensor:
    """Return isotropic unit vectors (seeds, l, d), one per block and seed."""
    drawn = [
        torch.randn(n_layers, d, generator=torch.Generator().manual_seed(1_000_003 * seed + k)) for k in range(seeds)
    ]
    x = torch.stack(drawn) if drawn else torch.zeros(0, n_layers, d)
    return x / x.norm(dim=-1, keepdim=True)


class Context(Protocol):
    """What an intervention is told of its job; what costs time is found when it is asked for."""

    @property
    def config(self) -> Config:
        """As it was checked."""

    @property
    def names(self) -> list[str]:
        """The emotions."""

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The blocks that ``intervention.layers`` names; all of them where that is ``auto``."""

    @property
    def circuit_layers(self) -> tuple[int, ...]:
        """The blocks that a circuit may have units in."""

    @property
    def steering(self) -> tuple[float | list[float], tuple[int, ...]]:
        """Alpha and blocks of steering: as given, or chosen on dev."""

    @property
    def shuffled_draws(self) -> int:
        """Draws of the directions of permuted labels that there are; 0: none."""

    @property
    def scale(self) -> float | list[float]:
        """The circuit's scale: one, several (an arm each), or one per emotion; as given, or chosen on dev."""

    @property
    def scales(self) -> list[Any]:
        """The scales of the circuit that have an arm each."""

    @property
    def circuits(self) -> CircuitBank | None:
        """The circuit, where the job has one."""

    @property
    def matched_alphas(self) -> list[list[float]]:
        """Per scale, each emotion's strength of steering that moves states as far as the circuit."""


class Intervention(Protocol):
    """One kind of intervention: which arms a job has.

    A class of a user's own (``intervention._target_``) is made with ``intervention.settings`` as keyword arguments. Its
    arms are `Arm` or subclasses of it with a ``compile`` of their own. Those of the kind that ``intervention.kind``
    names are what the job is about, all others that edit are controls. Its attribute ``reads`` lists the keys that it
    looks at (none where it is absent); any other that is typed is refused.
    """

    def arms(self, job: Context) -> list[Arm]:
        """Return the arms that edit, in the order of tables; the unedited ones come by themselves.

        Raises:
            UserError: the intervention is not possible here.
        """


class Plan(NamedTuple):
    """Edits of several arms, and the condition index of each (arm name, seed, emotion index)."""

    edits: list[Edit]
    cond: dict[tuple[str, int, int | None], int]

    @classmethod
    def joined(cls, plans: Sequence[Plan]) -> Plan:
        """Return one plan for the arms of several: their conditions stand behind one another and share a batch."""
        counts = [max(made.cond.values(), default=-1) + 1 for made in plans]
        edits: list[Edit] = []
        cond: dict[tuple[str, int, int | None], int] = {}
        for k, made in enumerate(plans):
            before, after = sum(counts[:k]), sum(counts[k + 1 :])
            edits += [replace(edit, op=edit.op.among(before, after)) for edit in made.edits]
            cond |= {key: before + c for key, c in made.cond.items()}
        return cls(edits, cond)


def plan(arms: Sequence[Arm], bank: Bank, skip_layer: int | None = None) -> Plan:
    """Compile the steered arms into one edit per block; all must share dose, tokens and decay.

    Args:
        arms: arms to compile; unsteered ones get no condition.
        bank: the vectors.
        skip_layer: a block that is left alone in every arm.
    """
    e, n_layers, d = bank.directions.shape
    shuffled = bank.shuffled.reshape(-1, n_layers, d)
    vectors = torch.cat([bank.directions, shuffled, bank.random])
    cond: dict[tuple[str, int, int | None], int] = {}
    which: list[int] = []
    owner: list[tuple[Arm, float]] = []
    steered = [arm for arm in arms if arm.steered]
    for arm in steered:
        for seed, emotion in arm.conditions(e, scored=True):
            cond[arm.name, seed, emotion] = len(which)
            owner.append((arm, arm.strength(emotion)))
            if arm.kind.endswith("random"):
                which.append(e + len(shuffled) + seed)
            else:
                which.append((e * (1 + seed) if arm.kind.endswith("shuffled") else 0) + (emotion or 0))
    edits = []
    for layer in sorted({layer for arm in steered for layer in arm.layers} - {skip_layer}):
        strength = torch.tensor([alpha if layer in arm.layers else 0.0 for arm, alpha in owner])
        op = Add(vectors[:, layer].contiguous(), torch.tensor(which), strength, steered[0].dose)
        edits.append(Edit(Site.RESID_POST, layer, op, Tokens(steered[0].tokens), steered[0].decay))
    return Plan(edits, cond)


def compiled(arms: Sequence[Arm], found: Found, skip_layer: int | None = None) -> Plan:
    """Return one plan for arms of any classes: their conditions share batches."""
    classes = sorted(dict.fromkeys(type(arm) for arm in arms), key=lambda cls: cls is not Arm)
    return Plan.joined([cls.compile([arm for arm in arms if type(arm) is cls], found, skip_layer) for cls in classes])
