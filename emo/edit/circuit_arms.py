"""The arms of a job on a circuit: the circuit, and all that it is compared with (methods 1.10, 1.11)."""

from __future__ import annotations

from typing import Any

from emo.config.choices import DRAWN_CIRCUITS, PARTS, STEERING, UNITS, VARIANTS
from emo.config.schema import Config
from emo.edit.base import decoding_of
from emo.edit.circuits import CircuitArm


def circuit_arms(
    config: Config, layers: tuple[int, ...], emotions: int, scale: float | list[float], listed: bool
) -> list[CircuitArm]:
    """Return the circuit's arms, then those of its controls that edit units; a list of scales gives one arm each.

    Args:
        config: of the job; ``intervention.kind`` is one of `CIRCUIT_KINDS`.
        layers: blocks that the circuit may have units in.
        emotions: how many.
        scale: lambda, one or (``listed``) several; not ``listed`` and a list: one per emotion.
        listed: whether every scale is an arm of its own.
    """
    kind = config.intervention.kind
    own = ["circuit", kind] if kind == "prompt_circuit" else [kind]
    controls = [name for name in config.control.circuits if name not in STEERING and name not in own]
    if kind == "ablate_circuit":  # values are not added: only other units are a control
        controls = [name for name in controls if name in ("random_circuit", "other_circuit")]
    several: list[Any] = list(scale) if listed and isinstance(scale, list) else [scale]
    return [
        circuit_arm(config, f"{name}@scale={s:g}" if listed else name, name, layers, emotions, s)
        for name in [*own, *controls]
        for s in several
    ]


def circuit_arm(
    config: Config, name: str, kind: str, layers: tuple[int, ...], emotions: int, scale: float | list[float]
) -> CircuitArm:
    """Return one arm; ``kind`` is one of `CIRCUIT_KINDS` or of the `CIRCUIT_CONTROLS` that edit units."""
    given, control, c = config.intervention, config.control, config.circuit
    seeds, score_seeds = 1, 1
    if kind in DRAWN_CIRCUITS:
        seeds, score_seeds = control.seeds, control.score_seeds
    elif kind == "other_circuit":
        seeds, score_seeds = min(control.seeds, emotions - 1), emotions - 1
    return CircuitArm(
        name=name,
        kind=kind,
        alpha=tuple(map(float, scale)) if isinstance(scale, list) else float(scale),
        layers=layers,
        dose=c.dose,
        tokens=given.tokens,
        decay=float(given.decay),
        seeds=seeds,
        decoding=decoding_of(config.generation.decoding, "circuit"),
        score_seeds=score_seeds,
        variant=VARIANTS.get(kind, "own"),
        parts=PARTS.get(kind, UNITS),
        op="zero" if given.kind == "ablate_circuit" else "add",
        head_tokens="all" if c.head_tokens == "all" else given.tokens,
    )
