"""The arms of a job on a circuit: the circuit, and all that it is compared with (methods 1.10, 1.11)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emo.config.choices import DRAWN_CIRCUITS, PARTS, STEERING, UNITS, VARIANTS
from emo.config.interventions import kind_of, steers, zeroes
from emo.config.schema import Config
from emo.edit.banks import CircuitBank
from emo.edit.base import Arm, Context, decoding_of, variant
from emo.edit.circuits import CircuitArm
from emo.edit.steering import steering_arm


class Circuits:
    """A whole circuit added or zeroed, other units in its place, and steering beside it."""

    def arms(self, job: Context) -> list[Arm]:
        """Return the arms: steering, the circuit, its controls, and steering of the circuit's own dose."""
        c = job.config
        many = isinstance(c.intervention.scale, list)
        arms: list[Arm] = list(circuit_arms(c, tuple(job.circuit_layers), len(job.names), job.scale, many))
        if steers(c):
            alpha, layers = job.steering
            arms.insert(0, steering_arm(job, "steer", "steer", alpha, layers))
        if "matched_steer" in c.control.circuits and not zeroes(c) and job.circuits is not None:
            for scale, alphas in zip(job.scales, job.matched_alphas, strict=True):
                told = _settings(scale, many)
                arm = steering_arm(job, variant("matched_steer", told), "matched_steer", alphas, job.circuits.blocks)
                arms.append(replace(arm, dose="rel", settings=told))
        return arms


def matched_alphas(bank: CircuitBank, dose: str, scale: float | list[float], emotions: int) -> list[float]:
    """Return each emotion's strength of steering that moves states as far as the circuit does; weights are read.

    Args:
        bank: the circuit.
        dose: unit of ``scale``.
        scale: of the circuit, one or one per emotion.
        emotions: how many.
    """
    own = scale if isinstance(scale, list) else [scale] * emotions
    parts = [{kind: bank.circuit.part(kind, e) for kind in UNITS} for e in range(emotions)]
    return [bank.lam(own[e], dose, parts[e]) * bank.block_dose(e) for e in range(emotions)]


def circuit_arms(
    config: Config, layers: tuple[int, ...], emotions: int, scale: float | list[float], listed: bool
) -> list[CircuitArm]:
    """Return the circuit's arms, then those of its controls that edit units; a list of scales gives one arm each.

    Args:
        config: of the job; ``intervention.kind`` is of circuits.
        layers: blocks that the circuit may have units in.
        emotions: how many.
        scale: lambda, one or (``listed``) several; not ``listed`` and a list: one per emotion.
        listed: whether every scale is an arm of its own.
    """
    kind = kind_of(config)
    own = [kind.name] if kind.beside is None else [kind.beside, kind.name]
    controls = [name for name in config.control.circuits if name not in STEERING and name not in own]
    if zeroes(config):  # values are not added: only other units are a control
        controls = [name for name in controls if name in ("random_circuit", "other_circuit")]
    several: list[Any] = list(scale) if listed and isinstance(scale, list) else [scale]
    return [
        replace(
            circuit_arm(config, variant(name, _settings(s, listed)), name, layers, emotions, s),
            settings=_settings(s, listed),
        )
        for name in [*own, *controls]
        for s in several
    ]


def _settings(scale: Any, listed: bool) -> tuple[tuple[str, float], ...]:
    return (("scale", float(scale)),) if listed else ()


def circuit_arm(
    config: Config, name: str, kind: str, layers: tuple[int, ...], emotions: int, scale: float | list[float]
) -> CircuitArm:
    """Return one arm; ``kind`` is of circuits, or one of the `CIRCUIT_CONTROLS` that edit units."""
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
        op="zero" if zeroes(config) else "add",
        head_tokens="all" if c.head_tokens == "all" else given.tokens,
    )
