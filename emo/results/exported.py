"""What a job found as files for other programs: directions (safetensors, llama.cpp), rankings, the circuit.

    directions.safetensors   unit directions of every emotion and block, what they are of in its metadata
    gguf/EMOTION.gguf        a control vector of llama.cpp (`emo.find.control_vectors`)
    rankings.csv             the best units of every emotion
    circuit/                 the circuit with its card, where the job has one

llama.cpp adds scale * direction.N raw. A control vector holds alpha * size * unit direction, so that scale 1 is the
job's strength at the mean size of the states it meets: of rms their mean root mean square, of rel sqrt(d) times that,
of raw 1 (methods 1.4).
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor

from emo.config.choices import UNITS
from emo.core.store import address
from emo.find.circuit_card import save_circuit
from emo.find.control_vectors import FIRST, write_control_vector
from emo.find.directions import ATTN, MLP
from emo.pipeline.scenario import Job

FORMAT = 1  # of the files; part of the address of a folder of them
BEST = 100  # units of an emotion and kind in rankings.csv
CHOSEN, OPEN = "chosen on dev", "not chosen"
BROKEN = "least damaging on dev: no strength keeps the damage bounds"
DIRECTIONS, RANKINGS, VECTORS, CIRCUIT = "directions.safetensors", "rankings.csv", "gguf", "circuit"


class Strength(NamedTuple):
    """What scale 1 of a control vector stands for.

    Attributes:
        alpha: per emotion, in units of ``dose``.
        layers: blocks.
        dose: rms | rel | raw.
        how: given | chosen on dev (and whether it keeps the damage bounds) | not chosen (alpha 1, every block).
    """

    alpha: tuple[float, ...]
    layers: tuple[int, ...]
    dose: str
    how: str

    def told(self, emotions: list[str]) -> str:
        """Return it in words."""
        each = ", ".join(f"{name} {a:g}" for name, a in zip(emotions, self.alpha, strict=True))
        alpha = f"{self.alpha[0]:g}" if len(set(self.alpha)) == 1 else f"({each})"
        return f"alpha {alpha} in {self.dose}, blocks {blocks_line(self.layers)} ({self.how})"


def blocks_line(blocks: tuple[int, ...] | list[int]) -> str:
    """Return blocks as they are typed: ``11-20``, or ``3,5,8`` where some between are left out."""
    low, high = min(blocks), max(blocks)
    if len(blocks) == high - low + 1:
        return f"{low}-{high}" if high > low else str(low)
    return ",".join(map(str, sorted(blocks)))


def strength_of(job: Job) -> Strength:
    """Return the strength of steering: as given, or as it was chosen on dev by a run whose choice is in the store.

    Nothing is generated for it. Of a list of alphas (an arm each) scale 1 is alpha 1, so that the scale is alpha.
    """
    given, n = job.config.intervention, len(job.names)
    choice = job.made_selection if given.alpha == "auto" or job.layers is None else None
    every = tuple(range(job.spec.n_layers))
    layers = job.layers if job.layers is not None else choice.layers if choice is not None else every
    alpha = choice.alpha if given.alpha == "auto" and choice is not None else given.alpha
    how = "given" if choice is None else CHOSEN if choice.feasible else BROKEN
    if alpha == "auto" or (job.layers is None and choice is None):
        how = OPEN
    if isinstance(given.alpha, list) or alpha == "auto":
        alpha = 1.0
    each = tuple(map(float, alpha)) if isinstance(alpha, list) else (float(alpha),) * n
    return Strength(each, tuple(layers), given.dose, how)


def export_address(job: Job) -> str:
    """Return the address of what `export` writes."""
    circuit = job.circuit_address if job.has_circuit else None
    found = {"directions": job.directions_address, "attribution": job.attribution_address, "circuit": circuit}
    return address("export", FORMAT, **found, strength=strength_of(job))


def export(job: Job, folder: Path) -> Strength:
    """Write what a job found into ``folder``; what is missing is computed, as far as it is needed.

    Each file is written whole or not at all; one that is there is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    strength = strength_of(job)
    told = metadata(job, strength)
    v, rms = job.directions.tensors["v"], job.rms
    _write_directions(folder / DIRECTIONS, job, told, rms)
    (folder / VECTORS).mkdir(exist_ok=True)
    size = {"rms": rms, "rel": rms * v.shape[-1] ** 0.5, "raw": rms.new_ones(rms.shape)}[strength.dose]
    for e, (name, alpha) in enumerate(zip(job.names, strength.alpha, strict=True)):
        blocks = [block for block in strength.layers if block >= FIRST]
        vectors = {block: alpha * size[block] * v[e, block, MLP] for block in blocks}
        said = {key: text for key, text in told.items() if key not in ("alpha", "emotions")}
        said |= {"emotion": name, "scale": _scale_line(strength, alpha)}
        more: dict[str, Any] = {"alpha": alpha, "rms": [float(rms[block]) for block in blocks]}
        write_control_vector(folder / VECTORS / f"{name}.gguf", vectors, job.spec.family, said | more)
    _write_rankings(folder / RANKINGS, job)
    if job.has_circuit:
        save_circuit(job.circuit, folder / CIRCUIT)
    return strength


def metadata(job: Job, strength: Strength) -> dict[str, str]:
    """Return whose directions these are, as texts: model, data, emotions, site, dose; neither paths nor machines."""
    c = job.config
    return {
        "format": f"emo directions, {FORMAT}",
        "emotions": json.dumps(job.names, ensure_ascii=False),
        "model": c.model.name if job.spec.source == "local" else job.spec.id,
        "model_version": job.spec.weights,
        "dtype": job.spec.dtype,
        "blocks": str(job.spec.n_layers),
        "site": "resid_post: behind a block, counted from 0",
        "template": json.dumps({"elicitation": c.elicitation.template, "chat": c.model.chat}),
        "directions": json.dumps(asdict(c.directions)),
        "dataset": json.dumps({"name": c.dataset.name, "groups": job.directions.meta["groups"]}),
        "data": job.splits.digest,
        "address": job.directions_address,
        "dose": strength.dose,
        "alpha": json.dumps(dict(zip(job.names, strength.alpha, strict=True)), ensure_ascii=False),
        "layers": blocks_line(strength.layers),
        "strength": strength.how,
    }


def _scale_line(strength: Strength, alpha: float) -> str:
    """Return what scale 1 of a control vector means."""
    of = {"rms": "the mean root mean square", "rel": "the mean length", "raw": ""}[strength.dose]
    unit = f" times {of} of the unedited state (last token of neutral prompts)" if of else ""
    return (
        f"scale 1.0 adds alpha {alpha:g}{unit} along the unit direction, in blocks {blocks_line(strength.layers)}; "
        "llama.cpp adds it at every token, of the prompt too, emo from the last prompt token on and at the live size"
    )


def _write_directions(path: Path, job: Job, told: dict[str, str], rms: Tensor) -> None:
    """Write SITE/EMOTION (l, d) unit directions, length/EMOTION (l, 2) before that, and rms (l,)."""
    found = job.directions.tensors
    tensors = {"rms": rms}
    for e, name in enumerate(job.names):
        tensors[f"resid_post/{name}"] = found["v"][e, :, MLP].contiguous()
        if not job.spec.parallel:  # else there is no resid_mid
            tensors[f"resid_mid/{name}"] = found["v"][e, :, ATTN].contiguous()
        tensors[f"length/{name}"] = found["norms"][e].contiguous()
    scratch = path.with_name(f".writing-{path.name}")
    save_file(tensors, scratch, metadata=told)
    os.replace(scratch, path)


def _write_rankings(path: Path, job: Job) -> None:
    scratch = path.with_name(f".writing-{path.name}")
    with scratch.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "kind", "rank", "layer", "unit", "score"])
        for e, name in enumerate(job.names):
            for kind in UNITS:
                scores = job.attribution.tensors[kind][e]
                best = scores.flatten().argsort(descending=True, stable=True)[:BEST].tolist()
                for rank, i in enumerate(best, start=1):
                    layer, unit = divmod(i, scores.shape[1])
                    rows.writerow([name, kind, rank, layer, unit, f"{float(scores[layer, unit]):.6g}"])
    os.replace(scratch, path)
