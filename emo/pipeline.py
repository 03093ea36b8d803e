"""One job: the stages in order, each kept under the address of all that it depends on.

    splits -> states -> directions -> (strength, on dev) -> replies, projections -> margins, damage
                        directions -> attribution

Addresses are known before anything runs. Arms of a stage are separate artifacts, so a sweep over alpha
computes the unedited arms once; missing ones share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from emo import tracking
from emo.addresses import Addresses, digest
from emo.attribution import attribute
from emo.data import spread
from emo.directions import ATTN, MLP
from emo.evaluators.encoder import encoder_folder
from emo.evaluators.margin import stand_ins, without_replies
from emo.extraction import accepted, extract
from emo.interventions.arms import Arm, Bank, random_directions
from emo.interventions.unit_arms import unit_arms
from emo.interventions.units import UnitArm, UnitBank
from emo.labels import check_labels, label_all, label_rows, labeller_address
from emo.measure import Measure
from emo.models.lm import LM
from emo.models.load import load
from emo.selection import Choice, choose
from emo.store import Artifact, writable
from emo.texts import digest_of, words_digest
from emo.types import Site


class Job(Addresses):
    """The stages of one configuration."""

    def check(self) -> None:
        """Check what the job needs from this machine beyond the model, before anything runs.

        Raises:
            UserError: the sentence encoder is not installed, a folder cannot be written, W&B cannot be used.
        """
        paths = self.config.paths
        writable(Path(paths.outputs) / self.config.name, Path(paths.store))
        if self.config.evaluator.name != "projection":
            encoder_folder()
        check_labels(self.config, self.store)
        tracking.check(self.config.tracker)

    @property
    def lm(self) -> LM:
        """The model; its weights are read on first use, once per process."""
        return load(self.spec)

    def label(self, replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the classifier's labels of replies."""
        return label_rows(self.store, self.names, replies)

    # --- directions -----------------------------------------------------------------------------

    @cached_property
    def directions(self) -> Artifact:
        """Tensors v (e,l,2,d), shuffled (s,e,l,2,d), norms (e,l,2), and probe_states (g,e,l,d) of the first groups."""
        config = {"directions": asdict(self.config.directions), "groups": len(self.splits.extract)}
        return self.store.get_or_compute(
            "directions",
            self.directions_address,
            config,
            lambda: extract(self.lm, self.config, self.splits.extract, self.label),
        )

    @cached_property
    def attribution(self) -> Artifact:
        """Tensors neurons (e,l,f), heads (e,l,h), both as halves (2,...), delta_mlp (e,l,f), delta_attn (e,l,h*p)."""
        c = self.config

        def compute() -> Artifact:
            v, counted = self.directions.tensors["v"], accepted(self.directions)
            return attribute(self.lm, c, self.splits.extract, v, counted, c.directions.baseline)

        config = {"attribution": {"score_at": c.attribution.score_at}, "groups": len(self.splits.extract)}
        return self.store.get_or_compute("attribution", self.attribution_address, config, compute)

    @cached_property
    def bank(self) -> Bank:
        """The vectors that arms add."""
        sublayer = ATTN if self.on == "heads" else MLP
        v = self.directions.tensors["v"][:, :, sublayer].contiguous()
        shuffled = self.directions.tensors["shuffled"][:, :, :, sublayer].contiguous()
        control = self.config.control
        seeds = max(control.seeds, control.score_seeds)
        drawn = random_directions(seeds, v.shape[1], v.shape[2], self.config.seed)
        return Bank(v, shuffled, drawn, Site.RESID_MID if self.on == "heads" else Site.RESID_POST)

    @cached_property
    def units(self) -> UnitBank | None:
        """What arms on neurons or heads choose from; None for other jobs."""
        if self.on is None:
            return None
        found, heads = self.attribution.tensors, self.on == "heads"
        kind = "heads" if heads else "neurons"
        delta = found["delta_attn" if heads else "delta_mlp"]
        width = delta.shape[2] // found[kind].shape[2]
        return UnitBank(Site.HEAD if heads else Site.NEURON, found[kind], delta, found[f"{kind}_size"], width)

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
        ranges = self.layer_choices if self.layers is None else {str(given.layers): self.layers}
        measure = Measure(self.lm, self.config, self.dev_samples, "sev", self.bank, "dev")
        tried = [
            self._steering(f"{spec}/{alpha:g}", "steer", alpha, layers)
            for spec, layers in ranges.items()
            for alpha in (alphas if isinstance(alphas, list) else [alphas])
        ]
        draws, labeller = self.config.evaluator.bootstrap, self.label if self.judge else None
        return choose(measure, tried, given.select, self.config.seed, draws, labeller).to_artifact()

    def _steering(self, name: str, kind: str, alpha: float | list[float], layers: Sequence[int]) -> Arm:
        c = self.config
        seeds = c.control.seeds if kind.endswith(("random", "shuffled")) else 1
        scored = c.control.score_seeds if kind.endswith("random") else seeds  # shuffled directions cost an extraction
        decoding = "steering" if c.generation.decoding == "paper" else "plain"
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
        unedited = [Arm("none", "none")] if kind == "none" else [Arm("none", "none"), Arm("prompt", "prompt")]
        if kind in ("none", "prompt"):
            return unedited
        if self.on is not None:
            return [*unedited, *unit_arms(c, self.edited_layers, len(self.names))]
        kinds = {"steer": ["steer"], "prompt_steer": ["steer", "prompt_steer"]}.get(kind, [kind])
        if kind == "steer":
            kinds += c.control.arms
        elif kind == "prompt_steer":  # its controls run under the emotion prompt too
            kinds += [f"prompt_{control}" for control in c.control.arms]
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
        return Measure(self.lm, self.config, self.splits.test, "sev_test", self.bank, "test", self.units)

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
            needs = on_directions or arm.kind.endswith(("steer", "shuffled"))
            drawn = isinstance(arm, UnitArm) or arm.kind.endswith("random")
            keys[name] = self.address(
                stage,
                samples=digest(self.splits.test),
                arm=arm.key(scored=on_directions),
                directions=self.directions_address if needs else None,
                attribution=self.attribution_address if isinstance(arm, UnitArm) else None,
                site=self.bank_site if on_directions else None,
                seed=self.config.seed if drawn else None,
                **inputs,
            )
        configs = {name: {"arm": asdict(arm)} for name, arm in by_name.items()}
        return self.store.get_or_compute_many(stage, keys, configs, lambda names: compute([by_name[n] for n in names]))

    @cached_property
    def prompted(self) -> Artifact:
        """Test states under the emotion prompts: proj (n*e, l, e), and states (g,e,l,d) of the first groups."""
        key = self.address(
            "states", samples=digest(self.splits.test), directions=self.directions_address, site=self.bank_site
        )
        config = {"samples": len(self.splits.test), "probe_groups": self.config.directions.probe_groups}
        return self.store.get_or_compute("states", key, config, self._read_prompted)

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

        made = self._per_arm("replies", self.arms, {"max_new_tokens": self.config.generation.max_new_tokens}, compute)
        return {name: artifact.rows for name, artifact in made.items()}

    @cached_property
    def labels(self) -> dict[str, list[dict[str, Any]]]:
        """What the evaluator calls every reply of every arm; empty where it labels none."""
        labeller = labeller_address(self.config)
        if labeller is None:
            return {}

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            made = label_all(self.store, self.config, {arm.name: self.replies[arm.name] for arm in arms})
            return {name: Artifact(rows=rows) for name, rows in made.items()}

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
        greedy = [row["ids"] for row in self.replies["none"]]

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact(rows=rows) for name, rows in self.measure.damage(arms, self.replies, greedy).items()}

        evaluator = asdict(self.config.evaluator)
        inputs = {key: evaluator[key] for key in ("kl_tokens", "min_distinct3", "min_distinct4", "max_nonwords")}
        inputs |= {
            "max_new_tokens": self.config.generation.max_new_tokens,
            "refusals": digest_of("refusals.txt"),
            "words": words_digest(),
        }
        made = self._per_arm("damage", self.arms, inputs, compute)
        return {name: artifact.rows for name, artifact in made.items()}
