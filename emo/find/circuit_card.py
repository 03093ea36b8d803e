"""The card of a circuit: what a person reads who finds its folder, here or on the hub (README.md beside it).

It is written from the circuit alone: where it was found, and what was measured of it, stand in its provenance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from emo.config.choices import UNITS
from emo.config.model_source import HUB_ID
from emo.core import home
from emo.find.circuit import JSON, TENSORS, Circuit

CARD = "README.md"
FILES = (JSON, TENSORS, CARD)  # of a circuit's folder: all that is ever pushed
MEASURED = "measured"  # of the provenance: what a finished job measured of it
LICENCE = "other"  # what is derived from a model's weights has the model's
OWN_LICENCE = "as-the-base-model"


def save_circuit(
    circuit: Circuit,
    folder: str | Path,
    measured: Mapping[str, Any] | None = None,
    licence: str = LICENCE,
    name: str | None = None,
) -> None:
    """Write a circuit and its card into ``folder``.

    Args:
        circuit: what to write.
        folder: made where it is not there.
        measured: of `emo.results.measured.measured`; None: what its provenance says, or nothing.
        licence: as the hub knows it, e.g. ``apache-2.0``.
        name: OWNER/NAME under which others will find it; None: they have the folder.
    """
    folder = Path(folder)
    if measured is not None:
        circuit = replace(circuit, provenance={**circuit.provenance, MEASURED: dict(measured)})
    circuit.save(folder)
    scratch = folder / f".writing-{CARD}"
    scratch.write_text(card(circuit, licence, name), encoding="utf-8")
    os.replace(scratch, folder / CARD)


def card(circuit: Circuit, licence: str = LICENCE, name: str | None = None) -> str:
    """Return the card: model, data, units, controls with their numbers, how to use it, licence."""
    known, model = circuit.provenance, _model(circuit)
    parts = [
        f"---\n{_front(model, licence)}\n---",
        f"# Emotion circuit of {model or 'a language model'}",
        f"Neurons and attention heads of {model or 'the model'} that carry {', '.join(circuit.emotions)}, each with "
        "the vector that is added to it to bring the emotion about.",
        _units(circuit),
        "## Where it was found",
        _origin(circuit),
        "## What was measured",
        _measured(known.get(MEASURED)),
        "## How to use it",
        _use(circuit, name or "FOLDER"),
        "## Licence",
        "What is added is derived from the model's weights, whose licence holds for it."
        if licence == LICENCE
        else f"{licence}; what is added is derived from the model's weights, so look at the model's licence too.",
    ]
    return "\n\n".join(parts) + "\n"


def _model(circuit: Circuit) -> str:
    """Return the repository of the model; of one of no hub its name."""
    found = circuit.provenance.get("model")
    if not isinstance(found, dict):
        return str(found or "")
    own = str(found.get("id", ""))
    return own if HUB_ID.fullmatch(own) else str(found.get("name", own))


def _loaded(circuit: Circuit) -> tuple[str, str]:
    """Return how the model is named in Python and on the command line: an option of ``model=``, else its repository."""
    found, model = circuit.provenance.get("model"), _model(circuit) or "OWNER/MODEL"
    name = found.get("name") if isinstance(found, dict) else None
    if name not in (None, "hub", "local") and (home.CONF / "model" / f"{name}.yaml").is_file():
        return str(name), f"model={name}"
    if HUB_ID.fullmatch(model):
        return model, f"model=hub model.id={model}"
    return "MODEL_FOLDER", "model=local model.path=MODEL_FOLDER"


def _front(model: str, licence: str) -> str:
    """Return what the hub reads of a card."""
    more: dict[str, Any] = {"license_name": OWN_LICENCE} if licence == LICENCE else {}
    base: dict[str, Any] = {"base_model": model} if HUB_ID.fullmatch(model) else {}
    tags = ["emotion", "circuit", "interpretability", "steering"]
    return str(ModelCardData(license=licence, library_name="emo", tags=tags, **more, **base).to_yaml())


def _units(circuit: Circuit) -> str:
    rows = ["| emotion | neurons | heads | blocks |", "|---|---|---|---|"]
    for e, emotion in enumerate(circuit.emotions):
        parts = [circuit.part(kind, e) for kind in UNITS]
        blocks = {block for part in parts for block in part.layer.tolist()}
        spread = f"{len(blocks)} of {circuit.shape.n_layers}"
        rows.append(f"| {emotion} | {len(parts[0].layer)} | {len(parts[1].layer)} | {spread} |")
    return "\n".join(rows)


def _origin(circuit: Circuit) -> str:
    known = circuit.provenance
    model = known.get("model")
    version = f", version {model.get('commit', 'unknown')}, {model.get('dtype', '')}" if isinstance(model, dict) else ""
    lines = [
        f"- model: {_model(circuit) or 'unknown'}{version}: {circuit.shape}",
        f"- weights (sha256): {circuit.weights}; other weights are refused unless they are allowed",
        f"- data: {known.get('dataset', 'unknown')}, {known.get('groups', 'unknown')} prompts for each emotion "
        f"(sha256 {known.get('data', 'unknown')}), elicitation {known.get('elicitation', 'unknown')}",
        f"- settings: `{json.dumps(known.get('circuit', {}), sort_keys=True)}`",
        f"- directions: `{json.dumps(known.get('directions', {}), sort_keys=True)}`",
        f"- circuit (sha256): {circuit.digest()}",
    ]
    return "\n".join(lines)


def _measured(found: Mapping[str, Any] | None) -> str:
    """Return the table of arms with their intervals, or that nothing was measured."""
    if not found:
        return "Nothing: neither what it does nor what its controls do. Measure it before you rely on it."
    metrics = list(dict.fromkeys(metric for values in found["arms"].values() for metric in values))
    rows = [f"| arm | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    rows += [f"| {arm} | {' | '.join(_cell(own.get(m)) for m in metrics)} |" for arm, own in found["arms"].items()]
    told = (
        f"On {found['pairs']} pairs of a held-out prompt of {found['dataset']} and an emotion, evaluator "
        f"{found['evaluator']}; means with 95 % intervals over scenarios. `none` is the unedited model, `prompt` the "
        "model that is asked for the emotion, all others that are not `circuit` are controls."
    )
    lines = [f"- {line}" for line in (*found["findings"], *found["comparisons"])]
    return "\n\n".join([told, "\n".join(rows), *(["\n".join(lines)] if lines else [])])


def _cell(x: Mapping[str, Any] | None) -> str:
    if x is None or x["value"] is None:
        return "-"
    return f"{x['value']:.3g}" + ("" if x["ci"] is None else f" [{x['ci'][0]:.3g}, {x['ci'][1]:.3g}]")


def _use(circuit: Circuit, where: str) -> str:
    model, words = _loaded(circuit)
    scale = (circuit.provenance.get(MEASURED) or {}).get("scale", 1.0)
    return (
        "```python\nimport emo\nimport emo.circuits\n\n"
        f'circuit = emo.circuits.load("{where}")\n'
        f'lm = emo.load_model("{model}")\n'
        f'emo.circuits.write(circuit, lm, ["My train leaves in ten minutes."], "{circuit.emotions[0]}", '
        f"scale={scale})\n```\n\n"
        f"On the command line: `python run.py intervention=circuit {words} circuit.path={where}`."
    )
