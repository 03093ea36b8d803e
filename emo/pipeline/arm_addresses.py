"""The addresses of what is measured under one arm: known before it is measured, and shared by all jobs that have it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from emo.core.sealed import digest
from emo.data.scenarios import Sample
from emo.edit.base import Arm
from emo.edit.circuits import CircuitArm
from emo.pipeline.extracted import Extracted


class ArmAddresses(Extracted):
    """Where the results of the test split lie."""

    def arm_address(
        self,
        stage: str,
        arm: Arm,
        inputs: dict[str, object],
        on_directions: bool = False,
        samples: Sequence[Sample] | None = None,
    ) -> str:
        """Return the address of what a stage gives for one arm.

        Args:
            stage: its name.
            arm: whose results it gives.
            inputs: what else they depend on.
            on_directions: it is projected on them.
            samples: that it is measured on; None: the test split.
        """
        needs = arm.needs
        shuffled = {"shuffled": self.shuffled_address} if "shuffled" in needs else {}
        return self.address(
            stage,
            samples=digest(self.splits.test if samples is None else samples),
            arm=arm.key(scored=on_directions),
            directions=self.directions_address if on_directions or "directions" in needs else None,
            attribution=self.attribution_address if "attribution" in needs else None,
            circuit=self.circuit_inputs(arm),
            site=self.bank_site if on_directions else None,
            seed=self.config.seed if "seed" in needs else None,
            **shuffled,
            **inputs,
        )

    def circuit_inputs(self, arm: Arm) -> list[str | None] | None:
        """Return the addresses of the circuit that an arm edits, and of what its control draws from."""
        if not isinstance(arm, CircuitArm):
            return None
        others = self.attribution_address if arm.variant == "random" else None
        known = [self.circuit_address, others, self.importance_address if arm.dose == "rel" else None]
        counted = self.behind_norms and (others is not None or arm.dose == "rel")
        return [*known, *(["pushes behind norms"] if counted else [])]

    @cached_property
    def prompted_address(self) -> str:
        """The address of what is read under the emotion prompts."""
        return self.address(
            "states",
            samples=digest(self.splits.test),
            directions=self.directions_address,
            groups=self.config.directions.probe_groups,
            site=self.bank_site,
        )

    @property
    def replies_inputs(self) -> dict[str, object]:
        """What the address of replies holds beside the arm."""
        return {"max_new_tokens": self.config.generation.max_new_tokens}

    def replies_address(self, arm: Arm) -> str:
        """Return the address of an arm's replies."""
        return self.arm_address("replies", arm, self.replies_inputs)
