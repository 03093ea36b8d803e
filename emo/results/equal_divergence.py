"""Strengths at equal divergence as result.json holds them, and in words (methods 5.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emo.measure.equal_divergence import PERCENTILE, TOKENS, AtDivergence
from emo.pipeline.scenario import Job

Found = Mapping[str, Mapping[str, Any]]
NOTE = (
    f"Every arm has the strength at which the {PERCENTILE}th percentile over tokens of KL(edited || unedited), along "
    f"its own greedy replies of {TOKENS} tokens to the dev prompts, is the target: arms, emotions and models are "
    "compared where they change what the model says equally much. Doses and damage differ then, and stand in the "
    "table. Arms under the emotion prompt have the strength of the same edit without it; matched_steer moves states "
    "as far as the circuit does."
)


def described(job: Job) -> dict[str, dict[str, Any]]:
    """Return the found strengths by kind of arm: what, target, strength, divergence, reached, evaluations."""
    _ = job.arms  # what is not asked for is not searched
    return {kind: one_described(found, job.names) for kind, found in job.divergences.items()}


def one_described(found: AtDivergence, names: Sequence[str]) -> dict[str, Any]:
    """Return what was found for one arm; ``names``: of the emotions."""
    several = isinstance(found.strength, list)
    rows = [row | {"emotion": None if row["emotion"] is None else names[row["emotion"]]} for row in found.tried]
    keys = names if several else ["all"]
    sizes = found.strength if isinstance(found.strength, list) else [found.strength]
    return {
        "target": found.target,
        "strength": dict(zip(keys, sizes, strict=True)),
        "divergence": dict(zip(keys, found.divergence, strict=True)),
        "reached": dict(zip(keys, found.reached, strict=True)),
        "evaluations": rows,
    }


def told_in(rows: Sequence[dict[str, Any]], found: Found) -> list[dict[str, Any]]:
    """Return comparisons whose terms have the ``divergence`` at which both arms were found to be, where they were."""
    at = {kind: one["target"] for kind, one in found.items() if all(one["reached"].values())}
    return [
        row | {"terms": row["terms"] | {"divergence": at[row["arm"]]}}
        if row["terms"] and row["arm"] in at and at[row["arm"]] == at.get(row["against"])
        else row
        for row in rows
    ]


def lines(found: Found) -> list[str]:
    """Return what was found, a line per arm."""
    return [
        f"{kind} at KL {one['target']:g}: "
        + ", ".join(f"{'' if name == 'all' else f'{name} '}{size:g}" for name, size in one["strength"].items())
        for kind, one in found.items()
    ]


def doubts(found: Found) -> list[str]:
    """Return what a page must say first: strengths that do not reach the divergence that was asked for."""
    out = []
    for kind, one in found.items():
        missed = [name for name, reached in one["reached"].items() if not reached]
        if missed:
            told = "; ".join(_missed(name, one) for name in missed)
            out.append(
                f"{kind} does not reach a divergence of {one['target']:g} nats ({told}): it is not compared at equal "
                "divergence."
            )
    return out


def _missed(name: str, one: Mapping[str, Any]) -> str:
    """Return why a strength was not found: no strength gives as much, or as little, or the curve jumps past it."""
    rows = sorted(
        (row["strength"], math.inf if row["divergence"] is None else row["divergence"])
        for row in one["evaluations"]
        if row["emotion"] in (None, name)
    )
    above = next((i for i, (_, kl) in enumerate(rows) if kl > one["target"]), len(rows))
    about = "" if name == "all" else f"{name}: "
    if 0 < above < len(rows):
        (low, below), (high, beyond) = rows[above - 1], rows[above]
        return f"{about}between strengths {low:g} and {high:g} it jumps from {below:.3g} to {beyond:.3g} nats"
    (low, least), (high, most) = rows[0], rows[-1]
    return f"{about}strengths from {low:g} to {high:g} give {least:.3g} to {most:.3g}"
