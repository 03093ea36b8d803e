"""Choosing strength and layers on the dev split (methods 4.5).

Every candidate's dev replies are written, under one decoding with those of the unedited model. The candidate with the
largest clean_accuracy (where no classifier knows the emotions: the largest log-probability margin) among those within
the damage bounds is taken, of equals the weakest. Bounds are relative to the unedited replies:

    degenerate - degenerate(unedited) <= max_degenerate     ppl_ratio = exp(nll - nll(unedited)) <= max_ppl_ratio

A grid whose strengths all keep the bounds, or all break them, says little about the best one: it is extended, by the
ratio of its last two strengths, until it brackets the bounds (at most ``select.extend`` times).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.config.schema import SelectConfig
from emo.core.console import note, warn
from emo.core.stats import Estimate, estimate
from emo.core.store import Artifact
from emo.data.language import common_language
from emo.data.near import clusters_of
from emo.edit.base import Arm
from emo.measure.batch import Measure
from emo.measure.labels import hits

Rows = list[dict[str, Any]]
Labeller = Callable[[Rows], Rows]  # replies -> `emo.measure.classifier.label_rows`
Maker = Callable[[str, float], Arm]  # layer range, strength -> candidate
STEP = (1.2, 2.0)  # least and largest ratio of a strength beyond the grid to the last one in it


class Unedited(NamedTuple):
    """Replies of the unedited model to the same dev prompts, decoded as the candidates are."""

    nll: float  # mean, nats per token
    degenerate: float  # share


class Choice(NamedTuple):
    """What was chosen, and the table of what was tried."""

    alpha: float | list[float]  # one per emotion where they were chosen so
    layers: tuple[int, ...]
    feasible: bool  # False: no candidate stayed within the bounds; the least damaging was taken
    metric: str  # that was maximised: clean_accuracy | logprob_margin
    tried: Rows
    unedited: float = 0.0  # share of degenerate replies of the unedited model

    def to_artifact(self) -> Artifact:
        """Return the choice as an artifact."""
        return Artifact(rows=self.tried, meta={k: v for k, v in self._asdict().items() if k != "tried"})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Choice:
        """Return the choice that `to_artifact` wrote."""
        meta = artifact.meta
        return cls(**meta | {"layers": tuple(meta["layers"])}, tried=artifact.rows)


class _Tried(NamedTuple):
    """One candidate with its dev replies' labels (empty where the margin decides) and damage."""

    arm: Arm
    row: dict[str, Any]
    labels: Rows
    damage: Rows


def choose(
    measure: Measure,
    grid: Mapping[str, Sequence[float]],
    make: Maker,
    bounds: SelectConfig,
    seed: int,
    draws: int,
    labeller: Labeller | None = None,
    what: str = "alpha",
) -> Choice:
    """Return the best candidate within ``bounds``.

    Args:
        measure: the dev split.
        grid: strengths per layer range.
        make: the arm of a layer range and strength.
        bounds: largest damage beyond that of unedited replies, and how far the grid may be extended.
        seed: of the bootstrap behind the printed intervals.
        draws: bootstrap draws.
        labeller: labels replies; None: the margin decides.
        what: name of the strength, as it is typed: alpha | scale.
    """
    tried: dict[tuple[str, float], _Tried] = {}
    todo = [(layers, strength) for layers, strengths in grid.items() for strength in strengths]
    decoding = make(*todo[0]).decoding
    plain = measure.reply([none := Arm("none", "none", decoding=decoding)])
    language = common_language(row["reply"] for row in plain["none"])
    damage = measure.damage([none], plain, None, language)["none"]
    base = Unedited(_mean_nll(damage), _degenerate(damage))
    for extension in range(bounds.extend + 1):
        if extension:
            note(f"the grid does not bracket the damage bounds; tried too: {', '.join(f'{s:g}' for _, s in todo)}")
        arms = [make(layers, strength) for layers, strength in todo]
        scored = _score(measure, arms, base, bounds, seed, draws, labeller, language)
        for (layers, strength), one in zip(todo, scored, strict=True):
            one.row.update(alpha=strength, layers=layers)
            tried[layers, strength] = one
        todo = [
            (layers, beyond)
            for layers in grid
            if (beyond := _beyond([x.row for (own, _), x in tried.items() if own == layers])) is not None
        ]
        if not todo:
            break
    fine = [x for x in tried.values() if x.row["feasible"]]
    if fine:
        best = max(fine, key=lambda x: (x.row["score"], -abs(x.row["alpha"])))
    else:
        best = min(tried.values(), key=lambda x: (x.row["degenerate"], x.row["ppl_ratio"] or np.inf))
        warn(f"on dev no {what} keeps the damage bounds ({bounds_line(bounds, base.degenerate)}): none is recommended")
    best.row["chosen"] = True
    metric = "logprob_margin" if labeller is None else "clean_accuracy"
    score = "not measured" if best.row["score"] is None else f"{best.row['score']:.2f}"
    note(f"chosen on dev: {what} {best.row['alpha']:g}, layers {best.row['layers']} ({metric} {score})")
    alpha: float | list[float] = best.row["alpha"]
    if labeller is not None and bounds.per == "emotion":
        same = [x for x in tried.values() if x.row["layers"] == best.row["layers"]]
        alpha = [_alpha_of(e, same, base, bounds, best) for e in measure.names]
        note("per emotion: " + ", ".join(f"{e} {a:g}" for e, a in zip(measure.names, alpha, strict=True)))
    rows = sorted((x.row for x in tried.values()), key=lambda row: (list(grid).index(row["layers"]), row["alpha"]))
    return Choice(alpha, best.arm.layers, bool(best.row["feasible"]), metric, rows, base.degenerate)


def bounds_line(bounds: SelectConfig, unedited: float) -> str:
    """Return the damage bounds in words; ``unedited`` is the share of degenerate replies of the unedited model."""
    return (
        f"degenerate <= {unedited:.0%} of unedited replies + {bounds.max_degenerate:.0%}, "
        f"ppl_ratio <= {bounds.max_ppl_ratio:g}"
    )


def _score(
    measure: Measure,
    arms: Sequence[Arm],
    base: Unedited,
    bounds: SelectConfig,
    seed: int,
    draws: int,
    labeller: Labeller | None,
    language: str,
) -> list[_Tried]:
    """Measure candidates: score with its interval over scenarios, damage, and whether it is within the bounds."""
    scenario = clusters_of(measure.samples)

    def interval(values: Sequence[float | None], rows: Rows) -> Estimate:
        kept = [np.nan if v is None else v for v in values]
        return estimate(kept, [scenario[r["sample"]] for r in rows], draws, seed)

    margins = measure.margin(arms) if labeller is None else {}
    out = []
    for arm, (replies, damage) in zip(arms, _measured(measure, arms, language).values(), strict=True):
        labels = [] if labeller is None else labeller(replies)
        if labeller is None:
            rows = margins[arm.name]
            x = interval([r["margin"] for r in rows], rows)
        else:
            right = [
                hits(row, row["emotion"], d["degenerate"])["clean_accuracy"]
                for row, d in zip(labels, damage, strict=True)
            ]
            x = interval(right, labels)
        row = {"score": x.value, "lo": x.lo, "hi": x.hi, "chosen": False} | _bounds(damage, base, bounds)
        row["feasible"] = row["feasible"] and x.value is not None
        if labeller is None:  # a margin that is no number is an explosion too
            row["feasible"] = row["feasible"] and all(r["margin"] is not None for r in margins[arm.name])
        out.append(_Tried(arm, row, labels, damage))
    return out


def _beyond(rows: Rows) -> float | None:
    """Return a strength beyond those tried in one layer range, towards the bounds; None: they are bracketed."""
    by_size = sorted((float(row["alpha"]) for row in rows), key=abs)
    within = {bool(row["feasible"]) for row in rows}
    if len(within) != 1 or 0.0 in by_size:
        return None
    up = within.pop()
    near, last = (by_size[-2:] if up else by_size[1::-1]) if len(by_size) > 1 else (by_size[0], by_size[0])
    least, most = STEP
    ratio = min(max(abs(last / near) if up else abs(near / last), least), most)
    return float(f"{last * ratio if up else last / ratio:.3g}")


def _alpha_of(emotion: str, tried: Sequence[_Tried], base: Unedited, bounds: SelectConfig, default: _Tried) -> float:
    """Return the strength with the largest clean_accuracy of one emotion within the bounds; else the one for all."""
    scores: list[tuple[float, _Tried]] = []
    for one in tried:
        own = [(a, d) for a, d in zip(one.labels, one.damage, strict=True) if a["emotion"] == emotion]
        if _bounds([d for _, d in own], base, bounds)["feasible"]:
            right = [hits(a, emotion, d["degenerate"])["clean_accuracy"] or 0.0 for a, d in own]
            one.row[f"score/{emotion}"] = float(np.mean(right))
            scores.append((one.row[f"score/{emotion}"], one))
    chosen = max(scores, key=lambda x: (x[0], -abs(x[1].row["alpha"])), default=(0.0, default))[1]
    return float(chosen.row["alpha"])


def _bounds(damage: Rows, base: Unedited, bounds: SelectConfig) -> dict[str, Any]:
    """Return degenerate share, perplexity ratio and whether both are within the bounds and no reply exploded."""
    nll, degenerate = _mean_nll(damage), _degenerate(damage)
    ratio = float(np.exp(nll - base.nll)) if np.isfinite(nll - base.nll) else None
    within = degenerate - base.degenerate <= bounds.max_degenerate + 1e-9
    feasible = ratio is not None and within and ratio <= bounds.max_ppl_ratio
    feasible = feasible and not any(row.get("exploded") for row in damage)
    return {"degenerate": degenerate, "ppl_ratio": ratio, "feasible": feasible}


def _degenerate(rows: Rows) -> float:
    return float(np.mean([row["degenerate"] for row in rows]))


def _mean_nll(rows: Rows) -> float:
    values = [row["nll"] for row in rows if row["nll"] is not None]
    return float(np.mean(values)) if values else float("nan")


def _measured(measure: Measure, arms: Sequence[Arm], language: str) -> dict[str, tuple[Rows, Rows]]:
    """Return replies and damage of every arm; ``language``: of replies that do not tell theirs."""
    replies = measure.reply(arms)
    damage = measure.damage(arms, replies, None, language)
    return {arm.name: (replies[arm.name], damage[arm.name]) for arm in arms}
