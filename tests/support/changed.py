"""A configuration with one key changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emo.config.schema import Config

OTHER: dict[str, Any] = {  # a second valid value of every key that is not a number
    "batch_size": 7,
    "console": "rich",
    "device": "auto",
    "cluster.jobs_per_task": 3,
    "cluster.wait": False,
    "name": "other",
    "size": "full",
    "task": "status",
    "runs": "outputs/run",
    "dtype": "bfloat16",
    "model.source": "tiny",
    "model.id": "qwen2",
    "model.chat": "plain",
    "model.name": "other",
    "model.revision": "main",
    "model.device_map": "auto",
    "dataset.themes": ["Work/Job"],
    "dataset.valences": ["positive"],
    "dataset.leave_out": "Work/Job",
    "dataset.limit": 1,
    "emotions.names": ["anger", "fear", "sadness"],
    "emotions.words": {"fear": "a fear of heights"},
    "emotions.descriptions": {"fear": "Expecting harm."},
    "elicitation.words": {"fear": "a fear of heights"},
    "elicitation.template": "persona",
    "elicitation.separator": "space",
    "elicitation.accept": "judged",
    "elicitation.groups": "available",
    "elicitation.judge": "classifier",
    "generation.decoding": "paper",
    "directions.baseline": "neutral",
    "directions.tokens": "reply_mean",
    "directions.last": "normed",
    "attribution.score_at": "mlp_input",
    "attribution.check": 2,
    "circuit.allow_other_weights": True,
    "circuit.delta_baseline": "neutral",
    "circuit.budget": 9,
    "circuit.split": "auto",
    "circuit.floor": [1, 1],
    "circuit.allocation": "uniform",
    "circuit.layers": "1-2",
    "circuit.dose": "rel",
    "circuit.head_tokens": "all",
    "circuit.stable": "0-1",
    "circuit.alphas": [0.1],
    "circuit.sigma": "residual",
    "circuit.final": "normed",
    "intervention.kind": "prompt_steer",
    "intervention.k": [2, 4],
    "intervention.pool": "global",
    "intervention.layers": "2-3",
    "intervention.dose": "rel",
    "intervention.tokens": "all",
    "intervention.select.alpha": [0.25],
    "intervention.select.layers": ["all"],
    "intervention.select.scale": [0.25],
    "intervention.select.prompts": 2,
    "intervention.select.per": "emotion",
    "control.arms": [],
    "control.units": [],
    "control.circuits": [],
    "evaluator.model": "other",
    "evaluator.labels": ["joy:happiness"],
    "evaluator.questions": ["blind"],
    "evaluator.name": "projection",
    "selector.name": "cas",
    "selector.site": "neuron",
    "selector.tokens": "last",
    "selector.assignment": "argmax",
    "intervention.op": "mean",
    "intervention.of": "population",
    "evaluator.answer": "parsed",
    "evaluator.score": "mean",
    "tracker.name": "wandb",
    "tracker.mode": "online",
    "tracker.project": "other",
    "tracker.entity": "team",
    "tracker.group": "other",
    "tracker.tags": ["other"],
    "paths.outputs": "elsewhere",
    "paths.store": "elsewhere",
}
CIRCUIT_KEYS = "delta_baseline budget split floor cap allocation layers "
CIRCUIT_KEYS += "dose head_tokens stable alphas sigma final"
UNCHANGED = {  # keys that change no number; written out: one that the code forgets must not leave this list with it
    "model.name": "a label; the address holds source, id and commit",
    "model.revision": "resolved to a commit, which the address holds; tiny models have none",
    "model.device_map": "where weights lie in memory",
    "model.source": "has one value for a tiny model; another source is another commit",
    "dataset.name": "a label of the option; the address holds the sha256 of the files",
    "dataset.path": "the address holds the sha256 of the file",
    "dataset.test_path": "the address holds the sha256 of the file",
    "dataset.kind": "of labelled texts: test_labelled",
    "dataset.text": "of labelled texts",
    "dataset.label": "of labelled texts",
    "dataset.literal": "of labelled texts",
    "dataset.group": "of labelled texts",
    "dataset.labels": "of labelled texts",
    "dataset.task": "of labelled texts",
    "dataset.delimiter": "of labelled texts",
    "dataset.header": "of labelled texts",
    "dataset.multilabel": "of labelled texts",
    "intervention.k": "of neurons and heads: test_unit_jobs",
    "intervention.scale": "of neurons and heads, and of circuits",
    "intervention.pool": "of neurons and heads",
    "control.units": "of neurons and heads",
    "attribution.score_at": "of neurons and heads",
    "attribution.check": "of neurons and heads",
    "circuit.path": "of circuits: test_circuit_addresses",
    "circuit.allow_other_weights": "of circuits",
    **dict.fromkeys((f"circuit.{key}" for key in CIRCUIT_KEYS.split()), "of circuits"),
    "control.circuits": "of circuits",
    "intervention.select.scale": "of circuits",
    "selector.name": "of jobs on classes: test_class_jobs",
    "selector.site": "of jobs on classes",
    "selector.tokens": "of jobs on classes",
    "selector.ratio": "of jobs on classes",
    "selector.filter": "of jobs on classes",
    "selector.assignment": "of jobs on classes",
    "selector.space": "of jobs on classes",
    "adaptive.alpha": "of jobs on classes",
    "adaptive.alpha_step": "of jobs on classes",
    "adaptive.tau": "of jobs on classes",
    "adaptive.tau_step": "of jobs on classes",
    "adaptive.margin": "of jobs on classes",
    "adaptive.rounds": "of jobs on classes",
    "evaluator.answer": "of jobs on classes",
    "evaluator.score": "of jobs on classes",
    "intervention.op": "of jobs on classes",
    "intervention.ratio": "of jobs on classes",
    "intervention.of": "of jobs on classes",
    "intervention.live": "of jobs on classes",
    "intervention.attenuation": "of jobs on classes",
    "intervention.gain": "of jobs on classes",
    "evaluator.base_url": "the address of a judge's labels holds it, resolved",
    "evaluator.structured": "how a judge is asked, not what",
    "evaluator.concurrency": "how a judge is asked",
    "evaluator.timeout_s": "how a judge is asked",
    "evaluator.retries": "how a judge is asked",
    "evaluator.price_input": "how a judge is asked",
    "evaluator.price_output": "how a judge is asked",
}


def at(section: Any, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        section = getattr(section, part)
    return section


def changed(made: Config, key: str) -> Config:
    """Return a configuration that differs in one key."""
    value = at(made, key)
    other: Any = OTHER[key] if key in OTHER else value + 1 if isinstance(value, int) else value / 2
    assert other != value or key in UNCHANGED, key
    while key:
        path, _, name = key.rpartition(".")
        whole = at(made, path) if path else made
        other, key = replace(whole, **{name: other}), path
    return other
