"""The arms of a job on a circuit: the circuit, and all that it is compared with (methods 1.10, 1.11)."""

from __future__ import annotations

from typing import Any

from emo.circuit_file import KINDS as UNITS
from emo.config import Config
from emo.interventions.arms import decoding_of
from emo.interventions.circuits import CircuitArm
from emo.interventions.unit_arms import KINDS as UNIT_KINDS

KINDS = ("circuit", "prompt_circuit", "ablate_circuit")
DRAWN = ("random_circuit", "shuffled_circuit")  # controls with seeds of their own
VARIANTS = {"random_circuit": "random", "shuffled_circuit": "shuffled", "other_circuit": "other"}
PARTS = {"circuit_neurons": ("neurons",), "circuit_heads": ("heads",)}
STEERING = ("steer", "matched_steer")  # strength chosen on dev; the circuit's own dose
CONTROLS = (*VARIANTS, *PARTS, *STEERING, "prompt_circuit")


def steers(config: Config) -> bool:
    """Return whether an arm adds directions to the residual stream, by itself or chosen beside a circuit."""
    kind = config.intervention.kind
    if kind in KINDS:
        return kind != "ablate_circuit" and "steer" in config.control.circuits
    return kind not in ("none", "prompt", *UNIT_KINDS)


def scale_tuned(config: Config) -> bool:
    """Return whether the scale of a circuit is chosen on dev; one that is zeroed has none."""
    given = config.intervention
    return given.kind in KINDS and given.kind != "ablate_circuit" and given.scale == "auto"


def circuit_arms(
    config: Config, layers: tuple[int, ...], emotions: int, scale: float | list[float], listed: bool
) -> list[CircuitArm]:
    """Return the circuit's arms, then those of its controls that edit units; a list of scales gives one arm each.

    Args:
        config: of the job; ``intervention.kind`` is one of `KINDS`.
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
    """Return one arm; ``kind`` is one of `KINDS` or of the `CONTROLS` that edit units."""
    given, control, c = config.intervention, config.control, config.circuit
    seeds, score_seeds = 1, 1
    if kind in DRAWN:
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
