"""The kinds of intervention: what each edits, and what a choice entails; how it is done is in `emo.edit`.

A kind that is not here is a user's own, with ``intervention._target_``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from emo.config.schema import Config
from emo.config.values import divergence_of

Edits = Literal["nothing", "residual", "neurons", "heads", "circuit", "classes", "own"]


class Kind(NamedTuple):
    """One kind of intervention.

    Attributes:
        name: as typed.
        edits: nothing | residual (directions are added to the stream) | neurons | heads | circuit | classes (neurons of
            classes of labelled texts) | own (a user's, see docs/extend.md).
        op: what is done there: add | zero (ablated) | mask; empty where nothing is edited.
        controlled: it is compared with controls; else it is one.
        beside: an arm that runs beside it as a target of its own.
        then: the kind that a researcher would try next; None: the same one, asked otherwise.
    """

    name: str
    edits: Edits
    then: str | None
    op: str = "add"
    controlled: bool = True
    beside: str | None = None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("none", "nothing", "steer", ""),
        Kind("prompt", "nothing", "steer", ""),
        Kind("steer", "residual", "prompt_steer"),
        Kind("prompt_steer", "residual", None, beside="steer"),
        Kind("random", "residual", "prompt_steer", controlled=False),
        Kind("shuffled", "residual", "prompt_steer", controlled=False),
        Kind("ablate_neurons", "neurons", "enhance_neurons", "zero"),
        Kind("ablate_heads", "heads", "enhance_heads", "zero"),
        Kind("enhance_neurons", "neurons", "ablate_neurons"),
        Kind("enhance_heads", "heads", "ablate_heads"),
        Kind("circuit", "circuit", "prompt_circuit"),
        Kind("prompt_circuit", "circuit", "circuit", beside="circuit"),
        Kind("ablate_circuit", "circuit", "circuit", "zero"),
        Kind("mask", "classes", "adaptive_mask", "mask"),
        Kind("adaptive_mask", "classes", "induce", "mask"),
        Kind("induce", "classes", "mask"),
        Kind("inject", "classes", "mask"),
    )
}


def kinds(*edits: Edits, op: str | None = None) -> tuple[str, ...]:
    """Return the names of the kinds that edit one of these, by this ``op`` where one is given."""
    return tuple(k.name for k in KINDS.values() if k.edits in edits and op in (None, k.op))


def kind_of(config: Config) -> Kind:
    """Return the kind of a job's intervention."""
    given = config.intervention
    return KINDS[given.kind] if given._target_ is None else Kind(given.kind, "own", "steer", "own")


def on_units(config: Config) -> bool:
    """Return whether single neurons or heads are edited."""
    return kind_of(config).edits in ("neurons", "heads")


def on_circuit(config: Config) -> bool:
    """Return whether a whole circuit is edited."""
    return kind_of(config).edits == "circuit"


def zeroes(config: Config) -> bool:
    """Return whether what is edited is set to zero, under the emotion prompt."""
    return kind_of(config).op == "zero"


def steers(config: Config) -> bool:
    """Return whether an arm adds directions to the residual stream, by itself or chosen beside a circuit."""
    kind = kind_of(config)
    if kind.edits == "circuit":
        return kind.op == "add" and "steer" in config.control.circuits
    return kind.edits in ("residual", "classes")  # of classes `emo.config.kinds` says what they read


def scale_tuned(config: Config) -> bool:
    """Return whether the scale of a circuit is chosen on dev; one that is zeroed has none."""
    kind = kind_of(config)
    return kind.edits == "circuit" and kind.op == "add" and config.intervention.scale == "auto"


def alpha_divergence(config: Config) -> float | None:
    """Return the nats at which arms of steering are compared (``intervention.alpha=kl:1.0``); None: not so."""
    return divergence_of(config.intervention.alpha) if steers(config) else None


def scale_divergence(config: Config) -> float | None:
    """Return the nats at which arms of circuits are compared (``intervention.scale=kl:1.0``); None: not so."""
    kind = kind_of(config)
    return divergence_of(config.intervention.scale) if kind.edits == "circuit" and kind.op == "add" else None
