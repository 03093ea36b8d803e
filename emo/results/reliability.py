"""Does it show before anything is generated which emotions can be steered (methods 5.3.6)?

Two numbers of every emotion and block, cross-fitted on halves of the groups (`emo.find.half_directions`): how much the
groups agree on the direction (cosine), and how far it separates the emotion from the others (d'). Beside them stands
what the edit did to that emotion on the test split, less the unedited model; and the rank correlation of both over the
emotions, with the exact p of exchanging emotions (720 orders of six: no p is below 1/720). Over so few emotions it is a
first look, and the page says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from emo.config.interventions import kind_of
from emo.core.permutations import rank_correlation, smallest
from emo.core.stats import Estimate
from emo.edit.base import Arm
from emo.find.half_directions import reliability
from emo.pipeline.scenario import Job
from emo.results.geometry import kept_groups

EFFECTS = ("clean_accuracy", "logprob_margin", "delta_s_rel")  # outcomes, the most direct first
MEASURES = {"cosine": "cosine of groups with v", "dprime": "d' along v"}
LEAST = 4  # emotions from which a correlation over them is told
Estimates = Mapping[str, Mapping[str, Estimate]]


def described(job: Job, found: Estimates) -> dict[str, Any] | None:
    """Return what is known of every direction beforehand, and what its edit did; None where there are no halves.

    Args:
        job: its directions are read from the store.
        found: estimates of every arm and metric.

    Returns:
        ``emotions``; ``groups`` and ``scenarios`` behind the numbers; ``cosine`` and ``dprime`` (e, l); ``effects``: a
        row per target arm and outcome: arm, metric, blocks (edited), value and beforehand (name -> mean over these
        blocks) per emotion, and r, p per measure (None: too few emotions, or flat).
    """
    kept = kept_groups(job)
    if kept is None:
        return None
    made = reliability(*kept)
    measured = {"cosine": made.cosine.numpy(), "dprime": made.dprime.numpy()}
    effects = [
        row
        for arm in _targets(job)
        for metric in EFFECTS
        if (row := _effect(arm, metric, found, measured, job.names)) is not None
    ]
    return {
        "emotions": job.names,
        "groups": len(kept[1]),
        "scenarios": len(set(job.probe_scenarios)),
        **{key: [[round(float(x), 5) for x in row] for row in values] for key, values in measured.items()},
        "effects": effects,
    }


def _targets(job: Job) -> list[Arm]:
    """Return the arms whose strength of effect directions may foretell: steering, and circuits that are added."""
    kind = kind_of(job.config)
    if kind.op != "add" or kind.edits not in ("residual", "circuit"):
        return []
    named = {kind.name, kind.beside, "steer"}
    return [arm for arm in job.arms if arm.kind in named and not arm.prompted]


def _effect(
    arm: Arm, metric: str, found: Estimates, measured: Mapping[str, Any], names: list[str]
) -> dict[str, Any] | None:
    own = [_value(found, arm.name, f"{metric}/{name}") for name in names]
    before = [_value(found, arm.reference, f"{metric}/{name}") for name in names]
    values = [x - (y if metric != "delta_s_rel" else 0.0) for x, y in zip(own, before, strict=True)]
    if not np.isfinite(values).all():
        return None
    row: dict[str, Any] = {"arm": arm.name, "metric": metric, "blocks": list(arm.layers)}
    row["value"] = dict(zip(names, map(float, values), strict=True))
    row["beforehand"], row["r"], row["p"] = {}, {}, {}
    for key, every in measured.items():
        beforehand = every[:, list(arm.layers)].mean(1)
        row["beforehand"][key] = dict(zip(names, map(float, beforehand), strict=True))
        r, p = rank_correlation(beforehand, np.array(values)) if len(names) >= LEAST else (math.nan, math.nan)
        row["r"][key], row["p"][key] = (None if math.isnan(x) else x for x in (r, p))
    return row


def _value(found: Estimates, arm: str, metric: str) -> float:
    x = found.get(arm, {}).get(metric)
    if x is None and metric.startswith("delta_s_rel"):
        return 0.0 if arm == "none" else math.nan
    return math.nan if x is None or x.value is None else x.value


def sentences(made: Mapping[str, Any]) -> list[str]:
    """Return what the numbers beforehand say about the effects, a sentence per arm and outcome."""
    n = len(made["emotions"])
    lines = []
    for row in made["effects"]:
        told = [
            f"{label} {row['r'][key]:+.2f} (p = {row['p'][key]:.2g})"
            for key, label in MEASURES.items()
            if row["r"][key] is not None and row["p"][key] is not None
        ]
        if told:
            lines.append(
                f"{row['arm']}, {row['metric']}: rank correlation over {n} emotions with {', with '.join(told)}."
            )
    if lines:
        lines.append(
            f"p: orders of {n} emotions, one-sided; none is below {smallest(n):.2g}. So few emotions are a first look."
        )
    return lines
