"""The arms of steering: directions added to the residual stream, and what they are compared with (methods 1.4).

    h <- h + alpha * scale(h) * v_mlp[e,l] on resid_post of a range of blocks, from the last prompt token on

alpha is in units of ``dose``: rms (of the live state), rel (of its norm) or raw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emo.config.interventions import kind_of
from emo.core.console import warn
from emo.core.errors import UserError
from emo.edit.base import Arm, Context, decoding_of, variant

NO_SHUFFLED = (
    "permuted labels leave nothing beside the true directions (one group of two emotions, say): there is no shuffled "
    "control; more scenarios or emotions have one"
)


class Steering:
    """Steering, alone or under the emotion prompt, or one of its controls in its place."""

    def arms(self, job: Context) -> list[Arm]:
        """Return the arms: what is steered, then its controls; a list of alphas gives one arm each."""
        kind, controls = kind_of(job.config), job.config.control.arms
        asked = "shuffled" in controls if kind.controlled else kind.name == "shuffled"
        if asked and not job.shuffled_draws:
            if not kind.controlled:
                raise UserError(f"intervention=shuffled: {NO_SHUFFLED}")
            warn(f"no arm shuffled: {NO_SHUFFLED}")
            controls = [name for name in controls if name != "shuffled"]
        kinds = [kind.name] if kind.beside is None else [kind.beside, kind.name]
        if kind.controlled:  # under the emotion prompt the controls run under it too
            kinds += [f"prompt_{name}" if kind.beside else name for name in controls]
        alpha, layers = job.steering
        if isinstance(job.config.intervention.alpha, list) and isinstance(alpha, list):  # an arm each
            each = [(name, a, (("alpha", float(a)),)) for name in kinds for a in alpha]
            return [replace(steering_arm(job, variant(n, told), n, a, layers), settings=told) for n, a, told in each]
        return [steering_arm(job, name, name, alpha, layers) for name in kinds]


def steering_arm(job: Context, name: str, kind: str, alpha: float | list[float], layers: Sequence[int]) -> Arm:
    """Return one arm that adds directions; a list of alphas is one per emotion."""
    given, control = job.config.intervention, job.config.control
    seeds = job.shuffled_draws if kind.endswith("shuffled") else control.seeds if kind.endswith("random") else 1
    return Arm(
        name,
        kind,
        tuple(map(float, alpha)) if isinstance(alpha, list) else float(alpha),
        tuple(layers),
        given.dose,
        given.tokens,
        float(given.decay),
        seeds,
        decoding_of(job.config.generation.decoding, "steering"),
        control.score_seeds if kind.endswith("random") else seeds,  # shuffled directions cost an extraction
    )
