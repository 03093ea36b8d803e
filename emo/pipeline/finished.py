"""A finished run that is measured once more: labelled by another evaluator, on any machine, without its model.

What a stage with the model gave is read from the store; replies and their damage also from the run's samples.jsonl.
result.json holds what else is known of the model and its weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from emo.config.choices import MINILM
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.sealed import changed
from emo.core.store import Artifact, Store
from emo.find.circuit import Circuit
from emo.measure.classifier import classifier_address
from emo.measure.fluency import Fluency
from emo.model.lm import LM, ModelSpec
from emo.pipeline import ranking_check
from emo.pipeline.scenario import Job
from emo.pipeline.stage import SCENARIOS

OF_MACHINE = ("folder", "device", "device_map", "local", "adapter")  # of a ModelSpec: where it was read
SAMPLES = "samples.jsonl"
FROM_WEIGHTS = "from_weights"  # of result.json: what a job with a circuit reads from the weights, beside its stages
KEYS = ("sample", "emotion", "seed")
DAMAGE = (*Fluency._fields, "nll", "kl", "cosine")


class NoModelError(UserError):
    """Something that only the model can give is missing."""


def described(spec: ModelSpec) -> dict[str, Any]:
    """Return what result.json holds of the model: all that does not depend on the machine."""
    return {key: value for key, value in spec._asdict().items() if key not in OF_MACHINE}


def from_weights(job: Job) -> dict[str, Any]:
    """Return what result.json holds of a job with a circuit so that its arms are known without the weights."""
    matched = any(arm.kind == "matched_steer" for arm in job.arms)
    return {"matched_alphas": job.matched_alphas if matched else None, "rescaled": job.rescaled}


class FinishedJob(Job):
    """A job like a finished one but for its evaluator; what needs the language model is read from disk, or refused."""

    def __init__(self, config: Config, folder: Path, result: dict[str, Any]) -> None:
        """Take the new configuration, and the folder and result.json of the finished run.

        Raises:
            UserError: an earlier version wrote the result, without what has to be known of the model.
        """
        self.folder, self.result = folder, result
        known = result.get("model")
        if known is None:
            raise UserError(
                f"{folder}: written by an earlier version, without what judging must know of its model; run it again"
            )
        super().__init__(config, ModelSpec(**known, folder="", device="cpu", device_map=None))
        self.store = _Shelf(config.paths.store, folder)

    @cached_property
    def judge(self) -> str | None:
        """Of what chose the run's strengths, whatever encoder labels its replies now."""
        given = self.result["config"]["evaluator"].get("encoder", MINILM)
        return classifier_address(self.names, given) if super().judge is not None else None

    def check_stages(self) -> None:
        """Check that everything the model gave is there, before anything is labelled; raises `NoModelError`."""
        _ = self.directions, self.arms, self.projections, self.last_block, self.doses
        _ = self.replies, self.damage, self.margins
        if self.on is not None:
            _ = self.units, ranking_check.points(self)
        if self.has_circuit:
            _ = self.modulated, None if self.saved_circuit is not None else self.importance

    def _check_saved(self, circuit: Circuit) -> None:
        """The finished run was checked against its weights."""

    @property
    def lm(self) -> LM:
        """No language model: raises `NoModelError`."""
        raise NoModelError(f"{self.folder}: judging loads no language model, and something of this run needs it")

    @property
    def parameters(self) -> int:
        """As the finished run counted them."""
        return int(self.result["parameters"])

    @cached_property
    def saved_circuit(self) -> Circuit | None:
        """The circuit that the finished run was given, from its own folder."""
        given = self.has_circuit and self.config.circuit.path is not None
        return Circuit.load(self.folder / "circuit") if given else None

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit of the finished run."""
        return Circuit.load(self.folder / "circuit")

    @cached_property
    def matched_alphas(self) -> list[list[float]]:
        """As the finished run measured them on its weights."""
        return list(self.result[FROM_WEIGHTS]["matched_alphas"])

    @cached_property
    def rescaled(self) -> float | None:
        """As the finished run measured it on its weights."""
        found: float | None = self.result[FROM_WEIGHTS]["rescaled"]
        return found

    @cached_property
    def replies(self) -> dict[str, list[dict[str, Any]]]:
        """Greedy replies of every arm."""
        return self._or_samples(lambda: super(FinishedJob, self).replies, ("reply",))

    @cached_property
    def damage(self) -> dict[str, list[dict[str, Any]]]:
        """Perplexity, KL and fluency of every arm's replies."""
        return self._or_samples(lambda: super(FinishedJob, self).damage, DAMAGE)

    def _or_samples(
        self, stored: Callable[[], dict[str, list[dict[str, Any]]]], keys: tuple[str, ...]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return a stage of the store, or the same values from the rows of samples.jsonl."""
        try:
            return stored()
        except NoModelError:
            rows = self._samples
            found = {
                arm.name: [{key: row[key] for key in (*KEYS, *keys)} for row in rows if row["arm"] == arm.name]
                for arm in self.arms
            }
            if not all(found.values()):
                raise
            return found

    @cached_property
    def _samples(self) -> list[dict[str, Any]]:
        if changed(self.folder, {SAMPLES: self.result["files"].get(SAMPLES, "")}):
            return []  # gone, or not what was written: the stage that is missing is named
        try:
            text = (self.folder / SAMPLES).read_text(encoding="utf-8")
            return [json.loads(line) for line in text.split("\n") if line]
        except (OSError, ValueError):
            return []


class _Shelf(Store):
    """A store of which stages with the language model are only read."""

    def __init__(self, root: str | list[str], folder: Path) -> None:
        super().__init__(root)
        self._of = folder

    def get_or_compute_many(
        self,
        stage: str,
        keys: dict[str, str],
        configs: dict[str, dict[str, Any]],
        compute: Callable[[list[str]], dict[str, Artifact]],
    ) -> dict[str, Artifact]:
        """Return several artifacts; those of a stage with the language model must all be there.

        Raises:
            NoModelError: one is missing.
        """
        if stage not in SCENARIOS or not SCENARIOS[stage].model:
            return super().get_or_compute_many(stage, keys, configs, compute)
        found = {name: got for name, key in keys.items() if (got := self.get(stage, key)) is not None}
        missing = [name for name in keys if name not in found]
        if missing:
            arms = "" if missing == ["only"] else f" of arm {missing[0]}"
            raise NoModelError(
                f"{self._of}: stage '{stage}'{arms} is not in {self.root} ({self.folder(stage, keys[missing[0]]).name})"
                ", and judging loads no language model; type paths.store=FOLDER of the store that the run wrote"
            )
        return {name: found[name] for name in keys}
