"""From a composed configuration to a checked `Config`: everything that needs no model."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emo.config.choices import (
    ALLOCATIONS,
    CIRCUIT_CONTROLS,
    CIRCUIT_KINDS,
    DELIMITER_NAMES,
    READABLE,
    UNIT_CONTROLS,
    UNIT_KINDS,
    UNITS,
    total_budget,
)
from emo.config.emotions import check_emotions
from emo.config.error_text import explain
from emo.config.kinds import KINDS as CLASS_KINDS
from emo.config.kinds import SELECTORS, check_classes
from emo.config.layers import check_layers
from emo.config.own_evaluator import check_evaluator
from emo.config.schema import Config
from emo.config.store_paths import absolute, stores
from emo.core import home
from emo.core.errors import UserError, check_choice, nearest

REPOSITORY = Path(__file__).resolve().parents[2]
VALENCES = ("positive", "neutral", "negative")
CONTROLS = ("random", "shuffled")
SHIPPED = ("sev", "sev_test", "open_prompts", "dialogues", "rhetoric")  # datasets that need no file of the user's
GIVEN = ("jsonl", "labelled", "dailydialog", "trofi", "hypo", "colbert", "iac_v2")

CHOICES = {
    "task": ("run", "plan", "status", "summarize", "prefetch", "judge", "compare", "gc", "verify"),
    "console": ("rich", "quiet"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "size": ("small", "full"),
    "model.source": ("hub", "embedded", "tiny"),
    "model.chat": ("auto", "plain"),
    "dataset.name": (*SHIPPED, *GIVEN),
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
    "intervention.kind": (
        *("none", "prompt", "steer", "prompt_steer", "random", "shuffled"),
        *UNIT_KINDS,
        *CIRCUIT_KINDS,
        *CLASS_KINDS,
    ),
    "intervention.op": ("zero", "mean", "attenuate", "gain"),
    "intervention.of": ("set", "population"),
    "selector.name": SELECTORS,
    "selector.site": ("gate", "neuron"),
    "selector.tokens": ("content", "last"),
    "selector.assignment": ("lape_bar", "argmax"),
    "selector.space": ("separate", "joint"),
    "circuit.delta_baseline": ("emotions_mean", "neutral"),
    "circuit.allocation": ALLOCATIONS,
    "circuit.dose": ("raw", "rel"),
    "circuit.head_tokens": ("every_step", "all"),
    "circuit.sigma": ("update", "residual"),
    "circuit.final": ("resid", "normed"),
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
LARGEST = 1e4  # of strengths, in any unit: float16 ends at 65504, and beyond this nothing of a state is left
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
FOLDER = re.compile(r"\w[\w.-]*")  # a name without slashes that does not hide itself


def _of_size(small: Any, full: Any, *, _root_: DictConfig) -> Any:
    """Return what ``${size:SMALL,FULL}`` in a file of ``conf/experiment`` stands for."""
    return full if _root_.size == "full" else small


OmegaConf.register_new_resolver("repository", lambda: str(home.folder()), replace=True)
OmegaConf.register_new_resolver("size", _of_size, replace=True)


def to_config(cfg: DictConfig) -> Config:
    """Merge ``cfg`` into the typed schema, resolve it and check it.

    Raises:
        UserError: for an unknown key, a wrong type or a value out of range; the line names the key.
    """
    try:
        merged = OmegaConf.merge(_schema(), _without_hydra(cfg))
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
    for key, least in AT_LEAST.items():
        value = _at(config, key)
        if isinstance(value, int) and value < least:
            raise UserError(f"{key}={value}: a whole number from {least} on is needed")
    for key in POSITIVE:
        _number(key, _at(config, key), above=0.0)
    for key in SHARES:
        _number(key, _at(config, key), low=0.0, high=1.0)
    _number("dataset.dev_fraction", config.dataset.dev_fraction, above=0.0, below=1.0)
    _number("gc.hours", config.gc.hours, low=0.0, high=1e6)
    if not DEVICE.fullmatch(config.device):
        raise UserError(f"device={config.device}: type auto, cpu, cuda, cuda:0 or mps")
    if not FOLDER.fullmatch(config.name):
        raise UserError(f"name={config.name}: a folder name of letters, digits, '.', '_' and '-' is needed")
    check_evaluator(config)
    check_emotions(config)
    _subset("dataset.valences", config.dataset.valences, VALENCES, at_least=1)
    _subset("control.arms", config.control.arms, CONTROLS, at_least=0)
    _subset("control.units", config.control.units, UNIT_CONTROLS, at_least=0)
    _subset("control.circuits", config.control.circuits, CIRCUIT_CONTROLS, at_least=0)
    _subset("evaluator.questions", config.evaluator.questions, ("blind", "match"), at_least=1)
    if config.dataset.themes is not None:
        _subset("dataset.themes", config.dataset.themes, config.dataset.themes, at_least=1)
    _files(config)
    if config.elicitation.accept == "judged" and config.elicitation.judge == "none":
        raise UserError("elicitation.accept=judged: nothing judges; type elicitation.judge=classifier")
    alpha = config.intervention.alpha
    if alpha != "auto":
        _alpha("intervention.alpha", alpha, "a number, a list of numbers or auto")
        several = isinstance(alpha, list)  # as floats: 8 and 8.0 are one strength, so one address
        config.intervention.alpha = [float(a) for a in alpha] if several else float(alpha)
    _units(config)
    _circuit(config)
    _shares(config)
    check_classes(config)
    for key in ("alpha", "scale"):
        _alpha(f"intervention.select.{key}", getattr(config.intervention.select, key), "a list of numbers")
    check_layers(config.intervention.layers, auto=True)
    if not config.intervention.select.layers:
        raise UserError("intervention.select.layers=[]: at least one layer range is needed")
    for layers in config.intervention.select.layers:
        check_layers(layers, key="intervention.select.layers")


def _at(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _number(
    key: str,
    value: object,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    low: float = -math.inf,
    high: float = math.inf,
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key}={_show(value)}: a finite number is needed")
    if not (above < value < below and low <= value <= high):
        bounds = f"from {low:g} to {high:g}" if math.isfinite(low) else f"above {above:g}"
        bounds += f" and below {below:g}" if math.isfinite(below) else ""
        raise UserError(f"{key}={value}: a number {bounds} is needed")


def _alpha(key: str, value: object, forms: str) -> None:
    values = value if isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            given = _show(value)
            raise UserError(f"{key}={given}: {_show(item)} is no finite number{nearest(item, ['auto'])}; type {forms}")
        _in_range(key, item)
    if not values or len(set(values)) < len(values):
        raise UserError(f"{key}={_show(value)}: a list needs at least one number and none twice")


def _in_range(key: str, value: float) -> None:
    if abs(value) > LARGEST:
        raise UserError(f"{key}={value:g}: far beyond any activation; type numbers from -{LARGEST:g} to {LARGEST:g}")


def _units(config: Config) -> None:
    """Check k and scale; as numbers of one type, since 8 and [8] or 1 and 1.0 are the same choice."""
    given, names = config.intervention, config.emotions.names
    if isinstance(given.scale, dict):
        if sorted(given.scale) != sorted(names):
            raise UserError(f"intervention.scale: one number for each of {', '.join(names)} is needed")
        for name in names:
            _number(f"intervention.scale.{name}", given.scale[name])
            _in_range(f"intervention.scale.{name}", given.scale[name])
        given.scale = {name: float(given.scale[name]) for name in names}
    elif given.scale != "auto":
        _alpha("intervention.scale", given.scale, "a number, a list of numbers; of circuits auto or {anger:0.8,...}")
        given.scale = [float(x) for x in given.scale] if isinstance(given.scale, list) else float(given.scale)
    if given.kind not in CIRCUIT_KINDS and isinstance(given.scale, dict | str):  # what circuits alone can have
        given.scale = LAMBDA
    ks = given.k if isinstance(given.k, list) else [given.k]
    if not ks or len(set(map(str, ks))) < len(ks) or any(isinstance(k, bool) or not isinstance(k, int) for k in ks):
        raise UserError(f"intervention.k={_show(given.k)}: type a whole number or a list of them, none twice: [0,2,8]")
    if min(ks) < 0:
        raise UserError(f"intervention.k={_show(given.k)}: whole numbers from 0 on are needed")


def _circuit(config: Config) -> None:
    """Check the section circuit."""
    c = config.circuit
    c.budget = str(c.budget) if isinstance(c.budget, str) else c.budget
    total_budget(c.budget, 1)
    if c.split != "auto":
        _number("circuit.split", c.split, low=0.0, high=1.0)
        c.split = float(c.split)
    _number("circuit.cap", c.cap, above=0.0, below=1.0 + 1e-9)
    if len(c.floor) != len(UNITS) or min(c.floor) < 0:
        raise UserError(
            f"circuit.floor={_show(c.floor)}: two whole numbers from 0 on are needed, neurons and heads: [4,2]"
        )
    for key in ("stable", "layers"):
        check_layers(getattr(c, key), key=f"circuit.{key}")
    _alpha("circuit.alphas", c.alphas, "a list of numbers")
    if min(map(abs, c.alphas)) == 0:
        raise UserError("circuit.alphas: 0 pushes nothing; type numbers other than 0")


def _shares(config: Config) -> None:
    """Check what masks and their loop are given; as numbers of one type, since 1 and 1.0 are the same choice."""
    given = config.intervention
    _alpha("intervention.ratio", given.ratio, "a share of the neurons in (0, 1], or a list of them")
    shares = given.ratio if isinstance(given.ratio, list) else [given.ratio]
    for share in shares:
        _number("intervention.ratio", share, above=0.0, below=1.0 + 1e-9)
    given.ratio = [float(x) for x in shares] if isinstance(given.ratio, list) else float(given.ratio)
    for key in ("attenuation", "gain"):
        name, value = f"intervention.{key}", getattr(given, key)
        _alpha(name, value, "a number, or a list of them")
        values = [float(x) for x in (value if isinstance(value, list) else [value])]
        if key == "attenuation":
            for share in values:
                _number(name, share, above=0.0, below=1.0 + 1e-9)
        setattr(given, key, values if isinstance(value, list) else values[0])
    for key in ("adaptive.alpha", "adaptive.tau", "selector.ratio"):
        _number(key, _at(config, key), above=0.0, below=1.0 + 1e-9)
    for key in ("adaptive.alpha_step", "adaptive.tau_step"):
        _number(key, _at(config, key), low=0.0, high=1.0)
    _number("adaptive.margin", config.adaptive.margin, above=0.0)


def _subset(key: str, given: list[str], allowed: tuple[str, ...] | list[str], at_least: int) -> None:
    for name in given:
        if name not in allowed:
            raise UserError(f"{key}: {name} is not one of {', '.join(allowed)}{nearest(name, allowed)}")
    if len(set(given)) < len(given):
        raise UserError(f"{key}={_show(given)}: a name stands there twice")
    if len(given) < at_least:
        raise UserError(f"{key}={_show(given)}: at least {at_least} of {', '.join(allowed) or 'its values'} needed")


def _files(config: Config) -> None:
    if config.dataset.name in GIVEN and config.dataset.path is None:
        kind = "FILE.jsonl" if config.dataset.kind == "scenarios" else f"FILE, a {READABLE}"
        raise UserError(f"dataset={config.dataset.name} needs dataset.path={kind}")
    for key in ("path", "test_path"):
        path = getattr(config.dataset, key)
        if path is not None and not Path(path).expanduser().exists():
            raise UserError(f"dataset.{key}={path}: no such file (looked from {Path.cwd()})")
    given = config.dataset
    if given.multilabel is not None:
        check_choice("dataset.multilabel", given.multilabel, ("skip", "first"))
    mark = given.delimiter
    if mark is not None and mark not in DELIMITER_NAMES and (len(mark) != 1 or mark.isalnum() or mark in "\"'\r\n"):
        raise UserError(f"dataset.delimiter={mark}: type one character, or {', '.join(DELIMITER_NAMES)}")


def _show(value: object) -> str:
    """Write a value as it is typed."""
    if isinstance(value, list):
        return "[" + ",".join(map(_show, value)) + "]"
    return "null" if value is None else str(value)
