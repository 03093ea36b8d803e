"""Strengths at which the arms of a job diverge alike from the unedited model (``kl:1.0``; methods 5.4).

Every arm that is added gets a strength of its own at the same divergence: the target and each of its controls. An
isotropic vector of equal dose breaks some models far more than a direction does, and others far less; at equal
divergence a difference between arms is one of direction, not of size. What stays matched otherwise: an arm under the
emotion prompt has the strength of the same edit without the prompt, and ``matched_steer`` moves states as far as the
circuit does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from emo.config.interventions import alpha_divergence, scale_divergence
from emo.core.store import Artifact
from emo.edit.base import STEERED, Arm
from emo.edit.circuits import CircuitArm
from emo.measure.batch import Measure
from emo.measure.equal_divergence import SEARCH, TOKENS, AtDivergence, Measured, at_divergence, tell
from emo.pipeline.arm_addresses import ArmAddresses

START = {"rms": 1.0, "rel": 0.05, "raw": 1.0}  # strength that is tried first, by its unit
MATCHED = "matched_steer"


class Divergent(ArmAddresses):
    """The searches for strengths, on the dev split."""

    @cached_property
    def divergences(self) -> dict[str, AtDivergence]:
        """What has been found so far, by the kind of the arm without an emotion prompt."""
        return {}

    @property
    def alpha_divergence(self) -> float | None:
        """The nats that ``intervention.alpha=kl:NATS`` asks for; None: it does not."""
        return alpha_divergence(self.config)

    @property
    def scale_divergence(self) -> float | None:
        """The same of ``intervention.scale`` of circuits."""
        return scale_divergence(self.config)

    def at_equal_divergence(self, arms: Sequence[Arm]) -> list[Arm]:
        """Return arms of any strength with the strengths at which they diverge alike; others as they are."""
        asked = {i: kl for i, arm in enumerate(arms) if (kl := self._asked_of(arm)) is not None}
        self.strengths([arms[i] for i in asked])
        made = list(arms)
        for i in asked:
            found = self.divergences[_plain(arms[i].kind)].strength
            made[i] = replace(arms[i], alpha=tuple(found) if isinstance(found, list) else found)
        return made

    def strengths(self, arms: Sequence[Arm]) -> list[float | list[float]]:
        """Return the strength of every arm, one or one per emotion; missing ones are searched together."""
        kinds = [_plain(arm.kind) for arm in arms]
        todo: dict[float, dict[str, Arm]] = {}
        for arm, kind in zip(arms, kinds, strict=True):
            kl = self._asked_of(arm)
            if kind not in self.divergences and kl is not None:
                todo.setdefault(kl, {})[kind] = replace(arm, name=kind, kind=kind, alpha=1.0, settings=())
        for kl, own in todo.items():
            self.divergences.update(self.searched(list(own.values()), kl, self.config.intervention.select.per))
        return [self.divergences[kind].strength for kind in kinds]

    def searched(self, arms: Sequence[Arm], target: float, per: str) -> dict[str, AtDivergence]:
        """Return, per name, the strength of arms without an emotion prompt; kept in the store.

        Args:
            arms: of any strength.
            target: nats.
            per: model | emotion: one strength, or one each.
        """
        by_name = {arm.name: arm for arm in arms}

        def compute(missing: list[str]) -> dict[str, Artifact]:
            found = self._search([by_name[name] for name in missing], target, per)
            return {name: one.to_artifact() for name, one in found.items()}

        keys = {name: self.divergence_key(arm, target, per) for name, arm in by_name.items()}
        configs = {name: {"arm": asdict(arm), "kl": target} for name, arm in by_name.items()}
        made = self.store.get_or_compute_many("selection", keys, configs, compute)
        return {name: AtDivergence.from_artifact(artifact) for name, artifact in made.items()}

    def divergence_key(self, arm: Arm, target: float, per: str) -> str:
        """Return the address of a search."""
        how: dict[str, Any] = {"kl": target, "per": per, "tokens": TOKENS, "search": SEARCH}
        return self.arm_address("selection", arm, {"divergence": how}, samples=self.dev_samples)

    def _search(self, arms: Sequence[Arm], target: float, per: str) -> dict[str, AtDivergence]:
        measure = Measure(self.lm, self.config, self.dev_samples, "sev", self.found, "dev")
        emotions = len(self.names)

        def evaluate(given: Mapping[str, float | list[float]]) -> Measured:
            tried = [
                replace(arm, alpha=tuple(a) if isinstance(a, list) else a)
                for arm in arms
                if (a := given.get(arm.name)) is not None
            ]
            found = measure.divergences(tried, TOKENS)
            return {name: [(entry.emotion, kl) for entry, kl in rows] for name, rows in found.items()}

        alike = {arm.name: any(e is None for _, e in arm.conditions(emotions)) for arm in arms}
        each = {name: 0 if per == "model" or same else emotions for name, same in alike.items()}
        found = at_divergence(evaluate, {arm.name: START[arm.dose] for arm in arms}, target, each)
        for arm in arms:
            tell(arm.name, "scale" if isinstance(arm, CircuitArm) else "alpha", found[arm.name], self.names)
        return found

    def _asked_of(self, arm: Arm) -> float | None:
        """Return the nats that an arm is brought to; None: its strength is another's matter."""
        if isinstance(arm, CircuitArm):
            return self.scale_divergence if arm.op == "add" else None
        return self.alpha_divergence if arm.kind in STEERED and arm.kind != MATCHED else None


def _plain(kind: str) -> str:
    """Return the kind of the same edit without an emotion prompt."""
    return kind.removeprefix("prompt_")
