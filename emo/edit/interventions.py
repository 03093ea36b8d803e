"""From a configuration to the intervention that makes its arms: one of ours, or a class of a user's own."""

from __future__ import annotations

from emo.config.interventions import kind_of
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.targets import load_target
from emo.edit.base import Arm, Context, Intervention
from emo.edit.circuit_arms import Circuits
from emo.edit.steering import Steering
from emo.edit.unit_arms import Units


class Unedited:
    """The model as it is, with and without the emotion prompt."""

    def arms(self, job: Context) -> list[Arm]:  # noqa: ARG002 - the protocol's
        """Return no arm that edits."""
        return []


BY_EDITS: dict[str, type[Intervention]] = {
    "nothing": Unedited,
    "residual": Steering,
    "neurons": Units,
    "heads": Units,
    "circuit": Circuits,
}


def intervention_of(config: Config) -> Intervention:
    """Return the intervention of a job on scenarios.

    Raises:
        UserError: a class of a user's own is not found, or does not take its settings.
    """
    given, kind = config.intervention, kind_of(config)
    if given._target_ is None:
        return BY_EDITS[kind.edits]()
    cls = load_target(given._target_, "intervention._target_", needs=("arms",))
    try:
        made: Intervention = cls(**given.settings)
    except TypeError as error:
        raise UserError(f"intervention.settings={given.settings}: {error}; type what {given._target_} takes") from None
    return made
