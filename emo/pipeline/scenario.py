"""One job: the stages in order, each kept under the address of all that it depends on.

    directions, attribution, importance, circuit (`emo.pipeline.extracted`, on the extraction split)
        -> (strength, on dev) -> replies, projections, doses -> labels, margins, damage

Addresses are known before anything runs. Arms of a stage are separate artifacts, so a sweep over alpha
computes the unedited arms once; missing ones share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from emo.config.choices import UNITS
from emo.core.console import warn
from emo.core.errors import UserError
from emo.core.sealed import digest
from emo.core.store import Artifact
from emo.data.scenarios import spread
from emo.data.texts import digest_of, words_digest
from emo.edit.base import Arm, decoding_of
from emo.edit.circuit_arms import circuit_arm, circuit_arms
from emo.edit.circuits import before_rescaling
from emo.edit.unit_arms import unit_arms
from emo.measure import unjudged
from emo.measure.batch import Measure
from emo.measure.labels import label_all, labeller_address
from emo.measure.language import common_language
from emo.measure.margin import stand_ins, without_replies
from emo.measure.strength_tuning import Choice, Maker, choose
from emo.pipeline.arm_addresses import ArmAddresses

NO_SHUFFLED = (
    "permuted labels leave nothing beside the true directions (one group of two emotions, say): there is no shuffled "
    "control; more scenarios or emotions have one"
)
MODULATED = 24  # test prompts whose states under the circuit are drawn


class Job(ArmAddresses):
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

    def _select(self) -> Artifact:
        given = self.config.intervention
        alphas = given.select.alpha if given.alpha == "auto" else given.alpha
        strengths = list(map(float, alphas if isinstance(alphas, list) else [alphas]))
        ranges = self.layer_choices if self.layers is None else {str(given.layers): self.layers}

        def make(spec: str, alpha: float) -> Arm:
            return self._steering(f"{spec}/{alpha:g}", "steer", alpha, ranges[spec])

        return self._choose(dict.fromkeys(ranges, strengths), make, "alpha", extend=given.alpha == "auto")

    def _choose(self, grid: dict[str, list[float]], make: Maker, what: str, *, extend: bool = True) -> Artifact:
        c = self.config
        measure = Measure(self.lm, c, self.dev_samples, "sev", self.bank, "dev", circuits=self.circuits)
        labeller = self.label if self.judge else None
        bounds = c.intervention.select if extend else replace(c.intervention.select, extend=0)
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
        return [given[name] for name in self.names] if isinstance(given, dict) else given

    def _circuit_arms(self) -> list[Arm]:
        """Return the arms of a circuit and its controls, and the steering that stands beside it."""
        c, e = self.config, len(self.names)
        listed = isinstance(c.intervention.scale, list)
        layers = tuple(self.circuit_layers)
        made: list[Arm] = list(circuit_arms(c, layers, e, self.scale, listed))
        if self.steers:
            made.insert(0, self._chosen_steering("steer", "steer"))
        if "matched_steer" in c.control.circuits and c.intervention.kind != "ablate_circuit":
            bank = self.circuits
            assert bank is not None
            for scale, alphas in zip(self._scales, self.matched_alphas, strict=True):
                name = f"matched_steer@scale={scale:g}" if listed else "matched_steer"
                arm = self._steering(name, "matched_steer", alphas, bank.blocks)
                made.append(replace(arm, dose="rel"))
        return made

    @property
    def _scales(self) -> list[Any]:
        """The scales of the circuit that have an arm each."""
        several = isinstance(self.config.intervention.scale, list) and isinstance(self.scale, list)
        return list(self.scale) if several else [self.scale]  # type: ignore[arg-type]

    @cached_property
    def matched_alphas(self) -> list[list[float]]:
        """Per scale, each emotion's strength of steering that moves states as far as the circuit; weights are read."""
        bank, e = self.circuits, range(len(self.names))
        assert bank is not None
        parts = [{kind: bank.circuit.part(kind, k) for kind in UNITS} for k in e]
        each = [scale if isinstance(scale, list) else [scale] * len(e) for scale in self._scales]
        dose = self.config.circuit.dose
        return [[bank.lam(own[k], dose, parts[k]) * bank.block_dose(k) for k in e] for own in each]

    @cached_property
    def rescaled(self) -> float | None:
        """How far random units' own difference vectors push, as a share of the circuit's; None: no such arm."""
        if self.circuits is None or all(arm.kind != "random_circuit" for arm in self.arms):
            return None
        return before_rescaling(self.circuits, len(self.names), self.config.seed)

    def _chosen_steering(self, name: str, kind: str) -> Arm:
        """Return steering with the strength and blocks that were given, or chosen on dev."""
        chosen, alpha = self.selection, self.config.intervention.alpha
        layers = self.layers if self.layers is not None else (chosen.layers if chosen else ())
        if alpha == "auto":
            alpha = chosen.alpha if chosen else 0.0
        return self._steering(name, kind, alpha, layers)

    def _steering(self, name: str, kind: str, alpha: float | list[float], layers: Sequence[int]) -> Arm:
        c = self.config
        seeds = self.shuffles if kind.endswith("shuffled") else c.control.seeds if kind.endswith("random") else 1
        scored = c.control.score_seeds if kind.endswith("random") else seeds  # shuffled directions cost an extraction
        decoding = decoding_of(c.generation.decoding, "steering")
        given = c.intervention
        strength = tuple(map(float, alpha)) if isinstance(alpha, list) else float(alpha)
        return Arm(
            name, kind, strength, tuple(layers), given.dose, given.tokens, float(given.decay), seeds, decoding, scored
        )

    @cached_property
    def arms(self) -> list[Arm]:
        """The arms of this job; a list of strengths gives one arm each."""
        c = self.config
        kind = c.intervention.kind
        decoding = decoding_of(c.generation.decoding)
        unedited = [Arm(name, name, decoding=decoding) for name in ("none", "prompt")[: 1 if kind == "none" else 2]]
        if kind in ("none", "prompt"):
            return unedited
        if self.on is not None:
            return [*unedited, *unit_arms(c, self.edited_layers, len(self.names))]
        if self.has_circuit:
            return [*unedited, *self._circuit_arms()]
        kinds = {"steer": ["steer"], "prompt_steer": ["steer", "prompt_steer"]}.get(kind, [kind])
        if self.asks_for_shuffled and self.shuffled is None and kind == "shuffled":
            raise UserError(f"intervention=shuffled: {NO_SHUFFLED}")
        if self.asks_for_shuffled and self.shuffled is None:
            warn(f"no arm shuffled: {NO_SHUFFLED}")
        controls = [name for name in c.control.arms if name != "shuffled" or self.shuffled is not None]
        if kind == "steer":
            kinds += controls
        elif kind == "prompt_steer":  # its controls run under the emotion prompt too
            kinds += [f"prompt_{control}" for control in controls]
        chosen = self.selection
        layers = self.layers if self.layers is not None else (chosen.layers if chosen else ())
        alpha = c.intervention.alpha
        if alpha == "auto":
            alpha = chosen.alpha if chosen else 0.0
        several = isinstance(c.intervention.alpha, list)
        return unedited + [
            self._steering(f"{kind}@alpha={a:g}" if several else kind, kind, a, layers)
            for kind in kinds
            for a in (alpha if several else [alpha])
        ]

    # --- measured on test -----------------------------------------------------------------------

    @cached_property
    def stand_ins(self) -> dict[str, str]:
        """Themes of the test split without held-out replies of their own, and whose replies stand in."""
        return {} if without_replies(self.names) else stand_ins(self.splits.test)

    @cached_property
    def measure(self) -> Measure:
        """The test split under this job's arms."""
        bank, units = self.bank, self.units
        return Measure(self.lm, self.config, self.splits.test, "sev_test", bank, "test", units, self.circuits)

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
