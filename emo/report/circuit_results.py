"""What a job on a circuit reports beside the arms: the circuit, how it came about, what it does to states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emo.config.choices import UNITS
from emo.find.circuit_similarity import off_diagonal, overlap
from emo.find.reference import similarity, stable_cosines
from emo.find.sublayer_importance import rank_stability
from emo.pipeline.scenario import Job
from emo.report.plots import (
    circuit_map,
    claims,
    frontier_figure,
    importance_curves,
    overlap_map,
    similarity_map,
    states_scatter,
)
from emo.results.arm_order import base_name
from emo.results.terms import at_equal_damage

Figure = tuple[Path, str]
CAPTIONS = {
    "claims": (
        "Paired differences between the circuit and what it is compared with, per emotion and scenario; bars are 95 % "
        "intervals over scenarios, p from sign flips (Holm)."
    ),
    "circuit": (
        "How many neurons and heads of each block the circuit of an emotion takes. Where it takes all heads of a block "
        "the choice of heads means nothing."
    ),
    "importance": (
        "What a push along a sublayer's own direction moves of the final state along the reference direction, per unit "
        "of push; bands span the strengths tried."
    ),
    "similarity": (
        "Cosines between the directions of all sublayers; framed: the stable blocks that are averaged into the "
        "reference direction (paper: mean 0.90, minimum 0.85 there)."
    ),
    "frontier": (
        "What steering and the circuit reach on the dev split at the same perplexity ratio to unedited replies: "
        "compare the two at one place of the horizontal axis."
    ),
    "overlap": "Jaccard overlap of the units of two emotions' circuits.",
    "states": "Principal components of resid_post at the last prompt token: emotion-free, and under each circuit.",
}


def facts(job: Job) -> dict[str, str]:
    """Return how the circuit was found, how large it is, and how its emotions overlap."""
    circuit = job.circuit
    out = {}
    if job.saved_circuit is None:
        values = job.importance.tensors["values"]
        alike, lowest = stable_cosines(job.directions.tensors["v"], job.stable_layers)
        out["reference"] = (
            f"blocks {job.stable_layers[0]}-{job.stable_layers[-1]}: cosines mean {float(alike.mean()):.2f}, "
            f"minimum {float(lowest.min()):.2f} (paper 0.90, 0.85)"
        )
        ranks = rank_stability(values)
        if not bool(ranks.isnan().any()):
            least, mean = float(ranks.min()), float(ranks.mean())
            out["importance"] = f"rank correlation over {len(values)} strengths {mean:.3f} (lowest {least:.3f})"
    else:
        made = circuit.provenance.get("model", {})
        out["saved circuit"] = f"digest {circuit.digest()[:12]}, found in {made.get('id', 'an unnamed model')}"
    if job.selection is not None and job.scale_selection is not None:
        equal = at_equal_damage(job.selection, job.scale_selection)
        out["at equal damage"] = (
            "steering and circuit: their damages on dev do not overlap within the bounds"
            if equal is None
            else f"dev, at ppl_ratio {equal[0]:.2f}: steering {equal[1]:.2f}, circuit {equal[2]:.2f} "
            f"({job.scale_selection.metric}, interpolated)"
        )
    for kind in UNITS:
        per_layer = np.array(circuit.quotas(kind))
        capacity = circuit.shape.units(kind)[0]
        mean_j, sd = off_diagonal(overlap(circuit, kind))
        shared = "" if mean_j is None else f", Jaccard between emotions {mean_j:.3f}" + (f" +- {sd:.3f}" if sd else "")
        full = float((per_layer == capacity).mean())
        taken, blocks = per_layer.sum(1).mean(), (per_layer > 0).sum(1).mean()
        out[kind] = (
            f"{taken:.0f} of {capacity * circuit.shape.n_layers} in {blocks:.0f} blocks{shared}; "
            f"all {kind} of a block in {full:.0%} of blocks"
        )
    if job.rescaled is not None:
        share = f"{job.rescaled:.0%}"
        out["random circuit"] = f"random units' own delta push {share} as far before they are rescaled (seed 0)"
    return out


def figures(job: Job, tests: list[dict[str, Any]], where: str, folder: Path) -> list[Figure]:
    """Draw the comparisons, the circuit, and where it comes from."""
    circuit, names = job.circuit, job.names
    n = len(job.splits.test)
    out: list[Figure] = []
    target = [row for row in tests if row["value"] is not None and base_name(row["arm"]) == _kind(job)]
    if target:
        title = f"{_kind(job)} against its controls: {where}, {n} prompts x {len(names)} emotions"
        out.append((claims(target, title, folder / "claims.png", target[0]["metric"]), CAPTIONS["claims"]))
    chosen = {"steering": job.selection, "circuit": job.scale_selection}
    tried = {name: choice.tried for name, choice in chosen.items() if choice is not None}
    if len(tried) == len(chosen) and job.scale_selection is not None:
        title = f"Effect against damage: {where}, {len(job.dev_samples)} dev prompts x {len(names)} emotions"
        path = frontier_figure(tried, title, folder / "frontier.png", job.scale_selection.metric)
        out.append((path, CAPTIONS["frontier"]))
    quotas = [np.array(circuit.quotas(kind)) for kind in UNITS]
    path = circuit_map(quotas[0], quotas[1], circuit.shape.h, names, f"The circuits: {where}", folder / "circuit.png")
    out.append((path, CAPTIONS["circuit"]))
    plain, modulated = job.modulated.tensors["plain"], job.modulated.tensors["modulated"]
    depth = job.spec.n_layers
    blocks = sorted({depth // 4, depth // 2, (3 * depth) // 4, depth - 1})
    title = f"Emotion-free and circuit-modulated states: {where}, {len(plain)} prompts"
    if bool(modulated.isfinite().all()):
        path = states_scatter(plain.numpy(), modulated.numpy(), names, blocks, title, folder / "states.png")
        out.append((path, CAPTIONS["states"]))
    if len(names) > 1:
        maps = [overlap(circuit, kind).numpy() for kind in UNITS]
        path = overlap_map(maps[0], maps[1], names, f"Units in common: {where}", folder / "overlap.png")
        out.append((path, CAPTIONS["overlap"]))
    if job.saved_circuit is None:
        values, alphas = job.importance.tensors["values"].numpy(), job.config.circuit.push_sizes
        title = f"Importance of sublayers: {where}, {len(job.splits.extract)} prompts"
        path = importance_curves(values, alphas, names, title, folder / "importance.png")
        out.append((path, CAPTIONS["importance"]))
        cosines = similarity(job.directions.tensors["v"]).numpy()
        title = f"Similarity of sublayer directions: {where}"
        path = similarity_map(cosines, names, job.stable_layers, title, folder / "similarity.png")
        out.append((path, CAPTIONS["similarity"]))
    return out


def _kind(job: Job) -> str:
    return job.config.intervention.kind
