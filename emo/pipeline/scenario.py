"""One job: the stages in order, each kept under the address of all that it depends on.

    directions, attribution, importance, circuit (`emo.pipeline.extracted`, on the extraction split)
        -> (strength, on dev) -> replies, projections, doses -> labels, margins, damage

Addresses are known before anything runs. Arms of a stage are separate artifacts, so a sweep over alpha
computes the unedited arms once; missing ones share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from emo.config.interventions import kind_of
from emo.config.values import asks_divergence
from emo.core.sealed import digest
from emo.core.store import Artifact
from emo.data.language import common_language
from emo.data.scenarios import spread
from emo.data.texts import digest_of, words_digest
from emo.edit.base import Arm, decoding_of
from emo.edit.circuit_arms import circuit_arm, matched_alphas
from emo.edit.circuits import before_rescaling
from emo.edit.steering import steering_arm
from emo.measure import unjudged
from emo.measure.batch import Measure
from emo.measure.labels import label_all, labeller_address
from emo.measure.margin import stand_ins, without_replies
from emo.measure.strength_tuning import Choice, Maker, choose
from emo.pipeline.divergent import Divergent

MODULATED = 24  # test prompts whose states under the circuit are drawn


class Job(Divergent):
    """The stages of one configuration."""

    # --- strength -------------------------------------------------------------------------------

    @cached_property
    def selection(self) -> Choice | None:
        """The strength and layers chosen on dev, with all that was tried; None where both were given."""
        if not self.tuned:
            return None
        given = self.config.intervention
        made = self.store.get_or_compute("selection", self._selection_key, asdict(given.select), self._select)
        return Choice.from_artifact(made)

    @property
    def made_selection(self) -> Choice | None:
        """What a run with these settings has chosen on dev; None before that: nothing is tried for it."""
        made = self.store.get("selection", self._selection_key)
        return None if made is None else Choice.from_artifact(made)

    def _select(self) -> Artifact:
        given = self.config.intervention
        ranges = self.layer_choices if self.layers is None else {str(given.layers): self.layers}
        if (kl := self.alpha_divergence) is None:
            alphas = given.select.alpha if given.alpha == "auto" else given.alpha
            grid = dict.fromkeys(ranges, list(map(float, alphas if isinstance(alphas, list) else [alphas])))
        else:  # ranges at equal divergence
            each = [steering_arm(self, spec, "steer", 1.0, ranges[spec]) for spec in ranges]
            grid = {spec: [_one(x.strength)] for spec, x in self.searched(each, kl, "model").items()}

        def make(spec: str, alpha: float) -> Arm:
            return steering_arm(self, f"{spec}/{alpha:g}", "steer", alpha, ranges[spec])

        return self._choose(grid, make, "alpha", extend=given.alpha == "auto")

    def _choose(self, grid: dict[str, list[float]], make: Maker, what: str, *, extend: bool = True) -> Artifact:
        c = self.config
        measure = Measure(self.lm, c, self.dev_samples, "sev", self.found, "dev")
        labeller = self.label if self.judge else None
        bounds = c.intervention.select if extend else replace(c.intervention.select, extend=0)
        if what == "alpha" and self.alpha_divergence is not None:  # strengths of emotions are not chosen, but found
            bounds = replace(bounds, per="model")
        return choose(measure, grid, make, bounds, c.seed, c.evaluator.bootstrap, labeller, what).to_artifact()

    @cached_property
    def scale_selection(self) -> Choice | None:
        """The scale of a circuit chosen on dev, with all that was tried; None where it was given."""
        if not self.scale_tuned:
            return None
        c = self.config

        def make(spec: str, scale: float) -> Arm:
            return circuit_arm(c, f"{spec}/{scale:g}", "circuit", self.circuit_layers, len(self.names), scale)

        def compute() -> Artifact:
            return self._choose({str(c.circuit.layers): list(map(float, c.intervention.select.scale))}, make, "scale")

        made = self.store.get_or_compute("selection", self._scale_selection_key, asdict(c.intervention.select), compute)
        return Choice.from_artifact(made)

    @cached_property
    def scale(self) -> float | list[float]:
        """The circuit's scale: one, several (an arm each), or one per emotion; see `_listed`."""
        given = self.config.intervention.scale
        if given == "auto":
            return self.scale_selection.alpha if self.scale_selection else 0.0
        if asks_divergence(given):
            arm = circuit_arm(self.config, "circuit", "circuit", self.circuit_layers, len(self.names), 1.0)
            return 0.0 if self.scale_divergence is None else self.strengths([arm])[0]
        return [given[name] for name in self.names] if isinstance(given, dict) else given

    @property
    def scales(self) -> list[Any]:
        """The scales of the circuit that have an arm each."""
        scale = self.scale
        return list(scale) if isinstance(self.config.intervention.scale, list) and isinstance(scale, list) else [scale]

    @cached_property
    def matched_alphas(self) -> list[list[float]]:
        """Per scale, each emotion's strength of steering that moves states as far as the circuit; weights are read."""
        bank, dose = self.circuits, self.config.circuit.dose
        return [matched_alphas(bank, dose, scale, len(self.names)) for scale in self.scales] if bank else []

    @cached_property
    def rescaled(self) -> float | None:
        """How far random units' own difference vectors push, as a share of the circuit's; None: no such arm."""
        if self.circuits is None or all(arm.kind != "random_circuit" for arm in self.arms):
            return None
        return before_rescaling(self.circuits, len(self.names), self.config.seed)

    @property
    def steering(self) -> tuple[float | list[float], tuple[int, ...]]:
        """Alpha and blocks of steering: as given, or chosen on dev."""
        chosen, alpha = self.selection, self.config.intervention.alpha
        layers = self.layers if self.layers is not None else (chosen.layers if chosen else ())
        if self.alpha_divergence is not None:
            kind = "steer" if self.has_circuit else kind_of(self.config).name.removeprefix("prompt_")
            return self.strengths([steering_arm(self, kind, kind, 1.0, layers)])[0], layers
        return (chosen.alpha if chosen else 0.0) if alpha == "auto" else alpha, layers

    @property
    def shuffled_draws(self) -> int:
        """Draws of the directions of permuted labels that there are; 0: none."""
        return self.shuffles if self.asks_for_shuffled and self.shuffled is not None else 0

    @cached_property
    def arms(self) -> list[Arm]:
        """The arms of this job: unedited, under the emotion prompt, and those of the intervention."""
        decoding = decoding_of(self.config.generation.decoding)
        names = ("none",) if self.config.intervention.kind == "none" else ("none", "prompt")
        edited = self.at_equal_divergence(self.intervention.arms(self))
        return [*(Arm(name, name, decoding=decoding) for name in names), *edited]

    # --- measured on test -----------------------------------------------------------------------

    @cached_property
    def stand_ins(self) -> dict[str, str]:
        """Themes of the test split without held-out replies of their own, and whose replies stand in."""
        return {} if without_replies(self.names) else stand_ins(self.splits.test)

    @cached_property
    def measure(self) -> Measure:
        """The test split under this job's arms."""
        return Measure(self.lm, self.config, self.splits.test, "sev_test", self.found, "test")

    def _per_arm(
        self,
        stage: str,
        arms: Iterable[Arm],
        inputs: dict[str, object],
        compute: Callable[[list[Arm]], dict[str, Artifact]],
        on_directions: bool = False,
    ) -> dict[str, Artifact]:
        """Return a stage's artifact for every arm; the missing ones are computed together."""
        by_name = {arm.name: arm for arm in arms}
        keys = {}
        for name, arm in by_name.items():
            keys[name] = self.arm_address(stage, arm, inputs, on_directions)
        configs = {name: {"arm": asdict(arm)} for name, arm in by_name.items()}
        return self.store.get_or_compute_many(stage, keys, configs, lambda names: compute([by_name[n] for n in names]))

    @cached_property
    def prompted(self) -> Artifact:
        """Test states under the emotion prompts: proj (n*e, l, e), and states (g,e,l,d) of the first groups."""
        config = {"samples": len(self.splits.test), "probe_groups": self.config.directions.probe_groups}
        return self.store.get_or_compute("states", self.prompted_address, config, self._read_prompted)

    def _read_prompted(self) -> Artifact:
        groups = spread(self.splits.test, self.config.directions.probe_groups)
        proj, held = self.measure.project_prompted(groups)
        return Artifact({"proj": proj, "states": held})

    @cached_property
    def projections(self) -> dict[str, Tensor]:
        """Projections per arm, (entries, l, e): resid_post on v_mlp; for heads resid_mid on v_attn."""

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact({"proj": x}) for name, x in self.measure.project(arms).items()}

        others = [arm for arm in self.arms if arm.kind != "prompt"]
        made = self._per_arm("projections", others, {}, compute, on_directions=True)
        found = {name: artifact.tensors["proj"] for name, artifact in made.items()}
        return {
            arm.name: self.prompted.tensors["proj"] if arm.kind == "prompt" else found[arm.name] for arm in self.arms
        }

    @cached_property
    def last_block(self) -> dict[str, Tensor]:
        """The projection at block L-1 (entries, e) when only blocks 0..L-2 are edited (methods 1.8, outcome c)."""
        last = self.spec.n_layers - 1
        touching = [arm for arm in self.arms if last in arm.layers]

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact({"proj": x}) for name, x in self.measure.project(arms, skip_layer=last).items()}

        made = self._per_arm("projections", touching, {"skip_layer": last}, compute, on_directions=True)
        plain = {arm.name: self.projections[arm.name] for arm in self.arms if arm not in touching}
        edited = {name: artifact.tensors["proj"] for name, artifact in made.items()}
        return {arm.name: (plain | edited)[arm.name][:, last].clone() for arm in self.arms}

    @cached_property
    def modulated(self) -> Artifact:
        """States of some test prompts, plain (n,l,d) and under each emotion's circuit, modulated (e,n,l,d)."""
        arm = next(arm for arm in self.arms if arm.kind == self.config.intervention.kind)
        samples = spread(self.splits.test, MODULATED)
        key = self.address(
            "modulated",
            samples=digest([self.splits.test[i] for i in samples]),
            arm=arm.key(),
            circuit=self.circuit_inputs(arm),
        )

        def compute() -> Artifact:
            return Artifact(dict(zip(("plain", "modulated"), self.measure.states(arm, samples), strict=True)))

        return self.store.get_or_compute("modulated", key, {"arm": asdict(arm)}, compute)

    @cached_property
    def doses(self) -> dict[str, list[dict[str, Any]]]:
        """How strong the edit of every edited arm is, on some test samples."""

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact(rows=rows) for name, rows in self.measure.dose(arms).items()}

        made = self._per_arm("doses", [arm for arm in self.arms if arm.steered], {}, compute)
        return {name: artifact.rows for name, artifact in made.items()}

    @cached_property
    def replies(self) -> dict[str, list[dict[str, Any]]]:
        """Greedy replies of every arm."""

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact(rows=rows) for name, rows in self.measure.reply(arms).items()}

        made = self._per_arm("replies", self.arms, self.replies_inputs, compute)
        return {name: artifact.rows for name, artifact in made.items()}

    @cached_property
    def labels(self) -> dict[str, list[dict[str, Any]]]:
        """What the evaluator calls every reply of every arm; empty where it labels none."""
        labeller = labeller_address(self.config)
        if labeller is None:
            return {}

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            made = label_all(self.store, self.config, {arm.name: self.replies[arm.name] for arm in arms})
            judge = self.config.evaluator
            return {n: Artifact(rows=rows, whole=not unjudged.count(judge, rows)) for n, rows in made.items()}

        inputs: dict[str, object] = {"max_new_tokens": self.config.generation.max_new_tokens, "labeller": labeller}
        return {name: made.rows for name, made in self._per_arm("labels", self.arms, inputs, compute).items()}

    @cached_property
    def margins(self) -> dict[str, list[dict[str, Any]]]:
        """Log-probability margins of held-out replies, every arm; empty where an emotion has no such replies."""
        if without_replies(self.names):
            return {}

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact(rows=rows) for name, rows in self.measure.margin(arms).items()}

        made = self._per_arm("margins", self.arms, {"texts": digest_of("replies.jsonl")}, compute)
        return {name: artifact.rows for name, artifact in made.items()}

    @cached_property
    def damage(self) -> dict[str, list[dict[str, Any]]]:
        """Perplexity, KL and fluency of every arm's replies."""

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            greedy = [row["ids"] for row in self.replies["none"]]
            language = common_language(row["reply"] for row in self.replies["none"])
            made = self.measure.damage(arms, self.replies, greedy, language)
            return {name: Artifact(rows=rows) for name, rows in made.items()}

        evaluator = asdict(self.config.evaluator)
        inputs = {key: evaluator[key] for key in ("kl_tokens", "min_distinct3", "min_distinct4", "max_nonwords")}
        inputs |= {
            "max_new_tokens": self.config.generation.max_new_tokens,
            "refusals": digest_of("refusals.txt"),
            "words": words_digest(),
        }
        made = self._per_arm("damage", self.arms, inputs, compute)
        return {name: artifact.rows for name, artifact in made.items()}


def _one(strength: float | list[float]) -> float:
    assert not isinstance(strength, list)
    return strength
