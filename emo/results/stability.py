"""How much of what was found in one model is there in another: after fine-tuning, or at a later step of a training.

Directions: cosine of the two models' directions at resid_post, per emotion and block. Rankings: Spearman's correlation
of the scores of all units of a block, and the Jaccard overlap of its top k. Circuits: Jaccard of units, Spearman of
quotas per block, cosine of difference vectors (`emo.find.circuit_similarity`). Each between disjoint halves of the
extraction scenarios: across the models (half 0 of one with half 1 of the other, both ways), within each model (its
noise ceiling), and as a control across the models with emotions or units exchanged. No interval: two pairs are no
sample.

Transfer: the arms of the job in both models, and in the second one with the circuit of the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from emo.config.choices import UNITS
from emo.core.metrics import headline
from emo.find.circuit import Circuit, Part
from emo.find.circuit_similarity import compare
from emo.find.directions import MLP
from emo.find.rank_correlation import spearman
from emo.pipeline.halves import two_models
from emo.pipeline.scenario import Job
from emo.pipeline.second_model import second_spec
from emo.results.estimates import estimates, long_table

DRAWS = 10  # of the controls that exchange units
TOP = {"neurons": 0.02, "heads": 0.25}  # share of a block's units that counts as its top
Random = np.random.Generator
Array = np.ndarray[Any, np.dtype[Any]]
Compare = Callable[[Job, Job, Random | None], Array]  # (e,) or (e, l); with a generator: of the control


class Measure(NamedTuple):
    """What is compared, how, and what its control exchanges."""

    part: str
    name: str
    of: Compare
    exchanged: str


def stability(job: Job) -> dict[str, Any]:
    """Return how alike the job's model and the one that ``against`` names are, as result.json holds it.

    Keys: ``against``; ``rows`` {part, measure, across, ceiling: [of the first, of the second], control, exchanged,
    emotions: name -> across}, means over emotions and blocks; ``blocks`` the same per block, means over emotions, for
    what is measured block by block; ``arms`` model -> arm -> metric -> estimate. None: not measured.
    """
    made = two_models(job)
    both_ways = [(made.first[0], made.second[1]), (made.first[1], made.second[0])]  # never a half with itself
    rows, blocks = [], []
    for measure in measures():
        across = _over(measure, both_ways)
        first, second = _over(measure, [made.first]), _over(measure, [made.second])
        control = _over(measure, both_ways, np.random.default_rng(job.config.seed))
        emotions = {name: _mean(across[:, e]) for e, name in enumerate(job.names)}
        whole = {"part": measure.part, "measure": measure.name}
        means = {"across": _mean(across), "ceiling": [_mean(first), _mean(second)], "control": _mean(control)}
        rows.append(whole | means | {"exchanged": measure.exchanged, "emotions": emotions})
        if across.ndim == 3:
            lines = {"across": across, "ceiling": np.concatenate([first, second]), "control": control}
            blocks.append(whole | {key: [_mean(x[..., at]) for at in range(x.shape[-1])] for key, x in lines.items()})
    arms = {
        "first": _arms(job),
        "second": _arms(made.own),
        "second, circuit of the first": _arms(made.moved),
    }
    told = second_spec(job.config, job.spec)
    return {"against": f"{told.name} ({told.told})", "rows": rows, "blocks": blocks, "arms": arms}


def measures() -> list[Measure]:
    """Return all that is compared, in the order of the page."""
    found = [Measure("directions", "cosine", _cosines, "emotions")]
    for kind in UNITS:
        found += [
            Measure(f"ranking of {kind}", "Spearman", _ranks(kind), "units of a block"),
            Measure(f"ranking of {kind}", f"Jaccard of the top {TOP[kind]:.0%}", _tops(kind), "units of a block"),
        ]
    for kind in UNITS:
        found += [
            Measure(f"circuit: {kind}", "Jaccard", _circuits(kind, "jaccard"), "units of a block"),
            Measure(f"circuit: {kind}", "cosine of deltas", _circuits(kind, "cosine"), "units of a block"),
            Measure(f"circuit: {kind}", "Spearman of quotas", _circuits(kind, "rank"), "blocks"),
        ]
    return found


def _over(measure: Measure, pairs: Sequence[tuple[Job, Job]], drawn: Random | None = None) -> Array:
    """Return a measure of every pair, (pairs, e) or (pairs, e, l); of a control the mean over its draws."""
    draws = 1 if drawn is None else DRAWS
    return np.stack([np.mean([measure.of(a, b, drawn) for _ in range(draws)], axis=0) for a, b in pairs])


def _v(job: Job) -> Array:
    found: Array = job.directions.tensors["v"][:, :, MLP].double().numpy()
    return found


def _cosines(a: Job, b: Job, drawn: Random | None) -> Array:
    """Return the cosine of each emotion's directions (e, l); of the control the mean with the other emotions'."""
    every: Array = np.einsum("eld,fld->efl", _v(a), _v(b))
    own: Array = np.einsum("eel->el", every)
    return own if drawn is None else (every.sum(1) - own) / max(1, len(every) - 1)


def _scores(job: Job, kind: str) -> Array:
    found: Array = job.attribution.tensors[kind].double().numpy()
    return found


def _exchanged(scores: Array, drawn: Random | None) -> Array:
    """Return scores (e, l, u) of which every block's units have changed places."""
    return scores if drawn is None else drawn.permuted(scores, axis=-1)


def _ranks(kind: str) -> Compare:
    return lambda a, b, drawn: spearman(_scores(a, kind), _exchanged(_scores(b, kind), drawn))


def _tops(kind: str) -> Compare:
    def of(a: Job, b: Job, drawn: Random | None) -> Array:
        x, y = _scores(a, kind), _exchanged(_scores(b, kind), drawn)
        k = max(1, round(TOP[kind] * x.shape[-1]))
        tops = [np.argsort(-one, axis=-1, kind="stable")[..., :k] for one in (x, y)]
        both = (tops[0][..., :, None] == tops[1][..., None, :]).any(-1).sum(-1)
        shared: Array = both / (2 * k - both)
        return shared

    return of


def _circuits(kind: str, key: str) -> Compare:
    """Return the comparison of two circuits by a column of `emo.find.circuit_similarity.compare`, (e,)."""

    def of(a: Job, b: Job, drawn: Random | None) -> Array:
        other = b.circuit if drawn is None else exchange(b.circuit, drawn, blocks=key == "rank")
        rows = [row for row in compare(a.circuit, other) if row["kind"] == kind]
        return np.array([math.nan if row[key] is None else row[key] for row in rows])

    return of


def exchange(circuit: Circuit, drawn: Random, *, blocks: bool) -> Circuit:
    """Return a circuit of random units with the same difference vectors.

    Args:
        circuit: whose numbers of units are kept.
        drawn: generator.
        blocks: blocks change places too; else every block keeps its number of units.
    """

    def of(part: Part, kind: str) -> Part:
        units = circuit.shape.units(kind)[0]
        layer = part.layer.numpy()
        if blocks:
            layer = drawn.permutation(circuit.shape.n_layers)[layer]
        unit = np.empty_like(layer)
        for at in np.unique(layer):
            here = layer == at
            unit[here] = drawn.choice(units, int(here.sum()), replace=False)
        return Part(torch.from_numpy(layer.copy()), torch.from_numpy(unit), part.delta)

    neurons, heads = (tuple(of(part, kind) for part in getattr(circuit, kind)) for kind in UNITS)
    return Circuit(circuit.emotions, neurons, heads, circuit.shape, circuit.weights)


def _arms(job: Job) -> dict[str, dict[str, Any]]:
    """Return the headline numbers of a job's arms."""
    found = estimates(job, long_table(job))
    wanted = headline()
    return {arm: {m: x.to_dict() for m, x in own.items() if m in wanted} for arm, own in found.items()}


def _mean(x: Array) -> float | None:
    """Return the mean of what was measured; None: nothing was."""
    measured = x[np.isfinite(x)]
    return float(measured.mean()) if measured.size else None
