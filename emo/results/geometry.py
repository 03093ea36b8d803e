"""Where the emotions lie: cosines between directions per block, probes, scatter plots (methods 1.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emo.find.directions import cosines
from emo.find.half_directions import half_directions, in_second
from emo.find.probes import probe, scatter
from emo.pipeline.scenario import Job


def geometry(job: Job) -> dict[str, Any]:
    """Return cosines (l, sublayer, e, e), lengths before normalising, probe F1 and scatter points, JSON-ready.

    ``probes`` is None where one scenario, or one group, leaves nothing to hold out. ``halves``: cosines (2, l, e, e) of
    directions from halves of the groups that are kept for probes, and how many groups each has; None: not known.
    """
    tensors = job.directions.tensors
    out: dict[str, Any] = {
        "emotions": job.names,
        "cosines": _round(cosines(tensors["v"]).tolist()),
        "norms": _round(tensors["norms"].tolist()),
        "groups": job.directions.meta,
        "probes": None,
        "scatter": [],
        "halves": _halves(job),
    }
    train = job.probe_states
    enough = train.numel() and len({s.scenario_id for s in job.splits.extract}) > 1
    if not enough:
        return out
    comparable = job.on != "heads" and job.config.directions.tokens == "prompt_last"  # heads: test is read at resid_mid
    if comparable and any(arm.kind == "prompt" for arm in job.arms):
        out["probes"] = probe(train, job.prompted.tensors["states"])._asdict()
    if len(train) > 1:
        out["scatter"] = [
            _panel(train, layer, difference) for layer in _blocks(job, out) for difference in (False, True)
        ]
    return out


def _halves(job: Job) -> dict[str, Any] | None:
    """Return the cosines of directions from either half of the kept groups, for the noise ceiling between models."""
    kept = kept_groups(job)
    if kept is None:
        return None
    v = half_directions(*kept)
    found = [_round(torch.einsum("ald,bld->lab", half, half).tolist()) for half in v]
    second = int(kept[1].sum())
    return {"cosines": found, "groups": [len(kept[1]) - second, second]}


def kept_groups(job: Job) -> tuple[Tensor, Tensor] | None:
    """Return states (g, e, l, d) and which groups are in the second half; None where there are no halves.

    So it is with one scenario, with a baseline that the states do not hold (neutral), and where an earlier version
    stored states without their samples.
    """
    states, scenarios = job.probe_states, job.probe_scenarios
    if not states.numel() or len(set(scenarios)) < 2 or job.config.directions.baseline != "emotions_mean":
        return None
    return states, in_second(scenarios)


def _blocks(job: Job, found: dict[str, Any]) -> list[int]:
    """Return an early block, the one where raw states separate (or a middle one), and a late one."""
    n = job.spec.n_layers
    middle = (found["probes"] or {}).get("separates_at")
    return sorted({n // 6, n // 2 if middle is None else middle, (5 * n) // 6})


def _panel(states: Any, layer: int, difference: bool) -> dict[str, Any]:
    points, explained = scatter(states, layer, difference)
    return {
        "block": layer,
        "difference": difference,
        "points": _round(points.tolist()),
        "explained": _round(explained.tolist()),
    }


def _round(value: Any, digits: int = 5) -> Any:
    return [_round(x, digits) for x in value] if isinstance(value, list) else round(value, digits)
