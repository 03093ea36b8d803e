"""The addresses of one job: what each stage depends on, known before anything runs.

An address holds the stage's version, its part of the configuration, the addresses of the stages before it, and the
digests of data and texts; never where or how fast the job runs.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any

from emo.config.choices import total_budget
from emo.config.interventions import alpha_divergence, kind_of, on_circuit, on_units, scale_tuned, steers
from emo.config.layers import parse_layers
from emo.config.read_keys import (
    ASKING_KEYS,
    ASSEMBLY_KEYS,
    IMPORTANCE_KEYS,
    LABELLED_KEYS,
    assembled,
    at_divergence,
    without_effect,
)
from emo.config.renamed import in_addresses
from emo.config.schema import RUNTIME_KEYS, Config
from emo.core.errors import UserError
from emo.core.sealed import digest
from emo.core.store import Store, address
from emo.core.targets import target_digest
from emo.core.types import Site
from emo.data.scenarios import Sample, load_splits, spread
from emo.data.texts import digest_of, words_digest
from emo.edit.interventions import intervention_of
from emo.find.circuit import Circuit
from emo.find.circuit_similarity import find_circuit
from emo.find.directions import shuffled_draws
from emo.measure.classifier import classifier_address
from emo.measure.equal_divergence import SEARCH
from emo.measure.labels import labeller_address
from emo.measure.reply_metrics import metrics_inputs
from emo.model.families import family_of
from emo.model.lm import ModelSpec, no_site
from emo.model.load import describe
from emo.model.machine import made_by
from emo.pipeline.manifests import tell
from emo.pipeline.second_model import second_spec
from emo.pipeline.stage import EXPORTED, SCENARIOS, versions

UNIT_KEYS = ("k", "scale", "pool")  # of an intervention on neurons or heads
MASK_KEYS = ("op", "ratio", "ratio_of", "attenuate_by", "attenuation", "gain")  # of one on the neurons of classes
OWN_KEYS = ("_target_", "settings")  # of one's own: steering's strength is chosen without it


class Addresses:
    """One configuration with its data and its model's description, and the address of every stage."""

    def __init__(self, config: Config, spec: ModelSpec | None = None) -> None:
        self.config = config
        self.store = Store(config.paths.store)
        self.spec = spec or describe(config.model, config.device, config.dtype)
        self.store.made_by = made_by(self.spec)
        self.second = None if config.against is None or not assembled(config) else second_spec(config, self.spec)
        self.splits = load_splits(config.dataset, config.seed)
        self.names = list(config.emotions.names)
        tell(self.store, config, self.spec, self.names, {"digest": self.splits.digest, "scenarios": self._counts})
        given = config.intervention
        self.intervention = intervention_of(config)  # early: a class that is not there is refused before anything runs
        n = self.spec.n_layers
        self.layers = None if given.layers == "auto" else parse_layers(given.layers, n)
        self.circuit_layers = parse_layers(config.circuit.layers, n, key="circuit.layers")
        if config.circuit.path is not None:  # a saved circuit has its units where it has them
            self.circuit_layers = tuple(range(n))
        self.stable_layers = (
            parse_layers(config.circuit.reference_layers, n, key="circuit.reference_layers") if self.has_circuit else ()
        )
        if self.on is not None:
            self._check_k()
        asks = config.attribution.score_at == "mlp_input" and (self.on is not None or self.has_circuit)
        if asks and self.spec.parallel:
            line = no_site(self.spec.title, self.spec.family, Site.RESID_MID)
            raise UserError(f"attribution.score_at=mlp_input: {line}; type attribution.score_at=residual")
        self.layer_choices = {
            spec: parse_layers(spec, n, key="intervention.select.layers") for spec in given.select.layers
        }

    @property
    def _counts(self) -> dict[str, int]:
        return dict(zip(("extract", "dev", "test"), self.splits.scenarios(), strict=True))

    def _check_k(self) -> None:
        given, heads = self.config.intervention, self.on == "heads"
        most = self.spec.n_heads if heads else self.spec.n_neurons
        most *= len(self.edited_layers) if given.pool == "global" else 1
        largest = max(given.k) if isinstance(given.k, list) else given.k
        if largest > most:
            where = f"{len(self.edited_layers)} blocks" if given.pool == "global" else "each block"
            raise UserError(f"intervention.k={largest}: {self.config.model.name} has {most} {self.on} in {where}")

    @cached_property
    def _asking(self) -> dict[str, Any]:
        c = self.config.elicitation
        pool = digest_of(f"{c.template}.jsonl") if c.template in ("few_shot", "priming") else None
        words = {name: w for name in self.names if (w := (c.words or {}).get(name, name)) != name}
        asking = {"template": c.template, "separator": c.separator, "pool": pool, "emotions": self.names}
        return asking | ({"words": words} if words else {})

    def address(self, stage: str, **inputs: object) -> str:
        """Return the address of a stage of this model and these prompts."""
        return address(
            stage, (SCENARIOS | EXPORTED)[stage].version, model=self.spec.identity, asking=self._asking, **inputs
        )

    @cached_property
    def directions_address(self) -> str:
        """The address of the directions that this job uses; neither their control nor a figure is part of it."""
        c = self.config
        asked = asdict(c.elicitation)
        del asked["judge"], asked["words"]  # the judge's address is below, the words are in every address
        generated, judged = c.directions.tokens == "reply_mean", c.elicitation.accept == "judged"
        return self.address(
            "directions",
            samples=digest(self.splits.extract),
            directions={key: x for key, x in _directions(c).items() if key != "probe_groups"},
            elicitation=asked,
            reply_tokens=c.generation.max_new_tokens if generated or judged else None,
            judge=self.judge if judged else None,
        )

    @property
    def shuffles(self) -> int:
        """The draws of the shuffled control."""
        return shuffled_draws(self.config.control.seeds, len(self.names))

    @cached_property
    def shuffled_address(self) -> str:
        """The address of the directions of permuted labels."""
        return self.address("shuffled", directions=self.directions_address, draws=self.shuffles, seed=self.config.seed)

    @cached_property
    def probes_address(self) -> str:
        """The address of the extraction states that probes are fitted on."""
        groups = self.config.directions.probe_groups
        return self.address("probe_states", directions=self.directions_address, groups=groups)

    @property
    def asks_for_shuffled(self) -> bool:
        """Whether an arm adds directions of permuted labels."""
        kind = kind_of(self.config)
        if kind.edits != "residual":
            return False
        return "shuffled" in self.config.control.arms if kind.controlled else kind.name == "shuffled"

    @cached_property
    def attribution_address(self) -> str:
        """The address of the scores of neurons and heads; baseline and accepted replies are those of the directions."""
        given = {key: value for key, value in asdict(self.config.attribution).items() if key != "check"}
        return self.address(
            "attribution",
            directions=self.directions_address,
            samples=digest(self.splits.extract),
            attribution=given,  # a check changes no score
            delta_baseline=self.config.circuit.delta_baseline,
        )

    @cached_property
    def importance_address(self) -> str:
        """The address of the importance of sublayers."""
        c = asdict(self.config.circuit)
        return self.address(
            "importance",
            directions=self.directions_address,
            samples=digest(self.splits.extract),
            stable=self.stable_layers,
            **in_addresses("circuit", {key: c[key] for key in IMPORTANCE_KEYS}),
            **({} if self.spec.dtype == "float32" else {"precision": "float32"}),  # whatever the model's
            **({"sigma_over": "emotion prompts"} if c["sigma"] == "residual" else {}),  # once: emotion-free prompts
        )

    @cached_property
    def saved_circuit(self) -> Circuit | None:
        """The circuit that ``circuit.path`` names, of this job's emotions."""
        path = self.config.circuit.path
        if path is None or not self.has_circuit:
            return None
        return Circuit.load(find_circuit(path, "circuit.path")).of(self.names)

    @cached_property
    def circuit_address(self) -> str:
        """The address of the circuit: of what it is assembled from, or of its content where it was saved."""
        saved = self.saved_circuit
        if saved is not None:
            return saved.digest()
        c = asdict(self.config.circuit)
        return self.address(
            "circuit",
            importance=self.importance_address,
            attribution=self.attribution_address,
            layers=self.circuit_layers,
            seed=self.config.seed if c["allocation"] == "random" else None,
            **{key: c[key] for key in ASSEMBLY_KEYS} | {"budget": self._budget},
        )

    @property
    def _budget(self) -> int:
        return total_budget(self.config.circuit.budget, len(self.circuit_layers))

    @property
    def behind_norms(self) -> bool:
        """Whether norms stand behind the sublayers: doses of circuits count what arrives (`emo.find.update_gain`)."""
        return family_of(self.spec.family).attention_norm is not None

    @property
    def has_circuit(self) -> bool:
        """Whether the intervention edits a whole circuit."""
        return on_circuit(self.config)

    @property
    def steers(self) -> bool:
        """Whether an arm adds directions to the residual stream, by itself or beside a circuit."""
        return steers(self.config)

    @cached_property
    def judge(self) -> str | None:
        """The address of what labels replies for acceptance and for strengths (never the evaluator); None: nothing."""
        named = self.config.elicitation.judge == "classifier"
        return classifier_address(self.names, self.config.evaluator.encoder) if named else None

    @property
    def on(self) -> str | None:
        """Which units the intervention edits: neurons or heads; None for one that edits none."""
        return kind_of(self.config).edits if on_units(self.config) else None

    @property
    def bank_site(self) -> str | None:
        """Where projections are read, if not at resid_post."""
        return "resid_mid" if self.on == "heads" and not self.spec.parallel else None

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """The blocks whose units are edited; ``auto`` means all of them."""
        return tuple(range(self.spec.n_layers)) if self.layers is None else self.layers

    @property
    def tuned(self) -> bool:
        """Whether strength or layers of steering are chosen on dev."""
        return self.steers and (self.config.intervention.alpha == "auto" or self.layers is None)

    @property
    def scale_tuned(self) -> bool:
        """Whether the scale of a circuit is chosen on dev."""
        return scale_tuned(self.config)

    @cached_property
    def _selection_key(self) -> str:
        given = asdict(self.config.intervention)
        given |= {"kind": "steer", "layers": self.layers, "select_layers": self.layer_choices}
        given["select"].pop("scale")
        for key in (*UNIT_KEYS, *MASK_KEYS, *OWN_KEYS):
            given.pop(key)
        if alpha_divergence(self.config) is not None:
            given["search"] = SEARCH
        return self._selected(given)

    @cached_property
    def _scale_selection_key(self) -> str:
        given, c = asdict(self.config.intervention), self.config.circuit
        for key in ("alpha", "layers"):
            given["select"].pop(key)
        kept = {key: given[key] for key in ("select", "tokens", "decay")}
        return self._selected(
            kept | {"kind": "circuit", "circuit": self.circuit_address, "dose": c.dose, "head_tokens": c.head_tokens}
        )

    def _selected(self, given: dict[str, Any]) -> str:
        c = self.config
        thresholds = [c.evaluator.min_distinct3, c.evaluator.min_distinct4, c.evaluator.max_nonwords]
        return self.address(
            "selection",
            directions=self.directions_address,
            samples=digest(self.dev_samples),
            intervention=given,
            generation=asdict(c.generation),
            thresholds=[*thresholds, words_digest()],
            judge=self.judge,
            intervals=[c.evaluator.bootstrap, c.seed],
            texts=digest_of("replies.jsonl"),
        )

    @cached_property
    def result_address(self) -> str:
        """The address of the job's result: what decides whether it is already done."""
        config = asdict(self.config)
        for key in (*RUNTIME_KEYS, "dtype", "against"):
            config.pop(key)
        labelled = () if self.config.dataset.kind == "labelled" else LABELLED_KEYS
        config["directions"] = _directions(self.config)
        for section, keys in {
            "model": ("name", "path", "revision", "adapter", "device_map"),  # their content is in the commit
            "dataset": ("name", "path", "test_path", "_target_", *labelled),  # the data's digest holds the files
            "evaluator": ("base_url", "encoder", "metrics", *ASKING_KEYS),  # the addresses of labellers hold them
        }.items():
            for key in keys:
                config[section].pop(key)
        config["intervention"]["layers"] = self.edited_layers if self.on is not None else self.layers
        config["intervention"]["select"]["layers"] = self.layer_choices
        if self.has_circuit:
            blocks = {"layers": self.circuit_layers, "reference_layers": self.stable_layers}
            config["circuit"] |= {"budget": self._budget, **blocks}
            config["circuit"].pop("allow_other_weights")  # as the path: the content stands below
            config["circuit"].pop("path")
        for key in without_effect(self.config):
            _drop(config, key)
        config |= {key: in_addresses(key, config[key]) for key in ("circuit", "intervention") if key in config}
        texts = [digest_of("replies.jsonl"), digest_of("refusals.txt"), words_digest()]
        labels = [labeller_address(self.config), self.judge]
        circuit = self.saved_circuit.digest() if self.saved_circuit is not None else None
        own = self.config.intervention._target_
        code = {} if own is None else {"code": target_digest(own)}  # a changed line of it is another intervention
        return self.address(
            "result",
            config=config, data=self.splits.digest, versions=versions(SCENARIOS.values()),
            texts=texts, labels=labels, circuit=circuit, **code, **self._against,
            **({"pushes": "behind norms"} if self.has_circuit and self.behind_norms else {}),
            **metrics_inputs(self.config), **({"search": SEARCH} if at_divergence(self.config) else {}),
        )  # fmt: skip

    @property
    def _against(self) -> dict[str, Any]:
        """What a result's address holds of the second model; of most jobs nothing."""
        s = self.second
        return {} if s is None else {"against": s.identity}

    @cached_property
    def dev_samples(self) -> list[Sample]:
        """Dev samples used for choosing strengths, spread over scenarios and outcomes."""
        return [self.splits.dev[i] for i in spread(self.splits.dev, self.config.intervention.select.prompts)]


def _directions(config: Config) -> dict[str, Any]:
    """Return the section directions as it stands in addresses: ``last`` only where it is not what it always was."""
    given = asdict(config.directions)
    return given if given["last"] != "resid" else {key: value for key, value in given.items() if key != "last"}


def _drop(config: dict[str, Any], key: str) -> None:
    """Take a dotted key out of nested settings, and a section that it leaves empty; one not there is out already."""
    name, _, rest = key.partition(".")
    if not rest:
        config.pop(name, None)
    elif name in config:
        _drop(config[name], rest)
        if not config[name]:
            config.pop(name)
