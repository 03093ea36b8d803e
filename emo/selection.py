"""Choosing strength and layers on the dev split (methods 4.5).

Every candidate's dev replies are written and labelled; the one with the largest clean_accuracy among those within
the damage bounds (share of degenerate replies, perplexity ratio) is taken, of equals the weakest. Where no
classifier knows the emotions, the log-probability margin decides: margins are cheap and come first, replies are then
written in order of falling margin until one candidate passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.config import SelectConfig
from emo.console import note, warn
from emo.interventions.arms import Arm
from emo.labels import hits
from emo.measure import Measure
from emo.near import clusters_of
from emo.stats import Estimate, estimate
from emo.store import Artifact

Rows = list[dict[str, Any]]
Labeller = Callable[[Rows], Rows]  # replies -> `emo.labels.label_rows`


class Choice(NamedTuple):
    """What was chosen, and the table of what was tried."""

    alpha: float | list[float]  # one per emotion where they were chosen so
    layers: tuple[int, ...]
    feasible: bool  # False: no candidate stayed within the bounds; the least damaging was taken
    metric: str  # that was maximised: clean_accuracy | logprob_margin
    tried: Rows

    def to_artifact(self) -> Artifact:
        """Return the choice as an artifact."""
        meta = {"alpha": self.alpha, "layers": self.layers, "feasible": self.feasible, "metric": self.metric}
        return Artifact(rows=self.tried, meta=meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Choice:
        """Return the choice that `to_artifact` wrote."""
        meta = artifact.meta
        return cls(meta["alpha"], tuple(meta["layers"]), meta["feasible"], meta["metric"], artifact.rows)


def choose(
    measure: Measure,
    tried: Sequence[Arm],
    bounds: SelectConfig,
    seed: int,
    draws: int,
    labeller: Labeller | None = None,
    what: str = "alpha",
) -> Choice:
    """Return the best candidate within ``bounds``.

    Args:
        measure: the dev split.
        tried: one arm per candidate, named ``LAYERS/STRENGTH``.
        bounds: largest degenerate share and perplexity ratio.
        seed: of the bootstrap behind the printed intervals.
        draws: bootstrap draws.
        labeller: labels replies; None: the margin decides.
        what: name of the strength, as it is typed: alpha | scale.
    """
    scenario = clusters_of(measure.samples)

    def interval(values: Sequence[float | None], rows: Rows) -> Estimate:
        kept = [np.nan if v is None else v for v in values]
        return estimate(kept, [scenario[r["sample"]] for r in rows], draws, seed)

    margins = measure.margin(tried) if labeller is None else {}
    table: dict[str, dict[str, Any]] = {}
    for arm in tried:
        layers, strength = arm.name.rsplit("/", 1)
        rows = margins.get(arm.name, [])
        x = interval([r["margin"] for r in rows], rows)
        table[arm.name] = {
            "alpha": float(strength), "layers": layers, "score": x.value, "lo": x.lo, "hi": x.hi,
            "degenerate": None, "ppl_ratio": None, "feasible": None, "chosen": False,
        }  # fmt: skip
    unedited = _measured(measure, [Arm("none", "none")])["none"][1]
    base = _mean_nll(unedited)
    arms = {arm.name: arm for arm in tried}
    labelled: dict[str, tuple[Rows, Rows]] = {}
    best = None
    if labeller is not None:
        for name, (replies, damage) in _measured(measure, tried).items():
            labels = labeller(replies)
            labelled[name] = labels, damage
            right = [
                hits(row, row["emotion"], d["degenerate"])["clean_accuracy"]
                for row, d in zip(labels, damage, strict=True)
            ]
            x = interval(right, labels)
            table[name] |= {"score": x.value, "lo": x.lo, "hi": x.hi} | _bounds(damage, base, bounds)
        fine = [name for name, row in table.items() if row["feasible"]]
        best = max(fine, key=lambda n: (_score(table[n]), -abs(table[n]["alpha"])), default=None)
    else:
        for name in sorted(table, key=lambda n: -_score(table[n])):
            damage = _measured(measure, [arms[name]])[name][1]
            table[name] |= _bounds(damage, base, bounds)
            table[name]["feasible"] &= all(row["margin"] is not None for row in margins[name])
            if table[name]["feasible"]:
                best = name
                break
    if best is None:
        seen = [name for name, row in table.items() if row["degenerate"] is not None]
        best = min(seen, key=lambda n: (table[n]["degenerate"], table[n]["ppl_ratio"] or np.inf))
        bound = f"degenerate <= {bounds.max_degenerate:g} and ppl_ratio <= {bounds.max_ppl_ratio:g}"
        warn(f"on dev no strength keeps {bound}; the least damaging is used: add smaller intervention.select.{what}")
    row = table[best]
    row["chosen"] = True
    metric = "logprob_margin" if labeller is None else "clean_accuracy"
    score = "not measured" if row["score"] is None else f"{row['score']:.2f}"
    note(f"chosen on dev: {what} {row['alpha']:g}, layers {row['layers']} ({metric} {score})")
    alpha: float | list[float] = row["alpha"]
    if labeller is not None and bounds.per == "emotion":
        same = {name: labelled[name] for name, r in table.items() if r["layers"] == row["layers"]}
        alpha = [_alpha_of(e, same, table, base, bounds, best) for e in measure.names]
        note("per emotion: " + ", ".join(f"{e} {a:g}" for e, a in zip(measure.names, alpha, strict=True)))
    return Choice(alpha, arms[best].layers, bool(row["feasible"]), metric, list(table.values()))


def _alpha_of(
    emotion: str,
    labelled: dict[str, tuple[Rows, Rows]],
    table: dict[str, dict[str, Any]],
    base: float,
    bounds: SelectConfig,
    default: str,
) -> float:
    """Return the strength with the largest clean_accuracy of one emotion within the bounds; else the one for all."""
    scores = {}
    for name, (labels, damage) in labelled.items():
        own = [(a, d) for a, d in zip(labels, damage, strict=True) if a["emotion"] == emotion]
        if _bounds([d for _, d in own], base, bounds)["feasible"]:
            right = [hits(a, emotion, d["degenerate"])["clean_accuracy"] or 0.0 for a, d in own]
            scores[name] = float(np.mean(right))
            table[name][f"score/{emotion}"] = scores[name]
    chosen = max(scores, key=lambda n: (scores[n], -abs(table[n]["alpha"])), default=default)
    return float(table[chosen]["alpha"])


def _score(row: dict[str, Any]) -> float:
    return float("-inf") if row["score"] is None else float(row["score"])


def _bounds(damage: Rows, base: float, bounds: SelectConfig) -> dict[str, Any]:
    """Return degenerate share, perplexity ratio and whether both are within the bounds and no reply exploded."""
    nll = _mean_nll(damage)
    ratio = float(np.exp(nll - base)) if np.isfinite(nll - base) else None
    degenerate = float(np.mean([row["degenerate"] for row in damage]))
    feasible = ratio is not None and degenerate <= bounds.max_degenerate and ratio <= bounds.max_ppl_ratio
    feasible = feasible and not any(row.get("exploded") for row in damage)
    return {"degenerate": degenerate, "ppl_ratio": ratio, "feasible": feasible}


def _mean_nll(rows: Rows) -> float:
    values = [row["nll"] for row in rows if row["nll"] is not None]
    return float(np.mean(values)) if values else float("nan")


def _measured(measure: Measure, arms: Sequence[Arm]) -> dict[str, tuple[Rows, Rows]]:
    """Return replies and damage of every arm."""
    replies = measure.reply(arms)
    damage = measure.damage(arms, replies, None)
    return {arm.name: (replies[arm.name], damage[arm.name]) for arm in arms}
