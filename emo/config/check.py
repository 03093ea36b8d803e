"""From a composed configuration to a checked `Config`: everything that needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emo.config.build import check_build
from emo.config.choices import (
    ALLOCATIONS,
    BUILDS,
    CIRCUIT_CONTROLS,
    UNIT_CONTROLS,
    UNITS,
    total_budget,
)
from emo.config.data_files import check_files
from emo.config.emotions import check_emotions
from emo.config.error_text import SECRET, explain
from emo.config.interventions import KINDS, kinds, on_circuit
from emo.config.kinds import ADDED, check_classes, check_selector
from emo.config.layers import check_layers
from emo.config.model_source import check_against, check_model, folder_name
from emo.config.own_evaluator import check_evaluator
from emo.config.renamed import moved
from emo.config.schema import Config
from emo.config.store_paths import absolute, stores
from emo.config.values import (
    asks_divergence,
    check_number,
    check_numbers,
    check_size,
    check_subset,
    listed,
    one_divergence,
    shown_value,
)
from emo.core import home
from emo.core.errors import UserError, check_choice

REPOSITORY = Path(__file__).resolve().parents[2]
VALENCES = ("positive", "neutral", "negative")
CONTROLS = ("random", "shuffled")

CHOICES = {
    "task": (
        *("run", "plan", "status", "summarize", "report", "prefetch", "judge", "compare", "agreement", "label_sheet"),
        *("gc", "verify", "extract", "charts"),
        *BUILDS,
    ),
    "console": ("rich", "quiet"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "size": ("small", "full"),
    "model.source": ("hub", "local", "embedded", "tiny"),
    "model.chat": ("auto", "plain"),
    "dataset.kind": ("scenarios", "labelled"),
    "dataset.task": ("emotion", "rhetoric"),
    "elicitation.template": ("paper", "persona", "few_shot", "priming"),
    "elicitation.separator": ("newline", "space"),
    "elicitation.accept": ("all", "judged"),
    "elicitation.judge": ("classifier", "none"),
    "elicitation.groups": ("complete", "available"),
    "generation.decoding": ("same", "no_repeat", "paper"),
    "directions.baseline": ("emotions_mean", "neutral"),
    "directions.tokens": ("prompt_last", "reply_mean"),
    "intervention.op": ("zero", "mean", "attenuate", "gain"),
    "intervention.ratio_of": ("set", "population"),
    "intervention.attenuate_by": ("live", "mean"),
    "selector.site": ("gate", "neuron"),
    "selector.tokens": ("content", "last"),
    "selector.assignment": ("lape_bar", "argmax"),
    "selector.space": ("separate", "joint"),
    "circuit.delta_baseline": ("emotions_mean", "neutral"),
    "circuit.allocation": ALLOCATIONS,
    "circuit.dose": ("raw", "rel"),
    "circuit.head_tokens": ("every_step", "all"),
    "circuit.sigma": ("update", "residual"),
    "circuit.importance_at": ("resid", "normed"),
    "intervention.pool": ("per_layer", "global"),
    "directions.last": ("resid", "normed"),
    "attribution.score_at": ("residual", "mlp_input"),
    "intervention.select.per": ("model", "emotion"),
    "intervention.dose": ("rms", "rel", "raw"),
    "intervention.tokens": ("every_step", "prompt_last", "all"),
    "evaluator.answer": ("choice", "parsed"),
    "evaluator.score": ("calibrated", "sum", "mean"),
    "tracker.name": ("none", "wandb"),
    "tracker.mode": ("offline", "online"),
}
AT_LEAST = {  # null, where the key allows it, means no bound
    "seed": 0,
    "batch_size": 1,
    "dataset.limit": 1,
    "agreement.limit": 1,
    "generation.max_new_tokens": 1,
    "directions.probe_groups": 1,
    "attribution.check": 0,
    "intervention.select.prompts": 1,
    "intervention.select.extend": 0,
    "control.seeds": 1,
    "adaptive.rounds": 1,
    "control.score_seeds": 1,
    "evaluator.bootstrap": 1,
    "evaluator.kl_tokens": 1,
}
POSITIVE = ("intervention.decay", "intervention.select.max_ppl_ratio")
SHARES = (
    "intervention.select.max_degenerate",
    "evaluator.min_distinct3",
    "evaluator.min_distinct4",
    "evaluator.max_nonwords",
)
LAMBDA = 1.0  # of enhancements, in the paper
ADDS_UNITS = {*kinds("neurons", "heads", op="add"), *ADDED}  # read a scale that is a number
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
FOLDER = re.compile(r"\w[\w.-]*")  # a name without slashes that does not hide itself


def _of_size(small: Any, full: Any, *, _root_: DictConfig) -> Any:
    """Return what ``${size:SMALL,FULL}`` in a file of ``conf/experiment`` stands for."""
    return full if _root_.size == "full" else small


OmegaConf.register_new_resolver("program", lambda: " ".join(home.PROGRAM), replace=True)  # as it is typed, in the help
OmegaConf.register_new_resolver("repository", lambda: str(home.folder()), replace=True)
OmegaConf.register_new_resolver("size", _of_size, replace=True)
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def to_config(cfg: DictConfig, typed: Sequence[str] = ()) -> Config:
    """Merge ``cfg`` into the typed schema, resolve it and check it; ``typed``: the words that it was composed with.

    Raises:
        UserError: for an unknown key, a wrong type or a value out of range; the line names the key.
    """
    try:
        merged = OmegaConf.merge(_schema(), listed(moved(_without_hydra(cfg), typed, _schema())))
        for key in sorted(OmegaConf.missing_keys(merged), key=lambda key: not key.endswith(".name")):
            _missing(key)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    if not isinstance(config, Config):
        raise TypeError(f"expected a Config, got {type(config).__name__}")
    _check(config)
    config.paths.outputs = absolute(config.paths.outputs)
    config.paths.store = stores(config.paths.store)
    return config


@lru_cache(maxsize=1)
def _schema() -> DictConfig:
    """Return the typed schema; merging copies it, and making it takes as long as checking a job."""
    made: DictConfig = OmegaConf.structured(Config)
    return made


def _without_hydra(cfg: DictConfig) -> DictConfig:
    if "hydra" not in cfg and not OmegaConf.is_struct(cfg):  # of `emo.cli.composing`: copying takes a third of the time
        return cfg
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def _missing(key: str) -> None:
    if key == "model.id":
        raise UserError("model=hub needs model.id=OWNER/NAME, e.g. model.id=Qwen/Qwen2.5-0.5B-Instruct")
    group = key.partition(".")[0]
    options = sorted(path.stem for path in (home.CONF / group).glob("*.yaml"))
    if options:
        raise UserError(f"{group}: nothing chosen ({key} has no value); type {group}= one of {', '.join(options)}")
    raise UserError(f"{key}: has no value; type {key}=VALUE")


def _check(config: Config) -> None:
    for key, allowed in CHOICES.items():
        check_choice(key, _at(config, key), allowed)
    _kind(config)
    _secrets(config)
    for key, least in AT_LEAST.items():
        value = _at(config, key)
        if isinstance(value, int) and value < least:
            raise UserError(f"{key}={value}: a whole number from {least} on is needed")
    for key in POSITIVE:
        check_number(key, _at(config, key), above=0.0)
    for key in SHARES:
        check_number(key, _at(config, key), low=0.0, high=1.0)
    check_number("dataset.dev_fraction", config.dataset.dev_fraction, above=0.0, below=1.0)
    check_number("gc.hours", config.gc.hours, low=0.0, high=1e6)
    if not DEVICE.fullmatch(config.device):
        raise UserError(f"device={config.device}: type auto, cpu, cuda, cuda:0 or mps")
    if not FOLDER.fullmatch(config.name):
        raise UserError(f"name={config.name}: a folder name of letters, digits, '.', '_' and '-' is needed")
    check_build(config)
    check_evaluator(config)
    check_emotions(config)
    check_selector(config.selector.name, config.selector._target_)
    check_subset("dataset.valences", config.dataset.valences, VALENCES, at_least=1)
    check_subset("control.arms", config.control.arms, CONTROLS, at_least=0)
    check_subset("control.units", config.control.units, UNIT_CONTROLS, at_least=0)
    check_subset("control.circuits", config.control.circuits, CIRCUIT_CONTROLS, at_least=0)
    check_subset("evaluator.questions", config.evaluator.questions, ("blind", "match", "joint"), at_least=1)
    if config.dataset.themes is not None:
        check_subset("dataset.themes", config.dataset.themes, config.dataset.themes, at_least=1)
    check_files(config.dataset)
    check_model(config.model)
    config.against = check_against(config.against)
    if config.elicitation.accept == "judged" and config.elicitation.judge == "none":
        raise UserError("elicitation.accept=judged: nothing judges; type elicitation.judge=classifier")
    alpha = config.intervention.alpha
    if asks_divergence(alpha):
        config.intervention.alpha = one_divergence("intervention.alpha", alpha)
        if config.intervention._target_ is not None:
            raise UserError(f"intervention.alpha={alpha}: only steering finds it; type a number for your own")
    elif alpha != "auto":
        check_numbers("intervention.alpha", alpha, "a number, a list of numbers, auto or kl:NATS")
        several = isinstance(alpha, list)  # as floats: 8 and 8.0 are one strength, so one address
        config.intervention.alpha = [float(a) for a in alpha] if several else float(alpha)
    _units(config)
    _circuit(config)
    _shares(config)
    check_classes(config)
    for key in ("alpha", "scale"):
        check_numbers(f"intervention.select.{key}", getattr(config.intervention.select, key), "a list of numbers")
    check_layers(config.intervention.layers, auto=True)
    if not config.intervention.select.layers:
        raise UserError("intervention.select.layers=[]: at least one layer range is needed")
    for layers in config.intervention.select.layers:
        check_layers(layers, key="intervention.select.layers")


def _kind(config: Config) -> None:
    """Check the name of an intervention; one of a user's own has a name that is free."""
    given = config.intervention
    if given._target_ is None:
        check_choice("intervention.kind", given.kind, tuple(KINDS))
    elif given.kind in KINDS or not FOLDER.fullmatch(given.kind):
        raise UserError(
            f"intervention.kind={given.kind}: with intervention._target_ type a name of its own, of letters, digits "
            f"and _, none of {', '.join(KINDS)}"
        )


def _secrets(config: Config) -> None:
    """Refuse secrets among the settings of a user's own classes: every result holds these."""
    for section in ("intervention", "selector", "evaluator"):
        for key in getattr(config, section).settings or {}:
            if SECRET.search(str(key)):
                raise UserError(f"{section}.settings.{key}: secrets are read from the environment only; leave it out")


def _at(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _units(config: Config) -> None:
    """Check k and scale; as numbers of one type, since 8 and [8] or 1 and 1.0 are the same choice."""
    given, names = config.intervention, config.emotions.names
    if isinstance(given.scale, dict):
        if sorted(given.scale) != sorted(names):
            raise UserError(f"intervention.scale: one number for each of {', '.join(names)} is needed")
        for name in names:
            check_number(f"intervention.scale.{name}", given.scale[name])
            check_size(f"intervention.scale.{name}", given.scale[name])
        given.scale = {name: float(given.scale[name]) for name in names}
    elif asks_divergence(given.scale):
        given.scale = one_divergence("intervention.scale", given.scale)
        if given._target_ is not None or given.kind in ADDS_UNITS:
            raise UserError(f"intervention.scale={given.scale}: found for circuits only; type a number")
    elif given.scale != "auto":
        check_numbers(
            "intervention.scale",
            given.scale,
            "a number, a list of numbers; of circuits auto, kl:NATS or {anger:0.8,...}",
        )
        given.scale = [float(x) for x in given.scale] if isinstance(given.scale, list) else float(given.scale)
    if not on_circuit(config) and isinstance(given.scale, dict | str):  # what circuits alone can have
        given.scale = LAMBDA
    ks = given.k if isinstance(given.k, list) else [given.k]
    if not ks or len(set(map(str, ks))) < len(ks) or any(isinstance(k, bool) or not isinstance(k, int) for k in ks):
        raise UserError(
            f"intervention.k={shown_value(given.k)}: type a whole number or a list of them, none twice: [0,2,8]"
        )
    if min(ks) < 0:
        raise UserError(f"intervention.k={shown_value(given.k)}: whole numbers from 0 on are needed")


def _circuit(config: Config) -> None:
    """Check the section circuit."""
    c = config.circuit
    c.budget = str(c.budget) if isinstance(c.budget, str) else c.budget
    total_budget(c.budget, 1)
    if c.split != "auto":
        check_number("circuit.split", c.split, low=0.0, high=1.0)
        c.split = float(c.split)
    check_number("circuit.cap", c.cap, above=0.0, below=1.0 + 1e-9)
    if len(c.floor) != len(UNITS) or min(c.floor) < 0:
        raise UserError(
            f"circuit.floor={shown_value(c.floor)}: two whole numbers from 0 on are needed, neurons and heads: [4,2]"
        )
    for key in ("reference_layers", "layers"):
        check_layers(getattr(c, key), key=f"circuit.{key}")
    check_numbers("circuit.push_sizes", c.push_sizes, "a list of numbers")
    if min(map(abs, c.push_sizes)) == 0:
        raise UserError("circuit.push_sizes: 0 pushes nothing; type numbers other than 0")


def _shares(config: Config) -> None:
    """Check what masks and their loop are given; as numbers of one type, since 1 and 1.0 are the same choice."""
    given = config.intervention
    check_numbers("intervention.ratio", given.ratio, "a share of the neurons in (0, 1], or a list of them")
    shares = given.ratio if isinstance(given.ratio, list) else [given.ratio]
    for share in shares:
        check_number("intervention.ratio", share, above=0.0, below=1.0 + 1e-9)
    given.ratio = [float(x) for x in shares] if isinstance(given.ratio, list) else float(given.ratio)
    for key in ("attenuation", "gain"):
        name, value = f"intervention.{key}", getattr(given, key)
        check_numbers(name, value, "a number, or a list of them")
        values = [float(x) for x in (value if isinstance(value, list) else [value])]
        if key == "attenuation":
            for share in values:
                check_number(name, share, above=0.0, below=1.0 + 1e-9)
        setattr(given, key, values if isinstance(value, list) else values[0])
    for key in ("adaptive.alpha", "adaptive.tau", "selector.ratio"):
        check_number(key, _at(config, key), above=0.0, below=1.0 + 1e-9)
    for key in ("adaptive.alpha_step", "adaptive.tau_step"):
        check_number(key, _at(config, key), low=0.0, high=1.0)
    check_number("adaptive.margin", config.adaptive.margin, above=0.0)
