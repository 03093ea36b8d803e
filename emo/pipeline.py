"""One job: the stages in order, each kept under the address of all that it depends on.

    splits -> states -> directions -> (strength, on dev) -> replies, projections -> margins, damage

Addresses are known before anything runs. Arms of a stage are separate artifacts, so a sweep over alpha
computes the unedited arms once; missing ones share a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from emo import tracking
from emo.config import RUNTIME_KEYS, Config
from emo.data import Sample, load_splits, spread
from emo.directions import MLP
from emo.evaluators.encoder import encoder_folder
from emo.evaluators.margin import stand_ins
from emo.extraction import extract
from emo.interventions.arms import Arm, Bank, random_directions
from emo.layers import parse_layers
from emo.measure import Measure
from emo.models.lm import LM
from emo.models.load import describe, load
from emo.selection import Choice, choose
from emo.store import Artifact, Store, address, writable
from emo.texts import digest_of, words_digest

VERSIONS = {
    "directions": 1,
    "selection": 1,
    "states": 1,
    "projections": 1,
    "replies": 1,
    "margins": 1,
    "damage": 1,
    "result": 1,
}


class Job:
    """The stages of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.paths.store)
        self.spec = describe(config.model, config.device, config.dtype)
        self.splits = load_splits(config.dataset, config.seed)
        self.names = list(config.emotions.names)
        given = config.intervention
        n = self.spec.n_layers
        self.layers = None if given.layers == "auto" else parse_layers(given.layers, n)
        self.layer_choices = {
            spec: parse_layers(spec, n, key="intervention.select.layers") for spec in given.select.layers
        }

    def check(self) -> None:
        """Check what the job needs from this machine beyond the model, before anything runs.

        Raises:
            UserError: the sentence encoder is not installed, a folder cannot be written, W&B cannot be used.
        """
        paths = self.config.paths
        writable(Path(paths.outputs) / self.config.name, Path(paths.store))
        if self.config.evaluator.name != "projection":
            encoder_folder()
        tracking.check(self.config.tracker)

    @property
    def lm(self) -> LM:
        """The model; its weights are read on first use, once per process."""
        return load(self.spec)

    # --- addresses ------------------------------------------------------------------------------

    @cached_property
    def _model(self) -> dict[str, str]:
        return {"commit": self.spec.commit, "id": self.spec.id, "dtype": self.spec.dtype, "chat": self.spec.chat}

    @cached_property
    def _asking(self) -> dict[str, Any]:
        c = self.config.elicitation
        pool = digest_of("few_shot.jsonl") if c.template == "few_shot" else None
        return {"template": c.template, "separator": c.separator, "pool": pool, "emotions": self.names}

    def _address(self, stage: str, **inputs: object) -> str:
        return address(stage, VERSIONS[stage], model=self._model, asking=self._asking, **inputs)

    @cached_property
    def directions_address(self) -> str:
        """The address of the directions that this job uses."""
        c = self.config
        generated = c.directions.tokens == "reply_mean"
        return self._address(
            "directions",
            samples=_digest(self.splits.extract),
            directions=asdict(c.directions),
            elicitation=asdict(c.elicitation),
            reply_tokens=c.generation.max_new_tokens if generated else None,
            shuffles=c.control.seeds,
            seed=c.seed,
        )

    @property
    def tuned(self) -> bool:
        """Whether strength or layers are chosen on dev."""
        steered = self.config.intervention.kind not in ("none", "prompt")
        return steered and (self.config.intervention.alpha == "auto" or self.layers is None)

    @cached_property
    def _selection_key(self) -> str:
        c = self.config
        given = asdict(c.intervention)
        given |= {"kind": "steer", "layers": self.layers, "select_layers": self.layer_choices}
        thresholds = [c.evaluator.min_distinct3, c.evaluator.min_distinct4, c.evaluator.max_nonwords]
        return self._address(
            "selection",
            directions=self.directions_address,
            samples=_digest(self.dev_samples),
            intervention=given,
            generation=asdict(c.generation),
            thresholds=[*thresholds, words_digest()],
            intervals=[c.evaluator.bootstrap, c.seed],
            texts=digest_of("replies.jsonl"),
        )

    @cached_property
    def result_address(self) -> str:
        """The address of the job's result: what decides whether it is already done."""
        config = asdict(self.config)
        for key in (*RUNTIME_KEYS, "dtype"):
            config.pop(key)
        for section, keys in {
            "model": ("name", "revision", "device_map"),
            "dataset": ("name", "path", "test_path"),
        }.items():
            for key in keys:
                config[section].pop(key)
        config["intervention"]["layers"] = self.layers
        config["intervention"]["select"]["layers"] = self.layer_choices
        texts = [digest_of("replies.jsonl"), digest_of("refusals.txt"), words_digest()]
        return self._address("result", config=config, data=self.splits.digest, versions=VERSIONS, texts=texts)

    # --- directions -----------------------------------------------------------------------------

    @cached_property
    def directions(self) -> Artifact:
        """Tensors v (e,l,2,d), shuffled (s,e,l,2,d), norms (e,l,2), and probe_states (g,e,l,d) of the first groups."""
        config = {"directions": asdict(self.config.directions), "groups": len(self.splits.extract)}
        return self.store.get_or_compute(
            "directions", self.directions_address, config, lambda: extract(self.lm, self.config, self.splits.extract)
        )

    @cached_property
    def bank(self) -> Bank:
        """The vectors that arms add."""
        v, shuffled = self.directions.tensors["v"][:, :, MLP], self.directions.tensors["shuffled"][:, :, :, MLP]
        return Bank(v, shuffled, random_directions(self.config.control.seeds, v.shape[1], v.shape[2], self.config.seed))

    # --- strength -------------------------------------------------------------------------------

    @cached_property
    def dev_samples(self) -> list[Sample]:
        """Dev samples used for choosing strengths, spread over scenarios and outcomes."""
        return [self.splits.dev[i] for i in spread(self.splits.dev, self.config.intervention.select.prompts)]

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
        return choose(measure, tried, given.select, self.config.seed, self.config.evaluator.bootstrap).to_artifact()

    def _steering(self, name: str, kind: str, alpha: float, layers: Sequence[int]) -> Arm:
        c = self.config
        seeds = c.control.seeds if kind.endswith(("random", "shuffled")) else 1
        decoding = "steering" if c.generation.decoding == "paper" else "plain"
        given = c.intervention
        return Arm(
            name, kind, float(alpha), tuple(layers), given.dose, given.tokens, float(given.decay), seeds, decoding
        )

    @cached_property
    def arms(self) -> list[Arm]:
        """The arms of this job; a list of strengths gives one arm each."""
        c = self.config
        kind = c.intervention.kind
        unedited = [Arm("none", "none")] if kind == "none" else [Arm("none", "none"), Arm("prompt", "prompt")]
        if kind in ("none", "prompt"):
            return unedited
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
        several = isinstance(alpha, list)
        return unedited + [
            self._steering(f"{kind}@alpha={a:g}" if several else kind, kind, a, layers)
            for kind in kinds
            for a in (alpha if several else [alpha])
        ]

    # --- measured on test -----------------------------------------------------------------------

    @cached_property
    def stand_ins(self) -> dict[str, str]:
        """Themes of the test split without held-out replies of their own, and whose replies stand in."""
        return stand_ins(self.splits.test)

    @cached_property
    def measure(self) -> Measure:
        """The test split under this job's arms."""
        return Measure(self.lm, self.config, self.splits.test, "sev_test", self.bank, "test")

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
            keys[name] = self._address(
                stage,
                samples=_digest(self.splits.test),
                arm=arm.key(),
                directions=self.directions_address if needs else None,
                seed=self.config.seed if arm.kind.endswith("random") else None,
                **inputs,
            )
        configs = {name: {"arm": asdict(arm)} for name, arm in by_name.items()}
        return self.store.get_or_compute_many(stage, keys, configs, lambda names: compute([by_name[n] for n in names]))

    @cached_property
    def prompted(self) -> Artifact:
        """Test states under the emotion prompts: proj (n*e, l, e), and states (g,e,l,d) of the first groups."""
        key = self._address("states", samples=_digest(self.splits.test), directions=self.directions_address)
        config = {"samples": len(self.splits.test), "probe_groups": self.config.directions.probe_groups}
        return self.store.get_or_compute("states", key, config, self._read_prompted)

    def _read_prompted(self) -> Artifact:
        groups = spread(self.splits.test, self.config.directions.probe_groups)
        proj, held = self.measure.project_prompted(groups)
        return Artifact({"proj": proj, "states": held})

    @cached_property
    def projections(self) -> dict[str, Tensor]:
        """<resid_post[l], v_mlp[e,l]> per arm: (entries, l, e)."""

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
        return {arm.name: (plain | edited)[arm.name][:, last] for arm in self.arms}

    @cached_property
    def replies(self) -> dict[str, list[dict[str, Any]]]:
        """Greedy replies of every arm."""

        def compute(arms: list[Arm]) -> dict[str, Artifact]:
            return {name: Artifact(rows=rows) for name, rows in self.measure.reply(arms).items()}

        made = self._per_arm("replies", self.arms, {"max_new_tokens": self.config.generation.max_new_tokens}, compute)
        return {name: artifact.rows for name, artifact in made.items()}

    @cached_property
    def margins(self) -> dict[str, list[dict[str, Any]]]:
        """Log-probability margins of held-out replies, every arm."""

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


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
