"""Choosing strength and layers on the dev split (methods 4.5).

The candidate with the largest log-probability margin is taken whose replies stay within the damage
bounds (share of degenerate replies, perplexity ratio). Margins are cheap and come first; replies are then
written in order of falling margin until one candidate passes, which is the same choice as writing them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.config import SelectConfig
from emo.console import note, warn
from emo.interventions.arms import Arm
from emo.measure import Measure
from emo.stats import estimate
from emo.store import Artifact


class Choice(NamedTuple):
    """What was chosen, and the table of what was tried."""

    alpha: float
    layers: tuple[int, ...]
    feasible: bool  # False: no candidate stayed within the bounds; the least damaging was taken
    tried: list[dict[str, Any]]

    def to_artifact(self) -> Artifact:
        """Return the choice as an artifact."""
        return Artifact(rows=self.tried, meta={"alpha": self.alpha, "layers": self.layers, "feasible": self.feasible})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Choice:
        """Return the choice that `to_artifact` wrote."""
        meta = artifact.meta
        return cls(meta["alpha"], tuple(meta["layers"]), meta["feasible"], artifact.rows)


def choose(measure: Measure, tried: Sequence[Arm], bounds: SelectConfig, seed: int, draws: int) -> Choice:
    """Return the candidate with the largest dev margin within ``bounds``.

    Args:
        measure: the dev split.
        tried: one steering arm per candidate, named ``LAYERS/ALPHA``.
        bounds: largest degenerate share and perplexity ratio.
        seed: of the bootstrap behind the printed intervals.
        draws: bootstrap draws.
    """
    scenario = {s.id: s.scenario_id for s in measure.samples}
    table: dict[str, dict[str, Any]] = {}
    for name, rows in measure.margin(tried).items():
        found = estimate([r["margin"] for r in rows], [scenario[r["sample"]] for r in rows], draws, seed)
        layers, alpha = name.rsplit("/", 1)
        table[name] = {
            "alpha": float(alpha), "layers": layers, "margin": found.value, "lo": found.lo, "hi": found.hi,
            "degenerate": None, "ppl_ratio": None, "feasible": None, "chosen": False,
        }  # fmt: skip
    arms = {arm.name: arm for arm in tried}
    none = Arm("none", "none")
    unedited = _damage(measure, none)
    best = None
    for name in sorted(table, key=lambda n: -table[n]["margin"]):
        rows = _damage(measure, arms[name])
        nll = [r["nll"] for r in rows if r["nll"] is not None]
        base = [r["nll"] for r in unedited if r["nll"] is not None]
        ratio = float(np.exp(np.mean(nll) - np.mean(base))) if nll and base else None
        degenerate = float(np.mean([r["degenerate"] for r in rows]))
        feasible = ratio is not None and degenerate <= bounds.max_degenerate and ratio <= bounds.max_ppl_ratio
        table[name] |= {"degenerate": degenerate, "ppl_ratio": ratio, "feasible": feasible}
        if feasible:
            best = name
            break
    if best is None:
        best = min(table, key=lambda n: (table[n]["degenerate"], table[n]["ppl_ratio"] or np.inf))
        bound = f"degenerate <= {bounds.max_degenerate:g} and ppl_ratio <= {bounds.max_ppl_ratio:g}"
        warn(f"on dev no strength keeps {bound}; the least damaging is used: add smaller intervention.select.alpha")
    row = table[best]
    row["chosen"] = True
    note(f"chosen on dev: alpha {row['alpha']:g}, layers {row['layers']} (margin {row['margin']:.2f} nats per token)")
    return Choice(row["alpha"], arms[best].layers, bool(row["feasible"]), list(table.values()))


def _damage(measure: Measure, arm: Arm) -> list[dict[str, Any]]:
    return measure.damage([arm], measure.reply([arm]), None)[arm.name]
